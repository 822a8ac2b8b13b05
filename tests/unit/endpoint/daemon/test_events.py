# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow events: in order, each once, at one's own pace, and nobody waits for anybody."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import threading
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.api import cri_pb2 as pb
from pvecri.daemon.events import Events
from pvecri.errors import TooBusy, TooSlow, Unavailable
from pvecri.rpc.errors import reason_of_cancel
from pvecri.state.records import Phase
from pvecri.state.registry import Registry

NAMES = {
    pb.CONTAINER_CREATED_EVENT: "created",
    pb.CONTAINER_STARTED_EVENT: "started",
    pb.CONTAINER_STOPPED_EVENT: "stopped",
    pb.CONTAINER_DELETED_EVENT: "deleted",
}


@pytest.fixture
def registry(tmp_path: pathlib.Path) -> t.Iterator[Registry]:
    with contextlib.closing(Registry.open(str(tmp_path / "db"))) as made:
        yield made


@contextlib.asynccontextmanager
async def telling(registry: Registry, **limits: t.Any) -> t.AsyncIterator[Events]:
    events = Events(registry, **{"remembered_s": 0.0, **limits})
    events.start()
    events.settle_down()
    # Over before anything happens, unless the test wants it otherwise.
    await asyncio.sleep(0.01)
    yield events
    events.close()


async def take(stream: t.AsyncIterator[bytes], count: int) -> list[pb.ContainerEventResponse]:
    found = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found.append(pb.ContainerEventResponse.FromString(await anext(stream)))
    return found


async def subscribed(events: Events) -> t.AsyncIterator[bytes]:
    """Return a stream that has its place in the log already."""
    stream = events.follow()
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)

    async def rest() -> t.AsyncIterator[bytes]:
        yield await waiting
        async for answer in stream:
            yield answer

    return rest()


def run_pod(registry: Registry, name: str) -> str:
    pod = registry.reserve_sandbox(records.sandbox(name, phase=Phase.CREATING))
    registry.update_sandbox(pod.id, phase=Phase.READY, ips=("10.0.0.1",))
    return pod.id


def live(registry: Registry, pod_id: str, name: str) -> str:
    app = registry.reserve_container(records.container(pod_id, name, phase=Phase.CREATING))
    registry.update_container(app.id, phase=Phase.CREATED)
    registry.started(app.id, time.time_ns())
    registry.exited(app.id, exit_code=3, finished_at_ns=time.time_ns())
    return app.id


def told(found: t.Sequence[pb.ContainerEventResponse]) -> list[tuple[str, str]]:
    return [(event.container_id, NAMES[event.container_event_type]) for event in found]


def test_a_whole_life_is_told_in_order(registry: Registry) -> None:
    async def run() -> None:
        async with telling(registry) as events:
            stream = await subscribed(events)
            pod = run_pod(registry, "p")
            app = live(registry, pod, "a")
            registry.update_sandbox(pod, phase=Phase.STOPPED, ips=())
            registry.remove_container(app)
            registry.remove_sandbox(pod)
            found = await take(stream, 8)
            assert told(found) == [
                (pod, "created"),
                (pod, "started"),
                (app, "created"),
                (app, "started"),
                (app, "stopped"),
                (pod, "stopped"),
                (app, "deleted"),
                (pod, "deleted"),
            ]
            # Each with the state of its moment, whenever it is taken; the last says which pod it was.
            assert [event.pod_sandbox_status.state for event in found] == [pb.SANDBOX_READY] * 5 + [
                pb.SANDBOX_NOTREADY
            ] * 3
            assert all(event.pod_sandbox_status.metadata.uid == "uid-p" for event in found)
            states = [[status.state for status in event.containers_statuses] for event in found]
            created, running, exited = pb.CONTAINER_CREATED, pb.CONTAINER_RUNNING, pb.CONTAINER_EXITED
            assert states == [[], [], [created], [running], [exited], [exited], [], []]
            assert found[4].containers_statuses[0].exit_code == 3
            times = [event.created_at for event in found]
            assert times == sorted(set(times)), "kubelet passes over what is not newer"

    asyncio.run(run())


def test_times_grow_when_the_clock_is_set_back(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with telling(registry) as events:
            stream = await subscribed(events)
            run_pod(registry, "p")
            monkeypatch.setattr(time, "time_ns", lambda: 5)
            run_pod(registry, "q")
            times = [event.created_at for event in await take(stream, 4)]
            assert times == sorted(set(times))

    asyncio.run(run())


def test_nothing_is_kept_when_nobody_listens(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with telling(registry) as events:
            monkeypatch.setattr(registry, "pod_views", None)
            live(registry, run_pod(registry, "p"), "a")
            assert not events._log
            monkeypatch.undo()
            stream = await subscribed(events)
            assert events.subscribers == 1
            pod = run_pod(registry, "q")
            assert told(await take(stream, 2)) == [(pod, "created"), (pod, "started")]
            await t.cast("t.AsyncGenerator[bytes, None]", stream).aclose()

    asyncio.run(run())


def test_nothing_is_kept_that_all_have_taken(registry: Registry) -> None:
    async def run() -> None:
        async with telling(registry) as events:
            quick, slow = await subscribed(events), await subscribed(events)
            pod = run_pod(registry, "p")
            for number in range(10):
                live(registry, pod, str(number))
            await take(quick, 32)
            await take(slow, 12)
            assert len(events._log) == 20
            await take(slow, 20)
            assert not events._log

    asyncio.run(run())


def test_what_recovery_found_is_for_those_who_come_soon(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox("p")).id
    app = registry.reserve_container(records.container(pod, "a", phase=Phase.RUNNING)).id

    async def run() -> None:
        events = Events(registry, remembered_s=30)
        events.start()
        registry.exited(app, exit_code=1, finished_at_ns=5)
        events.settle_down()
        for _who in range(2):
            stream = events.follow()
            found = await take(stream, 1)
            assert told(found) == [(app, "stopped")]
            assert found[0].containers_statuses[0].exit_code == 1
            # One that goes leaves it to the next.
            await t.cast("t.AsyncGenerator[bytes, None]", stream).aclose()
        # It is told once: what comes next is new.
        stream = events.follow()
        await take(stream, 1)
        registry.remove_container(app)
        assert told(await take(stream, 1)) == [(app, "deleted")]
        registry.update_sandbox(pod, phase=Phase.STOPPED)
        assert len(events._log) == 3
        events._forget()
        assert len(events._log) == 1, "somebody is to hear it yet"
        await t.cast("t.AsyncGenerator[bytes, None]", stream).aclose()
        assert not events._log

    asyncio.run(run())


def test_thousand_containers_from_many_threads_come_to_every_subscriber(registry: Registry) -> None:
    pods = [registry.reserve_sandbox(records.sandbox(f"p{number}")).id for number in range(10)]

    def work(pod: str) -> None:
        for number in range(100):
            app = live(registry, pod, f"a{number}")
            registry.remove_container(app)

    async def run() -> None:
        async with telling(registry, kept=100_000) as events:
            streams = [await subscribed(events) for _number in range(3)]
            threads = [threading.Thread(target=work, args=(pod,)) for pod in pods]
            for thread in threads:
                thread.start()
            found = await asyncio.gather(*(take(stream, 4000) for stream in streams))
            for thread in threads:
                thread.join()
            for events_of_one in found:
                lives: dict[str, list[str]] = {}
                for identity, kind in told(events_of_one):
                    lives.setdefault(identity, []).append(kind)
                assert len(lives) == 1000
                assert all(life == ["created", "started", "stopped", "deleted"] for life in lives.values())
                times = [event.created_at for event in events_of_one]
                assert times == sorted(set(times))
            assert told(found[0]) == told(found[1]) == told(found[2])

    asyncio.run(run())


def test_who_does_not_read_is_ended_and_nobody_else(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox("p")).id

    async def run() -> None:
        async with telling(registry, kept=8) as events:
            ends: list[CoreError | None] = []

            async def stuck() -> None:
                try:
                    async for _answer in events.follow():
                        # As one whose write waits for a client.
                        await asyncio.Event().wait()
                except asyncio.CancelledError as exc:
                    ends.append(reason_of_cancel(exc))

            task = asyncio.ensure_future(stuck())
            stream = await subscribed(events)
            for number in range(4):
                live(registry, pod, f"a{number}")
                assert len(await take(stream, 3)) == 3
            await asyncio.wait_for(task, 30)
            assert isinstance(ends[0], TooSlow)
            assert "8 events behind" in str(ends[0])
            app = live(registry, pod, "last")
            assert told(await take(stream, 3))[0] == (app, "created")
            # Its end gives its place in the log back, too.
            await asyncio.sleep(0)
            assert events.subscribers == 1

    asyncio.run(run())


def test_who_comes_back_too_late_is_told_so(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox("p")).id

    async def run() -> None:
        async with telling(registry, kept=4) as events:
            stream = events.follow()
            first = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            live(registry, pod, "a")
            await first
            # No turn of the event loop in between: it could not be woken.
            live(registry, pod, "b")
            with pytest.raises(TooSlow):
                await anext(stream)

    asyncio.run(run())


def test_subscribers_are_counted(registry: Registry) -> None:
    async def run() -> None:
        async with telling(registry, subscribers=2) as events:
            streams = [await subscribed(events), await subscribed(events)]
            with pytest.raises(TooBusy, match="2 clients"):
                await anext(events.follow())
            run_pod(registry, "p")
            for stream in streams:
                await take(stream, 2)

    asyncio.run(run())


def test_the_end_of_the_daemon_ends_streams(registry: Registry) -> None:
    async def run() -> None:
        async with telling(registry) as events:
            stream = events.follow()
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            events.close()
            with pytest.raises(Unavailable, match="stopping"):
                await waiting

    asyncio.run(run())


def test_a_change_after_the_end_of_the_loop_is_no_failure(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> t.Any:
        events = Events(registry)
        events.start()
        stream = events.follow()
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        events._followers = frozenset(events._followers)
        waiting.cancel()
        return events, events._followers

    events, followers = asyncio.run(run())
    events._followers = followers
    run_pod(registry, "p")
    assert not caplog.records
