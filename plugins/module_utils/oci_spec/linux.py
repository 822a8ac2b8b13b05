# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build ``linux``: what only Linux has."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, Json
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.devices import build_devices
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.mounts import (
    ResolvedMount,
    rootfs_propagation,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.namespaces import (
    build_id_maps,
    build_namespaces,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.paths import check_absolute
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.resources import build_resources
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.seccomp import seccomp_filter
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.security import (
    masked_paths,
    read_only_paths,
    selinux_labels,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.sysctls import build_sysctls

#: Parent of the cgroups whose path nobody names: a directory, and a slice of systemd.
CGROUP_PARENT: t.Final = "/pvecri"
CGROUP_SLICE: t.Final = "pvecri.slice"


def build_linux(
    spec: ContainerSpec,
    host: HostFacts,
    granted: frozenset[str],
    mounts: t.Sequence[ResolvedMount],
) -> Json:
    """Return ``linux``; ``granted`` is the container's capability set."""
    devices, device_rules = build_devices(spec, host)
    linux: Json = {
        "namespaces": build_namespaces(spec.namespaces),
        **build_id_maps(spec),
        "cgroupsPath": cgroups_path(spec, host),
        "resources": {"devices": device_rules, **build_resources(spec.resources, host)},
        "maskedPaths": masked_paths(spec.security),
        "readonlyPaths": read_only_paths(spec.security),
    }
    optional: Json = {
        "devices": devices,
        "sysctl": build_sysctls(spec.sysctls, spec.namespaces),
        "seccomp": seccomp_filter(spec.security, host, granted),
        "rootfsPropagation": rootfs_propagation(mounts),
        "mountLabel": selinux_labels(spec.security, host)[1],
    }
    linux.update({key: value for key, value in optional.items() if value})
    return linux


def cgroups_path(spec: ContainerSpec, host: HostFacts) -> str:
    """Return ``linux.cgroupsPath``.

    systemd wants to be the only one who makes cgroups, so where it is the init, a
    container without a path of its own becomes a scope of a slice.
    """
    asked = spec.cgroups_path
    if asked is None:
        if host.has_systemd:
            return f"{CGROUP_SLICE}:pvecri:{spec.name}"
        return f"{CGROUP_PARENT}/{spec.name}"
    if is_systemd_path(asked):
        return asked
    if not asked.startswith("/"):
        raise InvalidSpec(
            "cgroups_path",
            f"'{asked}' is neither an absolute path nor 'slice:prefix:name'",
            hint="As '/pvecri/web' or 'machine.slice:pvecri:web'",
        )
    return check_absolute(asked, "cgroups_path")


def is_systemd_path(path: str) -> bool:
    """Say whether a cgroup path names a systemd scope: crun then needs ``--systemd-cgroup``."""
    return (
        re.fullmatch(r"([A-Za-z0-9_.\\@-]+\.slice)?:[A-Za-z0-9_.\\@-]*:[A-Za-z0-9_.\\@-]+", path) is not None
    )
