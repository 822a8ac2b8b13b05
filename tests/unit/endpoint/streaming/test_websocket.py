# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exec, attach and port-forward over WebSocket: channels in messages, and the tunnel."""

from __future__ import annotations

import base64
import contextlib
import logging
import typing as t

import pytest
from wsproto.events import CloseConnection, Ping, Pong

from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    LOOPS,
    WebSocketClient,
    echo,
    run,
    serving,
    websocket_headers,
)
from pvecri.streaming.channel import (
    ChannelReset,
    Limits,
    RemoteChannels,
    StreamOptions,
)
from pvecri.streaming.upgrade import upgrade_remote
from pvecri.streaming.upgrade_request import UpgradeRequest

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
