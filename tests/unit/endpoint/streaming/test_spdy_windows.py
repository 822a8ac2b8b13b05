# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows of SPDY, with a peer that keeps them."""

from __future__ import annotations

import asyncio

import pytest

from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    run,
    spdy_session,
)
from pvecri.streaming import spdy_frames as frames
from pvecri.streaming.channel import ChannelReset, Limits, RemoteChannels

QUIET = Limits(idle_timeout_s=0, ping_interval_s=0)
RECEIVE_WINDOW = QUIET.receive_buffer_bytes // 2


def test_windows_of_a_peer_that_keeps_them_are_heeded() -> None:
    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        assert channels.stdin
        assert channels.stdout
        assert await channels.stdin.read() == b"go"
        await channels.stdout.write(b"0123456789" * 3)
        await channels.stdout.close_write()

    async def main() -> None:
        async with spdy_session(work, QUIET) as (client, ids):
            await client.put(frames.Settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 10}))
            assert await client.get() == frames.Settings({7: RECEIVE_WINDOW})
            assert await client.get() == frames.WindowUpdate(0, RECEIVE_WINDOW - 65536)
            await client.put(frames.Data(ids["stdin"], b"go"))
            assert await client.get() == frames.Data(ids["stdout"], b"0123456789")
            await client.put(frames.Ping(1))
            assert await client.get() == frames.Ping(1)
            await client.put(
                frames.WindowUpdate(0, 1000),
                frames.WindowUpdate(99, 5),
                frames.WindowUpdate(ids["stdout"], 5),
            )
            assert await client.get() == frames.Data(ids["stdout"], b"01234")
            await client.put(frames.Settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 10**6}))
            assert await client.get_data(ids["stdout"]) == b"567890123456789"

    run(main())


@pytest.mark.parametrize("ending", ["reset", "vanish"])
def test_windows_that_never_open_do_not_hold_a_stream_that_has_ended(ending: str) -> None:
    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        assert channels.stdin
        assert channels.stdout
        assert await channels.stdin.read() == b"go"
        with pytest.raises(ChannelReset):
            await channels.stdout.write(b"x")

    async def main() -> None:
        async with spdy_session(work, QUIET) as (client, ids):
            await client.put(frames.Settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}))
            await client.put(frames.Data(ids["stdin"], b"go"), frames.Ping(1))
            while await client.get() != frames.Ping(1):
                pass
            if ending == "reset":
                await client.put(frames.RstStream(ids["stdout"], 5))

    run(main())


def test_windows_are_opened_for_what_was_read_or_thrown_away() -> None:
    half = RECEIVE_WINDOW // 2

    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        assert channels.stdin
        left = half
        while left:
            left -= len(await channels.stdin.read(min(left, 4096)))
        channels.stdin.reset()

    async def main() -> None:
        async with spdy_session(work, QUIET) as (client, ids):
            await client.put(frames.WindowUpdate(0, 10))
            await client.get(), await client.get()
            for _time in range(half // 4096):
                await client.put(frames.Data(ids["stdin"], bytes(4096)))
            assert await client.get() == frames.WindowUpdate(0, half)
            assert await client.get() == frames.WindowUpdate(ids["stdin"], half)
            assert await client.get() == frames.RstStream(ids["stdin"], 5)
            for _time in range(half // 4096):
                await client.put(frames.Data(ids["stdin"], bytes(4096)))
            assert await client.get() == frames.WindowUpdate(0, half)
            await client.put(
                frames.Data(ids["error"], bytes(1), True), frames.Data(ids["error"], bytes(half))
            )
            assert await client.get() == frames.WindowUpdate(0, half)

    run(main())
