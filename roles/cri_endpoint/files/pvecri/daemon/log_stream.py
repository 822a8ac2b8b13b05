# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the log to whoever reads it, and never wait for him.

A line for which a pipe, socket or terminal has no room is lost, and the next line that
finds room is preceded by one that says how many were.  Nobody else who writes to the same
place is affected: the file is not made non-blocking, which would be so for all its holders.
"""

from __future__ import annotations

import os
import socket
import stat
import typing as t

#: Makes a line of the log of how many are lost.
Told = t.Callable[[int], str]


class LogStream:
    """What a `logging.StreamHandler` writes to; it calls by its own lock, one thread at a time."""

    def __init__(self, descriptor: int, told: Told) -> None:
        """Set up; the descriptor stays its holder's."""
        self._told = told
        self._write = _writer(descriptor)
        #: What is left of lines whose begin is written.
        self._rest = b""
        #: Lines since the last one that was written.
        self.lost = 0

    def write(self, text: str) -> None:
        """Write a line, or lose it."""
        if self._rest:
            self._rest = self._rest[self._tried(self._rest) :]
        if self.lost:
            text = self._told(self.lost) + text
        # What was begun comes whole, if late: nothing gets between.
        if not self._rest and self._is_begun(text):
            self.lost = 0
        else:
            self.lost += 1

    def flush(self) -> None:
        """Do nothing: all that there was room for is written."""

    def _is_begun(self, text: str) -> bool:
        """Write as much of a text as there is room for; say whether that is any."""
        data = text.encode("utf-8", "backslashreplace")
        count = self._tried(data)
        self._rest = data[count:] if count else b""
        return count > 0

    def _tried(self, data: bytes) -> int:
        """Return how many bytes were written: none without room, or when nobody is there any more."""
        try:
            return self._write(data)
        except OSError:
            return 0


def _writer(descriptor: int) -> t.Callable[[bytes], int]:
    """Return what writes bytes and raises OSError rather than wait."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        end = socket.socket(fileno=os.dup(descriptor))
        return lambda data: end.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        # Opened anew it is another file description, whose flags are ours alone.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            own = os.open(f"/proc/self/fd/{descriptor}", flags)
        except OSError:
            # A terminal of another mount namespace, say: better a log that may wait than none.
            return lambda data: os.write(descriptor, data)
        # Closed with the stream: each reload makes another.
        file = open(own, "wb", buffering=0)  # noqa: SIM115
        return lambda data: file.write(data) or 0
    return lambda data: os.write(descriptor, data)
