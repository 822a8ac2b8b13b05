# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer what clients ask of images."""

from __future__ import annotations

import asyncio

from pvecri.api import cri_pb2 as pb
from pvecri.daemon.operations import Operations, Pool
from pvecri.images.service import ImageService
from pvecri.rpc.keys import settled
from pvecri.rpc.server import Handler


class ImageRpc:
    """Handlers of the methods about images."""

    def __init__(self, service: ImageService, operations: Operations) -> None:
        self._service = service
        self._operations = operations

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by the names of their methods."""
        return {
            "ListImages": self.list,
            "ImageStatus": self.status,
            "PullImage": self.pull,
            "RemoveImage": self.remove,
            "ImageFsInfo": self.fs_info,
        }

    async def list(self, request: pb.ListImagesRequest) -> bytes:
        """Return all images, or the one that a filter names: from memory as long as none has changed."""
        known = self._service.list_bytes_now(request.filter)
        if known is not None:
            return known
        return await self._operations.call(lambda: self._service.list_bytes(request.filter), pool=Pool.QUERY)

    async def status(self, request: pb.ImageStatusRequest) -> bytes:
        """Return what is known of an image, from memory if it can be; nothing for one that is not here."""
        known = None if request.verbose else self._service.status_bytes_now(request.image)
        if known is not None:
            return known
        return await self._operations.call(
            lambda: self._service.status_bytes(request.image, is_verbose=request.verbose), pool=Pool.QUERY
        )

    async def pull(self, request: pb.PullImageRequest) -> bytes:
        """Fetch an image; the pull belongs to all who ask for it, and goes on when one of them leaves."""
        auth = request.auth if request.HasField("auth") else None
        future = self._service.begin_pull(request.image, auth)
        reference = await asyncio.shield(asyncio.wrap_future(future))
        return pb.PullImageResponse(image_ref=reference).SerializeToString()

    async def remove(self, request: pb.RemoveImageRequest) -> bytes:
        """Remove an image; one that is gone is removed."""
        await self._operations.run(
            ("RemoveImage", settled(request.image)),
            lambda: self._service.remove(request.image),
            pool=Pool.IMAGE,
        )
        return b""

    async def fs_info(self, _request: pb.ImageFsInfoRequest) -> bytes:
        """Return how much space images take."""
        return await self._operations.call(self._service.fs_info_bytes, pool=Pool.QUERY)
