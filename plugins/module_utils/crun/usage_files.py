# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the few shapes that files of cgroups have, in as few steps as can be."""

from __future__ import annotations

import functools
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import Pressure, PressureStall

_CHUNK = 1 << 16
_FLAGS = os.O_RDONLY | os.O_CLOEXEC

#: Fields of one line of a pressure file: its kind, three averages, the sum.
_PRESSURE_FIELDS = 5


def content(path: str, directory: int | None = None) -> bytes:
    """Return a file whole; empty for one that is gone with its group, or that this host does not have."""
    try:
        handle = os.open(path, _FLAGS, dir_fd=directory)
    except OSError:
        return b""
    try:
        data = os.read(handle, _CHUNK)
        if len(data) == _CHUNK:
            while more := os.read(handle, _CHUNK):
                data += more
        return data
    except OSError:
        return b""
    finally:
        os.close(handle)


def number(data: bytes) -> int | None:
    """Return the number that a file holds; None for "max" and for no file."""
    data = data.strip()
    return int(data) if data.isdigit() else None


def keyed(data: bytes) -> dict[bytes, bytes]:
    """Return the words of a file of pairs: every first one with the one that follows."""
    words = data.split()
    return dict(zip(words[::2], words[1::2], strict=False))


def value(pairs: t.Mapping[bytes, bytes], key: bytes) -> int | None:
    """Return one number of a file of pairs."""
    found = pairs.get(key)
    return int(found) if found is not None and found.isdigit() else None


@functools.lru_cache(1024)
def pressure(data: bytes) -> PressureStall | None:
    """Return a pressure file; None for one that is empty or makes no sense.

    Most groups wait for nothing most of the time, and their files are the same as before.
    """
    words = data.split()
    lines: dict[bytes, Pressure] = {}
    for start in range(0, len(words), _PRESSURE_FIELDS):
        kind, *fields = words[start : start + _PRESSURE_FIELDS]
        try:
            avg10, avg60, avg300, total = (field.partition(b"=")[2] for field in fields)
            lines[kind] = Pressure(int(total), float(avg10), float(avg60), float(avg300))
        except ValueError:
            continue
    return PressureStall(lines.get(b"some"), lines.get(b"full")) if lines else None


def pressures(read: t.Callable[[str], bytes]) -> dict[str, PressureStall]:
    """Return the pressure of each resource that the kernel counts it for."""
    found = {}
    for resource in ("cpu", "memory", "io"):
        stall = pressure(read(f"{resource}.pressure"))
        if stall is not None:
            found[resource] = stall
    return found


def working_set(used: int | None, inactive_file: int | None) -> int | None:
    """Return the memory in use less the file cache that the kernel would drop first."""
    return None if used is None else max(0, used - (inactive_file or 0))


def processes(data: bytes) -> tuple[int, ...]:
    """Return the ids of a file of processes."""
    return tuple(int(word) for word in data.split() if word != b"0")
