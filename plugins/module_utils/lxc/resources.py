# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say OCI ``linux.resources`` in files of a cgroup and in options of Proxmox VE, and apply them.

Proxmox VE keeps limits in whole MiB and cores, which lasts and is what its interface shows; the
cgroup gets the exact values after that.  Limits are those of ``/lxc/<vmid>``, within which all processes are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import math
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.resources import check_memory
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported

Json = t.Mapping[str, t.Any]

MIB: t.Final = 1 << 20

#: The least memory that Proxmox VE takes for a container.
PVE_MEMORY_MIN_MIB: t.Final = 16

#: Of cpu.max, when none is given (cgroup v2, «cpu»).
_DEFAULT_PERIOD_US: t.Final = 100_000

#: What Proxmox VE takes for cpulimit and cores at most.
_PVE_CPUS_MAX: t.Final = 8192

#: Below a container's cgroup: where its processes are, and what it sees as the root of all cgroups.
INNER: t.Final = "/ns"

#: Files whose values are written to the inner group as well, since programs go by them.
_SEEN_V2: t.Final = frozenset({"memory.max", "memory.swap.max", "cpu.max"})
_SEEN_V1: t.Final = frozenset(
    {"memory.limit_in_bytes", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpuset.cpus", "cpuset.mems"}
)

_THROTTLES: t.Final = (
    ("throttleReadBpsDevice", "rbps", "read_bps"),
    ("throttleWriteBpsDevice", "wbps", "write_bps"),
    ("throttleReadIOPSDevice", "riops", "read_iops"),
    ("throttleWriteIOPSDevice", "wiops", "write_iops"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One value for one file of a cgroup; ``controller`` counts for v1 alone."""

    controller: str
    file: str
    value: str


def group(vmid: int) -> str:
    """Return the path of a container's cgroup below the root of its hierarchies."""
    return f"/lxc/{int(vmid)}"


# ---- as files of a cgroup --------------------------------------------------------------------------------


def settings(resources: Json, *, uses_v2: bool) -> list[Setting]:
    """Return what to write, in an order that a cgroup without limits takes; -1 lifts a limit.

    Only what is asked for; raises InvalidSpec, and Unsupported for what only cgroup v2 has.
    """
    if uses_v2:
        return [*_cpu_v2(resources), *_memory_v2(resources), *_others(resources, uses_v2=True)]
    if resources.get("unified"):
        raise Unsupported(
            "resources.unified: raw cgroup files are those of cgroup v2, and this host has cgroup v1",
            hint="Use the other limits",
        )
    return [*_cpu_v1(resources), *_memory_v1(resources), *_others(resources, uses_v2=False)]


def weight_of(shares: int) -> int:
    """Return cpu.weight for cpu.shares, as crun and Kubernetes count."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _cpu_v2(resources: Json) -> t.Iterator[Setting]:
    cpu = resources.get("cpu") or {}
    if cpu.get("shares"):
        yield Setting("cpu", "cpu.weight", str(weight_of(cpu["shares"])))
    quota, period = cpu.get("quota"), cpu.get("period")
    if quota is not None or period is not None:
        allowed = "max" if quota is None or quota <= 0 else str(quota)
        yield Setting("cpu", "cpu.max", f"{allowed} {period or _DEFAULT_PERIOD_US}")
    yield from _cpuset(cpu)


def _cpu_v1(resources: Json) -> t.Iterator[Setting]:
    cpu = resources.get("cpu") or {}
    if cpu.get("shares"):
        yield Setting("cpu", "cpu.shares", str(cpu["shares"]))
    if cpu.get("period"):
        yield Setting("cpu", "cpu.cfs_period_us", str(cpu["period"]))
    if (quota := cpu.get("quota")) is not None:
        yield Setting("cpu", "cpu.cfs_quota_us", str(quota if quota > 0 else -1))
    yield from _cpuset(cpu)


def _cpuset(cpu: Json) -> t.Iterator[Setting]:
    for key in ("cpus", "mems"):
        if cpu.get(key):
            yield Setting("cpuset", f"cpuset.{key}", str(cpu[key]))


def _memory_v2(resources: Json) -> t.Iterator[Setting]:
    memory = resources.get("memory") or {}
    limit, reservation, swap = (memory.get(key) for key in ("limit", "reservation", "swap"))
    if limit is not None:
        # Proxmox VE throttles a little below its limit, which is not ours.
        yield Setting("memory", "memory.high", "max")
        yield Setting("memory", "memory.max", _or_max(limit))
    if reservation is not None:
        yield Setting("memory", "memory.low", str(max(0, reservation)))
    if swap is not None:
        yield Setting("memory", "memory.swap.max", _or_max(_swap_alone(limit, swap)))


def _memory_v1(resources: Json) -> t.Iterator[Setting]:
    memory = resources.get("memory") or {}
    for key, file in (
        ("limit", "memory.limit_in_bytes"),
        ("swap", "memory.memsw.limit_in_bytes"),
        ("reservation", "memory.soft_limit_in_bytes"),
    ):
        if (value := memory.get(key)) is not None:
            yield Setting("memory", file, str(max(-1, value)))


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _swap_alone(limit: int | None, swap: int) -> int:
    """Return the limit of swap without memory; the specification counts both."""
    if swap < 0:
        return -1
    if limit is None or limit < 0 or swap < limit:
        raise InvalidSpec(
            "resources.memory_swap",
            f"{swap} is no sum of memory and swap with a limit of memory of {limit}",
            hint="Set resources.memory as well, and not above it",
        )
    return swap - limit


def _others(resources: Json, *, uses_v2: bool) -> t.Iterator[Setting]:
    pids = resources.get("pids") or {}
    if (limit := pids.get("limit")) is not None:
        yield Setting("pids", "pids.max", str(limit) if limit > 0 else "max")
    for page in resources.get("hugepageLimits") or ():
        name = f"hugetlb.{page['pageSize']}." + ("max" if uses_v2 else "limit_in_bytes")
        yield Setting("hugetlb", name, str(page["limit"]))
    yield from _block_io(resources.get("blockIO") or {}, uses_v2=uses_v2)
    for name, value in (resources.get("unified") or {}).items():
        yield Setting("", name, str(value).strip())


def _block_io(block_io: Json, *, uses_v2: bool) -> t.Iterator[Setting]:
    if (weight := block_io.get("weight")) is not None:
        yield Setting("blkio", "io.bfq.weight" if uses_v2 else "blkio.bfq.weight", str(weight))
    for key, word, v1_word in _THROTTLES:
        for throttle in block_io.get(key) or ():
            device = f"{throttle['major']}:{throttle['minor']}"
            if uses_v2:
                yield Setting("blkio", "io.max", f"{device} {word}={throttle['rate']}")
            else:
                yield Setting("blkio", f"blkio.throttle.{v1_word}_device", f"{device} {throttle['rate']}")


# ---- live ------------------------------------------------------------------------------------------------


def apply(tree: CgroupTree, vmid: int, resources: Json) -> None:
    """Write limits to the cgroup of a container that runs; keys left out stay as they are, -1 lifts a limit.

    Raises InvalidSpec for what the kernel or the processes' present use refuses.
    """
    if resources.get("devices"):
        raise InvalidSpec("linux.resources.devices", "cannot be changed while the container exists")
    where = group(vmid)
    check_memory(tree, where, resources)
    wanted = settings(_completed(tree, where, resources), uses_v2=tree.is_v2)
    if not tree.is_v2:
        wanted = _in_order(tree, where, wanted)
    for setting in wanted:
        _write(tree, where, setting)


def _completed(tree: CgroupTree, where: str, resources: Json) -> Json:
    """Add the other half of cpu.max, of which v2 has one file: a half that is left out stays."""
    cpu = resources.get("cpu") or {}
    if not tree.is_v2 or ("quota" in cpu) == ("period" in cpu):
        return resources
    words = [*_first_line(tree.path(where, "cpu", "cpu.max")).split(), "max", ""]
    now = {
        "quota": int(words[0]) if words[0].isdigit() else -1,
        "period": int(words[1]) if words[1].isdigit() else None,
    }
    return {**resources, "cpu": {**now, **cpu}}


def _in_order(tree: CgroupTree, where: str, wanted: list[Setting]) -> list[Setting]:
    """Put memory and swap together before memory alone when both grow: v1 keeps the first the larger."""
    names = [setting.file for setting in wanted]
    both, alone = "memory.memsw.limit_in_bytes", "memory.limit_in_bytes"
    if both in names and alone in names:
        limit = int(wanted[names.index(alone)].value)
        now = _first_line(tree.path(where, "memory", both))
        if limit < 0 or (now.isdigit() and limit > int(now)):
            swap = wanted.pop(names.index(both))
            wanted.insert(names.index(alone), swap)
    return wanted


def _write(tree: CgroupTree, where: str, setting: Setting) -> None:
    places = [where]
    inner = where + INNER
    if setting.file in _seen_inside(tree) and os.path.isdir(tree.path(inner, setting.controller)):
        # With v1 an inner group may not have more than the outer: to grow and to shrink want other orders.
        places = [where, inner] if tree.is_v2 else [where, inner, where]
    failure: OSError | None = None
    for place in places:
        try:
            tree.write(place, setting.controller, setting.file, setting.value)
            failure = None
        except OSError as exc:
            failure = exc
    if failure is None:
        return
    if failure.errno == errno.ENOENT:
        raise Unsupported(
            f"this host has no '{setting.file}' for the container's cgroup {where}",
            hint="Leave the limit out, or enable the controller",
        ) from failure
    raise InvalidSpec(
        f"linux.resources ({setting.file})",
        f"the kernel refuses '{setting.value}': {failure.strerror}",
    ) from failure


def inner_writes(tree: CgroupTree, vmid: int, resources: Json) -> list[tuple[str, str]]:
    """Return paths and texts of limits that the container is to see: its cgroups begin below those limited.

    Programs ask for their limits once, when they start: it must be written before.
    """
    where = group(vmid) + INNER
    seen = _seen_inside(tree)
    return [
        (tree.path(where, setting.controller, setting.file), setting.value)
        for setting in settings(resources, uses_v2=tree.is_v2)
        if setting.file in seen
    ]


def _seen_inside(tree: CgroupTree) -> frozenset[str]:
    return _SEEN_V2 if tree.is_v2 else _SEEN_V1


def _first_line(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="ascii") as stream:
        return stream.readline().strip()
    return ""


# ---- as options of Proxmox VE ----------------------------------------------------------------------------


def pve_limits(resources: Json, *, uses_v2: bool = True) -> dict[str, float | int | None]:
    """Return what of these limits Proxmox VE can keep: some of cores, cpulimit, cpuunits, memory, swap.

    Memory and swap are MiB, rounded up.  None: the option is to be deleted, since there is no limit.
    Of memory, which Proxmox VE always limits, a lifted limit becomes what the host has.  What is not asked
    for is left out.
    """
    cpu, memory = resources.get("cpu") or {}, resources.get("memory") or {}
    found: dict[str, float | int | None] = {}
    if cpu.get("shares"):
        found["cpuunits"] = weight_of(cpu["shares"]) if uses_v2 else int(cpu["shares"])
    if (quota := cpu.get("quota")) is not None:
        if quota > 0:
            cpus = quota / (cpu.get("period") or _DEFAULT_PERIOD_US)
            # As shown.  Proxmox VE makes it a quota of 100 ms, and the kernel takes no less than 1 ms.
            found["cpulimit"] = min(max(math.ceil(cpus * 1000) / 1000, 0.01), _PVE_CPUS_MAX)
            found["cores"] = min(max(math.ceil(cpus), 1), _PVE_CPUS_MAX)
        else:
            found.update(cpulimit=None, cores=None)
    if cpu.get("cpus"):
        # Proxmox VE would choose other processors for a number of cores.
        found["cores"] = None
    if (limit := memory.get("limit")) is not None:
        found["memory"] = _mib(limit) if limit >= 0 else host_memory_mib()
    if (swap := memory.get("swap")) is not None:
        alone = _swap_alone(limit, swap)
        found["swap"] = math.ceil(alone / MIB) if alone >= 0 else host_memory_mib()
    return found


def host_memory_mib() -> int:
    """Return how much memory the host has: as a limit it never binds."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB


def _mib(value: int) -> int:
    return max(PVE_MEMORY_MIN_MIB, math.ceil(value / MIB))
