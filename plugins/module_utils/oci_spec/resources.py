# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build ``linux.resources`` from limits that were checked, so that crun has nothing to refuse."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Json, Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.block_io import build_block_io
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import (
    near_matches,
    parse_number_list,
)

UNLIMITED: t.Final = -1

#: The kernel's ends of cpu.shares (v1); the specification counts in them for v2 as well.
MIN_CPU_SHARES: t.Final = 2
MAX_CPU_SHARES: t.Final = 262144
#: Bounds of the CPU bandwidth controller in µs (sched-bwc).
MIN_CPU_QUOTA_US: t.Final = 1000
#: Bound of v1 (MAX_BW); nobody has so many CPUs that it would limit them.
MAX_CPU_QUOTA_US: t.Final = (1 << 44) - 1
MIN_CPU_PERIOD_US: t.Final = 1000
MAX_CPU_PERIOD_US: t.Final = 1_000_000
DEFAULT_CPU_PERIOD_US: t.Final = 100_000

#: Below this not even the runtime's own first process lives to its end.
MIN_MEMORY_BYTES: t.Final = 512 << 10

#: The kernel's highest pid on 64 bits (PID_MAX_LIMIT): as a limit it never binds.
MAX_PIDS: t.Final = 4 << 20


def build_resources(resources: Resources, host: HostFacts) -> Json:
    """Return ``linux.resources`` without device rules, only what was asked for.

    Raises InvalidSpec for limits that contradict each other or the kernel's ranges,
    and Unsupported for those whose controller this host does not have.
    """
    result: Json = {}
    for key, part in (
        ("cpu", _cpu(resources, host)),
        ("memory", _memory(resources, host)),
        ("pids", _pids(resources, host)),
        ("blockIO", build_block_io(resources, host)),
    ):
        if part:
            result[key] = part
    if resources.hugepages:
        result["hugepageLimits"] = _hugepages(resources, host)
    if resources.unified:
        result["unified"] = _unified(resources, host)
    return result


def need_controller(host: HostFacts, field: str, *names: str) -> None:
    """Raise Unsupported unless the host has one of the cgroup controllers."""
    if host.controllers is None or not host.controllers.isdisjoint(names):
        return
    raise Unsupported(
        f"resources.{field}: the cgroup controller '{names[0]}' is not available on this host "
        f"(cgroup v{host.cgroup_version} with {', '.join(sorted(host.controllers)) or 'none'})",
        hint="Leave the limit out, or enable the controller",
    )


def check_range(value: int, low: int, high: int | None, field: str) -> int:
    """Return ``value`` if it lies in the range; raises InvalidSpec."""
    if value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        raise InvalidSpec(f"resources.{field}", f"{value} is out of range", hint=f"It must be {bounds}")
    return value


def _cpu(resources: Resources, host: HostFacts) -> Json:
    cpu: Json = {}
    if resources.cpu_shares is not None:
        need_controller(host, "cpu_shares", "cpu")
        cpu["shares"] = check_range(resources.cpu_shares, MIN_CPU_SHARES, MAX_CPU_SHARES, "cpu_shares")
    quota, period = resources.cpu_quota_us, resources.cpu_period_us
    if period is not None:
        need_controller(host, "cpu_period", "cpu")
        cpu["period"] = check_range(period, MIN_CPU_PERIOD_US, MAX_CPU_PERIOD_US, "cpu_period")
    # Old versions of crun write -1 as a huge number that cgroup v1 refuses: no key means the same.
    if quota is not None and quota not in (0, UNLIMITED):
        need_controller(host, "cpu_quota", "cpu")
        cpu["quota"] = check_range(quota, MIN_CPU_QUOTA_US, MAX_CPU_QUOTA_US, "cpu_quota")
        cpu.setdefault("period", DEFAULT_CPU_PERIOD_US)
    for key, field, online in (
        ("cpus", "cpuset_cpus", host.cpus),
        ("mems", "cpuset_mems", host.memory_nodes),
    ):
        text: str | None = getattr(resources, field)
        if text is not None:
            need_controller(host, field, "cpuset")
            cpu[key] = _number_list(text, online, field)
    return cpu


def _number_list(text: str, online: frozenset[int] | None, field: str) -> str:
    compact = text.replace(" ", "")
    numbers = parse_number_list(compact)
    if numbers is None:
        raise InvalidSpec(f"resources.{field}", f"'{text}' is not a list of numbers", hint="Write '0-3,7'")
    if online is not None and not numbers <= online:
        absent = ", ".join(map(str, sorted(numbers - online)[:8]))
        raise InvalidSpec(
            f"resources.{field}",
            f"'{text}' names {absent}, which this host does not have",
            hint=f"Online are {', '.join(map(str, sorted(online)))}",
        )
    return compact


def _memory(resources: Resources, host: HostFacts) -> Json:
    limit = resources.memory_bytes
    reservation = resources.memory_reservation_bytes
    memory: Json = {}
    if limit is not None:
        need_controller(host, "memory", "memory")
        if limit != UNLIMITED:
            check_range(limit, MIN_MEMORY_BYTES, None, "memory")
        memory["limit"] = limit
    # crun writes -1 as a huge number, which cgroup v2 takes for «protect everything».
    if reservation is not None and reservation != UNLIMITED:
        need_controller(host, "memory_reservation", "memory")
        check_range(reservation, 1, None, "memory_reservation")
        if limit is not None and UNLIMITED < limit < reservation:
            raise InvalidSpec(
                "resources.memory_reservation", f"{reservation} is above resources.memory ({limit})"
            )
        memory["reservation"] = reservation
    if resources.memory_swap_bytes is not None:
        memory["swap"] = _swap(resources.memory_swap_bytes, limit, host)
    return memory


def _swap(swap: int, limit: int | None, host: HostFacts) -> int:
    field = "resources.memory_swap"
    if limit is None:
        raise InvalidSpec(
            field,
            "memory and swap together cannot be limited without a limit of memory",
            hint="Set resources.memory as well",
        )
    if swap != UNLIMITED:
        if limit == UNLIMITED:
            raise InvalidSpec(field, f"{swap} limits nothing while resources.memory is unlimited")
        if swap < limit:
            raise InvalidSpec(
                field,
                f"{swap} is below resources.memory ({limit})",
                hint="It is the sum of memory and swap; equal to resources.memory it means no swap",
            )
    need_controller(host, "memory_swap", "memory")
    if not host.has_swap_accounting:
        raise Unsupported(
            f"{field}: this host's kernel does not account swap",
            hint="Leave the limit out, or boot with swapaccount=1",
        )
    return swap


def _pids(resources: Resources, host: HostFacts) -> Json:
    limit = resources.pids_limit
    # Old versions of crun write -1 into pids.max, which the kernel refuses: no key means the same.
    if limit is None or limit in (0, UNLIMITED):
        return {}
    need_controller(host, "pids_limit", "pids")
    return {"limit": check_range(limit, 1, MAX_PIDS, "pids_limit")}


def _hugepages(resources: Resources, host: HostFacts) -> list[Json]:
    need_controller(host, "hugepages", "hugetlb")
    result: dict[str, Json] = {}
    for size, limit in resources.hugepages:
        field = f"hugepages.{size}"
        if host.hugepage_sizes is not None and size not in host.hugepage_sizes:
            raise InvalidSpec(
                f"resources.{field}",
                "this host has no huge pages of that size",
                hint=near_matches(size, sorted(host.hugepage_sizes)) if host.hugepage_sizes else None,
            )
        if not re.fullmatch(r"[1-9][0-9]*[KMG]B", size):
            raise InvalidSpec(f"resources.{field}", "is not a page size", hint="Write '2MB' or '1GB'")
        result[size] = {"pageSize": size, "limit": check_range(limit, 0, None, field)}
    return list(result.values())


def _unified(resources: Resources, host: HostFacts) -> dict[str, str]:
    if host.cgroup_version != 2:
        raise Unsupported(
            "resources.unified: raw cgroup files are those of cgroup v2, and this host has cgroup v1",
            hint="Use the other limits",
        )
    result = {}
    for name, value in resources.unified:
        field = f"unified.{name}"
        found = re.fullmatch(r"([a-z_]+)(\.[A-Za-z0-9_]+)+", name)
        if not found:
            raise InvalidSpec(
                f"resources.{field}", "is not the name of a cgroup file", hint="As 'memory.high'"
            )
        if found[1] == "cgroup":
            raise InvalidSpec(f"resources.{field}", "the cgroup's own files are the runtime's")
        need_controller(host, field, found[1])
        if "\0" in value or "\n" in value.strip():
            raise InvalidSpec(f"resources.{field}", "is more than one line")
        result[name] = value
    return result
