# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WebSocket channels with the package websockets as the client: handshake, fragments, pings, closing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import typing as t

import pytest
import websockets.asyncio.client
import websockets.exceptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.tests.support.stream_clients import Handler, run, serving
from pvecri.streaming.channel import Limits, StreamOptions
from pvecri.streaming.upgrade import upgrade_remote
from pvecri.streaming.upgrade_request import UpgradeRequest

V5, V4_BASE64 = "v5.channel.k8s.io", "v4.base64.channel.k8s.io"
Client = websockets.asyncio.client.ClientConnection


@contextlib.asynccontextmanager
async def connected(handler: Handler, protocol: str) -> t.AsyncIterator[Client]:
    async with (
        serving(handler) as port,
        websockets.asyncio.client.connect(
            f"ws://127.0.0.1:{port}/exec/token",
            subprotocols=[websockets.Subprotocol(protocol)],
            compression=None,
            max_size=None,
            proxy=None,
        ) as client,
    ):
        assert client.subprotocol == protocol
        yield client


async def echo(request: UpgradeRequest) -> None:
    channels = await upgrade_remote(request, StreamOptions(stdin=True, stdout=True), Limits())
    assert channels.stdin
    assert channels.stdout
    assert channels.error
    while data := await channels.stdin.read(300_000):
        await channels.stdout.write(data)
    await channels.error.write(b"done")
    await channels.close()


async def collect(client: Client) -> dict[int, bytes]:
    """Read messages to the close frame, which must be a normal one."""
    got: dict[int, bytes] = {}
    async for message in client:
        assert isinstance(message, bytes)
        got[message[0]] = got.get(message[0], b"") + message[1:]
    assert client.close_code == 1000
    return got


PARTS = st.lists(st.lists(st.integers(0, 5000), min_size=1, max_size=4), max_size=8)


@given(PARTS, st.integers(0, 1000))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_client_gets_back_what_it_sends(messages: list[list[int]], seed: int) -> None:
    """Messages in several fragments, with pings between them."""
    noise = random.Random(seed)
    payloads = [[noise.randbytes(size) for size in parts] for parts in messages]

    async def main() -> None:
        async with connected(echo, V5) as client:
            reading = asyncio.ensure_future(collect(client))
            for parts in payloads:
                await client.send([b"\0", *parts])
                await client.ping()
            await client.send(b"\xff\0")
            sent = b"".join(part for parts in payloads for part in parts)
            assert await reading == {1: sent, 3: b"done"}

    run(main())


def test_client_gets_back_many_megabytes() -> None:
    payload = random.Random(1).randbytes(2**20)

    async def main() -> None:
        async with connected(echo, V5) as client:
            reading = asyncio.ensure_future(collect(client))
            for _time in range(16):
                await client.send(b"\0" + payload)
            await client.send(b"\xff\0")
            assert await reading == {1: payload * 16, 3: b"done"}

    run(main())


def test_client_of_base64() -> None:
    async def main() -> None:
        async with connected(echo, V4_BASE64) as client:
            assert await client.recv() == b"1"
            await client.send(["0", base64.b64encode(b"hello").decode()])
            assert base64.b64decode((await client.recv())[1:]) == b"hello"

    with contextlib.suppress(ConnectionError):
        run(main())


def test_client_that_breaks_the_protocol_is_told_why() -> None:
    async def main() -> None:
        async with connected(echo, V5) as client:
            assert await client.recv() == b"\x01"
            await client.send(b"\xff\0\0")
            with pytest.raises(websockets.exceptions.ConnectionClosedError) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (
                1002,
                "a close signal names one channel",
            )

    with contextlib.suppress(ConnectionError):
        run(main())
