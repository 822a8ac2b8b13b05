# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List the methods of the CRI as the descriptor has them."""

from __future__ import annotations

import dataclasses
import typing as t

from google.protobuf.message import Message

from pvecri.api import cri_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """One remote procedure."""

    service: str
    name: str
    request: type[Message]
    response: type[Message]
    #: Whether the answer is a stream of messages.
    is_streaming: bool

    @property
    def path(self) -> str:
        """Name of the method on the wire."""
        return f"/{cri_pb2.DESCRIPTOR.package}.{self.service}/{self.name}"


def _methods() -> t.Iterator[Method]:
    for service in cri_pb2.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            yield Method(
                service.name,
                method.name,
                getattr(cri_pb2, method.input_type.name),
                getattr(cri_pb2, method.output_type.name),
                method.output_type.name in _STREAMED,
            )


#: protobuf 3.21's descriptors do not tell which methods stream; these answers only ever come as streams.
_STREAMED: t.Final = frozenset(
    {
        "StreamPodSandboxesResponse",
        "StreamContainersResponse",
        "StreamContainerStatsResponse",
        "StreamPodSandboxStatsResponse",
        "StreamPodSandboxMetricsResponse",
        "StreamImagesResponse",
        "ContainerEventResponse",
    }
)

#: Every method by its name; no two services share one.
METHODS: t.Final[t.Mapping[str, Method]] = {method.name: method for method in _methods()}
