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
import select
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
    """Counters of processes that the kernel killed for want of memory, of cgroup v1 and v2.

    They go with their cgroup, a moment after the container's end, so they are read when they change, too.
    """

    def __init__(self, paths: t.Iterable[str]) -> None:
        self._counters: list[int] = []
        #: Descriptors by which v1 signals, with the counter that each is about.
        self._events: dict[int, int] = {}
        #: What to wait for: descriptor and events of poll(2).
        self.waits: dict[int, int] = {}
        self._has_killed = False
        for path in paths:
            with contextlib.suppress(OSError):
                self._watch(path)
        self.look()

    def _watch(self, path: str) -> None:
        counter = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._counters.append(counter)
        if os.path.basename(path) == "memory.events":
            self.waits[counter] = select.POLLPRI
            return
        # v1 tells of a group without memory on a descriptor of its own, just before it kills.
        control = os.open(
            os.path.join(os.path.dirname(path), "cgroup.event_control"), os.O_WRONLY | os.O_CLOEXEC
        )
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            os.write(control, b"%d %d" % (event, counter))
        except OSError:
            os.close(event)
            raise
        finally:
            os.close(control)
        self._events[event] = counter
        self.waits[event] = select.POLLIN

    def look(self, ready: t.Container[int] = ()) -> bool:
        """Read the counters and return whether one ever said that there was a kill.

        ``ready`` are descriptors that poll(2) has returned.
        """
        signalled = {counter for event, counter in self._events.items() if event in ready and _taken(event)}
        for counter in list(self._counters):
            try:
                lines = os.pread(counter, 4096, 0).splitlines()
            except OSError:
                # The group is gone; the kernel would never stop telling so.
                self._counters.remove(counter)
                self.waits.pop(counter, None)
                os.close(counter)
                continue
            killed = (line.split() for line in lines if line.startswith(b"oom_kill "))
            # The signal comes before the kill, which may be the last that is seen of the group.
            self._has_killed |= counter in signalled or any(int(words[1]) > 0 for words in killed)
        return self._has_killed


def _taken(event: int) -> bool:
    """Say whether an eventfd(2) was signalled, and reset it."""
    try:
        return os.eventfd_read(event) > 0
    except BlockingIOError:
        return False
