# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lead LXC pods through their lives, and tell Proxmox VE's time in each call from the endpoint's."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t

from ansible_collections.pvecri.runtime.tests.support import cgroups, images
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint
from ansible_collections.pvecri.runtime.tests.support.private_host import PrivateHost
from ansible_collections.pvecri.runtime.tests.support.pve_node import FakePveNode

IMAGE = "registry.test/bench:1"
HANDLER = "pve-lxc"
CALLS = ("RunPodSandbox", "CreateContainer", "StartContainer", "ExecSync", "StopContainer", "RemoveContainer")


class Call(t.NamedTuple):
    """What one call took, in seconds: in all, and while no task of Proxmox VE was at work."""

    whole: float
    own: float


class Task(t.NamedTuple):
    """A task of Proxmox VE, by the clock that calls are measured with."""

    kind: str
    began: float
    ended: float


class Tasks:
    """When the played node's tasks were at work."""

    def __init__(self, node: FakePveNode) -> None:
        self.seen: list[Task] = []
        self._carry_out = node.lxc._carried_out
        node.lxc._carried_out = self._timed  # type: ignore[method-assign]

    async def _timed(self, kind: str, *arguments: t.Any) -> t.Any:
        began = time.perf_counter()
        try:
            return await self._carry_out(kind, *arguments)
        finally:
            self.seen.append(Task(kind, began, time.perf_counter()))

    def within(self, began: float, ended: float) -> float:
        """Return how long a task was at work in a span of time."""
        busy, until = 0.0, began
        for task in sorted(self.seen, key=lambda task: task.began):
            start, end = max(task.began, until), min(task.ended, ended)
            if end > start:
                busy += end - start
                until = end
        return busy


@dataclasses.dataclass(frozen=True, slots=True)
class Lab:
    """An endpoint beside a played node."""

    endpoint: Endpoint
    node: FakePveNode
    tasks: Tasks

    def slow(self, create_s: float, start_s: float) -> None:
        """Have the next container's creation and start take longer, as on a real node."""
        self.node.fault("vzcreate", delay_s=create_s, times=1)
        self.node.fault("vzstart", delay_s=start_s, times=1)

    def life(self, *, handler: str = HANDLER) -> dict[str, Call]:
        """Lead a pod with one container through its life; return what its calls took."""
        cri, endpoint = self.endpoint.cri, self.endpoint
        taken: dict[str, Call] = {}

        def call(name: str, action: t.Callable[[], t.Any]) -> t.Any:
            began = time.perf_counter()
            result = action()
            ended = time.perf_counter()
            # A task whose end nobody waited for must not count for the next call.
            taken[name] = Call(ended - began, ended - began - self._busy(began, ended))
            return result

        pod = endpoint.pod()
        config = endpoint.container("app", ["/bin/sleep", "1000000"], image=IMAGE)
        pod_id = call("RunPodSandbox", lambda: cri.run_pod(pod, handler))
        container_id = call("CreateContainer", lambda: cri.create(pod_id, config, pod))
        call("StartContainer", lambda: cri.start(container_id))
        call("ExecSync", lambda: cri.exec_sync(container_id, ["/bin/true"], 30))
        call("StopContainer", lambda: cri.stop(container_id, 10))
        call("RemoveContainer", lambda: cri.remove(container_id))
        cri.stop_pod(pod_id)
        cri.remove_pod(pod_id)
        return taken

    def _busy(self, began: float, ended: float) -> float:
        self.node.call(_nothing())
        return self.tasks.within(began, ended)


async def _nothing() -> None:
    """Let the loop that tasks run in finish what is done."""


@contextlib.contextmanager
def lab(work_dir: str, level: str = "info") -> t.Iterator[Lab]:
    """Yield an endpoint beside a played node, in a network of their own; its program is stopped by KILL."""
    config = {"Cmd": ["/bin/sleep", "1000000"], "StopSignal": "SIGKILL"}
    layout = images.busybox_image(f"{work_dir}/image", config=config).path
    parent = f"/pvecri-bench/{os.getpid()}"
    with contextlib.ExitStack() as stack:
        stack.callback(cgroups.remove, parent)
        host = stack.enter_context(PrivateHost())
        node = stack.enter_context(FakePveNode(host))
        settings = {**node.settings(), "log": {"level": level}}
        made = Endpoint(host=host, images={IMAGE: f"oci:{layout}:latest"}, settings=settings)
        yield Lab(stack.enter_context(made), node, Tasks(node))
