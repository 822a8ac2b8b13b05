# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a cgroup uses, from cgroup v1 or v2 alike; no process is started.

Sources: the kernel's "Control Group v2" (cpu.stat, memory.stat, *.pressure) and its
"Memory Resource Controller" and "CPU Accounting Controller" for v1.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree

#: From here on a limit of cgroup v1 is none: the kernel shows the largest number of whole pages.
_NO_LIMIT = 1 << 60


@dataclasses.dataclass(frozen=True, slots=True)
class Pressure:
    """One line of a pressure file: shares of time in per cent, and the stalled microseconds in all."""

    total_us: int
    avg10: float
    avg60: float
    avg300: float


@dataclasses.dataclass(frozen=True, slots=True)
class PressureStall:
    """How long processes waited for a resource: some of them, and all of them at once."""

    some: Pressure | None
    full: Pressure | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CgroupUsage:
    """What the processes of one cgroup use; None where the host does not count it."""

    cpu_ns: int | None = None
    memory_bytes: int | None = None
    #: Memory in use less the file cache that the kernel would drop first.
    working_set_bytes: int | None = None
    rss_bytes: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    #: None: no limit.
    memory_limit_bytes: int | None = None
    swap_bytes: int | None = None
    swap_limit_bytes: int | None = None
    pids: int | None = None
    #: By resource: cpu, memory, io.  Only cgroup v2 knows it, and not every kernel.
    pressure: t.Mapping[str, PressureStall] = dataclasses.field(default_factory=dict)


def read_usage(tree: CgroupTree, group: str) -> CgroupUsage:
    """Return the use of ``group``, a path below the root of its hierarchies."""
    return _read_v2(tree, group) if tree.is_v2 else _read_v1(tree, group)


def _read_v2(tree: CgroupTree, group: str) -> CgroupUsage:
    def path(name: str) -> str:
        return tree.path(group, "", name)

    used_us = _keyed(path("cpu.stat")).get("usage_usec")
    memory = _keyed(path("memory.stat"))
    used = _number(path("memory.current"))
    stalls = {name: _pressure(path(f"{name}.pressure")) for name in ("cpu", "memory", "io")}
    return CgroupUsage(
        cpu_ns=None if used_us is None else used_us * 1000,
        memory_bytes=used,
        working_set_bytes=_working_set(used, memory.get("inactive_file")),
        rss_bytes=memory.get("anon"),
        page_faults=memory.get("pgfault"),
        major_page_faults=memory.get("pgmajfault"),
        memory_limit_bytes=_number(path("memory.max")),
        swap_bytes=_number(path("memory.swap.current")),
        swap_limit_bytes=_number(path("memory.swap.max")),
        pids=_number(path("pids.current")),
        pressure={name: stall for name, stall in stalls.items() if stall is not None},
    )


def _read_v1(tree: CgroupTree, group: str) -> CgroupUsage:
    memory = _keyed(tree.path(group, "memory", "memory.stat"))
    used = _number(tree.path(group, "memory", "memory.usage_in_bytes"))
    limit = _limit(tree.path(group, "memory", "memory.limit_in_bytes"))
    # These two count memory and swap together, on hosts that count swap.
    both = _number(tree.path(group, "memory", "memory.memsw.usage_in_bytes"))
    both_limit = _limit(tree.path(group, "memory", "memory.memsw.limit_in_bytes"))
    return CgroupUsage(
        cpu_ns=_number(tree.path(group, "cpuacct", "cpuacct.usage")),
        memory_bytes=used,
        working_set_bytes=_working_set(used, memory.get("total_inactive_file")),
        rss_bytes=memory.get("total_rss"),
        page_faults=memory.get("total_pgfault"),
        major_page_faults=memory.get("total_pgmajfault"),
        memory_limit_bytes=limit,
        swap_bytes=None if both is None or used is None else max(0, both - used),
        swap_limit_bytes=None if both_limit is None or limit is None else max(0, both_limit - limit),
        pids=_number(tree.path(group, "pids", "pids.current")),
    )


def _working_set(used: int | None, inactive_file: int | None) -> int | None:
    return None if used is None else max(0, used - (inactive_file or 0))


def _limit(path: str) -> int | None:
    limit = _number(path)
    return None if limit is None or limit >= _NO_LIMIT else limit


def _number(path: str) -> int | None:
    """Return the number in a file; None for "max" and for a file that is not there."""
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _keyed(path: str) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _pressure(path: str) -> PressureStall | None:
    lines: dict[str, Pressure] = {}
    for line in _read(path).splitlines():
        kind, *fields = line.split()
        values = dict(field.split("=", 1) for field in fields)
        try:
            averages = (float(values[name]) for name in ("avg10", "avg60", "avg300"))
            lines[kind] = Pressure(int(values["total"]), *averages)
        except (KeyError, ValueError):
            continue
    return PressureStall(lines.get("some"), lines.get("full")) if lines else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read()
    except OSError:
        # Gone with its group, or nothing that this host counts.
        return ""
