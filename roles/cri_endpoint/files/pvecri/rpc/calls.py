# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a call from the fields and data of a stream, and lay out its answer (grpc/doc/PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import asyncio
import re
import typing as t

from pvecri.rpc.nghttp2 import Buffer, Headers, constant_headers
from pvecri.rpc.status import Code

_STATUS = (b":status", b"200")
_TYPE = (b"content-type", b"application/grpc")
#: What every answer begins with, and how a good one ends.
HEAD: t.Final = constant_headers(_STATUS, _TYPE)
TAIL_OK: t.Final = constant_headers((b"grpc-status", b"0"))
_TAIL_ERROR: t.Final = {code: str(code.value).encode() for code in Code}

#: Fields of a request that anybody looks at; others only count as bytes.
WANTED: t.Final = frozenset({b":path", b":method", b"content-type", b"grpc-timeout", b"grpc-encoding"})
#: Bytes before each message: whether it is compressed, and its length.
PREFIX: t.Final = 5

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: t.Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
#: Bytes of a message that need no escape: printable ASCII but for the percent sign.
_PLAIN: t.Final = frozenset(range(0x20, 0x7F)) - {0x25}


class Refusal(Exception):
    """End a call with a status."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Peer(t.Protocol):
    """The connection of a call."""

    #: Bytes of answers that the client has yet to take.
    unsent: int

    def begin_answer(self, call: Call) -> None:
        """Send the answer's head, and then its data as `Call.read` gives it."""

    def resume_answer(self, call: Call) -> None:
        """Ask for data again."""

    def end_call(self, call: Call, headers: Headers) -> None:
        """Answer with nothing but headers."""


class Call:
    """One call: what has come of it, and what is yet to be sent."""

    __slots__ = (
        "_at",
        "_body",
        "_is_begun",
        "_out",
        "_promised",
        "_tail",
        "_until",
        "_waiter",
        "code",
        "deadline",
        "fields",
        "is_answered",
        "is_over",
        "is_refused",
        "on_close",
        "path",
        "peer",
        "received",
        "route",
        "stream_id",
        "weight",
    )

    def __init__(self, peer: Peer, stream_id: int) -> None:
        self.peer = peer
        self.stream_id = stream_id
        self.fields: dict[bytes, bytes] = {}
        self.path = b""
        #: What its path leads to.
        self.route: t.Any = None
        #: Status that the client was sent, or CANCELLED where it left before.
        self.code: Code | None = None
        #: When the client stops waiting, in the event loop's time.
        self.deadline: float | None = None
        #: Bytes of the request that are there.
        self.received = 0
        #: Bytes of the answer that the connection counts until the stream is closed.
        self.weight = 0
        #: Whether the request will not be looked at.
        self.is_refused = False
        self._body: bytes | bytearray = b""
        self._out = b""
        #: Bytes of the message, its prefix among them, that are sent, and that are to be sent in all.
        self._at = self._until = 0
        #: Bytes for which the library has laid out a frame: they come, or the frame has none of its length.
        self._promised = 0
        self._tail: Headers | None = None
        self._is_begun = False
        self._waiter: asyncio.Future[None] | None = None
        #: Whether the last word was said; more data of the client does not matter then.
        self.is_answered = False
        #: Whether the stream is closed: nobody listens any more.
        self.is_over = False
        #: Called when the stream is closed before the call was answered.
        self.on_close: t.Callable[[], t.Any] | None = None

    # ------------------------------------------------------------------ request

    def open(self, routes: t.Mapping[bytes, t.Any], now: t.Callable[[], float]) -> None:
        """Look at the fields; raises Refusal."""
        fields, self.fields = self.fields, {}
        if fields.get(b":method") != b"POST":
            raise Refusal(Code.INTERNAL, "a call is a POST request")
        kind = fields.get(b"content-type", b"")
        if not kind.startswith(b"application/grpc") or kind[16:17] not in {b"", b"+", b";"}:
            raise Refusal(Code.INTERNAL, "a call has the content type application/grpc")
        encoding = fields.get(b"grpc-encoding", b"identity")
        if encoding != b"identity":
            raise Refusal(Code.UNIMPLEMENTED, f"messages compressed by {encoding[:40]!r} are not read")
        self.path = path = fields[b":path"]
        self.route = routes.get(path)
        if self.route is None:
            raise Refusal(Code.UNIMPLEMENTED, f"there is no method {path[:200].decode(errors='replace')}")
        timeout = fields.get(b"grpc-timeout")
        if timeout is not None:
            parsed = _TIMEOUT.fullmatch(timeout)
            if parsed is None:
                raise Refusal(Code.INTERNAL, f"{timeout[:40]!r} is no grpc-timeout")
            self.deadline = now() + int(parsed[1]) * _UNITS[parsed[2]]

    def take(self, data: bytes, limit: int) -> None:
        """Take a part of the request; raises Refusal when its message is longer than ``limit``."""
        body = self._body
        if not body:
            self._body = body = data
        elif isinstance(body, bytearray):
            body += data
        else:
            self._body = body = bytearray(body)
            body += data
        self.received = size = len(body)
        if size > limit + PREFIX or int.from_bytes(body[1:PREFIX], "big") > limit:
            raise Refusal(
                Code.RESOURCE_EXHAUSTED,
                f"the request is larger than {limit} bytes (server.max_message_bytes)",
            )

    def message(self) -> bytes:
        """Return the one message of a request that has ended; raises Refusal."""
        body, self._body = self._body, b""
        if not body:
            raise Refusal(Code.UNIMPLEMENTED, "the request has no message")
        length = int.from_bytes(body[1:PREFIX], "big")
        if len(body) < PREFIX + length or len(body) < PREFIX:
            raise Refusal(Code.INTERNAL, "the request ends within its message")
        if len(body) > PREFIX + length:
            raise Refusal(Code.UNIMPLEMENTED, "the request has more than one message")
        if body[0]:
            raise Refusal(Code.INTERNAL, "the request's message is compressed without a grpc-encoding")
        return bytes(body[PREFIX:])

    def drop(self) -> None:
        """Let go of the request's data."""
        self._body = b""

    # ------------------------------------------------------------------- answer

    def answer(self, data: bytes) -> None:
        """Send the only message, and the end."""
        self._begin(data)
        self._tail = TAIL_OK
        self.is_answered = True
        self.code = Code.OK
        self.peer.begin_answer(self)

    async def send(self, data: bytes) -> None:
        """Send one message of several; returns when the client has taken all of it but what is on its way."""
        if self.is_over:
            return
        self._begin(data)
        self._waiter = asyncio.get_running_loop().create_future()
        self._ask()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def end(self, code: Code, text: str = "") -> None:
        """Say how the call ended; nothing for one that was answered, or to which nobody listens."""
        self._body = b""
        if self.is_answered:
            return
        self.is_answered = True
        self.code = code
        if self.is_over:
            return
        if self._is_begun:
            if not self._promised:
                self._out = b""
            self._until = self._at + self._promised
            self._tail = _tail(code, text)
            self._ask()
        else:
            self.peer.end_call(self, Headers((_STATUS, _TYPE, *_tail(code, text).pairs)))

    def _begin(self, data: bytes) -> None:
        self._out = data
        self._at = 0
        self._until = PREFIX + len(data)

    def _ask(self) -> None:
        if self._is_begun:
            self.peer.resume_answer(self)
        else:
            self._is_begun = True
            self.peer.begin_answer(self)

    def measure(self, limit: int) -> tuple[int, Headers | None] | None:
        """Return how many bytes to send next, as `Events.measure` does."""
        left = self._until - self._at
        if left > limit:
            self._promised = limit
            return limit, None
        if self._tail is None and not left:
            return None
        self._promised = left
        return left, self._tail

    def read(self, length: int, parts: list[Buffer]) -> None:
        """Append the next bytes to send."""
        out, sent = self._out, self._at
        self._at += length
        self._promised = 0
        if sent < PREFIX:
            prefix = b"\0" + len(out).to_bytes(4, "big")
            parts.append(prefix[sent : sent + length])
            length -= PREFIX - sent
            sent = PREFIX
        if length > 0:
            parts.append(
                out if length == len(out) else memoryview(out)[sent - PREFIX : sent - PREFIX + length]
            )
        if self._at == self._until and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def unsent(self) -> int:
        """Bytes of the answer that wait."""
        return self._until - self._at

    def close(self) -> None:
        """Note that the stream is closed, and end what works on the call."""
        self.is_over = True
        self._body = b""
        self._out = b""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.cancel()
        if self.on_close is not None and not self.is_answered:
            self.on_close()


def _tail(code: Code, text: str) -> Headers:
    pairs = [(b"grpc-status", _TAIL_ERROR[code])]
    if text:
        pairs.append((b"grpc-message", escaped(text)))
    if code is Code.UNIMPLEMENTED:
        pairs.append((b"grpc-accept-encoding", b"identity"))
    return Headers(pairs)


def escaped(text: str) -> bytes:
    """Return a status's text as it travels in a field: what is not printable ASCII by percent signs."""
    data = text.encode(errors="replace")
    if _PLAIN.issuperset(data):
        return data
    return b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02X" % byte for byte in data)
