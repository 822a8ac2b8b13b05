# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a connection of streams bears: slow readers on either side, silence, floods, errors of our own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
import time
from unittest import mock

import pytest

from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    LOOPS,
    SPDY_FORWARD,
    SPDY_REMOTE,
    SpdyClient,
    WebSocketClient,
    run,
    serving,
    spdy_session,
    websocket_headers,
)
from pvecri.streaming import spdy_frames as frames
from pvecri.streaming.channel import ChannelReset, Limits, RemoteChannels, StreamOptions
from pvecri.streaming.upgrade import upgrade_forward, upgrade_remote
from pvecri.streaming.upgrade_request import UpgradeRequest
from pvecri.streaming.wire import Connection

MIB = 1024 * 1024
QUIET = Limits(idle_timeout_s=0, ping_interval_s=0)


def unread(channels: RemoteChannels) -> int:
    return int(channels.link.wire.budget._used)  # type: ignore[attr-defined]


@pytest.mark.parametrize("loop", LOOPS)
def test_what_nobody_reads_here_stops_the_client(loop: str) -> None:
    payload = os.urandom(8 * MIB)

    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        assert channels.stdin
        while not channels.link.wire.budget.is_paused:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert QUIET.receive_buffer_bytes <= unread(channels) < QUIET.receive_buffer_bytes + MIB // 2
        digest = hashlib.sha256()
        while data := await channels.stdin.read(100_000):
            assert len(data) <= 100_000
            digest.update(data)
        assert digest.digest() == hashlib.sha256(payload).digest()
        assert unread(channels) == 0
        await channels.close()

    async def main() -> None:
        async with spdy_session(work, QUIET) as (client, ids):
            for start in range(0, len(payload), 30_000):
                await client.put(frames.Data(ids["stdin"], payload[start : start + 30_000]))
            await client.put(frames.Data(ids["stdin"], b"", True))
            await client.rest()

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["spdy", "websocket"])
def test_what_the_client_does_not_read_stops_the_writer(loop: str, kind: str) -> None:
    payload = os.urandom(16 * MIB)
    looked = asyncio.Event()

    async def handle(request: UpgradeRequest) -> None:
        channels = await upgrade_remote(request, StreamOptions(stdout=True), QUIET)
        assert channels.stdout
        writing = asyncio.ensure_future(channels.stdout.write(payload))
        for _time in range(20):
            await asyncio.sleep(0.005)
            assert request.transport.get_write_buffer_size() < QUIET.send_buffer_bytes + 80_000
        assert not writing.done()
        looked.set()
        await writing
        await channels.stdout.close_write()
        await channels.close()

    async def main() -> None:
        async with serving(handle) as port:
            if kind == "spdy":
                client = await SpdyClient.connect(port, SPDY_REMOTE)
                ids = await client.open_all("error", "stdout")
                await looked.wait()
                assert await client.get_data(ids["stdout"]) == payload
                client.vanish()
                return
            socket_client = await WebSocketClient.connect(port, websocket_headers("v5.channel.k8s.io"))
            await looked.wait()
            got = bytearray()
            while len(got) < len(payload):
                got += (await socket_client.get())[1:]
            assert got == payload
            await socket_client.get_close()

    run(main(), loop)


def test_many_writers_share_one_send_buffer() -> None:
    count = 100

    async def handle(request: UpgradeRequest) -> None:
        forward = await upgrade_forward(request, [], QUIET)
        pairs = [await anext(forward) for _number in range(count)]
        tasks = [asyncio.ensure_future(pair.data.write(bytes(200_000))) for pair in pairs]
        for _time in range(20):
            await asyncio.sleep(0.005)
            assert request.transport.get_write_buffer_size() < QUIET.send_buffer_bytes + 80_000
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, ChannelReset) for result in done[-10:])

    async def main() -> None:
        async with serving(handle) as port:
            client = await SpdyClient.connect(port, SPDY_FORWARD)
            for number in range(count):
                for kind in ("error", "data"):
                    stream_id = 4 * number + (1 if kind == "error" else 3)
                    await client.put(
                        frames.SynStream(
                            stream_id, {"streamtype": kind, "port": "80", "requestid": str(number)}
                        )
                    )
            await asyncio.sleep(0.4)
            client.vanish()

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_slow_reader_gets_all_that_was_written_before_the_close(loop: str) -> None:
    block = os.urandom(64 * 1024)
    written: list[bytes] = []

    async def work(channels: RemoteChannels, transport: asyncio.Transport) -> None:
        assert channels.stdout
        while transport.get_write_buffer_size() < QUIET.send_buffer_bytes // 2:
            written.append(block)
            await channels.stdout.write(block)
            await asyncio.sleep(0)
        await channels.close(0.01)
        assert not channels.closed.is_set()

    async def main() -> None:
        async with spdy_session(work, QUIET) as (client, ids):
            got = await client.get_data(ids["stdout"], MIB)
            for number in range(8):  # pings of a client that waits for its terminal
                await asyncio.sleep(0.1)
                await client.put(frames.Ping(2 * number + 1))
            while len(got) < len(written) * len(block):
                frame = await client.get()
                got += frame.data if isinstance(frame, frames.Data) else b""
            assert got == b"".join(written)
            await asyncio.sleep(0.6)
            await client.put(frames.Ping(17))
            while await client.get() != frames.Ping(17):
                pass

    run(main(), loop)


def test_parting_from_a_client_that_never_reads_waits_for_it() -> None:
    parted = asyncio.Event()

    async def work(channels: RemoteChannels, transport: asyncio.Transport) -> None:
        assert channels.stdout
        while transport.get_write_buffer_size() < QUIET.send_buffer_bytes // 2:
            await channels.stdout.write(bytes(64 * 1024))
            await asyncio.sleep(0)
        await channels.close(0.01)
        await asyncio.sleep(0.6)
        assert not channels.closed.is_set()
        channels.link.wire.hang_up("enough")  # type: ignore[attr-defined]
        await channels.close(0.01)
        await channels.closed.wait()
        parted.set()

    async def main() -> None:
        async with spdy_session(work, Limits(linger_s=0.05)):
            await parted.wait()

    run(main())


def test_a_client_that_does_not_close_is_closed() -> None:
    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        await asyncio.gather(channels.close(0.05), channels.close(0.05))

    async def main() -> None:
        async with spdy_session(work, Limits(linger_s=0.05)) as (client, _ids):
            rest = await client.rest()
            assert sum(isinstance(frame, frames.GoAway) for frame in rest) == 1
            with contextlib.suppress(EOFError, ConnectionError):
                raise AssertionError(await client.get())

    run(main())


def test_close_in_a_task_that_is_cancelled() -> None:
    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        task = asyncio.ensure_future(channels.close(60))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await channels.closed.wait()

    async def main() -> None:
        async with spdy_session(work, QUIET) as (client, _ids):
            assert isinstance((await client.rest())[-1], frames.GoAway)
            await asyncio.sleep(0.1)

    run(main())


def test_a_writer_that_waits_learns_of_the_end() -> None:
    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        assert channels.stdout
        with pytest.raises(ChannelReset, match=r"the client closed|broke"):
            await channels.stdout.write(bytes(64 * MIB))

    async def main() -> None:
        async with spdy_session(work, QUIET) as (client, _ids):
            await asyncio.sleep(0.1)
            client.vanish()

    run(main())


# ------------------------------------------------------------------------- time


def test_idle_sessions_end_although_the_client_pings(caplog: pytest.LogCaptureFixture) -> None:
    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        with pytest.raises(ChannelReset, match=r"nothing was sent for 0.2 s"):
            await channels.stdin.read()  # type: ignore[union-attr]

    async def main() -> None:
        async with spdy_session(work, Limits(idle_timeout_s=0.2, ping_interval_s=0)) as (client, _ids):
            with contextlib.suppress(ConnectionError, EOFError):
                while True:
                    await client.put(frames.Ping(1))
                    await client.get()
                    await asyncio.sleep(0.02)

    with caplog.at_level(logging.INFO):
        run(main())
    assert "idle for 0.2 s" in caplog.text


@pytest.mark.parametrize("who", ["client", "endpoint"])
def test_sessions_in_use_are_not_idle(who: str) -> None:
    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        for _time in range(24):
            await asyncio.sleep(0.05)
            if who == "endpoint":
                await channels.stdout.write(b"x")  # type: ignore[union-attr]
        assert not channels.closed.is_set()

    async def main() -> None:
        async with spdy_session(work, Limits(idle_timeout_s=1, ping_interval_s=0)) as (client, ids):
            for _time in range(25):
                await asyncio.sleep(0.05)
                if who == "client":
                    await client.put(frames.Data(ids["stdin"], b"x"))

    run(main())


def test_silent_clients_are_asked_whether_they_are_there() -> None:
    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        await channels.closed.wait()

    async def main() -> None:
        async with spdy_session(work, Limits(ping_interval_s=0.02)) as (client, _ids):
            assert [await client.get(), await client.get()] == [frames.Ping(2), frames.Ping(4)]

    run(main())


# ------------------------------------------------------------------ what goes wrong


def test_a_client_that_asks_without_reading_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        await channels.closed.wait()
        with pytest.raises(ChannelReset, match="asks without reading"):
            await channels.stdin.read()  # type: ignore[union-attr]

    async def main() -> None:
        async with spdy_session(work, QUIET) as (client, _ids):
            flood = client.encoder.encode(frames.Ping(1)) * 50_000
            with contextlib.suppress(ConnectionError):
                while True:
                    await client.send(flood)

    run(main())
    assert "it asks without reading the answers" in caplog.text


def test_an_error_of_our_own_costs_one_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(channels: RemoteChannels, _transport: asyncio.Transport) -> None:
        monkeypatch.setattr(channels.link, "_on_data", lambda _frame: 1 // 0)
        with pytest.raises(ChannelReset, match="an internal error"):
            await channels.stdin.read()  # type: ignore[union-attr]

    async def main() -> None:
        async with spdy_session(work, QUIET) as (client, ids):
            await client.put(frames.Data(ids["stdin"], b"x"))
            await client.rest()

    run(main())
    assert "ZeroDivisionError" in caplog.text


class Slow:
    """A session that takes long over every piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.is_lost = False

    def receive(self, data: bytes) -> None:
        self.pieces.append(data)
        time.sleep(0.006)

    def lost(self, reason: str) -> None:
        self.is_lost = True


@pytest.mark.parametrize("ending", ["behind", "lost", "more"])
def test_what_takes_long_is_taken_in_turns(ending: str) -> None:
    payload = os.urandom(100_000)

    async def main() -> None:
        transport, session = mock.Mock(asyncio.Transport), Slow()
        transport.is_closing.return_value = False
        transport.get_extra_info.return_value = None
        connection = Connection(transport, QUIET)
        connection.start(session, b"")  # type: ignore[arg-type]
        connection.go_on(b"")
        transport.reset_mock()
        connection.data_received(payload)
        assert len(session.pieces) == 1
        assert [call[0] for call in transport.method_calls if "reading" in call[0]] == ["pause_reading"]
        if ending == "lost":
            connection.connection_lost(None)
        elif ending == "more":
            connection.data_received(payload)
        else:
            connection.budget.take(QUIET.receive_buffer_bytes)
            connection.budget.give(QUIET.receive_buffer_bytes)
            transport.resume_reading.assert_not_called()
        while sum(map(len, session.pieces)) < len(payload) * (1 + (ending == "more")):
            await asyncio.sleep(0)
        assert b"".join(session.pieces) == payload * (1 + (ending == "more"))
        await asyncio.sleep(0)
        assert session.is_lost == (ending == "lost")
        assert transport.resume_reading.called == (ending != "lost")

    run(main(), "asyncio")


class Deaf:
    """A session that hears nothing."""

    def receive(self, data: bytes) -> None:
        raise AssertionError(data)

    def refuse(self, error: Exception) -> None:
        raise AssertionError(error)

    def ping(self) -> None:
        raise AssertionError

    def lost(self, reason: str) -> None:
        self.reason = reason


def test_connection_over_a_unix_socket_and_what_comes_after_hanging_up() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _protocol = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, sock=ours
            )
            connection, deaf = Connection(transport, QUIET), Deaf()
            assert connection.peer == "a local client"
            connection.start(deaf, b"answer")
            connection.go_on(b"")
            connection.hang_up("enough")
            connection.hang_up("again")
            connection.data_received(b"too late")
            connection.post(b"too late")
            with pytest.raises(ChannelReset, match="enough"):
                await connection.room()
            await connection.closed.wait()
            assert theirs.recv(100) == b"answer"
            assert deaf.reason == "enough"
            connection.abort("again")
            await connection.finish(1)

    run(main(), "asyncio")
