# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take pods through their lives, one at a time and several."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import time
import typing as t

import grpc
from google.protobuf.message import Message

from ansible_collections.pvecri.runtime.tests.performance.endpoint_hosts import Contestant
from ansible_collections.pvecri.runtime.tests.support.cri_client import AsyncCri, pb, status_of

T = t.TypeVar("T")

#: The calls of a life in their order.
RPCS = (
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "ExecSync",
    "Version",
    "ContainerStatus",
    "ListContainers",
    "PodSandboxStatus",
    "ListPodSandbox",
    "StopContainer",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
)
#: Those that lead from nothing to a running container.
TO_RUNNING = RPCS[:3]
#: Those for which no process needs to be started or ended.
CHEAP = RPCS[4:9]
CALLERS = 8
_STOP_TIMEOUT_S = 10


def run(work: t.Coroutine[t.Any, t.Any, T]) -> T:
    """Run ``work`` on the fastest loop there is: the caller must not be what is measured."""
    factory = None
    with contextlib.suppress(ImportError):
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


async def life(cri: AsyncCri, contestant: Contestant) -> dict[str, float]:
    """Take one pod through its life and return the seconds of each call."""
    taken: dict[str, float] = {}

    async def timed(name: str, request: Message) -> t.Any:
        start = time.perf_counter()
        answer = await cri.call(name, request)
        taken[name] = time.perf_counter() - start
        return answer

    config = contestant.pod()
    ran = await timed("RunPodSandbox", pb.RunPodSandboxRequest(config=config))
    pod_id = ran.pod_sandbox_id
    created = await timed(
        "CreateContainer",
        pb.CreateContainerRequest(
            pod_sandbox_id=pod_id, config=contestant.container(), sandbox_config=config
        ),
    )
    which = {"container_id": created.container_id}
    await timed("StartContainer", pb.StartContainerRequest(**which))
    done = await timed("ExecSync", pb.ExecSyncRequest(cmd=["true"], timeout=10, **which))
    await timed("Version", pb.VersionRequest())
    told = await timed("ContainerStatus", pb.ContainerStatusRequest(**which))
    if done.exit_code != 0 or told.status.state != pb.CONTAINER_RUNNING:
        raise RuntimeError(f"{contestant.name}: the container does not run: {done} {told}")
    await timed("ListContainers", pb.ListContainersRequest())
    await timed("PodSandboxStatus", pb.PodSandboxStatusRequest(pod_sandbox_id=pod_id))
    await timed("ListPodSandbox", pb.ListPodSandboxRequest())
    await timed("StopContainer", pb.StopContainerRequest(timeout=_STOP_TIMEOUT_S, **which))
    await timed("RemoveContainer", pb.RemoveContainerRequest(**which))
    await timed("StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=pod_id))
    await timed("RemovePodSandbox", pb.RemovePodSandboxRequest(pod_sandbox_id=pod_id))
    return taken


async def able(contestants: t.Sequence[Contestant]) -> tuple[list[Contestant], list[str]]:
    """Return those who can take a pod through its life, and what the others answered."""
    found, failures = [], []
    for contestant in contestants:
        async with AsyncCri(contestant.socket) as cri:
            try:
                await life(cri, contestant)
                found.append(contestant)
            except grpc.RpcError as exc:
                failures.append(f"{contestant.name}: {status_of(exc)}: {exc.details()}")
    return found, failures


@dataclasses.dataclass
class Lives:
    """What the lives of one contestant's pods took."""

    taken: dict[str, list[float]] = dataclasses.field(default_factory=lambda: {name: [] for name in RPCS})
    #: Of each life: seconds until its container ran, and until it was over.
    to_running: list[float] = dataclasses.field(default_factory=list)
    whole: list[float] = dataclasses.field(default_factory=list)
    per_second: list[float] = dataclasses.field(default_factory=list)

    def add(self, lives: t.Sequence[dict[str, float]], wall: float) -> None:
        """Count lives that took ``wall`` seconds together."""
        for one in lives:
            for name, seconds in one.items():
                self.taken[name].append(seconds)
            self.to_running.append(sum(one[name] for name in TO_RUNNING))
            self.whole.append(sum(one.values()))
        self.per_second.append(len(lives) / wall)


async def lives_in_turn(
    entered: t.Sequence[Contestant],
    *,
    rounds: int,
    callers: int,
    each: int,
    progress: t.Callable[[str], None],
) -> dict[str, Lives]:
    """Let ``callers`` take ``each`` pods through their lives, contestant by contestant, ``rounds`` times.

    One round before them is not counted.
    """
    results = {contestant.name: Lives() for contestant in entered}
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            contestant.name: [
                await stack.enter_async_context(AsyncCri(contestant.socket)) for _caller in range(callers)
            ]
            for contestant in entered
        }

        async def series(cri: AsyncCri, contestant: Contestant) -> list[dict[str, float]]:
            return [await life(cri, contestant) for _number in range(each)]

        for number in range(-1, rounds):
            for contestant in entered:
                start = time.perf_counter()
                done = await asyncio.gather(*(series(cri, contestant) for cri in clients[contestant.name]))
                wall = time.perf_counter() - start
                if number >= 0:
                    results[contestant.name].add([one for lives in done for one in lives], wall)
            if number >= 0:
                progress(f"{callers} at a time: round {number + 1} of {rounds}")
    return results


async def lives_of(contestant: Contestant, count: int) -> None:
    """Take ``count`` pods of one contestant through their lives, one after the other."""
    async with AsyncCri(contestant.socket) as cri:
        for _number in range(count):
            await life(cri, contestant)


async def fill(contestant: Contestant, count: int, *, host_network: bool = False) -> None:
    """Run ``count`` pods more, with a container each."""

    async def one(cri: AsyncCri) -> None:
        config = contestant.pod(host_network=host_network)
        pod_id = await cri.run_pod(config)
        container_id = await cri.create(pod_id, contestant.container(), config)
        await cri.start(container_id)

    await _spread(contestant, [one] * count)


async def empty(contestant: Contestant) -> None:
    """Remove all pods."""
    async with AsyncCri(contestant.socket) as cri:
        pods = [item.id for item in await cri.list_pods()]

    def removal(pod_id: str) -> t.Callable[[AsyncCri], t.Awaitable[None]]:
        async def remove(cri: AsyncCri) -> None:
            await cri.stop_pod(pod_id)
            await cri.remove_pod(pod_id)

        return remove

    await _spread(contestant, [removal(pod_id) for pod_id in pods])


async def _spread(
    contestant: Contestant, tasks: t.Sequence[t.Callable[[AsyncCri], t.Awaitable[None]]]
) -> None:
    """Do ``tasks``, as many at a time as there are callers."""
    waiting = iter(tasks)

    async def caller(cri: AsyncCri) -> None:
        for task in waiting:
            await task(cri)

    async with AsyncCri(contestant.socket) as cri:
        await asyncio.gather(*(caller(cri) for _caller in range(CALLERS)))
