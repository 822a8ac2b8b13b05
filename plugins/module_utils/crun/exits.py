# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See containers end, all of an owner through one file descriptor, without asking in turns."""

from __future__ import annotations

import ctypes
import os
import struct

_IN_MOVED_TO = 0x80
_IN_Q_OVERFLOW = 0x4000
_IN_CLOEXEC = 0x80000
_IN_NONBLOCK = 0x800
_EVENT = struct.Struct("iIII")


class ExitWatcher:
    """Watch the directory of exit files (inotify(7)); conmon renames each into its place when it is whole.

    Make the watcher first and look at the containers afterwards, then none is missed.
    """

    def __init__(self, directory: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle: int = libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK)
        if self._handle < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if libc.inotify_add_watch(self._handle, os.fsencode(directory), _IN_MOVED_TO) < 0:
            number = ctypes.get_errno()
            os.close(self._handle)
            raise OSError(number, os.strerror(number), directory)

    def fileno(self) -> int:
        """Return the descriptor to wait on; readable when `read` has something."""
        return self._handle

    def read(self) -> list[str] | None:
        """Return the names of containers that have ended since the last call.

        None: so many ended that the kernel lost count, look at all.
        """
        found: list[str] = []
        while True:
            try:
                data = os.read(self._handle, 65536)
            except BlockingIOError:
                return found
            while data:
                _watch, mask, _cookie, length = _EVENT.unpack_from(data)
                name = data[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
                data = data[_EVENT.size + length :]
                if mask & _IN_Q_OVERFLOW:
                    return None
                found.append(os.fsdecode(name))

    def close(self) -> None:
        """Stop watching."""
        os.close(self._handle)

    def __enter__(self) -> ExitWatcher:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
