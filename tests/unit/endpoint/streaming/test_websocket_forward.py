# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Port-forward over WebSocket: two channels for each port, and the tunnel for SPDY."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import typing as t
from unittest import mock

import pytest
from wsproto.events import CloseConnection

from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    WebSocketClient,
    run,
    serving,
    websocket_headers,
)
from pvecri.streaming import spdy_frames as frames
from pvecri.streaming.channel import (
    ChannelReset,
    ForwardSession,
    Limits,
    StreamOptions,
)
from pvecri.streaming.upgrade import upgrade_forward
from pvecri.streaming.upgrade_request import UpgradeError, UpgradeRequest

LIMITS = Limits(idle_timeout_s=0, ping_interval_s=0)
STDIO = StreamOptions(stdin=True, stdout=True)
V5, V4, V4_BASE64 = "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"


@contextlib.asynccontextmanager
async def forwarding(
    work: t.Callable[[ForwardSession], t.Coroutine[t.Any, t.Any, None]], ports: list[int], *protocols: str
) -> t.AsyncIterator[WebSocketClient]:
    async def handle(request: UpgradeRequest) -> None:
        await work(await upgrade_forward(request, ports, LIMITS))

    async with serving(handle) as port:
        client = await WebSocketClient.connect(port, websocket_headers(*protocols))
        assert client.answer.headers.get("sec-websocket-protocol", "") == (protocols or ("",))[0]
        try:
            yield client
        finally:
            client.vanish()


@pytest.mark.parametrize("protocols", [(V4,), ()])
def test_forward_direct_has_two_channels_for_each_port(protocols: tuple[str, ...]) -> None:
    async def work(session: ForwardSession) -> None:
        pairs = [await anext(session), await anext(session)]
        assert [pair.port for pair in pairs] == [80, 65535]
        assert pairs[1].data.headers == {"streamtype": "data", "port": "65535"}
        for pair in pairs:
            await pair.data.write(b"got " + await pair.data.read())
            await pair.data.close_write()
            await pair.error.close_write()
        assert [pair async for pair in session] == []

    async def main() -> None:
        async with forwarding(work, [80, 65535], *protocols) as client:
            heads = [await client.get() for _number in range(4)]
            assert heads == [b"\x00P\x00", b"\x01P\x00", b"\x02\xff\xff", b"\x03\xff\xff"]
            await client.put(b"\x02second")
            await client.put(b"\x00first")
            assert await client.get() == b"\x00got first"
            assert await client.get() == b"\x02got second"
            assert (await client.get_close()).code == 1000

    run(main())


def test_forward_direct_as_base64() -> None:
    async def work(session: ForwardSession) -> None:
        pair = await anext(session)
        await pair.data.write(await pair.data.read())
        pair.data.reset()
        pair.error.reset()
        await session.closed.wait()

    async def main() -> None:
        async with forwarding(work, [80], V4_BASE64) as client:
            assert [await client.get(), await client.get()] == [b"0UAA=", b"1UAA="]
            await client.put("0" + base64.b64encode(b"x").decode())
            assert await client.get() == b"0" + base64.b64encode(b"x")
            await client.get_close()

    run(main())


@pytest.mark.parametrize(("protocol", "last"), [(V4, 199), (V4_BASE64, ord("0") + 199)])
def test_forward_direct_numbers_many_channels_by_one_byte(protocol: str, last: int) -> None:
    async def work(session: ForwardSession) -> None:
        await session.closed.wait()

    async def main() -> None:
        async with forwarding(work, list(range(1, 101)), protocol) as client:
            heads = [await client.get() for _number in range(200)]
            assert heads[-1][0] == last
            assert len({len(head) for head in heads}) == 1

    run(main())


@pytest.mark.parametrize("protocol", [V4, V4_BASE64])
def test_forward_direct_of_more_ports_than_there_are_numbers(protocol: str) -> None:
    headers = [(name.encode(), value.encode()) for name, value in websocket_headers(protocol)]
    request = UpgradeRequest("GET", "/", headers, mock.Mock(), b"")
    with pytest.raises(UpgradeError, match="100 ports at most"):
        asyncio.run(upgrade_forward(request, list(range(1, 102)), LIMITS))


TUNNEL = "SPDY/3.1+portforward.k8s.io"


class Tunnelled:
    """SPDY in the messages of a client."""

    def __init__(self, client: WebSocketClient) -> None:
        self.client = client
        self.encoder, self.decoder = frames.Encoder(), frames.Decoder()
        self.got: list[frames.Frame] = []

    async def put(self, *sent: frames.Frame, step: int = 7) -> None:
        data = b"".join(self.encoder.encode(frame) for frame in sent)
        for start in range(0, len(data), step):
            await self.client.put(data[start : start + step])

    async def get(self) -> frames.Frame:
        while not self.got:
            self.got += self.decoder.feed(await self.client.get())
        return self.got.pop(0)


def test_forward_through_the_tunnel() -> None:
    async def work(session: ForwardSession) -> None:
        pair = await anext(session)
        await pair.data.write(b"%d: " % pair.port + await pair.data.read())
        await pair.data.close_write()
        await session.close()

    async def main() -> None:
        async with forwarding(work, [], TUNNEL, V4) as client:
            tunnel = Tunnelled(client)
            await tunnel.put(
                frames.SynStream(1, {"streamtype": "error", "port": "80", "requestid": "0"}),
                frames.SynStream(3, {"streamtype": "data", "port": "80", "requestid": "0"}),
            )
            await tunnel.put(frames.Data(3, b"hello"), step=1000)
            wanted = [
                frames.SynReply(1, {}),
                frames.SynReply(3, {}),
                frames.Data(3, b"80: hello"),
                frames.Data(3, b"", True),
                frames.Data(1, b"", True),
                frames.GoAway(3, 0),
            ]
            got = [await tunnel.get() for _frame in wanted]
            assert got == wanted
            assert (await client.get_close()).code == 1000

    run(main())


def test_tunnel_ends_when_the_client_breaks_the_rules_of_spdy() -> None:
    async def work(session: ForwardSession) -> None:
        assert [pair async for pair in session] == []

    async def main() -> None:
        async with forwarding(work, [], TUNNEL) as client:
            tunnel = Tunnelled(client)
            await tunnel.put(frames.SynStream(2, {}), step=1000)
            assert await tunnel.get() == frames.GoAway(0, 1)
            assert (await client.get_close()).code == 1002

    run(main())


def test_tunnel_of_a_client_that_says_goodbye() -> None:
    async def work(session: ForwardSession) -> None:
        pair = await anext(session)
        with pytest.raises(ChannelReset):
            await pair.data.read()
        pair.data.reset()
        await session.close()

    async def main() -> None:
        async with forwarding(work, [], TUNNEL) as client:
            tunnel = Tunnelled(client)
            await tunnel.put(
                *(
                    frames.SynStream(number, {"streamtype": kind, "port": "1"})
                    for number, kind in ((1, "error"), (3, "data"))
                )
            )
            assert [await tunnel.get(), await tunnel.get()] == [
                frames.SynReply(1, {}),
                frames.SynReply(3, {}),
            ]
            await client.send(client.framing.send(CloseConnection(code=1000)))
            await client.get_close()

    run(main())
