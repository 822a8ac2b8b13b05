# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speak SPDY/3.1 with a client that opens streams: the endpoint's side of a connection.

The clients of Kubernetes (spdystream) neither send nor heed SETTINGS and WINDOW_UPDATE: with them TCP alone
keeps a fast sender from a slow reader, in both directions.  A peer that speaks of windows gets them.
"""

from __future__ import annotations

import asyncio
import logging
import typing as t

from pvecri.streaming import spdy_frames as frames
from pvecri.streaming.channel import READ_BYTES, ChannelReset, Limits
from pvecri.streaming.inbox import Inbox
from pvecri.streaming.wire import ProtocolError, Wire

_LOG = logging.getLogger(__name__)

FRAME_BYTES = 64 * 1024
"""Of a data frame at most: streams of one connection take turns."""
_INITIAL_WINDOW = 64 * 1024


class Acceptor(t.Protocol):
    """Who decides about streams that the client opens."""

    def accept(self, channel: SpdyChannel) -> str | None:
        """Take the stream, or say why not."""

    def lost(self) -> None:
        """Learn that no further stream will come."""


class SpdyChannel:
    """One stream; see `pvecri.streaming.channel.Channel`."""

    def __init__(self, session: SpdySession, stream_id: int, headers: t.Mapping[str, str]) -> None:
        self.headers = headers
        self.stream_id = stream_id
        self.window = session.initial_window
        self._session = session
        self._inbox = Inbox(session.wire.budget, self._grant)
        self._ungranted = 0
        self._is_writable = True
        self._failure = "the stream was closed"

    @property
    def is_over(self) -> bool:
        """Whether nothing more goes or comes."""
        return not self._is_writable and not self._inbox.is_open

    async def read(self, max_bytes: int = READ_BYTES) -> bytes:
        """Wait for bytes of the client."""
        return await self._inbox.read(max_bytes)

    async def write(self, data: bytes | memoryview) -> None:
        """Send data as frames, each when there is room for it."""
        session = self._session
        view = memoryview(data).cast("B")
        while view:
            await session.wire.room()
            if not self._is_writable:
                raise ChannelReset(self._failure)
            size = min(len(view), FRAME_BYTES)
            if session.keeps_windows:
                size = min(size, self.window, session.window)
                if size <= 0:
                    await session.wait_window()
                    continue
            self.window -= size
            session.window -= size
            session.wire.post(frames.data_head(self.stream_id, size), view[:size])
            session.wire.touch()
            view = view[size:]

    async def close_write(self) -> None:
        """End one's own direction."""
        self._end_write()

    def reset(self) -> None:
        """End both directions at once."""
        if not self.is_over:
            self._session.post(frames.RstStream(self.stream_id, frames.RST_CANCEL))
        self._is_writable = False
        self._inbox.discard("the stream was reset")
        self._session.forget(self)

    # ------------------------------------------------------------ for the session

    def take(self, data: bytes, *, fin: bool) -> None:
        """Keep what came."""
        if not self._inbox.is_open:
            self._grant(len(data))
        self._inbox.put(data)
        if fin:
            self._inbox.end()
            self._session.forget(self)

    def fail(self, reason: str) -> None:
        """End both directions because the peer or the connection did."""
        self._is_writable = False
        self._failure = reason
        self._inbox.fail(reason)

    def close(self) -> None:
        """End one's own direction properly, and take no more of the other."""
        self._end_write()
        self._inbox.discard("the session was closed")

    def _end_write(self) -> None:
        if self._is_writable:
            self._is_writable = False
            self._session.wire.post(frames.data_head(self.stream_id, 0, fin=True))
            self._session.forget(self)

    def _grant(self, count: int) -> None:
        """Let a peer that keeps windows send more, half a window at a time."""
        self._session.grant(count)
        self._ungranted += count
        if self._session.owes(self._ungranted) and self._inbox.is_open:
            self._session.post(frames.WindowUpdate(self.stream_id, self._ungranted))
            self._ungranted = 0


class SpdySession:
    """A connection and its streams."""

    def __init__(self, wire: Wire, limits: Limits, acceptor: Acceptor) -> None:
        self.wire = wire
        self.closed = wire.closed
        self.keeps_windows = False
        self.initial_window = self.window = _INITIAL_WINDOW
        # Of what a peer that keeps windows sends ahead the receive buffer must have room for all: to stop
        # reading would hold up its own updates, for which a writer may wait who is to make room.
        self.receive_window = max(_INITIAL_WINDOW, limits.receive_buffer_bytes // 2)
        self._limits = limits
        self._acceptor = acceptor
        self._decoder = frames.Decoder()
        self._encoder = frames.Encoder()
        self._channels: dict[int, SpdyChannel] = {}
        self._last_id = 0
        self._ping_number = 0
        self._ungranted = 0
        self._is_closing = False
        self._window_opened = asyncio.Event()

    # ------------------------------------------------------------- for the wire

    def receive(self, data: bytes) -> None:
        """Take bytes of the connection."""
        for frame in self._decoder.feed(data):
            if isinstance(frame, frames.Data):
                self._on_data(frame)
            else:
                self._on_control(frame)

    def refuse(self, error: ProtocolError) -> None:
        """Tell the client that it broke the rules."""
        self.post(frames.GoAway(self._last_id, frames.GOAWAY_PROTOCOL_ERROR))

    def ping(self) -> None:
        """Ask whether the client is there; that the kernel takes the question is answer enough."""
        self._ping_number = self._ping_number % 0x7FFFFFF0 + 2
        self.post(frames.Ping(self._ping_number))

    def lost(self, reason: str) -> None:
        """End all streams."""
        for channel in self._channels.values():
            channel.fail(reason)
        self._channels.clear()
        self._window_opened.set()
        self._acceptor.lost()

    async def close(self, timeout_s: float = 5, *, is_stopping: bool = False) -> None:
        """End every stream, say that no more will be taken, and wait for the client to close."""
        if not self._is_closing:
            self._is_closing = True
            for channel in list(self._channels.values()):
                channel.close()
            self.post(frames.GoAway(self._last_id, frames.GOAWAY_OK))
        await self.wire.finish(timeout_s, is_stopping=is_stopping)

    # ---------------------------------------------------------- for the channels

    def post(self, frame: frames.Frame) -> None:
        """Send a small frame at once."""
        self.wire.post(self._encoder.encode(frame))

    def forget(self, channel: SpdyChannel) -> None:
        """Drop a stream that has ended in both directions."""
        if channel.is_over:
            self._channels.pop(channel.stream_id, None)
            self._window_opened.set()

    def grant(self, count: int) -> None:
        """Let a peer that keeps windows send more on the connection."""
        self._ungranted += count
        if self.owes(self._ungranted):
            self.post(frames.WindowUpdate(0, self._ungranted))
            self._ungranted = 0

    def owes(self, count: int) -> bool:
        """Whether the peer must be told now that so much was taken."""
        return self.keeps_windows and count >= self.receive_window // 2

    async def wait_window(self) -> None:
        """Wait until some window has opened, or a stream has ended."""
        self._window_opened.clear()
        await self._window_opened.wait()

    # -------------------------------------------------------------------- frames

    def _on_data(self, frame: frames.Data) -> None:
        self.wire.touch()
        channel = self._channels.get(frame.stream_id)
        if channel is not None:
            channel.take(frame.data, fin=frame.fin)
        elif frame.stream_id > self._last_id or frame.stream_id % 2 == 0:
            raise ProtocolError(f"there are data for stream {frame.stream_id}, which was never opened")
        else:
            self.grant(len(frame.data))  # sent before the client knew that the stream is over

    def _on_control(self, frame: frames.Frame) -> None:
        match frame:
            case frames.SynStream():
                self._on_syn_stream(frame)
            case frames.RstStream(stream_id):
                if channel := self._channels.get(stream_id):
                    channel.fail("the client reset the stream")
                    self.forget(channel)
            case frames.Headers(stream_id, _headers, True):
                if channel := self._channels.get(stream_id):
                    channel.take(b"", fin=True)
            case frames.Ping(number) if number % 2:
                self.post(frame)
            case frames.Settings(values) if frames.SETTINGS_INITIAL_WINDOW_SIZE in values:
                self._on_initial_window(values[frames.SETTINGS_INITIAL_WINDOW_SIZE])
            case frames.WindowUpdate(stream_id, delta):
                self._on_window_update(stream_id, delta)
            case _:  # answers to what was not asked, and GOAWAY, after which the client closes
                pass

    def _on_syn_stream(self, frame: frames.SynStream) -> None:
        if frame.stream_id % 2 == 0 or frame.stream_id <= self._last_id:
            raise ProtocolError(f"a stream cannot be opened as {frame.stream_id} after {self._last_id}")
        self._last_id = frame.stream_id
        self.wire.touch()
        if self._is_closing:
            return
        channel = SpdyChannel(self, frame.stream_id, frame.headers)
        if frame.unidirectional:
            reason: str | None = "it has one direction only"
        elif len(self._channels) >= self._limits.max_streams:
            reason = f"there are {self._limits.max_streams} already"
        else:
            reason = self._acceptor.accept(channel)
        if reason is not None:
            _LOG.warning("stream %d of %s is refused: %s", frame.stream_id, self.wire.peer, reason)
            channel.fail(reason)
            self.post(frames.RstStream(frame.stream_id, frames.RST_REFUSED_STREAM))
            return
        self._channels[frame.stream_id] = channel
        self.post(frames.SynReply(frame.stream_id, {}))
        if frame.fin:
            channel.take(b"", fin=True)

    # ------------------------------------------------------------------- windows

    def _on_initial_window(self, size: int) -> None:
        self._keep_windows()
        for channel in self._channels.values():
            channel.window += size - self.initial_window
        self.initial_window = size
        self._window_opened.set()

    def _on_window_update(self, stream_id: int, delta: int) -> None:
        self._keep_windows()
        if stream_id == 0:
            self.window += delta
        elif channel := self._channels.get(stream_id):
            channel.window += delta
        self._window_opened.set()

    def _keep_windows(self) -> None:
        """The peer has spoken of windows: heed its own, and tell it of ours."""
        if not self.keeps_windows:
            self.keeps_windows = True
            self.post(frames.Settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: self.receive_window}))
            if more := self.receive_window - _INITIAL_WINDOW:
                self.post(frames.WindowUpdate(0, more))
