# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a channel has received and nobody has read."""

from __future__ import annotations

import asyncio

import pytest

from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    run,
)
from pvecri.streaming.channel import ChannelReset
from pvecri.streaming.inbox import Budget, Inbox


def test_inbox_has_one_reader() -> None:
    async def main() -> None:
        inbox = Inbox(Budget(100, lambda: None, lambda: None))
        first = asyncio.ensure_future(inbox.read())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks"):
            await inbox.read()
        first.cancel()
        await asyncio.sleep(0)
        second = asyncio.ensure_future(inbox.read())
        await asyncio.sleep(0)
        inbox.put(b"x")
        inbox.put(b"y")
        assert await second == b"xy"

    run(main())


def test_inbox_counts_what_is_thrown_away() -> None:
    async def main() -> None:
        read: list[int] = []
        switches: list[str] = []
        inbox = Inbox(
            Budget(1000, lambda: switches.append("stop"), lambda: switches.append("go")), read.append
        )
        inbox.put(b"x" * 600)
        inbox.put(b"y" * 600)
        assert await inbox.read(100) == b"x" * 100
        inbox.discard("enough")
        inbox.put(b"late")
        assert read == [100, 1100]
        assert switches == ["stop", "go"]
        with pytest.raises(ChannelReset, match="enough"):
            await inbox.read()

    run(main())


def test_inbox_joins_small_pieces_and_cuts_large_ones() -> None:
    async def main() -> None:
        inbox = Inbox(Budget(10**6, lambda: None, lambda: None))
        for piece in (b"ab", b"cd", b"efghij", b"k", b"lm"):
            inbox.put(piece)
        inbox.end()
        assert [await inbox.read(4) for _time in range(6)] == [b"abcd", b"efgh", b"ij", b"klm", b"", b""]

    run(main())
