# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what Proxmox VE is asked for when it creates a container for a pod; pure.

Nothing of the command, the environment or the mounts is in it: those go through the file that the
container's configuration includes, and no secret is ever below /etc/pve.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import resources
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_create
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import Creation, Disk, LxcSpec
from pvecri.api import cri_pb2
from pvecri.config.model import PveConfig
from pvecri.pve import identity
from pvecri.pve.identity import Identity
from pvecri.sandboxes.quantity import parse_quantity

#: Annotations, of the container or of its pod.
ROOTFS_SIZE: t.Final = "pvecri.runtime/lxc-rootfs-size"
FEATURES: t.Final = "pvecri.runtime/lxc-features"

#: What a token may ask for; every other feature is root@pam's alone.
_FEATURES: t.Final = frozenset({"nesting"})

_GIB: t.Final = 1 << 30
#: A root file system smaller than this holds nothing.
_ROOTFS_MIN: t.Final = 1 << 27
#: As in the configuration.
_ROOTFS_MAX: t.Final = 1 << 46
#: Unpacked, an image takes what its layers have, and as much again per cent of blocks and tables.
_UNPACKED = 1.15


def annotation(config: cri_pb2.ContainerConfig, pod: cri_pb2.PodSandboxConfig, key: str) -> tuple[str, str]:
    """Return the value of an annotation, the container's before the pod's, and the field that has it."""
    if key in config.annotations:
        return config.annotations[key], f"config.annotations[{key}]"
    if key in pod.annotations:
        return pod.annotations[key], f"sandbox_config.annotations[{key}]"
    return "", ""


def size_of_rootfs(
    config: cri_pb2.ContainerConfig, pod: cri_pb2.PodSandboxConfig, image_bytes: int, settings: PveConfig
) -> int:
    """Return the size of a root file system: what the pod asks for, else what is configured.

    An image that does not fit there gets what it needs and one GiB.  Raises InvalidSpec.
    """
    text, field = annotation(config, pod, ROOTFS_SIZE)
    if text:
        size = parse_quantity(text, field)
        if not _ROOTFS_MIN <= size <= _ROOTFS_MAX:
            raise InvalidSpec(field, f"'{text}' is not between 128Mi and 64Ti", hint="For example '8Gi'")
        return size
    usual = int(settings.rootfs_size_gib * _GIB)
    needed = int(image_bytes * _UNPACKED)
    return usual if needed < usual else math.ceil(needed / _GIB + 1) * _GIB


def features(config: cri_pb2.ContainerConfig, pod: cri_pb2.PodSandboxConfig) -> dict[str, str]:
    """Return the features that the pod asks for; raises InvalidSpec for those that nobody may have."""
    text, field = annotation(config, pod, FEATURES)
    asked = [part.strip() for part in text.split(",") if part.strip()]
    unknown = sorted(set(asked) - _FEATURES)
    if unknown:
        raise InvalidSpec(
            field,
            f"'{unknown[0][:40]}' cannot be given to a container by an API token",
            hint=f"It takes {', '.join(sorted(_FEATURES))}",
        )
    return dict.fromkeys(asked, "1")


def create_params(
    vmid: int,
    whose: Identity,
    config: cri_pb2.ContainerConfig,
    pod: cri_pb2.PodSandboxConfig,
    *,
    oci_resources: t.Mapping[str, t.Any],
    rootfs_bytes: int,
    template: str,
    storage: str,
    settings: PveConfig,
    uses_v2: bool = True,
) -> dict[str, t.Any]:
    """Return the parameters of POST /nodes/{node}/lxc; raises InvalidSpec."""
    name, namespace = pod.metadata.name, pod.metadata.namespace
    limits: dict[str, float] = {"memory": resources.host_memory_mib(), "swap": 0}
    asked = resources.pve_limits(oci_resources, uses_v2=uses_v2)
    limits |= {key: value for key, value in asked.items() if value is not None}
    spec = LxcSpec(
        creation=Creation(storage=storage, unprivileged=not config.linux.security_context.privileged),
        scalars={
            "hostname": identity.hostname(name, config.metadata.name),
            "description": identity.description(
                whose,
                pod=name,
                namespace=namespace,
                container=config.metadata.name,
                image=config.image.user_specified_image or config.image.image,
            ),
            "onboot": False,
            "console": False,
            "tty": 0,
            **limits,
        },
        features=features(config, pod) or None,
        rootfs=Disk(storage=storage, size_bytes=rootfs_bytes),
        tags=identity.TAGS,
        pool=settings.pool or None,
    )
    is_oci = template.endswith(".tar")
    return lxc_create.create_params(spec, vmid, ostemplate=template, storage=storage, is_oci=is_oci)
