# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exec, attach and port-forward over SPDY, from a client's connection to the channels."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    LOOPS,
    SPDY_FORWARD,
    SPDY_REMOTE,
    SpdyClient,
    echo,
    run,
    serving,
)
from pvecri.streaming import spdy_frames as frames
from pvecri.streaming.channel import (
    ChannelReset,
    Limits,
    RemoteChannels,
    StreamOptions,
)
from pvecri.streaming.upgrade import upgrade_forward, upgrade_remote
from pvecri.streaming.upgrade_request import UpgradeRequest

LIMITS = Limits(creation_timeout_s=20, idle_timeout_s=0, ping_interval_s=0)
STDIO = StreamOptions(stdin=True, stdout=True)
Work = t.Callable[[RemoteChannels], t.Coroutine[t.Any, t.Any, None]]


@contextlib.asynccontextmanager
async def remote(
    work: Work, options: StreamOptions = STDIO, limits: Limits = LIMITS, protocol: str = "v4.channel.k8s.io"
) -> t.AsyncIterator[SpdyClient]:
    """A client whose streams are not opened yet; ``work`` gets the endpoint's channels."""

    async def handle(request: UpgradeRequest) -> None:
        await work(await upgrade_remote(request, options, limits))

    async with serving(handle) as port:
        headers = [*SPDY_REMOTE[:2], ("X-Stream-Protocol-Version", protocol)]
        client = await SpdyClient.connect(port, headers, method="POST")
        assert client.answer.status == 101
        assert client.answer.headers == {
            "connection": "Upgrade",
            "upgrade": "SPDY/3.1",
            "x-stream-protocol-version": protocol,
        }
        try:
            yield client
        finally:
            client.vanish()


@pytest.mark.parametrize("loop", LOOPS)
def test_remote_carries_streams_to_their_ends(loop: str) -> None:
    async def main() -> None:
        async with remote(echo) as client:
            ids = await client.open_all("error", "stdin", "stdout")
            await client.put(frames.Data(ids["stdin"], b"hello "), frames.Data(ids["stdin"], b"world", True))
            assert await client.get_data(ids["stdout"]) == b"hello world"
            assert await client.get_data(ids["error"], 4) == b"done"
            assert await client.get() == frames.Data(ids["error"], b"", True)
            assert await client.get() == frames.Data(ids["stdin"], b"", True)
            assert await client.get() == frames.GoAway(ids["stdout"], 0)

    run(main(), loop)


@pytest.mark.parametrize(
    ("options", "protocol", "kinds"),
    [
        (StreamOptions(stdout=True), "channel.k8s.io", ["stdout", "error"]),
        (StreamOptions(stdin=True, stderr=True), "v2.channel.k8s.io", ["stderr", "stdin", "error"]),
        (StreamOptions(stdin=True, stdout=True, tty=True), "channel.k8s.io", ["error", "stdin", "stdout"]),
        (StreamOptions(stdout=True, tty=True), "v3.channel.k8s.io", ["resize", "error", "stdout"]),
        (StreamOptions(stdin=True, tty=True), "v4.channel.k8s.io", ["error", "stdin", "resize"]),
    ],
)
def test_remote_takes_streams_in_any_order(options: StreamOptions, protocol: str, kinds: list[str]) -> None:
    seen: list[RemoteChannels] = []

    async def work(channels: RemoteChannels) -> None:
        seen.append(channels)
        await channels.close()

    async def main() -> None:
        async with remote(work, options, protocol=protocol) as client:
            await client.open_all(*kinds)
            await client.rest()

    run(main())
    given = seen[0]
    assert given.protocol == ("v1" if protocol == "channel.k8s.io" else protocol[:2])
    everything = {name: getattr(given, name) for name in ("stdin", "stdout", "stderr", "error", "resize")}
    assert sorted(kinds) == sorted(name for name, channel in everything.items() if channel)
    assert all(channel.headers == {"streamtype": name} for name, channel in everything.items() if channel)


def test_remote_refuses_streams_that_nobody_awaits() -> None:
    async def main() -> None:
        async with remote(echo) as client:
            for stream_id, kind in ((1, "stdin"), (3, "stdin"), (5, "stderr"), (7, "")):
                await client.put(frames.SynStream(stream_id, {"streamtype": kind}))
            await client.put(frames.SynStream(9, {"streamtype": "stdout"}, unidirectional=True))
            got = [await client.get() for _number in range(5)]
            assert got == [frames.SynReply(1, {}), *(frames.RstStream(number, 3) for number in (3, 5, 7, 9))]

            await client.put(frames.Data(3, b"lost"), frames.Data(1, b"kept", True))
            await client.put(
                frames.SynStream(11, {"streamtype": "stdout"}), frames.SynStream(13, {"streamtype": "error"})
            )
            assert [await client.get() for _number in range(2)] == [
                frames.SynReply(11, {}),
                frames.SynReply(13, {}),
            ]
            assert await client.get_data(11) == b"kept"

    run(main())


def test_remote_waits_for_missing_streams_only_so_long() -> None:
    async def main() -> None:
        limits = Limits(creation_timeout_s=0.5)

        async def handle(request: UpgradeRequest) -> None:
            with pytest.raises(
                ChannelReset, match=r"did not open its streams \(error, stdout\) within 0.5 s"
            ):
                await upgrade_remote(request, STDIO, limits)

        async with serving(handle) as port:
            client = await SpdyClient.connect(port, SPDY_REMOTE)
            stdin = await client.open(streamtype="stdin")
            assert await client.get() == frames.Data(stdin, b"", True)
            assert await client.get() == frames.GoAway(stdin, 0)
            client.vanish()

    run(main())


def test_remote_of_a_client_that_leaves_before_its_streams_are_there() -> None:
    async def main() -> None:
        async def handle(request: UpgradeRequest) -> None:
            with pytest.raises(ChannelReset, match="before it had opened its streams"):
                await upgrade_remote(request, STDIO, LIMITS)

        async with serving(handle) as port:
            client = await SpdyClient.connect(port, SPDY_REMOTE)
            await client.open(streamtype="stdin")
            client.vanish()

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_remote_reads_what_came_with_the_request(loop: str) -> None:
    async def main() -> None:
        async def handle(request: UpgradeRequest) -> None:
            await echo(await upgrade_remote(request, STDIO, LIMITS))

        encoder = frames.Encoder()
        opening = [
            frames.SynStream(1 + 2 * index, {"streamtype": kind})
            for index, kind in enumerate(("stdin", "stdout", "error"))
        ]
        early = b"".join(encoder.encode(frame) for frame in [*opening, frames.Data(1, b"early", True)])
        async with serving(handle) as port:
            client = await SpdyClient.connect(port, SPDY_REMOTE, early=early)
            assert [await client.get() for _frame in opening] == [
                frames.SynReply(number, {}) for number in (1, 3, 5)
            ]
            assert await client.get_data(3) == b"early"
            client.vanish()

    run(main(), loop)


def test_remote_of_a_client_that_vanishes() -> None:
    ended: list[str] = []

    async def work(channels: RemoteChannels) -> None:
        assert channels.stdin
        assert channels.stdout
        assert await channels.stdin.read() == b"last words"
        await channels.closed.wait()
        for act in (channels.stdin.read(), channels.stdout.write(b"x")):
            with pytest.raises(ChannelReset) as caught:
                await act
            ended.append(str(caught.value))
        await channels.stdout.close_write()
        channels.stdin.reset()
        await channels.close()

    async def main() -> None:
        async with remote(work) as client:
            ids = await client.open_all("error", "stdin", "stdout")
            await client.put(frames.Data(ids["stdin"], b"last words"))
            await asyncio.sleep(0.05)
            client.writer.close()

    run(main())
    assert ended == ["the client closed the connection"] * 2


def test_remote_half_closed_then_lost_still_ends_properly() -> None:
    async def work(channels: RemoteChannels) -> None:
        assert channels.stdin
        await channels.closed.wait()
        assert await channels.stdin.read() == b"all"
        assert await channels.stdin.read() == b""

    async def main() -> None:
        async with remote(work) as client:
            ids = await client.open_all("error", "stdin", "stdout")
            await client.put(frames.Data(ids["stdin"], b"all", True))
            await asyncio.sleep(0.05)

    run(main())


def test_remote_streams_that_the_client_resets() -> None:
    async def work(channels: RemoteChannels) -> None:
        assert channels.stdin
        assert channels.stdout
        assert channels.error
        assert await channels.stdin.read(2) == b"ke"
        assert await channels.stdin.read(1) == b"p"
        assert await channels.stdin.read() == b"t"
        with pytest.raises(ChannelReset, match="the client reset the stream"):
            await channels.stdin.read()
        while not channels.stdout.is_over:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        with pytest.raises(ChannelReset, match="the client reset the stream"):
            await channels.stdout.write(b"x")
        await channels.error.write(b"still here")
        await channels.close()

    async def main() -> None:
        async with remote(work) as client:
            ids = await client.open_all("error", "stdin", "stdout")
            await client.put(
                frames.Data(ids["stdin"], b"kept"), frames.RstStream(ids["stdin"], 5), frames.RstStream(99, 5)
            )
            await client.put(frames.RstStream(ids["stdout"], 5))
            rest = await client.rest()
            assert frames.Data(ids["error"], b"still here") in rest
            assert frames.GoAway(ids["stdout"], 0) == rest[-1]

    run(main())


def test_channel_reset_here_tells_the_client_and_throws_away_what_came() -> None:
    async def work(channels: RemoteChannels) -> None:
        assert channels.stdin
        assert channels.stdout
        while not channels.stdin._inbox._chunks:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        channels.stdin.reset()
        channels.stdin.reset()
        with pytest.raises(ChannelReset, match="was reset"):
            await channels.stdin.read()
        with pytest.raises(ChannelReset, match="was closed"):
            await channels.stdin.write(b"x")
        await channels.stdout.close_write()
        await channels.stdout.close_write()
        with pytest.raises(ChannelReset, match="was closed"):
            await channels.stdout.write(b"x")
        await channels.close()

    async def main() -> None:
        async with remote(work) as client:
            ids = await client.open_all("error", "stdin", "stdout")
            await client.put(frames.Data(ids["stdin"], b"unread"))
            assert await client.get() == frames.RstStream(ids["stdin"], 5)
            await client.put(frames.Data(ids["stdin"], b"too late"), frames.Data(ids["stdin"], b"", True))
            assert await client.rest() == [
                frames.Data(ids["stdout"], b"", True),
                frames.Data(ids["error"], b"", True),
                frames.GoAway(ids["stdout"], 0),
            ]

    run(main())


def test_session_answers_pings_and_ignores_what_it_need_not_know() -> None:
    async def main() -> None:
        async with remote(echo) as client:
            await client.put(frames.Ping(7), frames.Ping(8), frames.GoAway(0, 0), frames.SynReply(2, {}))
            await client.put(frames.Headers(77, {}, True), frames.Settings({4: 100}), frames.Ping(9))
            assert [await client.get(), await client.get()] == [frames.Ping(7), frames.Ping(9)]
            ids = await client.open_all("error", "stdin", "stdout")
            await client.put(frames.Data(ids["stdin"], b"a"), frames.Headers(ids["stdin"], {"x": "y"}))
            await client.put(frames.Headers(ids["stdin"], {"x": "z"}, True))
            assert await client.get_data(ids["stdout"]) == b"a"

    run(main())


def test_stream_opened_with_fin_is_at_its_end() -> None:
    async def main() -> None:
        async with remote(echo) as client:
            await client.put(frames.SynStream(1, {"streamtype": "stdin"}, fin=True))
            await client.put(
                frames.SynStream(3, {"streamtype": "stdout"}), frames.SynStream(5, {"streamtype": "error"})
            )
            assert [await client.get() for _number in range(3)] == [
                frames.SynReply(number, {}) for number in (1, 3, 5)
            ]
            assert await client.get_data(3) == b""

    run(main())


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ([frames.SynStream(2, {})], "cannot be opened as 2 after 0"),
        ([frames.SynStream(0, {})], "cannot be opened as 0 after 0"),
        ([frames.SynStream(3, {}), frames.SynStream(3, {})], "cannot be opened as 3 after 3"),
        ([frames.SynStream(3, {}), frames.SynStream(1, {})], "cannot be opened as 1 after 3"),
        ([frames.Data(5, b"x")], "for stream 5, which was never opened"),
        ([frames.SynStream(3, {}), frames.Data(2, b"x")], "for stream 2, which was never opened"),
        ([frames.SynStream(1, {"x": "y" * 20_000})], "a header block is larger than 4096 bytes"),
    ],
)
def test_session_ends_when_the_client_breaks_the_rules(
    sent: list[frames.Frame], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async def handle(request: UpgradeRequest) -> None:
            with pytest.raises(ChannelReset):
                await upgrade_remote(request, STDIO, LIMITS)

        async with serving(handle) as port:
            client = await SpdyClient.connect(port, SPDY_REMOTE)
            await client.put(*sent)
            rest = await client.rest()
            assert isinstance(rest[-1], frames.GoAway)
            assert rest[-1].status == 1

    with caplog.at_level(logging.WARNING):
        run(main())
    assert words in caplog.text
    assert "it is closed" in caplog.text


def test_session_takes_only_so_many_streams(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def handle(request: UpgradeRequest) -> None:
            session = await upgrade_forward(request, [], Limits(max_streams=3))
            async for pair in session:
                pair.data.reset()
                pair.error.reset()

        async with serving(handle) as port:
            client = await SpdyClient.connect(port, SPDY_FORWARD)
            for number in range(3):
                await client.open(streamtype="data", port="80", requestid=str(number))
            await client.put(frames.SynStream(7, {"streamtype": "data", "port": "80", "requestid": "3"}))
            assert await client.get() == frames.RstStream(7, 3)
            await client.put(frames.SynStream(9, {"streamtype": "error", "port": "80", "requestid": "0"}))
            assert await client.get() == frames.RstStream(9, 3)
            await client.put(frames.RstStream(1, 5), frames.RstStream(3, 5))
            client._next_id = 11
            await client.open(streamtype="data", port="80", requestid="4")
            client.vanish()

    run(main())
    assert "there are 3 already" in caplog.text
