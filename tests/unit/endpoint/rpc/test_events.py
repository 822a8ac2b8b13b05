# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow events over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import typing as t

import grpc
import grpc.aio
import pytest

from ansible_collections.pvecri.runtime.tests.support import records
from ansible_collections.pvecri.runtime.tests.support.cri_client import AsyncCri
from pvecri.api import cri_pb2 as pb
from pvecri.config.model import ServerConfig
from pvecri.daemon.events import Events
from pvecri.rpc.events import EventRpc
from pvecri.rpc.gate import Gate
from pvecri.rpc.server import Server
from pvecri.state.records import Phase
from pvecri.state.registry import Registry


@contextlib.asynccontextmanager
async def telling(
    path: pathlib.Path, *, is_open: bool = True, **limits: t.Any
) -> t.AsyncIterator[tuple[Registry, Events, AsyncCri]]:
    gate = Gate(10)
    if is_open:
        gate.open()
    with contextlib.closing(Registry.open(str(path / "db"))) as registry:
        events = Events(registry, **limits)
        events.start()
        server = Server(ServerConfig(), EventRpc(events).handlers(), gate, logging.getLogger("pvecri.test"))
        await server.start(str(path / "s"))
        try:
            async with AsyncCri(str(path / "s")) as cri:
                yield registry, events, cri
        finally:
            events.close()
            await server.stop(0)


def labelled(registry: Registry, pod: str, label: str) -> str:
    """Make a container with a long label and let it end."""
    app = registry.reserve_container(records.container(pod, labels={"x": label}, phase=Phase.CREATING))
    registry.update_container(app.id, phase=Phase.RUNNING)
    registry.exited(app.id, exit_code=0, finished_at_ns=1)
    registry.remove_container(app.id)
    return app.id


def test_a_client_that_does_not_read_is_told_why_and_others_get_all(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async with (
            telling(tmp_path, kept=200, remembered_s=60) as (registry, events, cri),
            AsyncCri(str(tmp_path / "s")) as other,
        ):
            pod = registry.reserve_sandbox(records.sandbox("p")).id
            idle = other.call("GetContainerEvents", pb.GetEventsRequest())
            keen = cri.call("GetContainerEvents", pb.GetEventsRequest())
            long = "x" * 60_000
            async with asyncio.timeout(60):
                for _number in range(100):
                    app = labelled(registry, pod, long)
                    found = [await keen.read() for _event in range(4)]
                    assert {event.container_id for event in found} == {app}
                while events.subscribers > 1:
                    await asyncio.sleep(0.01)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    async for _event in idle:
                        pass
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "200 events behind" in str(caught.value.details())
            app = labelled(registry, pod, "short")
            assert (await keen.read()).container_id == app

    asyncio.run(run())


def test_a_client_that_leaves_is_forgotten(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async with telling(tmp_path) as (registry, events, cri):
            call = cri.call("GetContainerEvents", pb.GetEventsRequest())
            pod = registry.reserve_sandbox(records.sandbox("p", phase=Phase.CREATING)).id
            registry.update_sandbox(pod, phase=Phase.READY)
            async with asyncio.timeout(30):
                assert (await call.read()).container_id == pod
                assert events.subscribers == 1
                call.cancel()
                while events.subscribers:
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_who_comes_before_recovery_is_done_hears_what_it_finds(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async with telling(tmp_path, is_open=False) as (registry, events, cri):
            call = cri.call("GetContainerEvents", pb.GetEventsRequest())
            async with asyncio.timeout(30):
                while not events.subscribers:
                    await asyncio.sleep(0.01)
                pod = registry.reserve_sandbox(records.sandbox("p")).id
                registry.update_sandbox(pod, phase=Phase.STOPPED)
                event = await call.read()
            assert (event.container_id, event.container_event_type) == (pod, pb.CONTAINER_STOPPED_EVENT)

    asyncio.run(run())


def test_the_end_of_the_daemon_is_said(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async with telling(tmp_path) as (_registry, events, cri):
            call = cri.call("GetContainerEvents", pb.GetEventsRequest())
            async with asyncio.timeout(30):
                while not events.subscribers:
                    await asyncio.sleep(0.01)
                events.close()
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call.read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(run())
