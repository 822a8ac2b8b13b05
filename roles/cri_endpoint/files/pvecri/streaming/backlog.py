# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let output wait for a client, within bounds of size and of time."""

from __future__ import annotations

import asyncio
import collections
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.attach import Stream
from pvecri.streaming.channel import READ_BYTES

#: Bytes that wait at most, and below which more is taken again.
BUFFER_MAX: t.Final = 256 * 1024
BUFFER_LOW: t.Final = 128 * 1024


class TooSlow(Exception):
    """A client keeps its container waiting."""


class Backlog:
    """What waits for one client, in order: pieces with the stream they belong to."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._pieces: collections.deque[tuple[Stream, bytes]] = collections.deque()
        self._size = 0
        self._has_ended = False
        self._grown = asyncio.Event()
        self._shrunk = asyncio.Event()

    async def put(self, stream: Stream, data: bytes) -> None:
        """Add a piece and wait until there is room for more.

        Raises TooSlow when the client does not take half of what waits in ``stall_s`` seconds.
        """
        self._pieces.append((stream, data))
        self._size += len(data)
        self._grown.set()
        if self._size < BUFFER_MAX:
            return
        self._shrunk.clear()
        try:
            async with asyncio.timeout(self._stall_s):
                await self._shrunk.wait()
        except TimeoutError:
            raise TooSlow(
                f"in {self._stall_s:g} s the client took less than {BUFFER_LOW // 1024} KiB of what the "
                "container writes, which has to wait for it"
            ) from None

    def end(self) -> None:
        """Say that nothing more will come."""
        self._has_ended = True
        self._grown.set()

    async def take(self) -> tuple[Stream, bytes] | None:
        """Return what is next of one stream, a chunk at most; None at the end."""
        while not self._pieces:
            if self._has_ended:
                return None
            self._grown.clear()
            await self._grown.wait()
        stream, first = self._pieces.popleft()
        parts, size = [first], len(first)
        while self._pieces and self._pieces[0][0] is stream and size + len(self._pieces[0][1]) <= READ_BYTES:
            parts.append(self._pieces.popleft()[1])
            size += len(parts[-1])
        return stream, b"".join(parts)

    def taken(self, count: int) -> None:
        """Say that so many bytes have gone to the client."""
        self._size -= count
        if self._size < BUFFER_LOW:
            self._shrunk.set()
