# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask for statistics and metrics, which are read in threads."""

from __future__ import annotations

import asyncio
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound
from pvecri.api import cri_pb2 as pb
from pvecri.daemon.operations import Operations
from pvecri.rpc.stats import StatsRpc
from pvecri.state.views import element


class Service:
    """Answers with what it was asked for, and notes the threads that did."""

    def __init__(self) -> None:
        self.asked: list[t.Any] = []
        self.threads: set[threading.Thread] = set()

    def _note(self, what: t.Any) -> None:
        self.asked.append(what)
        self.threads.add(threading.current_thread())

    def container_bytes(self, container_id: str) -> bytes:
        """Fail for a container that is not there."""
        self._note(container_id)
        raise NotFound(f"there is no container '{container_id}'")

    def pod_bytes(self, sandbox_id: str) -> bytes:
        """Answer with a pod of this id."""
        self._note(sandbox_id)
        return pb.PodSandboxStatsResponse(
            stats=pb.PodSandboxStats(attributes=pb.PodSandboxAttributes(id=sandbox_id))
        ).SerializeToString()

    def container_items(self, wanted: t.Any) -> t.Iterator[bytes]:
        """Yield two containers."""
        self._note(wanted)
        for name in ("one", "two"):
            yield element(
                1, pb.ContainerStats(attributes=pb.ContainerAttributes(id=name)).SerializeToString()
            )

    def pod_items(self, wanted: t.Any) -> t.Iterator[bytes]:
        """Yield a pod."""
        self._note(wanted)
        yield element(1, pb.PodSandboxStats(attributes=pb.PodSandboxAttributes(id="p")).SerializeToString())

    def metric_items(self) -> t.Iterator[bytes]:
        """Yield a pod's metrics."""
        self._note("metrics")
        yield element(1, pb.PodSandboxMetrics(pod_sandbox_id="p").SerializeToString())

    def descriptors_bytes(self) -> bytes:
        """Describe a metric."""
        return pb.ListMetricDescriptorsResponse(descriptors=[{"name": "m"}]).SerializeToString()


@pytest.fixture
def service() -> Service:
    """A service that answers anything."""
    return Service()


def ask(service: t.Any, name: str, request: t.Any) -> bytes:
    async def asked() -> bytes:
        operations = Operations()
        try:
            handler: t.Any = StatsRpc(service, operations).handlers()[name]
            return t.cast("bytes", await handler(request))
        finally:
            operations.close()

    return asyncio.run(asked())


def test_lists_are_joined_of_their_elements(service: Service) -> None:
    containers = pb.ContainerStatsFilter(id="x")
    answer = ask(service, "ListContainerStats", pb.ListContainerStatsRequest(filter=containers))
    found = pb.ListContainerStatsResponse.FromString(answer)
    assert [stats.attributes.id for stats in found.stats] == ["one", "two"]
    pods = pb.PodSandboxStatsFilter(id="y")
    answer = ask(service, "ListPodSandboxStats", pb.ListPodSandboxStatsRequest(filter=pods))
    assert len(pb.ListPodSandboxStatsResponse.FromString(answer).stats) == 1
    answer = ask(service, "ListPodSandboxMetrics", pb.ListPodSandboxMetricsRequest())
    assert pb.ListPodSandboxMetricsResponse.FromString(answer).pod_metrics[0].pod_sandbox_id == "p"
    assert service.asked == [containers, pods, "metrics"]
    # Files are read: not where the event loop is.
    assert threading.current_thread() not in service.threads


def test_one_object_is_asked_for_by_its_id(service: Service) -> None:
    answer = ask(service, "PodSandboxStats", pb.PodSandboxStatsRequest(pod_sandbox_id="abc"))
    assert pb.PodSandboxStatsResponse.FromString(answer).stats.attributes.id == "abc"
    with pytest.raises(NotFound):
        ask(service, "ContainerStats", pb.ContainerStatsRequest(container_id="gone"))
    assert service.asked == ["abc", "gone"]


def test_descriptors_are_there_at_once(service: Service) -> None:
    answer = ask(service, "ListMetricDescriptors", pb.ListMetricDescriptorsRequest())
    assert pb.ListMetricDescriptorsResponse.FromString(answer).descriptors[0].name == "m"
    assert service.threads == set()
