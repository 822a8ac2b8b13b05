# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the head of one HTTP/1.1 request, within bounds of time and size, and answer it.

Nothing else of HTTP is needed: a request either becomes streams or is answered, and the connection
is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import typing as t

import h11

from pvecri.streaming.upgrade_request import UpgradeRequest

_log = logging.getLogger(__name__)

HEAD_BYTES: t.Final = 32 * 1024
HEAD_TIMEOUT_S: t.Final = 10.0
#: How long a client may take for its answer; it is read on: closed with unread bytes, it would lose that.
_LINGER_S: t.Final = 1.0

Headers = t.Sequence[tuple[bytes, bytes]]
OnHead = t.Callable[["HeadReader", UpgradeRequest], None]
OnLost = t.Callable[["HeadReader"], None]


class HeadReader(asyncio.Protocol):
    """One connection until its request's head is there.

    ``on_head`` then has the connection: its transport is paused, and what came after the head is in
    the request.  It answers by `answer`, or gives the transport another protocol.  ``on_lost`` is
    called when the connection ends in this reader's hands.
    """

    def __init__(
        self,
        on_head: OnHead,
        on_lost: OnLost | None = None,
        *,
        timeout_s: float = HEAD_TIMEOUT_S,
        max_bytes: int = HEAD_BYTES,
    ) -> None:
        self._on_head = on_head
        self._on_lost = on_lost
        self._timeout_s = timeout_s
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=max_bytes)
        self._max_bytes = max_bytes
        self._taken = 0
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._request: h11.Request | None = None
        #: Whether the head is complete or was answered: what comes then is not parsed.
        self._is_done = False
        #: Whether all that is left is that the client takes its answer.
        self.is_answered = False

    # ---- asyncio.Protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait."""
        self._transport = t.cast(asyncio.Transport, transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._timeout_s, self._time_out)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._is_done:
            return
        self._taken += len(data)
        try:
            self._parser.receive_data(data)
            self._parse()
        except h11.RemoteProtocolError as exc:
            self.answer(exc.error_status_hint or 400, f"this is no HTTP request: {exc}")

    def eof_received(self) -> bool:
        """Close a connection whose client says no more, after what it was answered."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go."""
        self._stop_timer()
        self._is_done = True
        if self._on_lost is not None:
            self._on_lost(self)

    # ---- for the owner --------------------------------------------------------------------------------

    def answer(
        self,
        status: int,
        text: str,
        headers: Headers = (),
        *,
        kind: str = "text/plain",
        has_body: bool = True,
        linger_s: float = _LINGER_S,
    ) -> None:
        """Answer and close the connection."""
        self._is_done = self.is_answered = True
        self._stop_timer()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(answer_bytes(status, text, headers, kind=kind, has_body=has_body))
        if transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                transport.write_eof()
        transport.resume_reading()
        self._timer = asyncio.get_running_loop().call_later(linger_s, transport.abort)

    def abort(self) -> None:
        """Close the connection without a word."""
        self._is_done = True
        if self._transport is not None:
            self._transport.abort()

    # ---- parsing --------------------------------------------------------------------------------------

    def _parse(self) -> None:
        while not self._is_done:
            event = self._parser.next_event()
            if isinstance(event, h11.Request):
                self._request = event
                if not event.http_version.startswith(b"1."):
                    self.answer(505, "only HTTP/1.1 is spoken here")
            elif isinstance(event, h11.EndOfMessage):
                self._hand_over()
            elif isinstance(event, h11.Data):
                self.answer(413, "a request has no body here")
            else:
                # More is awaited; a body's frame could come in pieces for ever.
                if event is h11.NEED_DATA and self._taken > self._max_bytes:
                    self.answer(431, f"the request's head has more than {self._max_bytes} bytes")
                return

    def _hand_over(self) -> None:
        assert self._request is not None
        assert self._transport is not None
        self._is_done = True
        self._stop_timer()
        self._transport.pause_reading()
        leftover, _is_eof = self._parser.trailing_data
        request = UpgradeRequest(
            method=self._request.method.decode(),
            target=self._request.target.decode("ascii", "replace"),
            headers=tuple((bytes(name), bytes(value)) for name, value in self._request.headers),
            transport=self._transport,
            leftover=bytes(leftover),
        )
        self._on_head(self, request)

    def _time_out(self) -> None:
        self.answer(408, f"the request's head did not come within {self._timeout_s:g} s")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def answer_bytes(
    status: int, text: str, headers: Headers = (), *, kind: str = "text/plain", has_body: bool = True
) -> bytes:
    """Return a whole answer; the connection is closed after it."""
    body = text.encode(errors="replace")
    if kind == "text/plain" and not body.endswith(b"\n"):
        body += b"\n"
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    lines = [
        f"HTTP/1.1 {status} {phrase}".encode(),
        f"Content-Type: {kind}; charset=utf-8".encode(),
        b"X-Content-Type-Options: nosniff",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        *(name + b": " + value for name, value in headers),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body if has_body else b"")
