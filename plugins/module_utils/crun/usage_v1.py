# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a group of cgroup v1 uses.

Sources: the kernel's "Memory Resource Controller", "CPU Accounting Controller", "Block IO
Controller", "HugeTLB Controller" and "Process Number Controller"; "PSI" for the pressure.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import usage_files as files
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import (
    CgroupDetails,
    CgroupUsage,
    DeviceUsage,
    HugePages,
    PressureStall,
)

#: From here on a limit is none: the kernel shows the largest number of whole pages.
_NO_LIMIT = 1 << 60

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class GroupV1:
    """One group; see `usage.Group`."""

    __slots__ = ("_group", "_memory", "_pressure", "_root", "_sizes")

    def __init__(self, root: str, group: str, sizes: t.Sequence[str], pressure: str) -> None:
        """Set up; ``pressure`` is the hierarchy of v2 beside those of v1, or empty."""
        self._root = root
        self._group = group
        self._sizes = sizes
        self._pressure = pressure
        self._memory: dict[bytes, bytes] | None = None

    def usage(self) -> CgroupUsage:
        """Return what the group uses."""
        value = files.value
        memory = self._memory = self._keyed("memory", "memory.stat")
        used = self._number("memory", "memory.usage_in_bytes")
        limit, swap_limit = self._limits(memory)
        return CgroupUsage(
            cpu_ns=self._number("cpuacct", "cpuacct.usage"),
            memory_bytes=used,
            working_set_bytes=files.working_set(used, value(memory, b"total_inactive_file")),
            rss_bytes=value(memory, b"total_rss"),
            page_faults=value(memory, b"total_pgfault"),
            major_page_faults=value(memory, b"total_pgmajfault"),
            memory_limit_bytes=limit,
            # Only hosts that count swap have it.
            swap_bytes=value(memory, b"total_swap"),
            swap_limit_bytes=swap_limit,
            pids=self._number("pids", "pids.current"),
            pressure=self._pressures(),
        )

    def _pressures(self) -> t.Mapping[str, PressureStall]:
        if not self._pressure:
            return {}
        directory = f"{self._pressure}{self._group}"
        return files.pressures(lambda name: files.content(f"{directory}/{name}"))

    def _limits(self, memory: t.Mapping[bytes, bytes]) -> tuple[int | None, int | None]:
        """Return the limits of memory and swap; the files are read only if some group above has one, too."""
        if (files.value(memory, b"hierarchical_memory_limit") or 0) >= _NO_LIMIT:
            return None, None
        limit = _limit(self._number("memory", "memory.limit_in_bytes"))
        # This one counts memory and swap together.
        both = _limit(self._number("memory", "memory.memsw.limit_in_bytes"))
        return limit, None if limit is None or both is None else max(0, both - limit)

    def details(self) -> CgroupDetails:
        """Return what else the kernel counts."""
        value = files.value
        memory = self._keyed("memory", "memory.stat") if self._memory is None else self._memory
        cpu = self._keyed("cpu", "cpu.stat")
        ticks = self._keyed("cpuacct", "cpuacct.stat")
        user, system = value(ticks, b"user"), value(ticks, b"system")
        limit = self._content("pids", "pids.max")
        return CgroupDetails(
            cpu_user_ns=None if user is None else user * _TICK_NS,
            cpu_system_ns=None if system is None else system * _TICK_NS,
            periods=value(cpu, b"nr_periods"),
            throttled_periods=value(cpu, b"nr_throttled"),
            throttled_ns=value(cpu, b"throttled_time"),
            cache_bytes=value(memory, b"total_cache"),
            mapped_file_bytes=value(memory, b"total_mapped_file"),
            kernel_bytes=self._number("memory", "memory.kmem.usage_in_bytes"),
            max_usage_bytes=self._number("memory", "memory.max_usage_in_bytes"),
            limit_hits=self._number("memory", "memory.failcnt"),
            active_file_bytes=value(memory, b"total_active_file"),
            inactive_file_bytes=value(memory, b"total_inactive_file"),
            active_anon_bytes=value(memory, b"total_active_anon"),
            inactive_anon_bytes=value(memory, b"total_inactive_anon"),
            own_page_faults=value(memory, b"pgfault"),
            own_major_page_faults=value(memory, b"pgmajfault"),
            oom_kills=value(self._keyed("memory", "memory.oom_control"), b"oom_kill"),
            pids_limit=0 if limit.strip() == b"max" else files.number(limit),
            processes=files.processes(self._content("memory", "cgroup.procs")),
            devices=devices(
                self._content("blkio", "blkio.throttle.io_service_bytes_recursive"),
                self._content("blkio", "blkio.throttle.io_serviced_recursive"),
            ),
            huge_pages=self._huge_pages(),
        )

    def _huge_pages(self) -> tuple[HugePages, ...]:
        found = []
        for size in self._sizes:
            used = self._number("hugetlb", f"hugetlb.{size}.usage_in_bytes")
            if used is not None:
                most = self._number("hugetlb", f"hugetlb.{size}.max_usage_in_bytes")
                found.append(HugePages(size, used, most))
        return tuple(found)

    def _content(self, controller: str, name: str) -> bytes:
        return files.content(f"{self._root}/{controller}{self._group}/{name}")

    def _number(self, controller: str, name: str) -> int | None:
        return files.number(self._content(controller, name))

    def _keyed(self, controller: str, name: str) -> dict[bytes, bytes]:
        return files.keyed(self._content(controller, name))


def devices(bytes_: bytes, requests: bytes) -> tuple[DeviceUsage, ...]:
    """Return the block devices of two files with lines ``8:0 Read 4096``: bytes, and requests."""
    sizes, counts = _by_device(bytes_), _by_device(requests)
    found = []
    for device in sizes.keys() | counts.keys():
        size, count = sizes.get(device, {}), counts.get(device, {})
        major, _colon, minor = device.partition(b":")
        found.append(
            DeviceUsage(
                int(major),
                int(minor),
                size.get(b"Read", 0),
                size.get(b"Write", 0),
                count.get(b"Read", 0),
                count.get(b"Write", 0),
            )
        )
    return tuple(sorted(found))


def _by_device(data: bytes) -> dict[bytes, dict[bytes, int]]:
    found: dict[bytes, dict[bytes, int]] = {}
    for line in data.splitlines():
        # The last line is the sum over all devices.
        with_device = line.split()
        if len(with_device) == len((b"device", b"kind", b"value")):
            device, kind, amount = with_device
            found.setdefault(device, {})[kind] = int(amount)
    return found


def _limit(limit: int | None) -> int | None:
    return None if limit is None or limit >= _NO_LIMIT else limit
