# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather the streams that a client opens one by one into a session."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

from pvecri.streaming.channel import (
    ChannelReset,
    ForwardPair,
    ForwardSession,
    Limits,
    Link,
    RemoteChannels,
    StreamOptions,
)
from pvecri.streaming.spdy import SpdyChannel

_LATE = b"the client did not open both streams of the connection in time"


class RemoteStreams:
    """The streams of an exec or attach session, one of each kind that was asked for."""

    def __init__(self, options: StreamOptions, protocol: str) -> None:
        self._protocol = protocol
        self._missing = options.names(protocol)
        self._channels: dict[str, SpdyChannel] = {}
        self._changed = asyncio.Event()

    def accept(self, channel: SpdyChannel) -> str | None:
        """Take a stream that is still missing."""
        kind = channel.headers.get("streamtype", "")
        if kind not in self._missing:
            return f"no {kind[:40]!r} stream is awaited"
        self._missing.remove(kind)
        self._channels[kind] = channel
        if not self._missing:
            self._changed.set()
        return None

    def lost(self) -> None:
        """Wait no longer."""
        self._changed.set()

    async def complete(self, link: Link, limits: Limits) -> RemoteChannels:
        """Wait for all streams; raises `ChannelReset` when they do not come, and closes the connection."""
        try:
            async with asyncio.timeout(limits.creation_timeout_s):
                await self._changed.wait()
        except TimeoutError:
            missing = ", ".join(self._missing)
            await link.close()
            raise ChannelReset(
                f"the client did not open its streams ({missing}) within {limits.creation_timeout_s:g} s"
            ) from None
        if self._missing:
            raise ChannelReset("the client closed the connection before it had opened its streams")
        return RemoteChannels(link=link, protocol=self._protocol, **self._channels)


@dataclasses.dataclass(slots=True)
class _Half:
    """A forwarded connection of which one stream has come."""

    port: int
    kind: str
    channel: SpdyChannel
    timer: asyncio.TimerHandle


class ForwardStreams:
    """The streams of forwarded connections: data and error of each, in either order, by request id."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._halves: dict[str, _Half] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._session: ForwardSession | None = None

    def open(self, link: Link) -> ForwardSession:
        """Return the session that the connections go to."""
        self._session = ForwardSession(link)
        return self._session

    def accept(self, channel: SpdyChannel) -> str | None:
        """Take a stream; hand over the connection when it is the second."""
        kind, port_text = channel.headers.get("streamtype", ""), channel.headers.get("port", "")
        if kind not in ("data", "error"):
            return f"a forwarded connection has no {kind[:40]!r} stream"
        if not (port_text.isascii() and port_text.isdecimal() and 0 < int(port_text[:6]) < 65536):
            return f"{port_text[:40]!r} is no port"
        port, request_id = int(port_text), _request_id(channel, kind)
        half = self._halves.get(request_id)
        if half is None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self._limits.creation_timeout_s, self._expire, request_id)
            self._halves[request_id] = _Half(port, kind, channel, timer)
            return None
        if half.kind == kind or half.port != port:
            return f"connection {request_id[:40]!r} has its {half.kind} stream, to port {half.port}"
        half.timer.cancel()
        del self._halves[request_id]
        data, error = (channel, half.channel) if kind == "data" else (half.channel, channel)
        if self._session is not None:
            self._session.offer(ForwardPair(port, data, error))
        return None

    def lost(self) -> None:
        """Drop what is incomplete."""
        for half in self._halves.values():
            half.timer.cancel()
        self._halves.clear()
        if self._session is not None:
            self._session.end()

    def _expire(self, request_id: str) -> None:
        half = self._halves.pop(request_id)
        if half.kind == "data":
            half.channel.reset()
            return
        task = asyncio.get_running_loop().create_task(_say(half.channel, _LATE))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _say(channel: SpdyChannel, text: bytes) -> None:
    with contextlib.suppress(ChannelReset):
        await channel.write(text)
        await channel.close_write()


def _request_id(channel: SpdyChannel, kind: str) -> str:
    """Return what joins two streams; without one, the error stream comes right before its data stream."""
    request_id = channel.headers.get("requestid", "")
    if request_id:
        return request_id
    return f"stream {channel.stream_id - 2 if kind == 'data' else channel.stream_id}"
