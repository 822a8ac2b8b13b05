# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry numbered channels in WebSocket messages, as ``channel.k8s.io`` and its successors define them.

A message is the channel's number and bytes, raw or as base64 with the number as a digit.  For exec and
attach 0 is stdin, 1 stdout, 2 stderr, 3 the error stream and 4 resize; in v5 the message 255, n half-closes
channel n.  Direct port-forward has two channels for each port, data and error; both begin with its number.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import typing as t

from pvecri.streaming.channel import (
    READ_BYTES,
    ChannelReset,
    ForwardPair,
    ForwardSession,
    RemoteChannels,
    StreamOptions,
)
from pvecri.streaming.inbox import Inbox
from pvecri.streaming.websocket import WebSocket
from pvecri.streaming.wire import Connection, ProtocolError

MESSAGE_BYTES = 64 * 1024
"""Of a message at most: channels of one connection take turns."""
PORTS_MAX = 100
"""Of a direct port-forward: a channel's number is one byte, as base64 one from "0" on."""
_CLOSE = 255
_INVALID_DATA = 1007
_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3, "resize": 4}
_FROM_CLIENT = ("stdin", "resize", "data")
_TO_CLIENT = ("stdout", "stderr", "error", "data")


class SocketChannel:
    """One channel; see `pvecri.streaming.channel.Channel`."""

    def __init__(self, session: SocketChannels, number: int, headers: t.Mapping[str, str]) -> None:
        kind = headers["streamtype"]
        self.headers = headers
        self.number = number
        self._session = session
        self.inbox = Inbox(session.socket.wire.budget)
        self.is_writable = kind in _TO_CLIENT
        self._failure = "the stream was closed" if self.is_writable else f"{kind} is not written to"
        if kind not in _FROM_CLIENT:
            self.inbox.end()

    async def read(self, max_bytes: int = READ_BYTES) -> bytes:
        """Wait for bytes of the client."""
        return await self.inbox.read(max_bytes)

    async def write(self, data: bytes | memoryview) -> None:
        """Send data as messages, each when there is room for it."""
        view = memoryview(data).cast("B")
        while view:
            await self._session.socket.wire.room()
            if not self.is_writable:
                raise ChannelReset(self._failure)
            self._session.send(self.number, view[:MESSAGE_BYTES])
            view = view[MESSAGE_BYTES:]

    async def close_write(self) -> None:
        """End one's own direction; the protocol has no word for it but the end of the connection."""
        self.is_writable = False
        self._session.ended()

    def reset(self) -> None:
        """End both directions."""
        self.inbox.discard("the stream was reset")
        self.fail("the stream was reset")
        self._session.ended()

    def fail(self, reason: str) -> None:
        """End both directions because the connection has ended."""
        self.is_writable = False
        self._failure = reason
        self.inbox.fail(reason)


class SocketChannels:
    """The channels of one connection."""

    def __init__(self, wire: Connection, *, is_base64: bool = False, has_close: bool = False) -> None:
        self.socket = WebSocket(wire, self)
        self.closed = wire.closed
        self.channels: dict[int, SocketChannel] = {}
        self._is_base64 = is_base64
        self._has_close = has_close
        self._number: int | None = None  # of the message that is being read
        self._rest = b""  # of it: what cannot be taken yet

    def open(self, number: int, **headers: str) -> SocketChannel:
        """Add a channel; ``streamtype`` says who sends on it."""
        self.channels[number] = SocketChannel(self, number, headers)
        return self.channels[number]

    def send(self, number: int, data: bytes | memoryview) -> None:
        """Send one message at once."""
        self.socket.wire.touch()
        if self._is_base64:
            self.socket.send(bytes((ord("0") + number,)), base64.b64encode(data))
        else:
            self.socket.send(bytes((number,)), data)

    async def close(self, timeout_s: float = 5, *, is_stopping: bool = False) -> None:
        """Close the connection; what the client still sends is for nobody."""
        for channel in self.channels.values():
            channel.is_writable = False
            channel.inbox.discard("the session was closed")
        await self.socket.close(timeout_s, is_stopping=is_stopping)

    def ended(self) -> None:
        """Note that a channel has ended."""

    # ------------------------------------------------------------ for the socket

    def piece(self, data: bytes | bytearray, *, is_last: bool) -> None:
        """Take a piece of a message: the first has the channel's number."""
        self.socket.wire.touch()
        if self._number is None and data:
            self._number, data = data[0], data[1:]
        if self._number == _CLOSE and self._has_close:
            self._take_close(data, is_last=is_last)
        elif data or self._rest:
            self._take(data, is_last=is_last)
        if is_last:
            self._number = None

    def refuse(self, error: ProtocolError) -> None:
        """Leave it to WebSocket's own closing."""

    def lost(self, reason: str) -> None:
        """End all channels."""
        for channel in self.channels.values():
            channel.fail(reason)

    def _take(self, data: bytes | bytearray, *, is_last: bool) -> None:
        number = t.cast(int, self._number)
        if self._is_base64:
            number -= ord("0")
            data = self._decode(data, is_last=is_last)
        channel = self.channels.get(number)
        if channel is not None:
            channel.inbox.put(bytes(data))

    def _decode(self, data: bytes | bytearray, *, is_last: bool) -> bytes:
        """Decode what is there of whole groups of four digits."""
        text = self._rest + data
        end = len(text) if is_last else len(text) // 4 * 4
        self._rest = text[end:]
        try:
            return base64.b64decode(text[:end], validate=True)
        except binascii.Error as exc:
            raise ProtocolError(f"a message is no base64: {exc}", _INVALID_DATA) from exc

    def _take_close(self, data: bytes | bytearray, *, is_last: bool) -> None:
        self._rest += data
        if len(self._rest) > 1 or (is_last and not self._rest):
            raise ProtocolError("a close signal names one channel")
        if is_last:
            channel = self.channels.get(self._rest[0])
            self._rest = b""
            if channel is not None:
                channel.inbox.end()


class ForwardChannels(SocketChannels):
    """Those of a direct port-forward; with the last of them the connection ends."""

    def __init__(self, wire: Connection, *, is_base64: bool = False) -> None:
        super().__init__(wire, is_base64=is_base64)
        self.session = ForwardSession(self)
        self._closer: asyncio.Task[None] | None = None

    def ended(self) -> None:
        """Close when nothing more is sent: the client knows no other end."""
        if self._closer is None and not any(channel.is_writable for channel in self.channels.values()):
            self._closer = asyncio.get_running_loop().create_task(self.close())

    def lost(self, reason: str) -> None:
        """End all channels, and the iteration over them."""
        super().lost(reason)
        self.session.end()


def remote_channels(channels: SocketChannels, protocol: str, options: StreamOptions) -> RemoteChannels:
    """Open the channels of an exec or attach session, and tell the client that it has begun."""
    opened = {name: channels.open(_NUMBERS[name], streamtype=name) for name in options.names(protocol)}
    # Clients of the peers wait for a first message, which is empty, on the first channel that they read.
    first = next(name for name in ("stdout", "stderr", "error") if name in opened)
    channels.send(_NUMBERS[first], b"")
    return RemoteChannels(link=channels, protocol=protocol, **opened)


def forward_session(channels: ForwardChannels, ports: t.Sequence[int]) -> ForwardSession:
    """Open two channels for each port; all connections are there from the beginning."""
    for index, port in enumerate(ports):
        data = channels.open(2 * index, streamtype="data", port=str(port))
        error = channels.open(2 * index + 1, streamtype="error", port=str(port))
        for channel in (data, error):
            channels.send(channel.number, port.to_bytes(2, "little"))
        channels.session.offer(ForwardPair(port, data, error))
    return channels.session
