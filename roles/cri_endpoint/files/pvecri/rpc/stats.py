# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer what clients ask about the use of resources."""

from __future__ import annotations

import typing as t

from pvecri.api import cri_pb2 as pb
from pvecri.daemon.operations import Operations, Pool
from pvecri.rpc.server import Handler
from pvecri.stats.service import StatsService


class StatsRpc:
    """Handlers of the methods about statistics and metrics."""

    def __init__(self, service: StatsService, operations: Operations) -> None:
        self._service = service
        self._operations = operations

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by the names of their methods."""
        return {
            "ContainerStats": self.container,
            "ListContainerStats": self.containers,
            "PodSandboxStats": self.pod,
            "ListPodSandboxStats": self.pods,
            "ListMetricDescriptors": self.descriptors,
            "ListPodSandboxMetrics": self.metrics,
        }

    async def container(self, request: pb.ContainerStatsRequest) -> bytes:
        """Return what a container uses."""
        return await self._asked(lambda: self._service.container_bytes(request.container_id))

    async def containers(self, request: pb.ListContainerStatsRequest) -> bytes:
        """Return what the containers use that a filter lets through."""
        return await self._asked(lambda: b"".join(self._service.container_items(request.filter)))

    async def pod(self, request: pb.PodSandboxStatsRequest) -> bytes:
        """Return what a pod uses."""
        return await self._asked(lambda: self._service.pod_bytes(request.pod_sandbox_id))

    async def pods(self, request: pb.ListPodSandboxStatsRequest) -> bytes:
        """Return what the pods use that a filter lets through."""
        return await self._asked(lambda: b"".join(self._service.pod_items(request.filter)))

    async def descriptors(self, _request: pb.ListMetricDescriptorsRequest) -> bytes:
        """Return which metrics there are."""
        return self._service.descriptors_bytes()

    async def metrics(self, _request: pb.ListPodSandboxMetricsRequest) -> bytes:
        """Return the metrics of all pods."""
        return await self._asked(lambda: b"".join(self._service.metric_items()))

    async def _asked(self, action: t.Callable[[], bytes]) -> bytes:
        return await self._operations.call(action, pool=Pool.QUERY)
