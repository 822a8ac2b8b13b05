# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer what clients ask of sandboxes."""

from __future__ import annotations

import time

from pvecri.api import cri_pb2 as pb
from pvecri.daemon.operations import Operations, Pool
from pvecri.rpc.keys import known, settled
from pvecri.rpc.server import Handler
from pvecri.sandboxes.service import SandboxService
from pvecri.state.registry import Registry


class SandboxRpc:
    """Handlers of the methods about sandboxes."""

    def __init__(self, service: SandboxService, operations: Operations, registry: Registry) -> None:
        self._service = service
        self._operations = operations
        self._registry = registry

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by the names of their methods."""
        return {
            "RunPodSandbox": self.run,
            "StopPodSandbox": self.stop,
            "RemovePodSandbox": self.remove,
            "PodSandboxStatus": self.status,
            "ListPodSandbox": self.list,
            "UpdatePodSandboxResources": self.update_resources,
        }

    async def run(self, request: pb.RunPodSandboxRequest) -> bytes:
        """Make a sandbox; the same config again, while it is being made or afterwards, gives the same."""
        config, handler = request.config, request.runtime_handler
        identity = await self._operations.run(
            ("RunPodSandbox", handler, settled(config)),
            lambda: self._service.run(config, handler),
            pool=Pool.SANDBOX,
        )
        return pb.RunPodSandboxResponse(pod_sandbox_id=identity).SerializeToString()

    async def stop(self, request: pb.StopPodSandboxRequest) -> bytes:
        """Stop the containers of a sandbox and take its network down; one that is gone is stopped."""
        identity = known(self._registry.sandbox, request.pod_sandbox_id)
        if identity is not None:
            await self._operations.run(
                ("StopPodSandbox", identity),
                lambda: self._service.stop(identity),
                lock=identity,
                pool=Pool.STOP,
            )
        return b""

    async def remove(self, request: pb.RemovePodSandboxRequest) -> bytes:
        """Remove a sandbox with its containers; one that is gone is removed."""
        identity = known(self._registry.sandbox, request.pod_sandbox_id)
        if identity is not None:
            await self._operations.run(
                ("RemovePodSandbox", identity),
                lambda: self._service.remove(identity),
                lock=identity,
                pool=Pool.SANDBOX,
            )
        return b""

    async def status(self, request: pb.PodSandboxStatusRequest) -> bytes:
        """Return what is known of a sandbox and its containers; verbose adds what a person looks for.

        A kubelet that follows events takes the containers, and the time to put events and answers in order.
        """
        wanted, info = request.pod_sandbox_id, None
        if request.verbose:
            wanted = self._registry.sandbox(wanted).id
            info = await self._operations.call(lambda: self._service.status_info(wanted), pool=Pool.QUERY)
        # Taken before: what changes while it is looked at is told by an event with a later time.
        now = time.time_ns()
        return self._registry.sandbox_status_bytes(wanted, info, with_containers=True, timestamp_ns=now)

    async def list(self, request: pb.ListPodSandboxRequest) -> bytes:
        """Return the sandboxes that a filter lets through."""
        return self._registry.list_sandboxes_bytes(request.filter)

    async def update_resources(self, request: pb.UpdatePodSandboxResourcesRequest) -> bytes:
        """Change the limits of a pod's cgroup."""
        identity = self._registry.sandbox(request.pod_sandbox_id).id
        await self._operations.run(
            ("UpdatePodSandboxResources", identity, settled(request)),
            lambda: self._service.update_resources(identity, request.overhead, request.resources),
            lock=identity,
            pool=Pool.CONTAINER,
        )
        return b""
