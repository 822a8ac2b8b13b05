# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask an endpoint whether it is ready, and what runs under it."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from pvecri.api import cri_pb2 as pb
from pvecri.client.client import Client
from pvecri.client.errors import CallFailed, NoEndpoint
from pvecri.rpc.status import Code

#: Namespace and label of the probe's own pods, which are nobody's work.
NAMESPACE: t.Final = "pvecri-probe"
LABEL: t.Final = "pvecri.runtime/probe"

_PAUSE_S: t.Final = 0.05
_MAX_PAUSE_S: t.Final = 0.5
#: Time that one look has without --wait, and that each look has with it.
_LOOK_S: t.Final = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """One condition of the runtime's status."""

    is_true: bool
    reason: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """A container that runs; ``started_at`` is in nanoseconds since the epoch."""

    id: str
    name: str
    pod: str
    namespace: str
    started_at: int


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """What an endpoint said of itself."""

    runtime: str
    version: str
    api: str
    conditions: t.Mapping[str, Condition]
    running: tuple[Running, ...]

    def problems(self, *, needs_network: bool) -> list[str]:
        """Return why the endpoint is not ready; a missing network counts if it is needed."""
        wanted = ("RuntimeReady", "NetworkReady") if needs_network else ("RuntimeReady",)
        found = []
        for name in wanted:
            condition = self.conditions.get(name, Condition(False, "", "it is not among the conditions"))
            if not condition.is_true:
                said = ": ".join(text for text in (condition.reason, condition.message) if text)
                found.append(f"{name} is not so: {said}")
        return found


def look(client: Client, *, timeout_s: float = _LOOK_S) -> Health:
    """Return how the endpoint is now; raises NoEndpoint and CallFailed.

    Answered only by one that has looked through all that runs on its host.
    """
    deadline = time.monotonic() + timeout_s

    def call(request: t.Any) -> t.Any:
        return client.call(request, timeout_s=max(deadline - time.monotonic(), 0.001))

    version = call(pb.VersionRequest())
    status = call(pb.StatusRequest()).status
    conditions = {each.type: Condition(each.status, each.reason, each.message) for each in status.conditions}
    return Health(
        version.runtime_name,
        version.runtime_version,
        version.runtime_api_version,
        conditions,
        _running(call),
    )


def _running(call: t.Callable[[t.Any], t.Any]) -> tuple[Running, ...]:
    pods = {pod.id: pod for pod in call(pb.ListPodSandboxRequest()).items}
    asked = pb.ContainerFilter(state=pb.ContainerStateValue(state=pb.CONTAINER_RUNNING))
    found = []
    for container in call(pb.ListContainersRequest(filter=asked)).containers:
        pod = pods.get(container.pod_sandbox_id)
        if pod is None or is_probe(pod):
            continue
        try:
            status = call(pb.ContainerStatusRequest(container_id=container.id)).status
        except CallFailed as exc:
            if exc.status is Code.NOT_FOUND:
                continue  # removed since it was listed
            raise
        found.append(
            Running(
                container.id,
                container.metadata.name,
                pod.metadata.name,
                pod.metadata.namespace,
                status.started_at,
            )
        )
    return tuple(sorted(found, key=lambda each: (each.namespace, each.pod, each.name, each.id)))


def is_probe(pod: t.Any) -> bool:
    """Say whether a PodSandbox is one that a probe has made."""
    return pod.metadata.namespace == NAMESPACE and LABEL in pod.labels


def wait(client: Client, *, wait_s: float, needs_network: bool = False) -> Health:
    """Return how the endpoint is as soon as it is ready, or how it is after ``wait_s`` seconds.

    Raises NoEndpoint and CallFailed when it does not answer by then.
    """
    deadline = time.monotonic() + wait_s
    pause_s = _PAUSE_S
    while True:
        left_s = deadline - time.monotonic()
        is_last = left_s <= pause_s
        try:
            # The last look has the time of one without any wait.
            health = look(client, timeout_s=_LOOK_S if is_last else min(left_s, _LOOK_S))
            if is_last or not health.problems(needs_network=needs_network):
                return health
        except NoEndpoint:
            if is_last:
                raise
        except CallFailed as exc:
            if is_last or not exc.is_temporary:
                raise
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _MAX_PAUSE_S)
