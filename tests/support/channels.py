# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels without a connection: two ends in one process, with the bounds of real ones."""

from __future__ import annotations

import asyncio
import typing as t

from pvecri.streaming.channel import (
    READ_BYTES,
    ChannelReset,
    ForwardPair,
    ForwardSession,
    RemoteChannels,
    StreamOptions,
)
from pvecri.streaming.inbox import Budget, Inbox


class MemoryChannel:
    """One end; what it writes waits until the other end has read enough of it."""

    def __init__(self, headers: t.Mapping[str, str], buffer_bytes: int) -> None:
        self.headers = dict(headers)
        self._room = asyncio.Event()
        self._room.set()
        self._inbox = Inbox(Budget(buffer_bytes, self._room.clear, self._room.set))
        self._other: MemoryChannel | None = None
        self._closed = self._closed_hard = False

    def join(self, other: MemoryChannel) -> None:
        self._other, other._other = other, self

    @property
    def other(self) -> MemoryChannel:
        assert self._other is not None
        return self._other

    async def read(self, max_bytes: int = READ_BYTES) -> bytes:
        return await self._inbox.read(max_bytes)

    async def read_all(self) -> bytes:
        """Read to the end."""
        pieces = []
        while piece := await self.read():
            pieces.append(piece)
        return b"".join(pieces)

    async def write(self, data: bytes | memoryview) -> None:
        if self._closed or self.other._closed_hard:
            raise ChannelReset("the stream was ended")
        self.other._inbox.put(bytes(data))
        await self.other._room.wait()
        if self._closed_hard:
            raise ChannelReset("the stream was ended")

    async def close_write(self) -> None:
        self._closed = True
        self.other._inbox.end()

    def reset(self) -> None:
        """End it at once for both ends."""
        self._closed = self._closed_hard = True
        self.other._closed = self.other._closed_hard = True
        self._inbox.discard("the stream was ended")
        self.other._inbox.fail("the stream was ended")
        self._room.set()
        self.other._room.set()


def channel_pair(
    headers: t.Mapping[str, str] | None = None, *, buffer_bytes: int = 256 * 1024
) -> tuple[MemoryChannel, MemoryChannel]:
    """Return the endpoint's end and the client's end of one stream."""
    ours, theirs = MemoryChannel(headers or {}, buffer_bytes), MemoryChannel(headers or {}, buffer_bytes)
    ours.join(theirs)
    return ours, theirs


class MemoryLink:
    """The connection of such channels; `lose` is a client that vanishes."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.channels: list[MemoryChannel] = []
        self.session: ForwardSession | None = None

    def pair(self, headers: t.Mapping[str, str], buffer_bytes: int) -> tuple[MemoryChannel, MemoryChannel]:
        ours, theirs = channel_pair(headers, buffer_bytes=buffer_bytes)
        self.channels.append(ours)
        return ours, theirs

    async def close(self, timeout_s: float = 5, *, is_stopping: bool = False) -> None:
        """Half-close what is still open, so that the client reads to the end."""
        for channel in self.channels:
            if not channel._closed:
                await channel.close_write()
        self._end()

    def lose(self) -> None:
        """Reset every stream, as a lost connection does."""
        for channel in self.channels:
            channel.other.reset()
        self._end()

    def _end(self) -> None:
        self.closed.set()
        if self.session is not None:
            self.session.end()


class RemoteClient(t.NamedTuple):
    """The client's ends of an exec or attach session."""

    link: MemoryLink
    error: MemoryChannel
    stdin: MemoryChannel | None = None
    stdout: MemoryChannel | None = None
    stderr: MemoryChannel | None = None
    resize: MemoryChannel | None = None


def remote_pair(
    options: StreamOptions, *, protocol: str = "v4", buffer_bytes: int = 256 * 1024
) -> tuple[RemoteChannels, RemoteClient]:
    """Return the endpoint's channels of a session and the client's."""
    link = MemoryLink()
    ours: dict[str, MemoryChannel] = {}
    theirs: dict[str, MemoryChannel] = {}
    for name in options.names(protocol):
        ours[name], theirs[name] = link.pair({"streamtype": name}, buffer_bytes)
    return RemoteChannels(link=link, protocol=protocol, **ours), RemoteClient(link=link, **theirs)


class ForwardClient:
    """The client of a port-forward session: opens connections."""

    def __init__(self, link: MemoryLink, session: ForwardSession, buffer_bytes: int) -> None:
        self.link = link
        self._session = session
        self._buffer_bytes = buffer_bytes
        self._count = 0

    def open(self, port: int) -> tuple[MemoryChannel, MemoryChannel]:
        """Return the client's ends of the data and the error stream."""
        headers = {"port": str(port), "requestid": str(self._count)}
        self._count += 1
        ours, theirs = self.link.pair({**headers, "streamtype": "data"}, self._buffer_bytes)
        our_error, their_error = self.link.pair({**headers, "streamtype": "error"}, self._buffer_bytes)
        self._session.offer(ForwardPair(port, ours, our_error))
        return theirs, their_error


def forward_pair(*, buffer_bytes: int = 256 * 1024) -> tuple[ForwardSession, ForwardClient]:
    """Return the endpoint's session and its client."""
    link = MemoryLink()
    session = ForwardSession(link)
    link.session = session
    return session, ForwardClient(link, session, buffer_bytes)
