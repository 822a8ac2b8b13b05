# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer what clients ask of containers."""

from __future__ import annotations

import asyncio

from pvecri.api import cri_pb2 as pb
from pvecri.containers.execute import Stop
from pvecri.containers.service import ContainerService
from pvecri.daemon.operations import Operations, Pool
from pvecri.rpc.keys import known, settled
from pvecri.rpc.server import Handler
from pvecri.state.registry import Registry


class ContainerRpc:
    """Handlers of the methods about containers."""

    def __init__(self, service: ContainerService, operations: Operations, registry: Registry) -> None:
        self._service = service
        self._operations = operations
        self._registry = registry

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by the names of their methods."""
        return {
            "CreateContainer": self.create,
            "StartContainer": self.start,
            "StopContainer": self.stop,
            "RemoveContainer": self.remove,
            "ListContainers": self.list,
            "ContainerStatus": self.status,
            "UpdateContainerResources": self.update_resources,
            "ReopenContainerLog": self.reopen_log,
            "ExecSync": self.exec_sync,
        }

    async def create(self, request: pb.CreateContainerRequest) -> bytes:
        """Create a container; the same config again, while it is being made or afterwards, gives the same.

        The request's sandbox_config is not looked at: the pod is as it was made.
        """
        sandbox = self._registry.sandbox(request.pod_sandbox_id).id
        identity = await self._operations.run(
            ("CreateContainer", sandbox, settled(request.config)),
            lambda: self._service.create(sandbox, request.config),
            pool=Pool.CONTAINER,
        )
        return pb.CreateContainerResponse(container_id=identity).SerializeToString()

    async def start(self, request: pb.StartContainerRequest) -> bytes:
        """Start a container."""
        identity = self._registry.container(request.container_id).id
        await self._operations.run(
            ("StartContainer", identity),
            lambda: self._service.start(identity),
            lock=identity,
            pool=Pool.CONTAINER,
        )
        return b""

    async def stop(self, request: pb.StopContainerRequest) -> bytes:
        """Stop a container within its time; one that is gone is stopped.

        Without the object's lock: a second call with a shorter time hastens the first.
        """
        identity = known(self._registry.container, request.container_id)
        if identity is None:
            return b""
        await self._operations.run(
            ("StopContainer", identity, request.timeout),
            lambda: self._service.stop(identity, request.timeout),
            pool=Pool.STOP,
        )
        return b""

    async def remove(self, request: pb.RemoveContainerRequest) -> bytes:
        """Remove a container, by force if it runs; one that is gone is removed."""
        identity = known(self._registry.container, request.container_id)
        if identity is not None:
            await self._operations.run(
                ("RemoveContainer", identity),
                lambda: self._service.remove(identity),
                lock=identity,
                pool=Pool.CONTAINER,
            )
        return b""

    async def list(self, request: pb.ListContainersRequest) -> bytes:
        """Return the containers that a filter lets through."""
        return self._registry.list_containers_bytes(request.filter)

    async def status(self, request: pb.ContainerStatusRequest) -> bytes:
        """Return what is known of a container; verbose adds what a person looks for."""
        wanted = request.container_id
        if not request.verbose:
            return self._registry.container_status_bytes(wanted)
        identity = self._registry.container(wanted).id
        info = await self._operations.call(lambda: self._service.status_info(identity), pool=Pool.QUERY)
        return self._registry.container_status_bytes(identity, info)

    async def update_resources(self, request: pb.UpdateContainerResourcesRequest) -> bytes:
        """Change the limits of a container."""
        identity = self._registry.container(request.container_id).id
        await self._operations.run(
            ("UpdateContainerResources", identity, settled(request)),
            lambda: self._service.update_resources(identity, request.linux),
            lock=identity,
            pool=Pool.CONTAINER,
        )
        return b""

    async def reopen_log(self, request: pb.ReopenContainerLogRequest) -> bytes:
        """Begin a new log file; kubelet moved the old one away.  Takes no lock: a stop may take long."""
        identity = self._registry.container(request.container_id).id
        await self._operations.run(
            ("ReopenContainerLog", identity), lambda: self._service.reopen_log(identity), pool=Pool.CONTAINER
        )
        return b""

    async def exec_sync(self, request: pb.ExecSyncRequest) -> bytes:
        """Run a command in a container to its end and return what it printed.

        When the client leaves, the command is killed: nobody would hear of its end.
        """
        identity = self._registry.container(request.container_id).id
        stop = Stop()
        try:
            # Each call is a command of its own, however alike they are.
            out, err, code = await self._operations.run(
                stop,
                lambda: self._service.exec_sync(identity, list(request.cmd), request.timeout, stop),
                pool=Pool.EXEC,
            )
        except asyncio.CancelledError:
            stop.set()
            raise
        return pb.ExecSyncResponse(stdout=out, stderr=err, exit_code=code).SerializeToString()
