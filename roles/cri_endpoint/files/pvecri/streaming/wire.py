# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry bytes of a connection that has left HTTP, with bounds on what waits in either direction."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import socket
import sys
import termios
import time
import typing as t

from pvecri.streaming.channel import ChannelReset, Limits
from pvecri.streaming.inbox import Budget

_LOG = logging.getLogger(__name__)

# Answers to requests (pings, new streams) do not wait for room; a client that asks for so many without
# reading any has broken off or means harm.
_UNREAD_ANSWERS_BYTES = 256 * 1024
# Who is dead without having said so is noticed after 30 + 4 × 15 s.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))

_LOOK_AGAIN_S = 0.5

# Of thousands of tiny frames that came at once no more are taken in one turn than this takes: all other
# connections, and the endpoint's own socket, wait meanwhile.
_TURN_S = 0.005
_PIECE_BYTES = 16 * 1024


class ProtocolError(Exception):
    """The peer broke the rules; ``code`` is WebSocket's number for how."""

    def __init__(self, text: str, code: int = 1002) -> None:
        super().__init__(text)
        self.code = code


class Session(t.Protocol):
    """What speaks a protocol over a wire."""

    def receive(self, data: bytes) -> None:
        """Take bytes; raises `ProtocolError`."""

    def refuse(self, error: ProtocolError) -> None:
        """Tell the peer what it did wrong; the connection ends right after."""

    def ping(self) -> None:
        """Ask whether the peer is still there."""

    def lost(self, reason: str) -> None:
        """Learn that the connection is gone."""


class Wire(t.Protocol):
    """Where a session writes to: a connection, or messages that are carried by another one."""

    closed: asyncio.Event
    budget: Budget
    peer: str

    def post(self, *buffers: bytes | memoryview) -> None:
        """Write at once: small answers that must not wait."""

    async def room(self) -> None:
        """Wait until more data may be posted; raises `ChannelReset`."""

    def touch(self) -> None:
        """Note that the connection is in use, beyond pings."""

    async def finish(self, timeout_s: float, *, is_stopping: bool = False) -> None:
        """After the last words: wait for the peer to close; after the time, abort."""


class Connection(asyncio.Protocol):
    """The wire that is a TCP or TLS connection."""

    def __init__(self, transport: asyncio.Transport, limits: Limits) -> None:
        self.closed = asyncio.Event()
        self.budget = Budget(limits.receive_buffer_bytes, transport.pause_reading, self._resume_reading)
        self.peer = _peer_name(transport)
        self._transport = transport
        self._limits = limits
        self._session: Session | None = None
        self._loop = asyncio.get_running_loop()
        self._line = asyncio.Lock()  # of writers: each takes its turn when there is room
        self._room = asyncio.Event()
        self._room.set()
        self._reason = ""
        self._is_parting = False
        self._rest = memoryview(b"")  # what came and was not taken yet
        self._is_behind = False
        self._heard = self._used = self._loop.time()
        self._watch: asyncio.TimerHandle | None = None

    def start(self, session: Session, answer: bytes) -> None:
        """Take the connection over, and send what ends HTTP; nothing is read yet."""
        self._session = session
        self._transport.pause_reading()
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(high=self._limits.send_buffer_bytes)
        _keep_alive(self._transport)
        self._transport.write(answer)
        self._watch_on()

    def go_on(self, leftover: bytes) -> None:
        """Read: first what came with the request's head."""
        if leftover:
            self.data_received(leftover)
        if not self.budget.is_paused:
            self._resume_reading()

    # -------------------------------------------------- what the transport tells

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the session, a bounded time in each turn of the loop."""
        self._heard = self._loop.time()
        self._rest = memoryview(bytes(self._rest) + data if self._rest else data)
        if not self._is_behind:
            self._go_through()

    def _go_through(self) -> None:
        until = time.monotonic() + _TURN_S
        while self._rest:
            piece, self._rest = bytes(self._rest[:_PIECE_BYTES]), self._rest[_PIECE_BYTES:]
            self._take(piece)
            if self._rest and time.monotonic() >= until and not self._transport.is_closing():
                self._is_behind = True
                self._transport.pause_reading()
                self._loop.call_soon(self._go_through)
                return
        if self._is_behind:
            self._is_behind = False
            if not self.budget.is_paused:
                self._resume_reading()

    def _take(self, data: bytes) -> None:
        """Hand bytes to the session; one that fails costs this connection only."""
        if self._session is None or self._reason or not data:
            return
        try:
            self._session.receive(data)
        except ProtocolError as exc:
            _LOG.warning("stream connection of %s: %s; it is closed", self.peer, exc)
            self._session.refuse(exc)
            self.hang_up(str(exc))
        except Exception:
            _LOG.exception("stream connection of %s: an unexpected error; it is closed", self.peer)
            self.abort("an internal error")

    def eof_received(self) -> bool:
        """Close: no client of these protocols goes on with half a connection."""
        return False

    def pause_writing(self) -> None:
        """Note that the send buffer is full."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Note that the send buffer has emptied."""
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everyone who waits."""
        rest, self._rest = bytes(self._rest), memoryview(b"")
        self._take(rest)
        self._reason = self._reason or (
            f"the connection broke: {exc}" if exc else "the client closed the connection"
        )
        self.closed.set()
        self._room.set()
        if self._watch is not None:
            self._watch.cancel()
        if self._session is not None:
            session, self._session = self._session, None
            session.lost(self._reason)

    # ------------------------------------------------------ what the session does

    def post(self, *buffers: bytes | memoryview) -> None:
        """Write at once; a peer that never reads is cut off in the end."""
        if self.closed.is_set() or self._transport.is_closing():
            return
        if not self._room.is_set():
            limit = self._limits.send_buffer_bytes + _UNREAD_ANSWERS_BYTES
            if self._transport.get_write_buffer_size() > limit:
                _LOG.warning("stream connection of %s: it asks without reading the answers", self.peer)
                self.abort("the client asks without reading the answers")
                return
        self._transport.writelines(buffers)

    async def room(self) -> None:
        """Wait for one's turn and for room in the send buffer."""
        if not self._room.is_set() or self._line.locked():
            async with self._line:
                await self._room.wait()
        if self.closed.is_set() or self._transport.is_closing():
            raise ChannelReset(self._reason or "the connection is closed")

    def touch(self) -> None:
        """Put the idle time-out off."""
        self._used = self._loop.time()

    async def finish(self, timeout_s: float, *, is_stopping: bool = False) -> None:
        """Wait for the peer to close; what it still sends meanwhile is for nobody.

        A slow reader gets all that was written: when the time is over, the rest of the closing goes on by
        itself until the peer's kernel has had everything for a while, or the idle time-out strikes.
        """
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.closed.wait()
        finally:
            if not self._is_parting:
                self._is_parting = True
                self._part()

    def _part(self) -> None:
        if self.closed.is_set() or self._transport.is_closing():
            return
        if self._unsent_bytes():
            self._loop.call_later(_LOOK_AGAIN_S, self._part)
        else:
            self._loop.call_later(
                self._limits.linger_s, self.abort, "the client did not close the connection"
            )

    def _unsent_bytes(self) -> int:
        sock = self._transport.get_extra_info("socket")
        if waiting := self._transport.get_write_buffer_size():
            return waiting
        # To close while this much is on its way would lose it as soon as the peer sends another ping.
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        return int.from_bytes(queued, sys.byteorder)

    def hang_up(self, reason: str) -> None:
        """Close when the send buffer is empty, within a moment that is bounded too."""
        if not self._reason and not self.closed.is_set():
            self._reason = reason
            self._transport.close()
            self._loop.call_later(self._limits.linger_s, self.abort, reason)

    def abort(self, reason: str) -> None:
        """Close at once."""
        if not self.closed.is_set():
            self._reason = self._reason or reason
            self._transport.abort()

    # --------------------------------------------------------------------- time

    def _watch_on(self) -> None:
        """Look again when the next ping or the end of patience is due."""
        periods = [period for period in (self._limits.ping_interval_s, self._limits.idle_timeout_s) if period]
        if periods:
            self._watch = self._loop.call_later(min(periods), self._look)

    def _look(self) -> None:
        now = self._loop.time()
        idle_s, ping_s = self._limits.idle_timeout_s, self._limits.ping_interval_s
        if idle_s and now - self._used >= idle_s:
            _LOG.info("stream connection of %s: idle for %g s; it is closed", self.peer, idle_s)
            self.abort(f"nothing was sent for {idle_s:g} s")
            return
        if ping_s and now - self._heard >= ping_s and self._session is not None and self._room.is_set():
            self._session.ping()
        self._watch_on()

    def _resume_reading(self) -> None:
        if not self._is_behind and not self.closed.is_set() and not self._transport.is_closing():
            self._transport.resume_reading()


def _peer_name(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "a local client"


def _keep_alive(transport: asyncio.Transport) -> None:
    """Let the kernel find out whether a peer that says nothing has died."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
