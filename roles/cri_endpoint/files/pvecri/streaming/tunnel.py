# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry SPDY/3.1 in the binary messages of a WebSocket: the tunnel that port-forward uses behind proxies."""

from __future__ import annotations

import contextlib

from pvecri.streaming.channel import ChannelReset, Limits
from pvecri.streaming.spdy import Acceptor, SpdySession
from pvecri.streaming.websocket import WebSocket
from pvecri.streaming.wire import Connection, ProtocolError


class Tunnel:
    """A wire for SPDY whose bytes are another wire's messages; where one message ends means nothing."""

    def __init__(self, wire: Connection, limits: Limits, acceptor: Acceptor) -> None:
        self.closed = wire.closed
        self.budget = wire.budget
        self.peer = wire.peer
        self._wire = wire
        self.socket = WebSocket(wire, self)
        self.spdy = SpdySession(self, limits, acceptor)

    # ------------------------------------------------------------------ for SPDY

    def post(self, *buffers: bytes | memoryview) -> None:
        """Send a message, unless the connection is being closed."""
        with contextlib.suppress(ChannelReset):
            self.socket.send(*buffers)

    async def room(self) -> None:
        """Wait until more data may be sent."""
        await self._wire.room()

    def touch(self) -> None:
        """Note that the connection is in use."""
        self._wire.touch()

    async def finish(self, timeout_s: float, *, is_stopping: bool = False) -> None:
        """Close the WebSocket and wait for the client to do so."""
        await self.socket.close(timeout_s, is_stopping=is_stopping)

    # ------------------------------------------------------------- for WebSocket

    def piece(self, data: bytes | bytearray, *, is_last: bool) -> None:
        """Take bytes of SPDY."""
        self.spdy.receive(bytes(data))

    def refuse(self, error: ProtocolError) -> None:
        """Say it in SPDY first."""
        self.spdy.refuse(error)

    def lost(self, reason: str) -> None:
        """End all streams."""
        self.spdy.lost(reason)
