# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exec, attach and port-forward over WebSocket: channels in messages, and the tunnel."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import logging
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong

from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    LOOPS,
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
    RemoteChannels,
    StreamOptions,
)
from pvecri.streaming.inbox import Budget
from pvecri.streaming.upgrade import UpgradeRequest, upgrade_forward, upgrade_remote
from pvecri.streaming.websocket_channels import SocketChannels
from pvecri.streaming.wire import ProtocolError

LIMITS = Limits(idle_timeout_s=0, ping_interval_s=0)
STDIO = StreamOptions(stdin=True, stdout=True)
V5, V4, V4_BASE64 = "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
Work = t.Callable[[RemoteChannels], t.Coroutine[t.Any, t.Any, None]]


@contextlib.asynccontextmanager
async def remote(
    work: Work, options: StreamOptions = STDIO, *protocols: str, limits: Limits = LIMITS
) -> t.AsyncIterator[WebSocketClient]:
    async def handle(request: UpgradeRequest) -> None:
        await work(await upgrade_remote(request, options, limits))

    async with serving(handle) as port:
        client = await WebSocketClient.connect(port, websocket_headers(*protocols))
        assert client.answer.status == 101, client.answer
        try:
            yield client
        finally:
            client.vanish()


async def echo(channels: RemoteChannels) -> None:
    """Send back what comes on stdin, then a status, then close."""
    assert channels.stdin
    assert channels.stdout
    assert channels.error
    while data := await channels.stdin.read():
        await channels.stdout.write(data)
    await channels.stdout.close_write()
    await channels.error.write(b"done")
    await channels.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_remote_v5_half_closes(loop: str) -> None:
    async def main() -> None:
        async with remote(echo, STDIO, V5, V4) as client:
            assert client.answer.headers["sec-websocket-protocol"] == V5
            assert client.answer.headers["sec-websocket-accept"] == "BACScCJPNqyz+UBoqMH89VmURoA="
            assert await client.get() == b"\x01"
            await client.put(b"\x00hello")
            assert await client.get() == b"\x01hello"
            await client.put(b"\xff\x00")
            assert await client.get() == b"\x03done"
            assert (await client.get_close()).code == 1000

    run(main(), loop)


@pytest.mark.parametrize(
    ("protocols", "version"),
    [((V5,), "v5"), ((V4,), "v4"), (("v3.channel.k8s.io", "channel.k8s.io"), "v1"), ((), "v1")],
)
def test_remote_binary_channels(protocols: tuple[str, ...], version: str) -> None:
    async def work(channels: RemoteChannels) -> None:
        assert channels.protocol == version
        assert channels.stdin
        assert channels.stderr
        assert channels.stdout is channels.resize is None
        assert await channels.stdin.read(3) == b"abc"
        assert await channels.stderr.read() == b""
        await channels.stderr.write(memoryview(b"err"))
        with pytest.raises(ChannelReset, match="stdin is not written to"):
            await channels.stdin.write(b"x")
        await channels.close()

    async def main() -> None:
        async with remote(work, StreamOptions(stdin=True, stderr=True), *protocols) as client:
            assert client.answer.headers.get("sec-websocket-protocol", "channel.k8s.io") in (
                *protocols,
                "channel.k8s.io",
            )
            assert await client.get() == b"\x02"
            for ignored in (b"", b"\x01x", b"\x09x", b"\x04{}"):
                await client.put(ignored)
            await client.put("\0abc")
            assert await client.get() == b"\x02err"
            assert (await client.get_close()).code == 1000

    run(main())


@pytest.mark.parametrize(("protocol", "version"), [(V4_BASE64, "v4"), ("base64.channel.k8s.io", "v1")])
def test_remote_base64_channels(protocol: str, version: str) -> None:
    async def work(channels: RemoteChannels) -> None:
        assert channels.protocol == version
        await echo(channels)

    async def main() -> None:
        async with remote(work, StreamOptions(stdin=True, stdout=True, tty=True), protocol) as client:
            assert await client.get() == b"1"
            await client.put("0" + base64.b64encode(b"hello").decode())
            assert await client.get() == b"1" + base64.b64encode(b"hello")
            await client.put("9" + base64.b64encode(b"hello").decode())
            await client.put("0")
            await client.put("0!!!!")
            assert (await client.get_close()).code == 1007

    with pytest.raises(ChannelReset):
        run(main())


def test_remote_error_alone_is_told_to_have_begun() -> None:
    async def main() -> None:
        async with remote(
            lambda channels: channels.close(is_stopping=True), StreamOptions(stdin=True), V4
        ) as client:
            assert await client.get() == b"\x03"
            assert (await client.get_close()).code == 1001

    run(main())


def test_remote_resize_of_a_terminal() -> None:
    async def work(channels: RemoteChannels) -> None:
        assert channels.resize
        assert await channels.resize.read() == b'{"Width":80,"Height":24}'
        await channels.close()

    async def main() -> None:
        async with remote(work, StreamOptions(stdin=True, stdout=True, tty=True), V5) as client:
            await client.put(b'\x04{"Width":80,"Height":24}')
            await client.get_close()

    run(main())


@pytest.mark.parametrize("goodbye", [True, False])
def test_remote_of_a_client_that_leaves(goodbye: bool) -> None:
    async def work(channels: RemoteChannels) -> None:
        assert channels.stdin
        assert channels.stdout
        assert await channels.stdin.read() == b"last"
        with pytest.raises(ChannelReset, match=r"the client closed the connection|broke"):
            await channels.stdin.read()
        assert channels.closed.is_set()
        with pytest.raises(ChannelReset, match=r"the client closed the connection|broke"):
            await channels.stdout.write(b"x")
        channels.stdin.reset()
        await channels.stdout.close_write()
        await channels.close()

    async def main() -> None:
        async with remote(work, STDIO, V5) as client:
            await client.put(b"\x00last")
            if goodbye:
                await client.send(client.framing.send(CloseConnection(code=1000)))
                assert (await client.get_close()).code == 1000

    run(main())


def test_channel_reset_here_ends_it_for_the_endpoint() -> None:
    async def work(channels: RemoteChannels) -> None:
        assert channels.stdin
        assert channels.stdout
        channels.stdin.reset()
        channels.stdout.reset()
        with pytest.raises(ChannelReset, match="was reset"):
            await channels.stdin.read()
        with pytest.raises(ChannelReset, match="was reset"):
            await channels.stdout.write(b"x")
        await channels.close()
        with pytest.raises(ChannelReset):
            await channels.error.write(b"x")  # type: ignore[union-attr]

    async def main() -> None:
        async with remote(work, STDIO, V5) as client:
            await client.put(b"\x00dropped")
            await client.get_close()

    run(main())


def test_pings_are_answered_and_sent() -> None:
    async def work(channels: RemoteChannels) -> None:
        await channels.closed.wait()

    async def main() -> None:
        async with remote(work, STDIO, V5, limits=Limits(ping_interval_s=0.05)) as client:
            assert await client.get() == b"\x01"
            assert isinstance(await client.event(), Ping)
            await client.send(client.framing.send(Pong()) + client.framing.send(Ping(payload=b"42")))
            while isinstance(event := await client.event(), Ping):
                pass
            assert event == Pong(payload=bytearray(b"42"))

    run(main())


def masked(head: bytes, payload: bytes = b"") -> bytes:
    return head + b"\0\0\0\0" + payload


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x01x", 1002),  # not masked
        (masked(b"\xf2\x81", b"x"), 1002),  # reserved bits
        (masked(b"\x87\x80"), 1002),  # unknown opcode
        (masked(b"\x80\x81", b"x"), 1002),  # a continuation of nothing
        (masked(b"\x81\x82", b"\0\xff"), 1007),  # no UTF-8
        (masked(b"\x82\xff" + b"\xff" * 8), 1002),  # longer than lengths may be
        (masked(b"\x89\xfe\x01\x00"), 1002),  # a ping too large
        (masked(b"\x88\x81", b"x"), 1002),  # half a code
        (masked(b"\x82\x81", b"\xff"), 1002),  # a close signal without channel
        (masked(b"\x82\x83", b"\xff\0\0"), 1002),  # with two
    ],
)
def test_connection_ends_when_the_client_breaks_the_rules(
    data: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(channels: RemoteChannels) -> None:
        with pytest.raises(ChannelReset):
            await channels.stdin.read()  # type: ignore[union-attr]

    async def main() -> None:
        async with remote(work, STDIO, V5) as client:
            await client.send(data)
            assert (await client.get_close()).code == code

    with caplog.at_level(logging.WARNING):
        run(main())
    assert "it is closed" in caplog.text


def test_close_signal_for_an_unknown_channel_and_without_v5_is_no_signal() -> None:
    async def work(channels: RemoteChannels) -> None:
        assert await channels.stdin.read() == b"go on"  # type: ignore[union-attr]

    async def main() -> None:
        for protocol, signal in ((V5, b"\xff\x09"), (V4, b"\xff\x00")):
            async with remote(work, STDIO, protocol) as client:
                await client.put(signal)
                await client.put(b"\x00go on")

    run(main())


# ------------------------------------------------------------ messages cut anywhere


class MemoryWire:
    """A wire that keeps what is sent."""

    peer = "a test"

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.budget = Budget(2**30, lambda: None, lambda: None)
        self.sent = b""
        self.end = ""

    def post(self, *buffers: bytes | memoryview) -> None:
        self.sent += b"".join(buffers)

    async def room(self) -> None:
        """There is always room."""

    def touch(self) -> None:
        """Nobody waits."""

    async def finish(self, timeout_s: float, *, is_stopping: bool = False) -> None:
        """It is gone at once."""

    def hang_up(self, reason: str) -> None:
        self.end = reason


MESSAGES = st.lists(
    st.tuples(st.integers(0, 5), st.lists(st.binary(max_size=40), min_size=1, max_size=4)), max_size=10
)


def frames_of(messages: list[tuple[int, list[bytes]]], *, is_base64: bool) -> bytes:
    """Write messages as a client does, each in as many fragments as it has parts."""
    framing, sent = Connection(ConnectionType.CLIENT), b""
    for number, parts in messages:
        if is_base64:
            text = b"%d" % number + base64.b64encode(b"".join(parts))
            step = len(parts[0]) + 1
            pieces = [text[start : start + step] for start in range(0, len(text), step)]
        else:
            pieces = [bytes((number,)), *parts]
        for index, piece in enumerate(pieces):
            sent += framing.send(BytesMessage(piece, message_finished=index == len(pieces) - 1))
    return sent


@given(MESSAGES, st.lists(st.integers(0, 10**6), max_size=20), st.booleans())
@settings(max_examples=200, deadline=None)
def test_messages_reach_their_channels_however_they_are_cut(
    messages: list[tuple[int, list[bytes]]], places: list[int], is_base64: bool
) -> None:
    async def main() -> None:
        channels = SocketChannels(MemoryWire(), is_base64=is_base64)
        for number in range(4):
            channels.open(number, streamtype="stdin")
        data = frames_of(messages, is_base64=is_base64)
        edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
        for start, end in itertools.pairwise(edges):
            channels.socket.receive(data[start:end])
        for number, channel in channels.channels.items():
            channel.inbox.end()
            wanted = b"".join(part for other, parts in messages for part in parts if other == number)
            assert await channel.read(2**20) == wanted

    run(main(), "asyncio")


@given(st.lists(st.binary(max_size=100), max_size=6), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_random_bytes_raise_nothing_but_protocol_errors(
    pieces: list[bytes], is_base64: bool, is_framed: bool
) -> None:
    async def main() -> None:
        wire = MemoryWire()
        channels = SocketChannels(wire, is_base64=is_base64, has_close=not is_base64)
        channels.open(0, streamtype="stdin")
        for piece in pieces:
            if is_framed:
                piece = masked(bytes((0x82, 0x80 | len(piece))), piece)
            try:
                channels.socket.receive(piece)
            except ProtocolError as exc:
                channels.socket.refuse(exc)
                return

    run(main(), "asyncio")


# ----------------------------------------------------------------- port-forward


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
