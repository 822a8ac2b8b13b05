# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speak HTTP/2 with one client: bytes to calls, and answers to bytes.

What comes in one piece is worked off as a whole: the library takes it apart, the calls that are complete are
begun, and the answers of those that need not wait leave in one write.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import typing as t

from pvecri.rpc import nghttp2
from pvecri.rpc.calls import HEAD, WANTED, Call, Refusal
from pvecri.rpc.nghttp2 import Buffer, Headers, Http2Error
from pvecri.rpc.session import Session
from pvecri.rpc.status import Code

#: What paths lead to: the server's business.
Routes = dict[bytes, t.Any]

#: What a client may send on one stream, and on all of them, before it has to hear that it was taken.
_STREAM_WINDOW: t.Final = 1 << 20
_WINDOW: t.Final = 16 << 20
#: Bytes of a request's fields, each counted with 32 more (RFC 9113, section 6.5.2).
MAX_FIELDS: t.Final = 16 << 10
#: Bytes that are handed to the transport at once, and from which on it asks to wait.
_BATCH: t.Final = 256 << 10
_JOINED: t.Final = 32 << 10
_HIGH_WATER: t.Final = 256 << 10
#: Frames that may wait while a client does not read; no more of its bytes are read then.
_MAX_QUEUED: t.Final = 4000
#: How many of the longest messages a client may leave unfinished, or unread.
UNFINISHED: t.Final = 4
#: Seconds in which a client must have said that it speaks HTTP/2: by a preface, and a frame (RFC 9113, 3.4).
GREETING_S: t.Final = 60.0
_GREETING: t.Final = 24 + 9

_log = logging.getLogger(__name__)


class Owner(t.Protocol):
    """The server, as its connections know it."""

    max_streams: int
    max_message: int
    routes: Routes

    def joined(self, connection: Connection) -> bool:
        """Take note of a connection; False refuses it."""

    def left(self, connection: Connection) -> None:
        """Forget a connection."""

    def call_begins(self, call: Call, message: bytes) -> None:
        """Begin a call whose request is there; answers by the call's methods."""

    def call_refused(self, call: Call, refusal: Refusal) -> None:
        """Answer a call whose request cannot be read."""


class Connection(asyncio.Protocol):
    """One client."""

    max_fields = MAX_FIELDS
    wanted_lengths: t.Container[int] = frozenset(map(len, WANTED))

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._calls: dict[int, Call] = {}
        #: Calls whose requests are there, or refused, since the library was called.
        self._ready: list[tuple[Call, Refusal | None]] = []
        self._opening: Call | None = None
        self.fields_size = 0
        self._is_busy = self._is_paused = self._is_deaf = self._flush_is_due = False
        #: Bytes of unfinished requests.
        self._unread = 0
        #: Bytes of answers to calls that are not over.
        self.unsent = 0
        self._max_unread = UNFINISHED * owner.max_message
        self._greeting: asyncio.TimerHandle | None = None
        self._heard = 0
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None

    # ---------------------------------------------------------------- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the server's settings go out first."""
        self._transport = t.cast("asyncio.Transport", transport)
        if not self._owner.joined(self):
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        settings = {
            nghttp2.MAX_CONCURRENT_STREAMS: self._owner.max_streams,
            nghttp2.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            nghttp2.MAX_HEADER_LIST_SIZE: MAX_FIELDS,
        }
        self._session = Session(self, settings, _WINDOW)
        self._greeting = self._loop.call_later(GREETING_S, self.abort)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Work off what came."""
        session = self._session
        if session is None:
            return
        self._is_busy = True
        try:
            session.receive(data)
            if self._greeting is not None:
                self._heed_greeting(len(data))
            while self._ready:
                ready, self._ready = self._ready, []
                for call, refusal in ready:
                    self._begin(call, refusal)
        except Http2Error as exc:
            _log.debug("connection ended: %s", exc)
            self._end_badly()
            return
        except Exception:
            _log.exception("connection ended by a fault of the endpoint")
            self.abort()
            return
        finally:
            self._is_busy = False
        self._flush()

    def _heed_greeting(self, size: int) -> None:
        """Wait for no more when all of it came; the library has found nothing wrong with it."""
        self._heard += size
        if self._heard >= _GREETING and self._greeting is not None:
            self._greeting.cancel()
            self._greeting = None

    def pause_writing(self) -> None:
        """Send no more: the client does not read what it asked for."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._is_paused = False
        if self._is_deaf and self._transport is not None:
            self._is_deaf = False
            self._transport.resume_reading()
        # Not at once: what is written while uvloop itself writes waits until something else wakes the loop.
        self._want_flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all calls: nobody waits for their answers."""
        if self._greeting is not None:
            self._greeting.cancel()
        if self._session is not None:
            self._session.close()
        self._session = self._transport = None
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.close()
        self._owner.left(self)

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End the connection when what is under way has been sent."""
        if self._transport is not None:
            self._flush()
        if self._transport is not None:
            self._transport.close()

    def go_away(self) -> None:
        """Take no more calls; the connection ends with the last one under way."""
        if self._session is not None:
            self._session.go_away()
            self._want_flush()

    @property
    def calls(self) -> list[Call]:
        """Calls that are not over."""
        return list(self._calls.values())

    def _end_badly(self) -> None:
        """Say what the library found wrong, and close."""
        if self._session is not None and self._transport is not None:
            with contextlib.suppress(Http2Error):
                self._send(self._session, self._transport)
            self._transport.close()

    def _want_flush(self) -> None:
        if not (self._is_busy or self._flush_is_due):
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._session is None or self._transport is None:
            return
        try:
            self._send(self._session, self._transport)
        except Exception:
            _log.exception("connection ended by a fault of the endpoint")
            self.abort()

    def _send(self, session: Session, transport: asyncio.Transport) -> None:
        while not self._is_paused:
            parts, size = session.take(_BATCH)
            if size > _JOINED:
                transport.writelines(parts)
            elif size:
                transport.write(b"".join(parts))
            if size < _BATCH:
                break
        if self._is_paused:
            if session.queued > _MAX_QUEUED and not self._is_deaf:
                self._is_deaf = True
                transport.pause_reading()
        elif session.is_over:
            transport.close()

    # -------------------------------------------------------------------- calls

    def _begin(self, call: Call, refusal: Refusal | None) -> None:
        self._unread -= call.received
        call.received = 0
        if call.is_over or call.is_answered:
            return
        if refusal is None:
            try:
                message = call.message()
            except Refusal as exc:
                refusal = exc
            else:
                self._owner.call_begins(call, message)
                return
        self._owner.call_refused(call, refusal)

    def begin_answer(self, call: Call) -> None:
        """Send the answer's head, and then its data as `Call.read` gives it."""
        if self._session is not None:
            call.weight = call.unsent
            self.unsent += call.weight
            self._session.respond(call.stream_id, HEAD, has_data=True)
            self._want_flush()

    def resume_answer(self, call: Call) -> None:
        """Ask for data again."""
        if self._session is not None:
            self._session.resume(call.stream_id)
            self._want_flush()

    def end_call(self, call: Call, headers: Headers) -> None:
        """Answer with nothing but headers."""
        if self._session is not None:
            self._session.respond(call.stream_id, headers, has_data=False)
            self._want_flush()

    # ------------------------------------------- what the library tells (Events)

    def on_open(self, stream_id: int) -> None:
        """Note that a stream begins, or that its trailers do, in which no call has anything."""
        self.fields_size = 0
        self._opening = None
        if stream_id not in self._calls:
            self._opening = self._calls[stream_id] = Call(self, stream_id)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field if it matters."""
        if name in WANTED and self._opening is not None:
            self._opening.fields[name] = value

    def on_headers_end(self, stream_id: int, is_end: bool) -> None:
        """Look at the fields of a call."""
        call = self._opening
        if call is not None:
            try:
                call.open(self._owner.routes, self._loop.time)
            except Refusal as exc:
                self._refuse(call, exc)
        if is_end:
            self.on_end(stream_id)

    def _refuse(self, call: Call, refusal: Refusal) -> None:
        call.drop()
        call.is_refused = True
        self._ready.append((call, refusal))

    def on_data(self, stream_id: int, data: bytes) -> None:
        """Keep a part of a request."""
        call = self._calls.get(stream_id)
        if call is None or call.is_refused:
            return
        self._unread += len(data)
        try:
            call.take(data, self._owner.max_message)
            if self._unread > self._max_unread:
                raise Refusal(Code.RESOURCE_EXHAUSTED, "too many requests of this client are unfinished")
        except Refusal as exc:
            self._refuse(call, exc)

    def on_end(self, stream_id: int) -> None:
        """Begin the call when the library has returned."""
        call = self._calls.get(stream_id)
        if call is not None and not call.is_refused:
            self._ready.append((call, None))

    def on_close(self, stream_id: int, error: int) -> None:
        """Forget a call."""
        call = self._calls.pop(stream_id, None)
        if call is not None:
            self._unread -= call.received
            call.received = 0
            self.unsent -= call.weight
            call.close()

    def measure(self, stream_id: int, limit: int) -> tuple[int, Headers | None] | None:
        """Return how much is to be sent on a stream."""
        return self._calls[stream_id].measure(limit)

    def read(self, stream_id: int, length: int, parts: list[Buffer]) -> None:
        """Append it."""
        self._calls[stream_id].read(length, parts)
