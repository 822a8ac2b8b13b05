# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Port-forward over SPDY: pairs of streams, in either order, whole or not."""

from __future__ import annotations

import asyncio
import contextlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    SPDY_FORWARD,
    SpdyClient,
    run,
    serving,
)
from pvecri.streaming import spdy_frames as frames
from pvecri.streaming.channel import (
    ChannelReset,
    ForwardSession,
    Limits,
)
from pvecri.streaming.upgrade import upgrade_forward
from pvecri.streaming.upgrade_request import UpgradeRequest

LIMITS = Limits(creation_timeout_s=20, idle_timeout_s=0, ping_interval_s=0)


@contextlib.asynccontextmanager
async def forwarding(
    work: t.Callable[[ForwardSession], t.Coroutine[t.Any, t.Any, None]], limits: Limits = LIMITS
) -> t.AsyncIterator[SpdyClient]:
    async def handle(request: UpgradeRequest) -> None:
        await work(await upgrade_forward(request, [80], limits))

    async with serving(handle) as port:
        client = await SpdyClient.connect(port, SPDY_FORWARD)
        assert client.answer.headers["x-stream-protocol-version"] == "portforward.k8s.io"
        try:
            yield client
        finally:
            client.vanish()


async def echo_port(session: ForwardSession) -> None:
    """Say the port, then send back what comes; close when the client has closed."""
    async for pair in session:
        with contextlib.suppress(ChannelReset):
            await pair.data.write(b"%d:" % pair.port)
            while data := await pair.data.read():
                await pair.data.write(data)
            await pair.data.close_write()
            await pair.error.close_write()


@pytest.mark.parametrize("kinds", [("error", "data"), ("data", "error")])
@pytest.mark.parametrize("has_ids", [True, False])
def test_forward_joins_streams_in_either_order(kinds: tuple[str, str], has_ids: bool) -> None:
    if not has_ids and kinds[0] == "data":
        return  # without ids the order is what joins them

    async def main() -> None:
        async with forwarding(echo_port) as client:
            for number, port in enumerate((80, 65535)):
                ids = {
                    kind: await client.open(
                        streamtype=kind, port=str(port), **({"requestid": str(number)} if has_ids else {})
                    )
                    for kind in kinds
                }
                await client.put(
                    frames.Data(ids["error"], b"", True), frames.Data(ids["data"], b"ping", True)
                )
                assert await client.get_data(ids["data"]) == b"%d:ping" % port
                assert await client.get_data(ids["error"]) == b""

    run(main())


@pytest.mark.parametrize(
    "headers",
    [
        {"streamtype": "stdin", "port": "80", "requestid": "0"},
        {"port": "80", "requestid": "0"},
        *(
            {"streamtype": "data", "port": port}
            for port in ("", "0", "65536", "-1", "+1", "1" * 3000, "٣", "x")
        ),
        {"streamtype": "data", "requestid": "0"},
    ],
)
def test_forward_refuses_streams_that_make_no_sense(headers: dict[str, str]) -> None:
    headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}

    async def main() -> None:
        async with forwarding(echo_port) as client:
            await client.put(frames.SynStream(1, headers))
            assert await client.get() == frames.RstStream(1, 3)

    run(main())


@pytest.mark.parametrize("second", [("error", "80"), ("data", "81")])
def test_forward_refuses_a_second_stream_that_does_not_fit(second: tuple[str, str]) -> None:
    async def main() -> None:
        async with forwarding(echo_port) as client:
            await client.open(streamtype="error", port="80", requestid="0")
            await client.put(
                frames.SynStream(3, {"streamtype": second[0], "port": second[1], "requestid": "0"})
            )
            assert await client.get() == frames.RstStream(3, 3)
            client._next_id = 5
            data = await client.open(streamtype="data", port="80", requestid="0")
            assert await client.get_data(data, 3) == b"80:"

    run(main())


def test_forward_gives_up_halves_after_a_time() -> None:
    async def main() -> None:
        async with forwarding(echo_port, Limits(creation_timeout_s=0.05)) as client:
            error = await client.open(streamtype="error", port="80", requestid="0")
            assert b"did not open both streams" in await client.get_data(error)
            data = await client.open(streamtype="data", port="80", requestid="1")
            assert await client.get() == frames.RstStream(data, 5)
            whole = await client.open(streamtype="error", port="80", requestid="2")
            await client.put(frames.RstStream(whole, 5))
            await asyncio.sleep(0.1)
            await client.put(frames.Ping(1))
            assert await client.get() == frames.Ping(1)

    run(main())


def test_forward_ends_with_its_client() -> None:
    seen: list[ForwardSession] = []

    async def work(session: ForwardSession) -> None:
        seen.append(session)
        assert [pair.port async for pair in session] == [80]

    async def main() -> None:
        async with forwarding(work) as client:
            await client.open(streamtype="error", port="80", requestid="0")
            await client.open(streamtype="data", port="80", requestid="0")
            await client.open(streamtype="data", port="80", requestid="1")
            client.vanish()

    run(main())
    assert seen[0].closed.is_set()


def test_forward_close_says_goodbye() -> None:
    async def main() -> None:
        async with forwarding(lambda session: session.close(0.1), Limits(linger_s=1)) as client:
            assert await client.get() == frames.GoAway(0, 0)
            await client.put(frames.SynStream(1, {"streamtype": "data", "port": "80"}), frames.Ping(1))
            assert await client.rest() == [frames.Ping(1)]

    run(main())
