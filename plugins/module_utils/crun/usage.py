# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a cgroup uses, as plain data; `usage_reader` reads it."""

from __future__ import annotations

import types
import typing as t


class Pressure(t.NamedTuple):
    """One line of a pressure file: shares of time in per cent, and the stalled microseconds in all."""

    total_us: int
    avg10: float
    avg60: float
    avg300: float


class PressureStall(t.NamedTuple):
    """How long processes waited for a resource: some of them, and all of them at once."""

    some: Pressure | None
    full: Pressure | None


_NO_PRESSURE: t.Mapping[str, PressureStall] = types.MappingProxyType({})


#: Of two cgroups, what can be added up.
_COUNTED: t.Final = (
    *("cpu_ns", "memory_bytes", "working_set_bytes", "rss_bytes", "page_faults", "major_page_faults"),
    *("swap_bytes", "pids"),
)


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other + (one or 0)


class CgroupUsage(t.NamedTuple):
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
    #: Processes and threads.
    pids: int | None = None
    #: By resource: cpu, memory, io.  Not every kernel counts it.
    pressure: t.Mapping[str, PressureStall] = _NO_PRESSURE

    def plus(self, other: CgroupUsage) -> CgroupUsage:
        """Return what both use; no limit holds for the two, and the pressure is that of the first."""
        sums: dict[str, t.Any] = {name: _sum(getattr(self, name), getattr(other, name)) for name in _COUNTED}
        return self._replace(**sums, memory_limit_bytes=None, swap_limit_bytes=None)


class DeviceUsage(t.NamedTuple):
    """What went from or to one block device: bytes and requests."""

    major: int
    minor: int
    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0


class HugePages(t.NamedTuple):
    """Huge pages of one size (2MB, 1GB, as the kernel names its files), in bytes."""

    size: str
    used_bytes: int
    #: The most at any time; None where the kernel does not keep it.
    max_bytes: int | None


class CgroupDetails(t.NamedTuple):
    """What only those who watch a group over time ask for; None where the host does not count it."""

    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    #: Periods with a CPU quota in force, those in which it was used up, and the time lost.
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_ns: int | None = None
    cache_bytes: int | None = None
    mapped_file_bytes: int | None = None
    kernel_bytes: int | None = None
    max_usage_bytes: int | None = None
    #: How often the group ran into its memory limit.
    limit_hits: int | None = None
    active_file_bytes: int | None = None
    inactive_file_bytes: int | None = None
    active_anon_bytes: int | None = None
    inactive_anon_bytes: int | None = None
    #: Faults of the group without the groups below it; None where only the sum is counted.
    own_page_faults: int | None = None
    own_major_page_faults: int | None = None
    oom_kills: int | None = None
    #: 0: no limit.
    pids_limit: int | None = None
    #: Ids of the processes, as the reader sees them.
    processes: tuple[int, ...] = ()
    devices: tuple[DeviceUsage, ...] = ()
    huge_pages: tuple[HugePages, ...] = ()


class Group(t.Protocol):
    """One cgroup as it is being read."""

    def usage(self) -> CgroupUsage:
        """Return what the group uses."""

    def details(self) -> CgroupDetails:
        """Return what else the kernel counts."""
