# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make records of sandboxes and containers for tests that need no container."""

from __future__ import annotations

import itertools
import os
import typing as t

from pvecri.api import cri_pb2 as pb
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord

_numbers = itertools.count(1)


def new_id(prefix: str = "") -> str:
    """Return an id that begins with ``prefix``."""
    return (prefix + os.urandom(32).hex())[:64]


def sandbox(
    name: str | None = None, *, labels: t.Mapping[str, str] | None = None, **fields: t.Any
) -> SandboxRecord:
    """Return the record of a sandbox, READY unless told otherwise."""
    name = name or f"pod-{next(_numbers)}"
    config = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(name=name, namespace="default", uid=f"uid-{name}", attempt=0),
        labels=labels or {},
    )
    values: dict[str, t.Any] = {
        "id": new_id(),
        "name": f"{name}_default_uid-{name}_0",
        "config": config.SerializeToString(deterministic=True),
        "created_at_ns": 1_000,
        "phase": Phase.READY,
    }
    return SandboxRecord(**{**values, **fields})


def container(
    sandbox_id: str,
    name: str | None = None,
    *,
    labels: t.Mapping[str, str] | None = None,
    **fields: t.Any,
) -> ContainerRecord:
    """Return the record of a container, CREATED unless told otherwise."""
    name = name or f"container-{next(_numbers)}"
    config = pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=name, attempt=0),
        image=pb.ImageSpec(image="docker.io/library/busybox:1"),
        labels=labels or {},
    )
    values: dict[str, t.Any] = {
        "id": new_id(),
        "name": f"{name}_0_{sandbox_id}",
        "sandbox_id": sandbox_id,
        "config": config.SerializeToString(deterministic=True),
        "created_at_ns": 2_000,
        "phase": Phase.CREATED,
    }
    return ContainerRecord(**{**values, **fields})
