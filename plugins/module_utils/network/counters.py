# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what went through the interfaces of network namespaces; no process is started.

Source: proc(5), /proc/pid/net/dev.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns

#: /proc/net is the view of the process's first thread; this is that of the calling one.
_DEVICES = "/proc/thread-self/net/dev"

_CHUNK = 1 << 16

#: Interfaces of a namespace that are told, the oldest: who may make some may make very many.
MOST: t.Final = 256

#: Columns of one interface after its name.
_COLUMNS = 16


class Direction(t.NamedTuple):
    """What was received, or sent, since the interface is there."""

    bytes: int
    packets: int
    errors: int
    dropped: int


class Interface(t.NamedTuple):
    """One interface."""

    name: str
    received: Direction
    sent: Direction


def read_all(paths: t.Collection[str]) -> dict[str, tuple[Interface, ...]]:
    """Return the interfaces of each network namespace by its path, but for loopback.

    One that is gone is left out.  One thread looks into them one after the other; it never
    comes back from there, so that nothing else can happen in the wrong namespace.
    """
    if not paths:
        return {}
    return netns.in_thread(lambda: dict(_read_each(paths)))


def _read_each(paths: t.Iterable[str]) -> t.Iterator[tuple[str, tuple[Interface, ...]]]:
    for path in paths:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.setns(handle, netns.KINDS["net"])
            finally:
                os.close(handle)
            yield path, parse(_content())


def _content() -> bytes:
    handle = os.open(_DEVICES, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        # The kernel gives it a page at a time.
        while more := os.read(handle, _CHUNK):
            data += more
        return data
    finally:
        os.close(handle)


def parse(data: bytes) -> tuple[Interface, ...]:
    """Return the interfaces of a file of /proc but for loopback, in the kernel's order; `MOST` at most."""
    found: list[Interface] = []
    for line in data.splitlines():
        name, colon, rest = line.partition(b":")
        columns = rest.split()
        name = name.strip()
        if not colon or len(columns) < _COLUMNS or name == b"lo":
            continue
        if len(found) == MOST:
            break
        received, sent = (Direction(*map(int, columns[at : at + 4])) for at in (0, _COLUMNS // 2))
        # Whoever may make interfaces names them by any bytes.
        found.append(Interface(name.decode(errors="backslashreplace"), received, sent))
    return tuple(found)
