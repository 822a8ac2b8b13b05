# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe a request for a container that was checked."""

from __future__ import annotations

import dataclasses

from pvecri.api import cri_pb2
from pvecri.containers.validate import validate
from pvecri.state.records import SandboxRecord


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, and the pod it is asked for."""

    #: What no other container is called: name, attempt and sandbox.
    name: str
    sandbox: SandboxRecord
    pod: cri_pb2.PodSandboxConfig
    config: cri_pb2.ContainerConfig
    #: The config as a record keeps it: the same for the same request.
    encoded: bytes

    @classmethod
    def checked(cls, sandbox: SandboxRecord, config: cri_pb2.ContainerConfig) -> Request:
        """Return the request for a container of a sandbox; raises InvalidSpec."""
        pod = cri_pb2.PodSandboxConfig.FromString(sandbox.config)
        validate(config, pod)
        return cls(
            name=f"{config.metadata.name}_{config.metadata.attempt}_{sandbox.id}",
            sandbox=sandbox,
            pod=pod,
            config=config,
            encoded=config.SerializeToString(deterministic=True),
        )
