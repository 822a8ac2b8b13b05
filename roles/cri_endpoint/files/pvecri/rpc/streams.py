# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer requests for streams with the URLs where clients get them."""

from __future__ import annotations

from pvecri.api import cri_pb2 as pb
from pvecri.rpc.server import Handler
from pvecri.state.registry import Registry
from pvecri.streaming import requests
from pvecri.streaming.service import Streaming


class StreamRpc:
    """Handlers of Exec, Attach and PortForward.

    What is wrong with a request is said here, rather than to the client that connects.
    """

    def __init__(self, streaming: Streaming, registry: Registry) -> None:
        self._streaming = streaming
        self._registry = registry

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by the names of their methods."""
        return {"Exec": self.exec, "Attach": self.attach, "PortForward": self.port_forward}

    async def exec(self, request: pb.ExecRequest) -> bytes:
        """Prepare the streams of a command in a container; it is run when the client connects."""
        url = await self._streaming.url(requests.exec_grant(self._registry, request))
        return pb.ExecResponse(url=url).SerializeToString()

    async def attach(self, request: pb.AttachRequest) -> bytes:
        """Prepare the streams of a container's own process."""
        url = await self._streaming.url(requests.attach_grant(self._registry, request))
        return pb.AttachResponse(url=url).SerializeToString()

    async def port_forward(self, request: pb.PortForwardRequest) -> bytes:
        """Prepare connections to ports of a pod."""
        url = await self._streaming.url(requests.forward_grant(self._registry, request))
        return pb.PortForwardResponse(url=url).SerializeToString()
