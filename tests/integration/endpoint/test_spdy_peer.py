# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDY with the npm package spdy-transport as its peer, once as the client and once as the server.

scripts/test installs the package and names its folder in the environment (PVECRI_SPDY_PEER).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import random
import shutil
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    HttpAnswer,
    SpdyClient,
    run,
    serving,
)
from pvecri.streaming import spdy_frames as frames
from pvecri.streaming.channel import Limits, StreamOptions
from pvecri.streaming.upgrade import upgrade_remote
from pvecri.streaming.upgrade_request import UpgradeRequest

MODULES = os.environ.get("PVECRI_SPDY_PEER", "")
PEER = pathlib.Path(__file__).with_name("spdy_peer") / "peer.js"

pytestmark = [
    pytest.mark.skipif(
        not MODULES, reason="needs spdy-transport: scripts/test installs it (PVECRI_SPDY_PEER)"
    ),
    pytest.mark.skipif(shutil.which("node") is None, reason="needs node"),
]


async def peer(*arguments: str) -> asyncio.subprocess.Process:
    environment = {"PATH": os.environ["PATH"], "NODE_PATH": MODULES}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        "node", str(PEER), *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    )


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


# ----------------------------------------------------------------- it is the client


async def echo(request: UpgradeRequest) -> None:
    """Send back what comes in pieces of uneven size, then a status."""
    channels = await upgrade_remote(request, StreamOptions(stdin=True, stdout=True), Limits())
    assert channels.stdin
    assert channels.stdout
    assert channels.error
    sizes = random.Random(1)
    while data := await channels.stdin.read(sizes.choice((1, 1000, 65536, 300_000))):
        await channels.stdout.write(data)
    await channels.stdout.close_write()
    await channels.error.write(b"done")
    await channels.close()


@pytest.mark.parametrize("size", [0, 1, 8192, 65_536, 65_537, 1_000_000, 16 * 2**20 + 1])
def test_peer_as_client_gets_back_what_it_sends(size: int) -> None:
    """Above 64 KiB only with windows that both sides keep."""
    payload = noise(size, size)

    async def main() -> None:
        async with serving(echo) as port:
            process = await peer("client", str(port))
            output, errors = await process.communicate(payload)
            assert (process.returncode, errors) == (0, b"done")
            assert output == payload

    run(main(), timeout_s=120)


# ----------------------------------------------------------------- it is the server


@contextlib.asynccontextmanager
async def listening() -> t.AsyncIterator[int]:
    process = await peer("server")
    assert process.stdout
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


class Speaker(SpdyClient):
    """A client that keeps count of what the peer sends back, and lets it send on."""

    replies: dict[int, dict[str, str]]
    echoes: dict[int, bytearray]
    ended: set[int]

    @classmethod
    async def to(cls, port: int) -> Speaker:
        speaker = cls(*await asyncio.open_connection("127.0.0.1", port), HttpAnswer(101, {}, ""))
        speaker.replies, speaker.echoes, speaker.ended = {}, {}, set()
        return speaker

    async def listen(self, done: t.Callable[[], bool]) -> None:
        while not done():
            match await self.get():
                case frames.SynReply(stream_id, headers):
                    self.replies[stream_id] = headers
                    self.echoes[stream_id] = bytearray()
                case frames.Data(stream_id, data, fin):
                    self.echoes[stream_id] += data
                    if fin:
                        self.ended.add(stream_id)
                    if data:
                        await self.put(
                            frames.WindowUpdate(0, len(data)), frames.WindowUpdate(stream_id, len(data))
                        )
                case frames.RstStream() | frames.GoAway() as end:
                    raise AssertionError(end)


CHUNKS = st.lists(st.integers(0, 20_000), min_size=1, max_size=6)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=200)


@given(st.lists(st.tuples(VALUES, CHUNKS), min_size=1, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_peer_as_server_sends_streams_back(
    streams: list[tuple[str, list[int]]], order: random.Random
) -> None:
    """Headers of every stream refer to those before, in both directions; the streams' data are mixed."""

    async def main() -> None:
        async with listening() as port:
            speaker = await Speaker.to(port)
            sent: dict[int, bytes] = {}
            queue: list[tuple[int, int]] = []
            for index, (name, sizes) in enumerate(streams):
                stream_id = 2 * index + 1
                sent[stream_id] = b""
                fields = {
                    ":method": "POST",
                    ":path": "/",
                    ":version": "HTTP/1.1",
                    ":scheme": "http",
                    ":host": "h",
                }
                await speaker.put(frames.SynStream(stream_id, fields | {"name": name}))
                queue += [(stream_id, size) for size in sizes]
            order.shuffle(queue)
            for stream_id, size in queue:
                data = noise(size, size + stream_id)
                sent[stream_id] += data
                await speaker.put(frames.Data(stream_id, data))
                await speaker.listen(
                    lambda: sum(map(len, speaker.echoes.values())) >= sum(map(len, sent.values()))
                )
            for stream_id in sent:
                await speaker.put(frames.Data(stream_id, b"", True))
            await speaker.listen(lambda: speaker.ended == set(sent))
            assert {number: bytes(echo) for number, echo in speaker.echoes.items()} == sent
            names = [speaker.replies[number]["x-stream"].strip() for number in sorted(sent)]
            assert names == [name.strip() for name, _sizes in streams]
            speaker.vanish()

    run(main(), timeout_s=60)


def test_peer_as_server_answers_pings() -> None:
    async def main() -> None:
        async with listening() as port:
            speaker = await Speaker.to(port)
            await speaker.put(frames.Ping(1), frames.Ping(3))
            pings = [
                frame
                for frame in [await speaker.get() for _number in range(4)]
                if isinstance(frame, frames.Ping)
            ]
            assert pings == [frames.Ping(1), frames.Ping(3)]
            speaker.vanish()

    run(main())
