# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put limits into the core's terms; pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.model import Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from pvecri.api import cri_pb2

_UNLIMITED: t.Final = -1


def in_core_terms(
    resources: cri_pb2.LinuxContainerResources, *, pids_limit: int = 0, swap_follows: bool = True
) -> Resources:
    """Return the limits; 0 is «not set» everywhere, as proto3 cannot tell them apart.

    With ``swap_follows`` a container with a limit of memory and none of swap has no swap.
    """
    memory = resources.memory_limit_in_bytes or None
    swap = resources.memory_swap_limit_in_bytes or None
    if swap is None and swap_follows and memory is not None:
        swap = memory
    return Resources(
        cpu_shares=resources.cpu_shares or None,
        cpu_quota_us=resources.cpu_quota or None,
        cpu_period_us=resources.cpu_period or None,
        cpuset_cpus=resources.cpuset_cpus or None,
        cpuset_mems=resources.cpuset_mems or None,
        memory_bytes=memory,
        memory_swap_bytes=swap,
        pids_limit=pids_limit or None,
        hugepages=tuple((line.page_size, line.limit) for line in resources.hugepage_limits),
        unified=tuple(sorted(resources.unified.items())),
    )


def for_host(resources: Resources, host: HostFacts, notes: list[str]) -> Resources:
    """Return the limits without those that this host cannot have and that limit nothing real.

    kubelet limits huge pages of every size that it knows to 0 and swap to what memory is;
    what could not be had anyway needs no limit.
    """
    changes: dict[str, t.Any] = {}
    if resources.memory_swap_bytes is not None and not host.has_swap_accounting:
        if resources.memory_swap_bytes not in (_UNLIMITED, resources.memory_bytes):
            notes.append("this host's kernel does not account swap: containers have no limit of it")
        changes["memory_swap_bytes"] = None
    if resources.hugepages:
        changes["hugepages"] = tuple(
            (size, limit) for size, limit in resources.hugepages if limit or _has_pages(size, host)
        )
    return dataclasses.replace(resources, **changes)


def _has_pages(size: str, host: HostFacts) -> bool:
    if host.controllers is not None and "hugetlb" not in host.controllers:
        return False
    return host.hugepage_sizes is None or size in host.hugepage_sizes


def merged(
    old: cri_pb2.LinuxContainerResources, new: cri_pb2.LinuxContainerResources
) -> cri_pb2.LinuxContainerResources:
    """Return what is in force after an update: what ``new`` sets, else what ``old`` says."""
    result = cri_pb2.LinuxContainerResources()
    result.CopyFrom(old)
    sizes = {line.page_size: line.limit for line in (*old.hugepage_limits, *new.hugepage_limits)}
    if new.memory_limit_in_bytes:
        # A limit of swap that was right for the old one need not be for the new one.
        result.memory_swap_limit_in_bytes = 0
    result.MergeFrom(new)
    del result.hugepage_limits[:]
    for size, limit in sizes.items():
        result.hugepage_limits.add(page_size=size, limit=limit)
    return result
