# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what came for a channel and was not read yet, and count it for its connection."""

from __future__ import annotations

import asyncio
import collections
import typing as t

from pvecri.streaming.channel import READ_BYTES, ChannelReset

# What an object of one byte costs beside its byte: a peer that sends bytes one by one is stopped in time too.
_OVERHEAD_BYTES = 64


class Budget:
    """Unread bytes of all channels of one connection; stops and resumes its reading."""

    def __init__(self, limit_bytes: int, pause: t.Callable[[], None], resume: t.Callable[[], None]) -> None:
        self._limit = limit_bytes
        self._pause = pause
        self._resume = resume
        self._used = 0
        self.is_paused = False

    def take(self, count: int) -> None:
        """Count bytes that came."""
        self._used += count
        if not self.is_paused and self._used >= self._limit:
            self.is_paused = True
            self._pause()

    def give(self, count: int) -> None:
        """Count bytes that were read or thrown away."""
        self._used -= count
        if self.is_paused and self._used <= self._limit // 2:
            self.is_paused = False
            self._resume()


class Inbox:
    """The receiving half of a channel."""

    def __init__(self, budget: Budget, on_read: t.Callable[[int], None] | None = None) -> None:
        self._budget = budget
        self._on_read = on_read
        self._chunks: collections.deque[bytes] = collections.deque()
        self._offset = 0  # into the first chunk
        self._reader: asyncio.Future[None] | None = None
        self._has_ended = False
        self._failure: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether more may come."""
        return not self._has_ended and self._failure is None

    def put(self, data: bytes) -> None:
        """Add bytes that came; after the end they are thrown away."""
        if data and self.is_open:
            self._chunks.append(data)
            self._budget.take(len(data) + _OVERHEAD_BYTES)
            self._wake()

    def end(self) -> None:
        """Note that the peer's direction has ended."""
        self._has_ended = True
        self._wake()

    def fail(self, reason: str) -> None:
        """Note that no more comes, and that what came may not be all."""
        if self.is_open:
            self._failure = reason
        self._wake()

    def discard(self, reason: str) -> None:
        """Throw away what was not read; readers get `ChannelReset`."""
        thrown = -self._offset
        while self._chunks:
            thrown += len(self._drop_first())
        if thrown and self._on_read is not None:
            self._on_read(thrown)
        self._has_ended = False
        self._failure = self._failure or reason
        self._wake()

    async def read(self, max_bytes: int = READ_BYTES) -> bytes:
        """Wait for bytes and return up to ``max_bytes`` of what is there."""
        while not self._chunks:
            if self._has_ended:
                return b""
            if self._failure is not None:
                raise ChannelReset(self._failure)
            if self._reader is not None:
                raise RuntimeError("two tasks read one channel")
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._collect(max_bytes)
        if self._on_read is not None:
            self._on_read(len(data))
        return data

    def _collect(self, max_bytes: int) -> bytes:
        first = self._chunks[0]
        if self._offset or len(first) > max_bytes:
            end = self._offset + max_bytes
            piece = first[self._offset : end]
            if end < len(first):
                self._offset = end
            else:
                self._drop_first()
            return piece
        self._drop_first()
        if not self._chunks or len(first) + len(self._chunks[0]) > max_bytes:
            return first
        pieces, total = [first], len(first)
        while self._chunks and total + len(self._chunks[0]) <= max_bytes:
            total += len(self._chunks[0])
            pieces.append(self._drop_first())
        return b"".join(pieces)

    def _drop_first(self) -> bytes:
        chunk = self._chunks.popleft()
        self._offset = 0
        self._budget.give(len(chunk) + _OVERHEAD_BYTES)
        return chunk

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
