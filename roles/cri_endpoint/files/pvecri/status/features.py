# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what crun and the kernel of this host can do, and what must be done without."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts

#: mount_setattr(2): whole trees of mounts made read-only at once.
_KERNEL_RECURSIVE_READ_ONLY = (5, 12)
#: Layers of an overlay with shifted owners.
_KERNEL_USER_NAMESPACES = (5, 19)
#: The first versions of crun that do these by what config.json says of a mount.
_CRUN_RECURSIVE_READ_ONLY = (1, 4)
_CRUN_USER_NAMESPACES = (1, 4)

_MAX_USER_NAMESPACES = "/proc/sys/user/max_user_namespaces"


@dataclasses.dataclass(frozen=True, slots=True)
class Features:
    """What a runtime handler offers beyond the usual."""

    recursive_read_only_mounts: bool
    user_namespaces: bool


def features_of(host: HostFacts, *, max_user_namespaces: int) -> Features:
    """Return what handlers that stand for crun can do on a host."""
    return Features(
        recursive_read_only_mounts=(
            host.kernel >= _KERNEL_RECURSIVE_READ_ONLY and host.crun_version >= _CRUN_RECURSIVE_READ_ONLY
        ),
        user_namespaces=(
            host.kernel >= _KERNEL_USER_NAMESPACES
            and host.crun_version >= _CRUN_USER_NAMESPACES
            and max_user_namespaces > 0
        ),
    )


#: A guest of Proxmox LXC brings its own user namespace, and LXC makes mounts read-only one by one.
OF_GUESTS: t.Final = Features(recursive_read_only_mounts=False, user_namespaces=False)


def read_max_user_namespaces(path: str = _MAX_USER_NAMESPACES) -> int:
    """Return how many user namespaces the kernel allows; 0 where it has none."""
    try:
        with open(path, encoding="ascii") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return 0


def limitations(host: HostFacts) -> list[str]:
    """Return what this host cannot do that a container may ask for, and what is done instead."""
    found = []
    if not host.has_capability("CAP_SYS_RESOURCE"):
        found.append(
            "CAP_SYS_RESOURCE is missing: an oom_score_adj below "
            f"{host.oom_score_adj} and resource limits above the daemon's own are clamped"
        )
    if not host.has_swap_accounting:
        found.append("the kernel does not account swap: it cannot be limited")
    if host.seccomp_default is None:
        found.append("there is no default seccomp profile: containers that ask for it are refused")
    return found


def missing_programs(*programs: str) -> list[str]:
    """Return those of the given paths that are no programs."""
    return [path for path in programs if not os.access(path, os.X_OK)]
