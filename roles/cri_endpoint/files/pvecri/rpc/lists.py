# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer lists in parts, so that no number of objects makes a message too large (KEP-5825).

A part has at least one object and is closed when it has `PART_BYTES`; an empty list is an
answer without parts.  Each object stands in one part: all are picked at the beginning, as
they are then.
"""

from __future__ import annotations

import typing as t

from pvecri.api import cri_pb2 as pb
from pvecri.daemon.operations import Operations, Pool
from pvecri.images.service import ImageService
from pvecri.rpc.server import Handler
from pvecri.state.registry import Registry
from pvecri.stats.service import StatsService

#: Far below the 4 MiB that a gRPC client takes when nobody told it otherwise, and enough for a
#: hundred pods at once.
PART_BYTES: t.Final = 256 * 1024


class ListRpc:
    """Handlers of the methods that list in parts."""

    def __init__(
        self, registry: Registry, images: ImageService, statistics: StatsService, operations: Operations
    ) -> None:
        self._registry = registry
        self._images = images
        self._statistics = statistics
        self._operations = operations

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by the names of their methods."""
        return {
            "StreamPodSandboxes": self.sandboxes,
            "StreamContainers": self.containers,
            "StreamImages": self.images,
            "StreamContainerStats": self.container_stats,
            "StreamPodSandboxStats": self.sandbox_stats,
            "StreamPodSandboxMetrics": self.sandbox_metrics,
        }

    async def sandboxes(self, request: pb.StreamPodSandboxesRequest) -> t.AsyncGenerator[bytes, None]:
        """List the sandboxes that a filter lets through."""
        for part in parts(self._registry.sandbox_items(request.filter)):
            yield part

    async def containers(self, request: pb.StreamContainersRequest) -> t.AsyncGenerator[bytes, None]:
        """List the containers that a filter lets through."""
        for part in parts(self._registry.container_items(request.filter)):
            yield part

    async def images(self, request: pb.StreamImagesRequest) -> t.AsyncGenerator[bytes, None]:
        """List all images, or the one that a filter names."""
        items = await self._operations.call(lambda: self._image_items(request.filter), pool=Pool.QUERY)
        for part in parts(items):
            yield part

    def _image_items(self, wanted: pb.ImageFilter) -> list[bytes]:
        if wanted.image.image:
            found = self._images.list_bytes(wanted)
            return [found] if found else []
        return [entry.encoded for entry in self._images.catalogue.snapshot().by_id.values()]

    def container_stats(self, request: pb.StreamContainerStatsRequest) -> t.AsyncGenerator[bytes, None]:
        """List what the containers use that a filter lets through."""
        return self._measured(lambda: self._statistics.container_items(request.filter))

    def sandbox_stats(self, request: pb.StreamPodSandboxStatsRequest) -> t.AsyncGenerator[bytes, None]:
        """List what the pods use that a filter lets through."""
        return self._measured(lambda: self._statistics.pod_items(request.filter))

    def sandbox_metrics(self, _request: pb.StreamPodSandboxMetricsRequest) -> t.AsyncGenerator[bytes, None]:
        """List the metrics of all pods."""
        return self._measured(self._statistics.metric_items)

    async def _measured(self, begin: t.Callable[[], t.Iterator[bytes]]) -> t.AsyncGenerator[bytes, None]:
        """Yield parts; each is measured in a thread when the client has taken the one before."""
        made: t.Iterator[bytes] | None = None

        def more() -> bytes:
            nonlocal made
            if made is None:
                made = parts(begin())
            return next(made, b"")

        while part := await self._operations.call(more, pool=Pool.QUERY):
            yield part


def parts(items: t.Iterable[bytes], size: int = PART_BYTES) -> t.Iterator[bytes]:
    """Join elements of an answer to answers of about ``size`` bytes, none of which is empty."""
    part: list[bytes] = []
    length = 0
    for item in items:
        if part and length + len(item) > size:
            yield b"".join(part)
            part, length = [], 0
        part.append(item)
        length += len(item)
    if part:
        yield b"".join(part)
