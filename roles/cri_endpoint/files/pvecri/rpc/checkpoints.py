# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer requests for checkpoints of containers and pods, and for pods from them."""

from __future__ import annotations

from pvecri.api import cri_pb2 as pb
from pvecri.checkpoints.pods import PodRestorer
from pvecri.checkpoints.service import CheckpointService
from pvecri.daemon.operations import Operations, Pool
from pvecri.rpc.keys import settled
from pvecri.rpc.server import Handler
from pvecri.state.registry import Registry


class CheckpointRpc:
    """Handlers of the methods about checkpoints."""

    def __init__(
        self, service: CheckpointService, pods: PodRestorer, operations: Operations, registry: Registry
    ) -> None:
        self._service = service
        self._pods = pods
        self._operations = operations
        self._registry = registry

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by the names of their methods."""
        return {
            "CheckpointContainer": self.checkpoint_container,
            "CheckpointPod": self.checkpoint_pod,
            "RestorePod": self.restore_pod,
        }

    async def checkpoint_container(self, request: pb.CheckpointContainerRequest) -> bytes:
        """Write a running container into an archive; it goes on running."""
        identity = self._registry.container(request.container_id).id
        await self._operations.run(
            ("CheckpointContainer", identity, settled(request)),
            lambda: self._service.checkpoint_container(identity, request.location, request.timeout),
            lock=identity,
            pool=Pool.CHECKPOINT,
        )
        return b""

    async def checkpoint_pod(self, request: pb.CheckpointPodRequest) -> bytes:
        """Write the running containers of a pod into an archive."""
        identity = self._registry.sandbox(request.pod_sandbox_id).id
        await self._operations.run(
            ("CheckpointPod", identity, settled(request)),
            lambda: self._service.checkpoint_pod(
                identity, request.output_path, list(request.container_ids), dict(request.options)
            ),
            lock=identity,
            pool=Pool.CHECKPOINT,
        )
        return b""

    async def restore_pod(self, request: pb.RestorePodRequest) -> bytes:
        """Make a pod of an archive; the same request again gives the same."""
        answer = await self._operations.run(
            ("RestorePod", settled(request)), lambda: self._pods.restore(request), pool=Pool.CHECKPOINT
        )
        return answer.SerializeToString()
