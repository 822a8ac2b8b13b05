# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the streams of a command run in an LXC container: pipes, or a terminal of the container's own."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import stat
import struct
import subprocess
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import console, procfs

#: Of the multiplexer of terminals (Linux' list of devices): character device 5:2.
_PTMX: t.Final = os.makedev(5, 2)

#: ioctl_tty(2): unlock a terminal, and open its other side without a path.
_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441

_TERMINAL_FLAGS: t.Final = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC


@dataclasses.dataclass(slots=True)
class Ends:
    """The descriptors of a command: those that it gets, and those by which it is reached."""

    #: Standard input, output and error of the command.
    given: list[int] = dataclasses.field(default_factory=list)
    #: The other ends of pipes; None where there is none.
    kept: list[int | None] = dataclasses.field(default_factory=lambda: [None, None, None])
    #: Controlling side of the terminal.
    terminal: int | None = None

    def release(self) -> None:
        """Close what the command has by now: a stream ends when nobody holds it open any more."""
        for handle in set(self.given):
            os.close(handle)
        self.given = []

    def give_to(self, child: subprocess.Popen[bytes]) -> None:
        """Let a child have the kept ends as if it had been started with these pipes."""
        for name, handle in zip(("stdin", "stdout", "stderr"), self.kept, strict=True):
            if handle is not None:
                setattr(child, name, os.fdopen(handle, "wb" if name == "stdin" else "rb", buffering=0))
        self.kept = [None, None, None]

    def close(self) -> None:
        """Close all of them that nobody else has taken."""
        self.release()
        for handle in (*self.kept, self.terminal):
            if handle is not None:
                os.close(handle)
        self.kept, self.terminal = [None, None, None], None


def pipes(wanted: t.Sequence[int]) -> Ends:
    """Return standard input, output and error as subprocess takes them: PIPE, DEVNULL or a descriptor."""
    ends = Ends()
    try:
        for number, kind in enumerate(wanted):
            if kind == subprocess.PIPE:
                reader, writer = os.pipe2(os.O_CLOEXEC)
                given, kept = (reader, writer) if number == 0 else (writer, reader)
                ends.given.append(given)
                ends.kept[number] = kept
            elif kind == subprocess.DEVNULL:
                ends.given.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
            else:
                ends.given.append(os.dup(kind))
    except BaseException:
        ends.close()
        raise
    return ends


def terminal(pid: int, start_time: int, size: tuple[int, int] | None) -> Ends:
    """Return a terminal out of the container's own /dev/pts, so that it has a name there.

    A container that has none gets one of the host's, which has no name that the container sees.
    ``pid`` is its first process, ``size`` columns and lines.
    """
    ours, theirs = _own_terminal(pid, start_time) or os.openpty()
    ends = Ends(given=[theirs], terminal=ours)
    try:
        if size is not None:
            console.resize(ours, *size)
        ends.given = [theirs, os.dup(theirs), os.dup(theirs)]
    except BaseException:
        ends.close()
        raise
    return ends


def _own_terminal(pid: int, start_time: int) -> tuple[int, int] | None:
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, root)
        if not procfs.is_same_process(pid, start_time):
            return None
        # What it is is asked before it is opened: the container may have put anything there.
        place = syscalls.open_beneath(root, "dev/pts/ptmx", os.O_PATH)
        stack.callback(os.close, place)
        status = os.fstat(place)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _PTMX:
            return None
        ours = os.open(f"/proc/self/fd/{place}", _TERMINAL_FLAGS)
        try:
            fcntl.ioctl(ours, _TIOCSPTLCK, struct.pack("i", 0))
            theirs = fcntl.ioctl(ours, _TIOCGPTPEER, _TERMINAL_FLAGS)
        except BaseException:
            os.close(ours)
            raise
        return ours, theirs
    return None
