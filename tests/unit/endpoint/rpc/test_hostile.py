# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Meet clients that mean harm, or stammer: the server goes on, within its memory."""

from __future__ import annotations

import asyncio
import gc
import pathlib
import resource
import socket
import tempfile
import typing as t
import urllib.parse
from unittest import mock

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.tests.support.http2_peer import Answer, Http2Peer, fields_of, framed
from ansible_collections.pvecri.runtime.tests.unit.endpoint.rpc.test_http2 import MESSAGE, echo, served
from pvecri.api import cri_pb2 as pb
from pvecri.api.methods import METHODS
from pvecri.rpc import nghttp2
from pvecri.rpc.calls import escaped
from pvecri.rpc.http2 import MAX_FIELDS, Connection
from pvecri.rpc.session import Events, Session
from pvecri.rpc.status import Code

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
PATH = METHODS["Version"].path
FLOOD = 3000


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def block(**others: str) -> bytes:
    return hpack.Encoder().encode(fields_of(PATH, **others))


def resident() -> int:
    """Return the kilobytes that are really used."""
    text = pathlib.Path("/proc/self/smaps_rollup").read_text()
    return int(text.split("Private_Dirty:")[1].split()[0])


async def still_serves(path: pathlib.Path) -> None:
    async with await Http2Peer.connect(str(path / "s")) as peer:
        assert (await peer.call("Version")).messages == [MESSAGE]


async def thrown(path: pathlib.Path, data: bytes, *, wait_s: float = 30) -> bytes:
    """Send bytes and return what comes back until the server closes."""
    reader, writer = await asyncio.open_unix_connection(str(path / "s"))
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), wait_s)
    except ConnectionError:
        return b""
    finally:
        writer.close()


#: What ends a connection, each for another reason.
ENDS: dict[str, bytes] = {
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no preface": b"\0" * 100,
    "a frame that is too long": PREFACE + frame(0, 0, 1, b"x" * 16385),
    "settings that are none": PREFACE + frame(4, 0, 0, b"\0"),
    "data of no stream": PREFACE + frame(0, 0, 0, b"x"),
    "data of a stream to come": PREFACE + frame(0, 0, 9, b"x"),
    "a stream of the server's": PREFACE + frame(1, 5, 2, block()),
    "fields that cannot be unpacked": PREFACE + frame(1, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
    "fields that go on in another stream": PREFACE + frame(1, 1, 1, block()) + frame(9, 4, 3, b""),
    "fields without an end": PREFACE + frame(1, 1, 1, block()) + frame(9, 0, 1, b"\x82" * 100) * FLOOD,
    "a window that overflows": PREFACE + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "pushed promises": PREFACE + frame(5, 4, 1, b"\0\0\0\2"),
    "thousands of resets": PREFACE
    + b"".join(
        frame(1, 4, 2 * index + 1, block()) + frame(3, 0, 2 * index + 1, b"\0\0\0\x08")
        for index in range(FLOOD)
    ),
}


@pytest.mark.parametrize("what", ENDS)
def test_a_fault_ends_its_connection_alone(tmp_path: pathlib.Path, what: str) -> None:
    async def run() -> None:
        async with served(tmp_path) as (peer, server):
            await thrown(tmp_path, ENDS[what])
            assert (await peer.call("Version")).messages == [MESSAGE]
            await asyncio.sleep(0)
            assert len(server._connections) == 1

    asyncio.run(run())


def test_fields_that_are_too_long_refuse_their_stream_alone(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async with served(tmp_path) as (peer, _unused):
            stream = peer.open("Version", x_long="x" * (MAX_FIELDS - 1000))
            peer.send(stream, framed(b""))
            assert (await peer.ended(stream)).status == Code.OK
            stream = peer.open("Version", x_long="x" * MAX_FIELDS)
            answer = await peer.ended(stream)
            assert answer.reset == nghttp2.INTERNAL_ERROR
            assert (await peer.call("Version")).status == Code.OK

    asyncio.run(run())


def test_half_a_preface_is_not_waited_for_long(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pvecri.rpc.http2.GREETING_S", 0.05)

    async def run() -> None:
        async with served(tmp_path) as (peer, _unused):
            assert (await peer.call("Version")).status == Code.OK
            await thrown(tmp_path, PREFACE[:10])
            await thrown(tmp_path, b"")
            await asyncio.sleep(0.1)
            assert (await peer.call("Version")).status == Code.OK

    asyncio.run(run())


def test_a_client_may_take_its_time_to_ask(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that connects before it needs to."""
    monkeypatch.setattr("pvecri.rpc.http2.GREETING_S", 0.05)

    async def run() -> None:
        async with served(tmp_path) as (peer, _unused):
            await asyncio.sleep(0.15)
            assert (await peer.call("Version")).status == Code.OK

    asyncio.run(run())


def test_a_client_that_does_not_read_is_not_read(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async with served(tmp_path) as (_unused, server):
            _reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"), limit=1)
            writer.write(PREFACE)
            requests = block()
            ping = frame(6, 0, 0, b"12345678") * 500
            before, stream = resident(), 1
            try:
                while stream < 2_000_000:
                    parts = [ping]
                    for _unused in range(100):
                        parts.append(frame(1, 4, stream, requests) + frame(0, 1, stream, framed(b"")))
                        stream += 2
                    writer.write(b"".join(parts))
                    await asyncio.wait_for(writer.drain(), 1)
            except (TimeoutError, ConnectionError):
                pass
            assert stream < 1_000_000
            assert resident() - before < 32 << 10
            await still_serves(tmp_path)
            writer.transport.abort()
            await asyncio.sleep(0.01)
            assert all(not connection.calls for connection in server._connections)

    asyncio.run(run())


def test_pings_are_answered(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async with served(tmp_path) as (peer, _unused):
            for number in range(1, 50):
                peer.h2.ping(number.to_bytes(8, "big"))
                peer.flush()
                await peer.until(lambda wanted=number: peer.pings == wanted)

    asyncio.run(run())


def test_streams_beyond_the_limit_are_refused_and_others_go_on(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        release = asyncio.Event()

        async def wait(_request: t.Any) -> bytes:
            await release.wait()
            return b""

        async with served(tmp_path, {"StartContainer": wait}, max_concurrent_rpcs=10) as (peer, _unused):
            await peer.until(lambda: peer.h2.remote_settings.max_concurrent_streams == 20)
            streams = [peer.open("StartContainer") for _unused in range(20)]
            for stream in streams:
                peer.send(stream, framed(b""))
            first_refused = await peer.ended(streams[10])
            assert first_refused.status == Code.RESOURCE_EXHAUSTED
            release.set()
            for stream in streams[:10]:
                assert (await peer.ended(stream)).status == Code.OK

    asyncio.run(run())


def in_vain(data: t.Sequence[bytes], path: str) -> None:
    """Serve somebody who sends these, and then somebody sensible."""

    async def run() -> None:
        directory = pathlib.Path(path)
        async with served(directory) as (peer, server):
            reader, writer = await asyncio.open_unix_connection(str(directory / "s"))
            for part in data:
                writer.write(part)
                await asyncio.sleep(0)
            assert (await peer.call("Version")).messages == [MESSAGE]
            writer.transport.abort()
            while len(server._connections) > 1:
                await asyncio.sleep(0.001)
            assert server.in_flight == 0
            assert not reader.exception() or isinstance(reader.exception(), ConnectionError)

    asyncio.run(run())


frames = st.builds(
    frame,
    st.integers(0, 10),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 3, 5, 2, 2**31 - 1]),
    st.one_of(
        st.binary(max_size=40),
        st.just(block()),
        st.just(block(grpc_timeout="1S")),
        st.just(framed(b"")),
        st.just(b"\0\0\0\0"),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(frames, st.binary(max_size=30)), max_size=30))
def test_no_frames_harm_others(parts: list[bytes]) -> None:
    with tempfile.TemporaryDirectory(prefix="x") as path:
        in_vain([PREFACE, *parts], path)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_requests_come_in_any_pieces(data: st.DataObject) -> None:
    text = data.draw(st.text(max_size=50))
    request = framed(pb.VersionRequest(version=text).SerializeToString())
    stream = PREFACE + frame(1, 4, 1, block()) + frame(0, 1, 1, request)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=20)))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    async def run(path: pathlib.Path) -> None:
        async with served(path, {"Version": echo}) as (_unused, _server):
            peer = Http2Peer(*await asyncio.open_unix_connection(str(path / "s")))
            peer.h2.initiate_connection()
            peer.h2.data_to_send()
            peer.answers[peer.h2.get_next_available_stream_id()] = answer = Answer()
            peer.h2.send_headers(1, fields_of(PATH), end_stream=True)
            peer.h2.data_to_send()
            for part in parts:
                peer.writer.write(part)
                await asyncio.sleep(0)
            await peer.ended(1)
            assert pb.VersionResponse.FromString(answer.messages[0]).version == text
            peer.writer.close()

    with tempfile.TemporaryDirectory(prefix="x") as path:
        asyncio.run(run(pathlib.Path(path)))


@given(st.text(max_size=200))
def test_status_texts_travel(text: str) -> None:
    sent = escaped(text)
    assert all(0x20 <= byte < 0x7F for byte in sent)
    assert urllib.parse.unquote(sent.decode()) == text.encode(errors="replace").decode()


class Fails:
    """The owner of a session who has a fault."""

    fields_size = 0
    max_fields = MAX_FIELDS
    wanted_lengths: t.Container[int] = ()

    def on_open(self, stream_id: int) -> None:
        raise ZeroDivisionError(stream_id)

    def on_close(self, stream_id: int, error: int) -> None:
        pass


def test_a_fault_in_a_callback_reaches_the_caller_of_the_library() -> None:
    session = Session(t.cast(Events, Fails()), {}, 1 << 20)
    with pytest.raises(ZeroDivisionError):
        session.receive(PREFACE + frame(1, 5, 1, block()))
    session.close()
    session.close()
    assert session.is_over
    assert session.take(100) == ([], 0)
    session.receive(b"x")


def test_a_session_is_not_freed_while_the_library_works_on_it() -> None:
    class Closes(Fails):
        def on_open(self, stream_id: int) -> None:
            session.close()

    session = Session(t.cast(Events, Closes()), {}, 1 << 20)
    with pytest.raises(RuntimeError, match="within a callback"):
        session.receive(PREFACE + frame(1, 5, 1, block()))
    session.close()
    assert session.is_over


def test_connections_and_calls_leave_no_memory_behind(tmp_path: pathlib.Path) -> None:
    async def connections(count: int) -> None:
        for number in range(count):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            whole = PREFACE + frame(1, 4, 1, block(x_long="x" * 500)) + frame(0, 1, 1, framed(b""))
            writer.write(whole[: len(whole) - number % 20])
            await reader.read(1000)
            writer.close()

    async def calls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, numbers: range) -> None:
        fields = block()
        for number in numbers:
            stream = 2 * number + 1
            writer.write(frame(1, 4, stream, fields) + frame(0, 1, stream, framed(b"")))
            if number % 100 == 99:
                size = 0
                while size < 100 * len(MESSAGE):
                    size += len(await reader.read(65536))

    async def run() -> None:
        async with served(tmp_path) as (_unused, server):
            raw = await asyncio.open_unix_connection(str(tmp_path / "s"))
            raw[1].write(PREFACE + frame(8, 0, 0, b"\x3f\xff\xff\xff"))
            await calls(*raw, range(3000))
            await connections(200)
            gc.collect()
            before = resident()
            await calls(*raw, range(3000, 13_000))
            await connections(1000)
            gc.collect()
            assert resident() - before < 1500
            raw[1].close()
            await still_serves(tmp_path)
            assert server.in_flight == 0

    asyncio.run(run())


def test_hundreds_of_clients_at_once(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
            pytest.skip("needs 1200 open files")
        async with served(tmp_path) as (_unused, server):
            peers = [await Http2Peer.connect(str(tmp_path / "s")) for _unused in range(400)]
            answers = await asyncio.gather(*(peer.call("Version") for peer in peers))
            assert {answer.status for answer in answers} == {Code.OK}
            assert len(server._connections) == 401
            for peer in peers:
                peer.writer.close()

    asyncio.run(run())


@pytest.mark.parametrize("when", ["on_data", "measure"])
def test_a_fault_of_ours_ends_the_connection_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    def fail(*_unused: t.Any) -> t.Any:
        raise ZeroDivisionError

    async def run() -> None:
        async with served(tmp_path) as (_unused, server):
            peer = await Http2Peer.connect(str(tmp_path / "s"))
            with monkeypatch.context() as patch:
                patch.setattr(Connection, when, fail)
                stream = peer.open("Version")
                peer.send(stream, framed(b""))
                await peer.until(lambda: peer.is_closed)
            await still_serves(tmp_path)
            assert server.in_flight == 0

    asyncio.run(run())
    assert caplog.records[0].message == "connection ended by a fault of the endpoint"


def test_more_connections_than_there_may_be_are_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pvecri.rpc.server._MAX_CONNECTIONS", 2)

    async def run() -> None:
        async with served(tmp_path) as (peer, _unused):
            assert (await peer.call("Version")).status == Code.OK
            async with await Http2Peer.connect(str(tmp_path / "s")) as second:
                assert (await second.call("Version")).status == Code.OK
                assert await thrown(tmp_path, PREFACE) == b""
            await asyncio.sleep(0.01)
            await still_serves(tmp_path)

    asyncio.run(run())


def ask_and_read(path: str, rounds: int) -> int:
    """Ask for eight long answers at a time with windows that hold them all; return how many came whole."""
    ended, stream, data = 0, 1, b""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(path)
        window = (1 << 30).to_bytes(4, "big")
        peer.sendall(PREFACE + frame(4, 0, 0, b"\0\4" + window) + frame(8, 0, 0, window))
        for number in range(rounds):
            for _unused in range(8):
                peer.sendall(frame(1, 4, stream, block()) + frame(0, 1, stream, framed(b"")))
                stream += 2
            while ended < 8 * (number + 1):
                data += peer.recv(65536)
                while len(data) >= 9 and len(data) >= 9 + (length := int.from_bytes(data[:3], "big")):
                    ended += data[3] == 1 and data[4] & 1
                    data = data[9 + length :]
    return ended


def test_long_answers_arrive_at_once_with_uvloop_too(tmp_path: pathlib.Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def long(_request: t.Any) -> bytes:
        return b"x" * 350_000

    async def run() -> None:
        async with served(tmp_path, {"Version": long}):
            assert await asyncio.to_thread(ask_and_read, str(tmp_path / "s"), 50) == 400

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_nothing_is_written_while_the_loop_itself_writes(tmp_path: pathlib.Path) -> None:
    written: list[bytes] = []

    async def run() -> None:
        async with served(tmp_path) as (_unused, server):
            transport = mock.Mock()
            transport.write = written.append
            connection = Connection(server, asyncio.get_running_loop())
            connection.connection_made(transport)
            connection.pause_writing()
            written.clear()
            connection.data_received(PREFACE + frame(1, 4, 1, block()) + frame(0, 1, 1, framed(b"")))
            assert not written
            connection.resume_writing()
            assert not written
            await asyncio.sleep(0)
            assert MESSAGE in b"".join(written)
            connection.connection_lost(None)

    asyncio.run(run())
