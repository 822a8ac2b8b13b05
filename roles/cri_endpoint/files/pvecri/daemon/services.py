# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the services that requests are answered by, and hand their handlers to the server."""

from __future__ import annotations

import dataclasses

from pvecri.checkpoints.pods import PodRestorer
from pvecri.checkpoints.restoring import Restorer
from pvecri.checkpoints.service import CheckpointService
from pvecri.containers.exits import Exits
from pvecri.containers.service import ContainerService
from pvecri.context import Context
from pvecri.daemon.events import Events
from pvecri.daemon.operations import Operations
from pvecri.disk.layers import layers_of
from pvecri.images.service import ImageService
from pvecri.rpc.checkpoints import CheckpointRpc
from pvecri.rpc.containers import ContainerRpc
from pvecri.rpc.events import EventRpc
from pvecri.rpc.gate import Gate
from pvecri.rpc.images import ImageRpc
from pvecri.rpc.lists import ListRpc
from pvecri.rpc.runtime import RuntimeRpc
from pvecri.rpc.sandboxes import SandboxRpc
from pvecri.rpc.server import Handler
from pvecri.rpc.stats import StatsRpc
from pvecri.rpc.streams import StreamRpc
from pvecri.sandboxes.service import SandboxService
from pvecri.stats.service import StatsService
from pvecri.streaming.service import Streaming


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the daemon does, in plain synchronous classes."""

    images: ImageService
    sandboxes: SandboxService
    containers: ContainerService
    checkpoints: CheckpointService
    pods: PodRestorer
    stats: StatsService

    def start(self) -> None:
        """Begin what services do of their own accord."""
        self.images.start()
        self.checkpoints.start()

    def close(self) -> None:
        """End what services do of their own accord."""
        self.images.close()


def build_services(context: Context, exits: Exits) -> Services:
    """Return the services of a context."""
    layers = layers_of(context)
    pve = context.pve
    images = ImageService(
        context, layers, None if pve is None else pve.natives, None if pve is None else pve.templates
    )
    containers = ContainerService(context, images, exits)

    def remove(container_id: str) -> None:
        with context.registry.held(container_id):
            containers.remove(container_id)

    sandboxes = SandboxService(context, end_container=containers.stop, remove_container=remove)
    stats = StatsService(context, layers)
    return Services(
        images=images,
        sandboxes=sandboxes,
        containers=containers,
        checkpoints=CheckpointService(context),
        pods=PodRestorer(context, sandboxes, containers, Restorer(context, images)),
        stats=stats,
    )


def handlers(
    context: Context,
    services: Services,
    operations: Operations,
    *,
    gate: Gate,
    events: Events,
    streaming: Streaming,
) -> dict[str, Handler]:
    """Return the handler of every method that this version has."""
    return {
        **RuntimeRpc(context, operations, gate, services.sandboxes).handlers(),
        **ImageRpc(services.images, operations).handlers(),
        **SandboxRpc(services.sandboxes, operations, context.registry).handlers(),
        **ContainerRpc(services.containers, operations, context.registry).handlers(),
        **CheckpointRpc(services.checkpoints, services.pods, operations, context.registry).handlers(),
        **StatsRpc(services.stats, operations).handlers(),
        **ListRpc(context.registry, services.images, services.stats, operations).handlers(),
        **EventRpc(events).handlers(),
        **StreamRpc(streaming, context.registry).handlers(),
    }
