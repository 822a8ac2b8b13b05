# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move bytes between descriptors and a client's streams, in the event loop.

One chunk at most waits in memory in each direction: a client that does not read makes the
command wait on its pipe, and a command that does not read makes the client wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import struct
import termios
import typing as t

from pvecri.streaming.channel import READ_BYTES, Channel, ChannelReset

#: How often a terminal that nobody has open is looked at.
_LOOK_AGAIN_S: t.Final = 0.1

#: Why a command, or its terminal, takes no more input.
_NOBODY_READS: t.Final = frozenset({errno.EPIPE, errno.EIO, errno.ECONNRESET})


class Descriptor:
    """A descriptor of somebody else's that does not block; one task reads it, and one writes it.

    Whoever owns it ends these tasks before closing it.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._reading: asyncio.Future[None] | None = None
        os.set_blocking(handle, False)

    async def readable(self) -> None:
        """Wait until there is something to read, or `stop_waiting` is called."""
        self._reading = future = self._loop.create_future()
        self._loop.add_reader(self._handle, _wake, future)
        try:
            await future
        finally:
            self._loop.remove_reader(self._handle)
            self._reading = None

    def stop_waiting(self) -> None:
        """Let `readable` return."""
        if self._reading is not None:
            _wake(self._reading)

    async def writable(self) -> None:
        """Wait until something can be written."""
        future = self._loop.create_future()
        self._loop.add_writer(self._handle, _wake, future)
        try:
            await future
        finally:
            self._loop.remove_writer(self._handle)

    async def write_all(self, data: bytes, write: t.Callable[[int, memoryview], int] = os.write) -> bool:
        """Write everything; return False when nobody will read it."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[write(self._handle, rest) :]
            except BlockingIOError:
                await self.writable()
            except OSError as exc:
                if exc.errno not in _NOBODY_READS:
                    raise
                return False
        return True


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Output:
    """What a command writes to a pipe or a terminal, on its way to a client."""

    def __init__(self, handle: int, channel: Channel | None) -> None:
        """Set up; without a channel the command's output is read and dropped."""
        self._handle = handle
        self._channel = channel
        self._descriptor = Descriptor(handle)
        self._has_ended = asyncio.Event()
        #: Bytes that waited when the command had ended: they are the command's.
        self._owed = 0
        self._is_enough = False

    async def run(self) -> None:
        """Move bytes until the command has ended and nobody else can write, or there was `enough`."""
        while data := await self._next():
            self._owed -= len(data)
            if self._channel is not None:
                try:
                    await self._channel.write(data)
                except ChannelReset:
                    # The client does not want this stream: the command shall not wait for that.
                    self._channel = None
            # A fast client and a fast command would leave nothing to anybody else.
            await asyncio.sleep(0)

    def command_ended(self) -> None:
        """Note that what waits now is the command's, and what comes later is another process's."""
        self._has_ended.set()
        with contextlib.suppress(OSError):
            (self._owed,) = struct.unpack("i", fcntl.ioctl(self._handle, termios.FIONREAD, b"\0" * 4))

    def enough(self) -> None:
        """End as soon as everything of the command's was moved."""
        self._is_enough = True
        self._descriptor.stop_waiting()

    async def _next(self) -> bytes:
        while not (self._is_enough and self._owed <= 0):
            try:
                return os.read(self._handle, READ_BYTES)
            except BlockingIOError:
                self._owed = 0
                if not self._is_enough:
                    await self._descriptor.readable()
            except OSError as exc:
                if exc.errno != errno.EIO:
                    raise
                # Nobody has the terminal open, but a command that lives may open it again.
                if self._has_ended.is_set():
                    return b""
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._has_ended.wait(), _LOOK_AGAIN_S)
        return b""


async def feed(channel: Channel, write: t.Callable[[bytes], t.Awaitable[bool]]) -> None:
    """Hand what a client sends to ``write`` until its end; once that returns False the rest is dropped.

    Not read it would fill the connection, and nothing else would come through.
    """
    is_wanted = True
    with contextlib.suppress(ChannelReset):
        while data := await channel.read():
            is_wanted = is_wanted and await write(data)
