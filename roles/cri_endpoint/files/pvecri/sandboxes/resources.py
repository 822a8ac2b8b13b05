# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the limits of a pod; pure."""

from __future__ import annotations

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.resources import (
    DEFAULT_CPU_PERIOD_US,
    MAX_CPU_SHARES,
    UNLIMITED,
    build_resources,
)
from pvecri.api import cri_pb2
from pvecri.checks import resource_field

#: Numbers of a LinuxContainerResources that do not fit a sum of two.
_NOT_NEGATIVE = ("cpu_period", "cpu_shares", "memory_limit_in_bytes")
TOP = "config.linux."


def pod_resources(
    overhead: cri_pb2.LinuxContainerResources,
    resources: cri_pb2.LinuxContainerResources,
    top: str = TOP,
) -> Resources:
    """Return what a pod may use: the containers' resources and the overhead together.

    A limit counts where the containers have one; the overhead alone limits nothing.
    Raises InvalidSpec that names a field below ``top``; see `check` for limits that are to be set.
    """
    for name, message in (("overhead", overhead), ("resources", resources)):
        for field in _NOT_NEGATIVE:
            if getattr(message, field) < 0:
                raise InvalidSpec(f"{top}{name}.{field}", "is negative")
    period = resources.cpu_period or DEFAULT_CPU_PERIOD_US
    quota = resources.cpu_quota
    if quota > 0 and overhead.cpu_quota > 0:
        quota += overhead.cpu_quota * period // (overhead.cpu_period or DEFAULT_CPU_PERIOD_US)
    memory, swap = resources.memory_limit_in_bytes, resources.memory_swap_limit_in_bytes
    return Resources(
        # The kernel has no more shares to give, however many processors the pod asks for.
        cpu_shares=_sum(resources.cpu_shares, overhead.cpu_shares, MAX_CPU_SHARES),
        cpu_quota_us=quota if quota > 0 else None,
        cpu_period_us=period if resources.cpu_period else None,
        cpuset_cpus=resources.cpuset_cpus or None,
        cpuset_mems=resources.cpuset_mems or None,
        memory_bytes=_sum(memory, overhead.memory_limit_in_bytes),
        # Memory and swap together; no limit is a limit of its own here.
        memory_swap_bytes=UNLIMITED if swap < 0 else _sum(swap, overhead.memory_limit_in_bytes),
        hugepages=tuple((line.page_size, line.limit) for line in resources.hugepage_limits),
        unified=tuple(sorted(resources.unified.items())),
    )


def check(found: Resources, host: HostFacts, top: str = TOP) -> None:
    """Raise InvalidSpec, or Unsupported, unless a host can set the limits."""
    try:
        build_resources(found, host)
    except InvalidSpec as exc:
        raise InvalidSpec(resource_field(exc.field, f"{top}resources"), exc.problem, hint=exc.hint) from exc


def _sum(value: int, overhead: int, most: int | None = None) -> int | None:
    if value <= 0:
        return None
    return value + overhead if most is None else min(value + overhead, max(value, most))
