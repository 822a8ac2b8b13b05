# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve what gRPC clients never send, and what they send in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound
from ansible_collections.pvecri.runtime.tests.support.http2_peer import Http2Peer, framed
from pvecri.api import cri_pb2 as pb
from pvecri.config.model import ServerConfig
from pvecri.rpc.gate import Gate
from pvecri.rpc.server import Handler, Server
from pvecri.rpc.status import Code

LOG = logging.getLogger("pvecri.test")
MESSAGE = pb.VersionResponse(runtime_name="x" * 50).SerializeToString()


async def version(_request: t.Any) -> bytes:
    return MESSAGE


async def echo(request: t.Any) -> bytes:
    return t.cast(bytes, pb.VersionResponse(version=request.version).SerializeToString())


@contextlib.asynccontextmanager
async def served(
    path: pathlib.Path, handlers: dict[str, Handler] | None = None, **settings: t.Any
) -> t.AsyncIterator[tuple[Http2Peer, Server]]:
    observe = settings.pop("observe", None)
    config = ServerConfig(**settings)
    gate = Gate(config.max_concurrent_rpcs)
    gate.open()
    server = Server(config, {"Version": version, **(handlers or {})}, gate, LOG, observe=observe)
    await server.start(str(path / "s"))
    try:
        async with await Http2Peer.connect(str(path / "s")) as peer:
            yield peer, server
    finally:
        await server.stop(0)


REFUSED: list[tuple[str, dict[str, str], bytes, Code]] = [
    ("/runtime.v1.RuntimeService/Nothing", {}, framed(b""), Code.UNIMPLEMENTED),
    ("/runtime.v1alpha2.RuntimeService/Version", {}, framed(b""), Code.UNIMPLEMENTED),
    ("Version", {"_method": "GET"}, framed(b""), Code.INTERNAL),
    ("Version", {"content_type": "text/html"}, framed(b""), Code.INTERNAL),
    ("Version", {"content_type": "application/grpc-web"}, framed(b""), Code.INTERNAL),
    ("Version", {"grpc_encoding": "gzip"}, framed(b"", 1), Code.UNIMPLEMENTED),
    ("Version", {"grpc_timeout": "1x"}, framed(b""), Code.INTERNAL),
    ("Version", {"grpc_timeout": "123456789S"}, framed(b""), Code.INTERNAL),
    ("Version", {}, b"", Code.UNIMPLEMENTED),
    ("Version", {}, b"\0\0", Code.INTERNAL),
    ("Version", {}, framed(b"abc")[:-1], Code.INTERNAL),
    ("Version", {}, framed(b"") * 2, Code.UNIMPLEMENTED),
    ("Version", {}, framed(b"", 1), Code.INTERNAL),
    ("Version", {}, framed(b"\xff"), Code.INVALID_ARGUMENT),
    ("Version", {}, b"\0\xff\xff\xff\xff", Code.RESOURCE_EXHAUSTED),
    ("Status", {}, framed(b""), Code.UNIMPLEMENTED),
]


@pytest.mark.parametrize(("name", "fields", "data", "code"), REFUSED)
def test_calls_that_cannot_be_read_are_refused_and_the_connection_goes_on(
    tmp_path: pathlib.Path, name: str, fields: dict[str, str], data: bytes, code: Code
) -> None:
    async def run() -> None:
        async with served(tmp_path) as (peer, server):
            answer = await peer.call(name, data, **fields)
            assert (answer.fields[":status"], answer.status) == ("200", code)
            assert answer.text
            assert ("grpc-accept-encoding" in answer.fields) == (code is Code.UNIMPLEMENTED)
            assert (await peer.call("Version")).messages == [MESSAGE]
            assert server.in_flight == 0

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;x=y"])
def test_content_types_of_grpc(tmp_path: pathlib.Path, kind: str) -> None:
    async def run() -> None:
        async with served(tmp_path) as (peer, _unused):
            assert (await peer.call("Version", content_type=kind)).status == Code.OK

    asyncio.run(run())


@pytest.mark.parametrize("size", [1, 3, 4, 5, 6, 1000])
def test_messages_come_in_any_number_of_frames(tmp_path: pathlib.Path, size: int) -> None:
    async def run() -> None:
        data = framed(pb.VersionRequest(version="v" * 2000).SerializeToString())
        async with served(tmp_path, {"Version": echo}) as (peer, _unused):
            stream = peer.open("Version")
            for at in range(0, len(data), size):
                peer.send(stream, data[at : at + size], end=False)
            peer.send(stream, b"")
            answer = await peer.ended(stream)
            assert pb.VersionResponse.FromString(answer.messages[0]).version == "v" * 2000

    asyncio.run(run())


@pytest.mark.parametrize("length", [0, 1, 16378, 16379, 16380, 70000, 3_000_000])
def test_answers_of_any_length_arrive_whole(tmp_path: pathlib.Path, length: int) -> None:
    async def long(_request: t.Any) -> bytes:
        return bytes(index % 251 for index in range(length))

    async def run() -> None:
        async with served(tmp_path, {"Status": long}) as (peer, _unused):
            answers = [peer.open("Status") for _unused in range(3)]
            for stream in answers:
                peer.send(stream, framed(b""))
            for stream in answers:
                answer = await peer.ended(stream)
                assert answer.messages == [bytes(index % 251 for index in range(length))]
                assert answer.status == Code.OK

    asyncio.run(run())


def test_a_refused_call_may_go_on_sending(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async with served(tmp_path, max_message_bytes=1 << 20) as (peer, _unused):
            stream = peer.open("Version")
            peer.send(stream, b"\0\x7f\xff\xff\xff", end=False)
            answer = await peer.ended(stream)
            assert answer.status == Code.RESOURCE_EXHAUSTED
            assert "server.max_message_bytes" in answer.text
            for _unused in range(200):
                await peer.window(stream, 16384)
                peer.send(stream, b"x" * 16384, end=False)
            peer.send(stream, b"")
            assert (await peer.call("Version")).status == Code.OK

    asyncio.run(run())


def test_unfinished_requests_of_a_client_have_a_bound(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async with served(tmp_path, max_message_bytes=1 << 20) as (peer, _unused):
            head = b"\0" + (1 << 20).to_bytes(4, "big")
            for _unused in range(8):
                stream = peer.open("Version")
                peer.send(stream, head, end=False)
                for _again in range(60):
                    await peer.window(stream, 16384)
                    peer.send(stream, b"x" * 16384, end=False)
            answer = await peer.ended(stream)
            assert (answer.status, answer.text) == (
                Code.RESOURCE_EXHAUSTED,
                "too many requests of this client are unfinished",
            )
            assert (await peer.call("Version")).status == Code.OK

    asyncio.run(run())


def test_unread_answers_of_a_client_have_a_bound(tmp_path: pathlib.Path) -> None:
    async def long(_request: t.Any) -> bytes:
        return b"x" * (1 << 20)

    async def run() -> None:
        async with served(tmp_path, {"Status": long}, max_message_bytes=1 << 20) as (peer, _unused):
            peer.takes = False
            streams = [peer.open("Status") for _unused in range(10)]
            for stream in streams:
                peer.send(stream, framed(b""))
            answer = await peer.ended(streams[-1])
            assert (answer.status, answer.text) == (
                Code.RESOURCE_EXHAUSTED,
                "the client does not read its answers",
            )

    asyncio.run(run())


def test_a_deadline_calls_the_handler_off(tmp_path: pathlib.Path) -> None:
    seen = []

    async def run() -> None:
        called_off = asyncio.Event()

        async def wait(_request: t.Any) -> bytes:
            try:
                await asyncio.sleep(60)
            finally:
                called_off.set()
            return b""

        def observe(*what: t.Any) -> None:
            seen.append(what[:2])

        # One of the methods that are tried without a task, and one that is not.
        handlers: dict[str, Handler] = {"Status": wait, "ListContainers": wait}
        async with served(tmp_path, handlers, observe=observe) as (peer, server):
            for name in handlers:
                called_off.clear()
                answer = await peer.call(name, grpc_timeout="50m")
                assert answer.status == Code.DEADLINE_EXCEEDED
                await asyncio.wait_for(called_off.wait(), 30)
            assert server.in_flight == 0
            assert (await peer.call("Version", grpc_timeout="99999999H")).status == Code.OK

    asyncio.run(run())
    assert seen == [
        ("Status", "DEADLINE_EXCEEDED"),
        ("ListContainers", "DEADLINE_EXCEEDED"),
        ("Version", "OK"),
    ]


@pytest.mark.parametrize("name", ["Status", "ListContainers", "GetContainerEvents"])
@pytest.mark.parametrize("how", ["reset", "lost"])
def test_a_client_that_leaves_calls_the_handler_off(tmp_path: pathlib.Path, name: str, how: str) -> None:
    seen = []

    async def run() -> None:
        entered, left = asyncio.Event(), asyncio.Event()

        async def wait(_request: t.Any) -> bytes:
            entered.set()
            try:
                await asyncio.sleep(60)
            finally:
                left.set()
            return b""

        async def follow(request: t.Any) -> t.AsyncIterator[bytes]:
            yield b"one"
            yield await wait(request)

        handler = follow if name == "GetContainerEvents" else wait

        def observe(*what: t.Any) -> None:
            seen.append(what[:2])

        async with served(tmp_path, {name: handler}, observe=observe) as (peer, server):
            stream = peer.open(name)
            peer.send(stream, framed(b""))
            await entered.wait()
            if how == "reset":
                peer.h2.reset_stream(stream)
                peer.flush()
            else:
                peer.writer.close()
            await asyncio.wait_for(left.wait(), 30)
            await asyncio.sleep(0)
            assert server.in_flight == 0

    asyncio.run(run())
    assert seen == [(name, "CANCELLED")]


def test_handlers_that_are_tried_at_once_may_wait(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async def slow(_request: t.Any) -> bytes:
            for _unused in range(3):
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
            with contextlib.suppress(ZeroDivisionError):
                await asyncio.get_running_loop().run_in_executor(None, lambda: 1 // 0)
            return b"waited"

        async def fail(_request: t.Any) -> bytes:
            await asyncio.sleep(0)
            raise TimeoutError

        async with served(tmp_path, {"ListContainers": slow, "ListPodSandbox": fail}) as (peer, _unused):
            assert (await peer.call("ListContainers")).messages == [b"waited"]
            assert (await peer.call("ListPodSandbox")).status == Code.DEADLINE_EXCEEDED

    asyncio.run(run())


def test_streams_wait_for_clients_that_read_slowly(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        made = 0

        async def follow(_request: t.Any) -> t.AsyncIterator[bytes]:
            nonlocal made
            for _unused in range(100):
                made += 1
                yield b"x" * 50_000

        async with served(tmp_path, {"GetContainerEvents": follow}) as (peer, _unused):
            peer.takes = False
            stream = peer.open("GetContainerEvents")
            peer.send(stream, framed(b""))
            await peer.until(lambda: len(peer.answers[stream].data) == 65535)
            await asyncio.sleep(0.05)
            assert made == 2
            peer.takes = True
            peer.h2.acknowledge_received_data(65535, stream)
            peer.flush()
            answer = await peer.ended(stream)
            assert (len(answer.messages), answer.status) == (100, Code.OK)

    asyncio.run(run())


def test_streams_end_with_their_error(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async def follow(_request: t.Any) -> t.AsyncIterator[bytes]:
            yield b"one"
            raise NotFound("it is gone")

        async def nothing(_request: t.Any) -> t.AsyncIterator[bytes]:
            for answer in ():
                yield answer

        handlers: dict[str, Handler] = {"GetContainerEvents": follow, "StreamContainers": nothing}
        async with served(tmp_path, handlers) as (peer, _unused):
            answer = await peer.call("GetContainerEvents")
            assert (answer.messages, answer.status) == ([b"one"], Code.NOT_FOUND)
            answer = await peer.call("StreamContainers")
            assert (answer.messages, answer.status) == ([], Code.OK)

    asyncio.run(run())


def test_stop_says_goodbye_lets_calls_end_and_ends_streams(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        release = asyncio.Event()

        async def wait(_request: t.Any) -> bytes:
            await release.wait()
            return MESSAGE

        async def follow(_request: t.Any) -> t.AsyncIterator[bytes]:
            yield b"one"
            await asyncio.sleep(60)

        async with served(tmp_path, {"Status": wait, "GetContainerEvents": follow}) as (peer, server):
            events = peer.open("GetContainerEvents")
            peer.send(events, framed(b""))
            call = peer.open("Status")
            peer.send(call, framed(b""))
            await peer.until(lambda: bool(peer.answers[events].data))
            stop = asyncio.create_task(server.stop(30))
            await peer.until(lambda: peer.goaway is not None)
            assert peer.goaway.error_code == 0
            release.set()
            assert (await peer.ended(call)).messages == [MESSAGE]
            answer = await peer.ended(events)
            assert (answer.status, answer.text) == (Code.UNAVAILABLE, "the endpoint is stopping")
            await asyncio.wait_for(stop, 30)
            assert await peer.reader.read() == b""

    asyncio.run(run())
