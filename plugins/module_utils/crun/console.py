# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take over a container's terminal: crun sends its controlling side through a socket.

The protocol is that of the runtimes' ``--console-socket``: one message whose
ancillary data is the file descriptor (SCM_RIGHTS, unix(7)).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import select
import socket
import struct
import subprocess
import termios
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import (
    TERMINAL_SUFFIX,
    Layout,
    sockets,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError, CommandTimeout
from ansible_collections.pvecri.runtime.plugins.module_utils.streams import Collected

_CHUNK = 65536


class Receiver:
    """A listening socket for one terminal."""

    def __init__(self, path: str, listener: socket.socket) -> None:
        self.path = path
        self._listener = listener

    def accept(self, child: subprocess.Popen[bytes], timeout_s: float) -> int | None:
        """Return the terminal that the child sends, or None when it ends without sending one."""
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        pidfd = os.pidfd_open(child.pid)
        try:
            poller.register(pidfd, select.POLLIN)
            ready = {handle for handle, _event in poller.poll(timeout_s * 1000)}
        finally:
            os.close(pidfd)
        if not ready:
            raise CommandTimeout(f"crun sent no terminal within {timeout_s:g} s")
        if self._listener.fileno() not in ready:
            return None
        connection, _address = self._listener.accept()
        with connection:
            _data, handles, _flags, _from = socket.recv_fds(connection, 4096, 1)
        if not handles:
            raise CommandError("crun sent no terminal")
        os.set_inheritable(handles[0], False)
        return handles[0]


@contextlib.contextmanager
def receiver(layout: Layout) -> t.Iterator[Receiver]:
    """Yield a socket for one terminal; its path is gone afterwards."""
    path = os.path.join(sockets(layout.paths), secrets.token_hex(12) + TERMINAL_SUFFIX)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
        listener.bind(path)
        try:
            listener.listen(1)
            yield Receiver(path, listener)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def resize(terminal: int, width: int, height: int) -> None:
    """Set the size of a terminal in characters."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def collect(
    child: subprocess.Popen[bytes],
    terminal: int,
    *,
    stdin: bytes = b"",
    timeout_s: float | None = None,
    limit_bytes: int | None = None,
    stop: int | None = None,
) -> Collected:
    """Type ``stdin`` into a terminal and read what appears until the child has ended.

    The end of the input is typed as well (^D at the beginning of a line).  ``stop`` is as of
    `streams.collect`.
    """
    time_left = procfs.monotonic_deadline(timeout_s)
    typed = memoryview(stdin + b"\x04" if stdin else b"")
    written = bytearray()
    os.set_blocking(terminal, False)
    poller = select.poll()
    pidfd = os.pidfd_open(child.pid)
    try:
        poller.register(pidfd, select.POLLIN)
        if stop is not None:
            poller.register(stop, select.POLLIN)
        poller.register(terminal, select.POLLIN | (select.POLLOUT if typed else 0))
        while True:
            left = time_left()
            events = dict(poller.poll(None if left is None else left * 1000))
            if not events or (pidfd not in events and (left == 0 or stop in events)):
                return _collected(None, written, limit_bytes)
            if events.get(terminal, 0) & select.POLLOUT and typed:
                with contextlib.suppress(BlockingIOError):
                    typed = typed[os.write(terminal, typed[:_CHUNK]) :]
                if not typed:
                    poller.modify(terminal, select.POLLIN)
            if terminal in events and not _read(terminal, written, limit_bytes):
                poller.unregister(terminal)
            if pidfd in events:
                while _read(terminal, written, limit_bytes, once=False):
                    pass
                return _collected(child.wait(), written, limit_bytes)
    finally:
        os.close(pidfd)


def _read(terminal: int, written: bytearray, limit_bytes: int | None, *, once: bool = True) -> bool:
    """Read what a terminal shows; return False at its end, and with ``once`` unset when there is no more."""
    try:
        data = os.read(terminal, _CHUNK)
    except BlockingIOError:
        return once
    except OSError as exc:
        # EIO: the last process closed its side.
        if exc.errno != errno.EIO:
            raise
        return False
    # One byte more than the limit is kept, to tell that there was more.
    room = len(data) if limit_bytes is None else limit_bytes + 1 - len(written)
    written += data[: max(0, room)]
    return bool(data)


def _collected(rc: int | None, written: bytearray, limit_bytes: int | None) -> Collected:
    is_truncated = limit_bytes is not None and len(written) > limit_bytes
    return Collected(rc, bytes(written[:limit_bytes]), b"", is_truncated)
