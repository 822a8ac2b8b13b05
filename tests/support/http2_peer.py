# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speak HTTP/2 to an endpoint frame by frame, with an implementation of another make.

What a gRPC client would never send can be sent with it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import typing as t
import urllib.parse

import h2.config
import h2.connection
import h2.events

from pvecri.api.methods import METHODS

_TIMEOUT_S = 30.0


@dataclasses.dataclass
class Answer:
    """What came on a stream so far."""

    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    data: bytearray = dataclasses.field(default_factory=bytearray)
    #: Whether the server has ended the stream, and the error with which it was reset.
    is_ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        """The gRPC status."""
        return int(self.fields["grpc-status"])

    @property
    def text(self) -> str:
        """The gRPC status's text."""
        return urllib.parse.unquote(self.fields.get("grpc-message", ""))

    @property
    def messages(self) -> list[bytes]:
        """The messages that are there whole."""
        found, at = [], 0
        while len(self.data) - at >= 5:
            length = int.from_bytes(self.data[at + 1 : at + 5], "big")
            if len(self.data) - at - 5 < length:
                break
            found.append(bytes(self.data[at + 5 : at + 5 + length]))
            at += 5 + length
        return found


def framed(message: bytes, flag: int = 0) -> bytes:
    """Return a message as it travels."""
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


def fields_of(path: str, **others: str) -> list[tuple[str, str]]:
    """Return the fields of a call; an underscore in a keyword is a hyphen, one before it a colon."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    for name, value in others.items():
        fields[(":" + name[1:] if name.startswith("_") else name).replace("_", "-")] = value
    return list(fields.items())


class Http2Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        config = h2.config.H2Configuration(
            client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.answers: dict[int, Answer] = {}
        self.pings = 0
        self.goaway: t.Any = None
        self.is_closed = False
        #: Whether what was read is acknowledged, so that the server may send more.
        self.takes = True

    @classmethod
    async def connect(cls, socket: str) -> t.Self:
        """Connect and say the preface."""
        peer = cls(*await asyncio.open_unix_connection(socket))
        peer.h2.initiate_connection()
        peer.flush()
        return peer

    async def __aenter__(self) -> t.Self:
        return self

    async def __aexit__(self, *_unused: object) -> None:
        self.writer.close()

    def flush(self) -> None:
        """Send what is due."""
        self.writer.write(self.h2.data_to_send())

    def open(self, name: str, **others: str) -> int:
        """Begin a call of a method, or a path, and return its stream."""
        stream = t.cast(int, self.h2.get_next_available_stream_id())
        path = METHODS[name].path if name in METHODS else name
        self.h2.send_headers(stream, fields_of(path, **others))
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """Send data of a call."""
        self.h2.send_data(stream, data, end_stream=end)
        self.flush()

    async def call(self, name: str, data: bytes = framed(b""), **others: str) -> Answer:
        """Call a method with bytes that need not be a message, and return its answer."""
        stream = self.open(name, **others)
        self.send(stream, data)
        return await self.ended(stream)

    async def ended(self, stream: int) -> Answer:
        """Wait for the end of a stream."""
        answer = self.answers[stream]
        await self.until(lambda: answer.is_ended or answer.reset is not None or self.is_closed)
        return answer

    async def until(self, condition: t.Callable[[], bool]) -> None:
        """Read until something is so."""
        async with asyncio.timeout(_TIMEOUT_S):
            while not condition():
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    self.is_closed = True
                    assert condition(), "the connection ended"
                    return
                for event in self.h2.receive_data(data):
                    self._on(event)
                self.flush()

    async def window(self, stream: int, size: int) -> None:
        """Wait until so much may be sent."""
        await self.until(lambda: self.h2.local_flow_control_window(stream) >= size)

    def _on(self, event: t.Any) -> None:
        answer = self.answers.get(getattr(event, "stream_id", None) or 0, Answer())
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                answer.fields.update((_text(name), _text(value)) for name, value in event.headers)
            case h2.events.DataReceived():
                answer.data += event.data
                if self.takes:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                answer.is_ended = True
            case h2.events.StreamReset():
                answer.reset = int(event.error_code)
            case h2.events.PingAckReceived():
                self.pings += 1
            case h2.events.ConnectionTerminated():
                self.goaway = event
                # It takes the end of new streams for the end of all.
                self.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN


def _text(value: t.Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
