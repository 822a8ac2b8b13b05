# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Learn how a process has ended that is not our child: its exit code, and whether memory was wanting.

The holder imports this: nothing but the standard library stands here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import typing as t

#: ioctl PIDFD_GET_INFO with the first version of its structure (pidfd.h): exit code last.
_PIDFD_GET_INFO: t.Final = (3 << 30) | (64 << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT: t.Final = 8


def exit_status(pidfd: int) -> int | None:
    """Return the wait status of a process that was reaped, None where the kernel does not tell."""
    data = bytearray(struct.pack("<Q", _PIDFD_INFO_EXIT).ljust(64, b"\0"))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, data)
    except OSError:
        return None
    if not struct.unpack_from("<Q", data)[0] & _PIDFD_INFO_EXIT:
        return None
    return int(struct.unpack_from("<i", data, 60)[0])


def exit_code(status: int) -> int:
    """Return what conmon would make of a wait status."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


class MemoryEvents:
    """Counters of processes that the kernel killed for want of memory, of cgroup v1 and v2."""

    def __init__(self, paths: t.Sequence[str]) -> None:
        self._handles: dict[int, bool] = {}
        for path in paths:
            with contextlib.suppress(OSError):
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                # v2 tells of changes; v1 would, in another way: there it is read at the end.
                self._handles[handle] = os.path.basename(path) == "memory.events"
        self._has_killed = False
        self.look(list(self._handles))

    def handles(self) -> list[int]:
        """Return what to wait for (POLLPRI)."""
        return [handle for handle, tells in self._handles.items() if tells]

    def look(self, handles: t.Iterable[int]) -> None:
        """Read counters that may have changed."""
        for handle in [handle for handle in handles if handle in self._handles]:
            try:
                lines = os.pread(handle, 4096, 0).splitlines()
            except OSError:
                # The group is gone.
                os.close(handle)
                del self._handles[handle]
                continue
            killed = (line.split() for line in lines if line.startswith(b"oom_kill "))
            self._has_killed |= any(int(words[1]) > 0 for words in killed)

    def has_killed(self) -> bool:
        """Say whether there was any, looking once more."""
        self.look(list(self._handles))
        return self._has_killed
