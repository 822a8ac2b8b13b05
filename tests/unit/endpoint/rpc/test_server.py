# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve methods over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import typing as t

import grpc
import grpc.aio
import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.tests.support.cri_client import AsyncCri
from pvecri.api import cri_pb2 as pb
from pvecri.api.methods import METHODS
from pvecri.config.model import ServerConfig
from pvecri.rpc.gate import Gate
from pvecri.rpc.server import Handler, Server

LOG = logging.getLogger("pvecri.test")


@contextlib.asynccontextmanager
async def serving(
    path: pathlib.Path, handlers: dict[str, Handler], *, is_open: bool = True, **settings: t.Any
) -> t.AsyncIterator[tuple[AsyncCri, Server, Gate]]:
    slow_s = settings.pop("slow_s", 60.0)
    config = ServerConfig(**settings)
    gate = Gate(config.max_concurrent_rpcs)
    if is_open:
        gate.open()
    server = Server(config, handlers, gate, LOG, slow_s=slow_s)
    socket = str(path / "s")
    await server.start(socket)
    try:
        async with AsyncCri(socket) as cri:
            yield cri, server, gate
    finally:
        await server.stop(0)


async def failure(call: t.Awaitable[t.Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), t.cast(str, caught.value.details())


def answers(data: bytes) -> Handler:
    async def answer(_request: t.Any) -> bytes:
        return data

    return answer


def raises(error: BaseException) -> Handler:
    async def fail(_request: t.Any) -> bytes:
        raise error

    return fail


VERSION = pb.VersionResponse(runtime_name="x")


def test_server_answers_with_the_handler_s_bytes(tmp_path: pathlib.Path) -> None:
    seen = []

    async def version(request: pb.VersionRequest) -> bytes:
        seen.append(request)
        return VERSION.SerializeToString()

    async def run() -> None:
        async with serving(tmp_path, {"Version": version}) as (cri, _unused, _unused):
            assert await cri.call("Version", pb.VersionRequest(version="1")) == VERSION

    asyncio.run(run())
    assert seen == [pb.VersionRequest(version="1")]


def test_server_has_every_method_of_the_cri(tmp_path: pathlib.Path) -> None:
    async def ask(cri: AsyncCri, name: str) -> tuple[grpc.StatusCode, str]:
        call = cri.call(name)
        if METHODS[name].is_streaming:
            return await failure(call.read())
        return await failure(call)

    async def run() -> None:
        async with serving(tmp_path, {}) as (cri, _unused, _unused):
            for name in METHODS:
                code, details = await ask(cri, name)
                assert (code, details) == (
                    grpc.StatusCode.UNIMPLEMENTED,
                    f"{name} is not implemented by this version",
                )

    asyncio.run(run())
    assert len(METHODS) == 43


def test_server_refuses_handlers_of_methods_that_do_not_exist() -> None:
    async def run() -> None:
        with pytest.raises(ValueError, match=r"no methods \['Foo'\]"):
            Server(ServerConfig(), {"Foo": answers(b"")}, Gate(1), LOG)

    asyncio.run(run())


def test_server_says_errors_as_statuses(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        handlers = {
            "StartContainer": raises(NotFound("there is no container 'x'", hint="Look")),
            "CreateContainer": raises(InvalidSpec("config.metadata.name", "is empty")),
        }
        async with serving(tmp_path, handlers) as (cri, _unused, _unused):
            assert await failure(cri.call("StartContainer")) == (
                grpc.StatusCode.NOT_FOUND,
                "there is no container 'x'. Look",
            )
            assert await failure(cri.call("CreateContainer")) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "config.metadata.name: is empty",
            )

    with caplog.at_level("DEBUG", "pvecri.test"):
        asyncio.run(run())
    assert [(record.levelname, record.__dict__["status"]) for record in caplog.records] == [
        ("DEBUG", "NOT_FOUND"),
        ("INFO", "INVALID_ARGUMENT"),
    ]


def test_server_survives_a_crash_and_logs_it_under_an_id(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> str:
        handlers = {
            "Status": raises(ZeroDivisionError("oops")),
            "Version": answers(VERSION.SerializeToString()),
        }
        async with serving(tmp_path, handlers) as (cri, _unused, _unused):
            code, details = await failure(cri.call("Status"))
            assert code is grpc.StatusCode.INTERNAL
            assert await cri.call("Version") == VERSION
            return details

    details = asyncio.run(run())
    (record,) = caplog.records
    assert record.exc_info is not None
    incident = record.__dict__["incident"]
    assert (
        details
        == f"internal error {incident} in Status: ZeroDivisionError: oops (the endpoint's log has more)"
    )


def test_server_refuses_bytes_that_are_no_message(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, {"Status": answers(b"")}) as (cri, _unused, _unused):
            code, details = await failure(cri.raw("Status", b"\xff\xff\xff"))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert details.startswith("the request is no StatusRequest: ")

    asyncio.run(run())


def test_server_lets_in_only_what_the_gate_does(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        handlers = {"Version": answers(VERSION.SerializeToString()), "ListContainers": answers(b"")}
        async with serving(tmp_path, handlers, is_open=False) as (cri, _unused, gate):
            assert await cri.call("Version") == VERSION
            code, details = await failure(cri.call("ListContainers"))
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "is starting" in details
            gate.open()
            await cri.call("ListContainers")

    asyncio.run(run())


def test_server_limits_messages_both_ways(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        handlers = {"Version": answers(b"\x0a\x80\x80\x80\x01" + b"x" * (2 << 20)), "Status": answers(b"")}
        async with serving(tmp_path, handlers, max_message_bytes=1 << 20) as (cri, _unused, _unused):
            for call in (cri.raw("Status", b"x" * (2 << 20)), cri.call("Version")):
                assert (await failure(call))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(run())


def test_server_limits_requests_in_flight(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        release = asyncio.Event()

        async def wait(_request: t.Any) -> bytes:
            await release.wait()
            return b""

        handlers = {"RuntimeConfig": wait, "Version": answers(b"")}
        async with serving(tmp_path, handlers, max_concurrent_rpcs=10) as (cri, _unused, _unused):
            calls = [asyncio.ensure_future(cri.call("RuntimeConfig")) for _unused in range(10)]
            await asyncio.sleep(0.2)
            code, details = await failure(cri.call("RuntimeConfig"))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert details.startswith("more than 10 requests are in flight")
            await cri.call("Version")
            release.set()
            await asyncio.gather(*calls)
            await cri.call("RuntimeConfig")

    asyncio.run(run())


def test_server_stop_waits_for_requests_but_not_for_idle_clients(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        entered, release = asyncio.Event(), asyncio.Event()

        async def wait(_request: t.Any) -> bytes:
            entered.set()
            await release.wait()
            return b""

        async with serving(tmp_path, {"Status": wait}) as (cri, server, _unused):
            call = asyncio.ensure_future(cri.call("Status"))
            await entered.wait()
            stop = asyncio.create_task(server.stop(60))
            await asyncio.sleep(0.1)
            assert not stop.done()
            release.set()
            await asyncio.wait_for(stop, 30)
            await call

    asyncio.run(run())


def test_server_stop_ends_requests_that_take_too_long(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async def wait(_request: t.Any) -> bytes:
            await asyncio.sleep(60)
            return b""

        async with serving(tmp_path, {"Status": wait}) as (cri, server, _unused):
            call = asyncio.ensure_future(cri.call("Status"))
            await asyncio.sleep(0.1)
            await server.stop(0.05)
            assert (await failure(call))[0] in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}

    asyncio.run(run())


def test_server_logs_slow_requests(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with serving(tmp_path, {"Status": answers(b"")}, slow_s=0.0) as (cri, server, _unused):
            await cri.call("Status")
            server.slow_s = 60.0
            await cri.call("Status")

    with caplog.at_level("INFO", "pvecri.test"):
        asyncio.run(run())
    (record,) = caplog.records
    assert (record.message, record.__dict__["rpc"]) == ("slow request", "Status")
