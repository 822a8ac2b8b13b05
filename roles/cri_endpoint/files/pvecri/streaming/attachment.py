# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect one client to a container's standard streams, through conmon.

conmon waits for each attached socket that does not take its output, and the container and its log with
it.  So what conmon sends is taken at once into a bounded buffer (`Backlog`); a client that leaves it full
for too long is detached, with word of it, and the container goes on.

The end of a client's input closes the container's input if that was created with ``stdin_once``, and
detaches the client if not, as the other runtimes do.  Input for a container that has none is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.attach import Stream
from pvecri.streaming import conmon
from pvecri.streaming.backlog import Backlog
from pvecri.streaming.channel import Channel, ChannelReset, RemoteChannels
from pvecri.streaming.pumps import Descriptor, feed
from pvecri.streaming.session_tasks import SessionTasks
from pvecri.streaming.terminal import Sizes
from pvecri.streaming.times import Times
from pvecri.streaming.work import AttachWork

_STREAMS: t.Final[t.Mapping[int, Stream]] = {stream.value: stream for stream in Stream}

Resize = t.Callable[[int, int], t.Awaitable[None]]


class Attachment:
    """A socket of conmon's with the client that it serves; whoever made the socket closes it."""

    def __init__(
        self, connection: socket.socket, channels: RemoteChannels, work: AttachWork, times: Times
    ) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._descriptor = Descriptor(connection.fileno())
        self._channels = channels
        self._work = work
        self._times = times
        self._targets: dict[Stream, Channel | None] = {
            Stream.STDOUT: channels.stdout,
            Stream.STDERR: channels.stderr,
        }
        self._backlog = Backlog(times.stall_s)

    async def serve(self, resize: Resize) -> None:
        """Return when the container has ended, or the client is through; raises ClientGone and TooSlow."""
        tasks = SessionTasks(self._channels.closed)
        try:
            taking = tasks.begin(self._take())
            delivering = tasks.begin(self._deliver())
            if self._channels.resize is not None and self._work.has_tty:
                sizes = Sizes(self._channels.resize)
                tasks.begin(sizes.read())
                tasks.begin(_resize(sizes, resize))
            if self._channels.stdin is not None:
                feeding = tasks.begin(self._feed(self._channels.stdin))
                await tasks.any_of(taking, feeding)
                if not taking.done():
                    await self._input_ended(tasks, taking)
            await tasks.any_of(taking)
            await tasks.any_of(delivering)
        finally:
            await tasks.cancel()

    async def _input_ended(self, tasks: SessionTasks, taking: asyncio.Task[t.Any]) -> None:
        if not self._work.feeds:
            return
        if self._work.stdin_once:
            # conmon closes the container's input, and goes on with its output.
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)
            return
        await tasks.any_of(taking, tasks.begin(asyncio.sleep(self._times.answer_s)))
        self._backlog.end()
        taking.cancel()
        await asyncio.wait({taking})

    async def _take(self) -> None:
        """Take what conmon sends until it leaves, which it does when the container has ended."""
        while (packet := await conmon.receive(self._connection, self._descriptor)) is not None:
            stream = _STREAMS.get(packet[0])
            if stream is not None and self._targets[stream] is not None:
                await self._backlog.put(stream, packet[1:])
            else:
                # Nobody wants it, but conmon waits all the same.
                await asyncio.sleep(0)
        self._backlog.end()

    async def _deliver(self) -> None:
        while (found := await self._backlog.take()) is not None:
            stream, data = found
            channel = self._targets[stream]
            if channel is not None:
                try:
                    await channel.write(data)
                except ChannelReset:
                    self._targets[stream] = None
            self._backlog.taken(len(data))
            await asyncio.sleep(0)

    async def _feed(self, channel: Channel) -> None:
        async def write(data: bytes) -> bool:
            return self._work.feeds and await conmon.send(self._connection, self._descriptor, data)

        await feed(channel, write)


async def _resize(sizes: Sizes, resize: Resize) -> None:
    while True:
        size = await sizes.next()
        await resize(size.width, size.height)
