# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speak WebSocket (RFC 6455) after the handshake: messages in pieces, pings, and the closing handshake."""

from __future__ import annotations

import typing as t

from wsproto.connection import Connection as Framing
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

from pvecri.streaming.channel import ChannelReset
from pvecri.streaming.wire import Connection, ProtocolError


class Receiver(t.Protocol):
    """Who takes messages."""

    def piece(self, data: bytes | bytearray, *, is_last: bool) -> None:
        """Take a piece of a message; raises `ProtocolError`."""

    def refuse(self, error: ProtocolError) -> None:
        """Say in one's own protocol what was wrong, if it has words for that."""

    def lost(self, reason: str) -> None:
        """Learn that no further message comes."""


class WebSocket:
    """One connection; its messages go to the receiver."""

    def __init__(self, wire: Connection, receiver: Receiver) -> None:
        self.wire = wire
        self.closed = wire.closed
        self._receiver = receiver
        self._framing = Framing(ConnectionType.SERVER)

    # ------------------------------------------------------------- for the wire

    def receive(self, data: bytes) -> None:
        """Take bytes of the connection."""
        if self._framing.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            self._framing.receive_data(data)
            for event in self._framing.events():
                self._on_event(event)

    def refuse(self, error: ProtocolError) -> None:
        """Tell the client that it broke the rules."""
        self._receiver.refuse(error)
        self._say_goodbye(error.code, str(error))

    def ping(self) -> None:
        """Ask whether the client is there."""
        if self._framing.state is ConnectionState.OPEN:
            self.wire.post(self._framing.send(Ping()))

    def lost(self, reason: str) -> None:
        """Tell the receiver."""
        self._receiver.lost(reason)

    # --------------------------------------------------------- for the receiver

    def send(self, *buffers: bytes | memoryview) -> None:
        """Send one binary message at once; raises `ChannelReset`."""
        if self._framing.state is not ConnectionState.OPEN:
            raise ChannelReset("the connection is being closed")
        self.wire.post(self._framing.send(BytesMessage(data=b"".join(buffers))))

    async def close(self, timeout_s: float = 5, *, is_stopping: bool = False) -> None:
        """Begin the closing handshake and wait for its end."""
        self._say_goodbye(CloseReason.GOING_AWAY if is_stopping else CloseReason.NORMAL_CLOSURE)
        await self.wire.finish(timeout_s)

    def _say_goodbye(self, code: int, text: str | None = None) -> None:
        if self._framing.state is ConnectionState.OPEN:
            self.wire.post(self._framing.send(CloseConnection(code=code, reason=text)))

    def _on_event(self, event: Event) -> None:
        match event:
            case BytesMessage(data=data, message_finished=is_last):
                self._receiver.piece(data, is_last=is_last)
            case TextMessage(data=text, message_finished=is_last):
                self._receiver.piece(text.encode(), is_last=is_last)
            case Ping() if self._framing.state is ConnectionState.OPEN:
                self.wire.post(self._framing.send(event.response()))
            case CloseConnection(code=code, reason=reason):
                if self._framing.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
                    raise ProtocolError(reason or "a frame is damaged", code)
                if self._framing.state is ConnectionState.REMOTE_CLOSING:
                    self.wire.post(self._framing.send(event.response()))
                self.wire.hang_up("the client closed the connection")
            case _:  # the answer to a ping
                pass
