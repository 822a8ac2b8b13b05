# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a group of cgroup v2 uses.

Source: the kernel's "Control Group v2" (cpu.stat, memory.stat, io.stat, *.pressure).
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
)

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class GroupV2:
    """One group; see `usage.Group`."""

    __slots__ = ("_cpu", "_directory", "_memory", "_sizes")

    def __init__(self, directory: str, sizes: t.Sequence[str]) -> None:
        """Set up; ``sizes`` are those of the host's huge pages."""
        self._directory = directory
        self._sizes = sizes
        self._cpu: dict[bytes, bytes] | None = None
        self._memory: dict[bytes, bytes] | None = None

    def usage(self) -> CgroupUsage:
        """Return what the group uses."""
        try:
            # The way to the group is looked up once for all its files.
            handle = os.open(self._directory, _DIRECTORY)
        except OSError:
            return CgroupUsage()
        try:
            return self._usage(handle)
        finally:
            os.close(handle)

    def _usage(self, handle: int) -> CgroupUsage:
        content, number, value = files.content, files.number, files.value
        cpu = self._cpu = files.keyed(content("cpu.stat", handle))
        memory = self._memory = files.keyed(content("memory.stat", handle))
        used_us = value(cpu, b"usage_usec")
        used = number(content("memory.current", handle))
        return CgroupUsage(
            cpu_ns=None if used_us is None else used_us * 1000,
            memory_bytes=used,
            working_set_bytes=files.working_set(used, value(memory, b"inactive_file")),
            rss_bytes=value(memory, b"anon"),
            page_faults=value(memory, b"pgfault"),
            major_page_faults=value(memory, b"pgmajfault"),
            memory_limit_bytes=number(content("memory.max", handle)),
            swap_bytes=number(content("memory.swap.current", handle)),
            swap_limit_bytes=number(content("memory.swap.max", handle)),
            pids=number(content("pids.current", handle)),
            pressure=files.pressures(lambda name: content(name, handle)),
        )

    def details(self) -> CgroupDetails:
        """Return what else the kernel counts."""
        value = files.value
        cpu = self._keyed("cpu.stat") if self._cpu is None else self._cpu
        memory = self._keyed("memory.stat") if self._memory is None else self._memory
        events = self._keyed("memory.events")
        limit = self._content("pids.max")
        kernel = value(memory, b"kernel")
        return CgroupDetails(
            cpu_user_ns=_times(value(cpu, b"user_usec"), 1000),
            cpu_system_ns=_times(value(cpu, b"system_usec"), 1000),
            periods=value(cpu, b"nr_periods"),
            throttled_periods=value(cpu, b"nr_throttled"),
            throttled_ns=_times(value(cpu, b"throttled_usec"), 1000),
            cache_bytes=value(memory, b"file"),
            mapped_file_bytes=value(memory, b"file_mapped"),
            # Kernels before 5.18 do not sum it up.
            kernel_bytes=value(memory, b"kernel_stack") if kernel is None else kernel,
            max_usage_bytes=files.number(self._content("memory.peak")),
            limit_hits=value(events, b"max"),
            active_file_bytes=value(memory, b"active_file"),
            inactive_file_bytes=value(memory, b"inactive_file"),
            active_anon_bytes=value(memory, b"active_anon"),
            inactive_anon_bytes=value(memory, b"inactive_anon"),
            oom_kills=value(events, b"oom_kill"),
            pids_limit=0 if limit.strip() == b"max" else files.number(limit),
            processes=files.processes(self._content("cgroup.procs")),
            devices=devices(self._content("io.stat")),
            huge_pages=self._huge_pages(),
        )

    def _huge_pages(self) -> tuple[HugePages, ...]:
        found = []
        for size in self._sizes:
            used = files.number(self._content(f"hugetlb.{size}.current"))
            if used is not None:
                found.append(HugePages(size, used, None))
        return tuple(found)

    def _content(self, name: str) -> bytes:
        return files.content(f"{self._directory}/{name}")

    def _keyed(self, name: str) -> dict[bytes, bytes]:
        return files.keyed(self._content(name))


def devices(data: bytes) -> tuple[DeviceUsage, ...]:
    """Return the lines of an io.stat: ``8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6``."""
    found = []
    for line in data.splitlines():
        device, *fields = line.split()
        major, colon, minor = device.partition(b":")
        values = dict(field.partition(b"=")[::2] for field in fields)
        numbers = [files.value(values, key) for key in (b"rbytes", b"wbytes", b"rios", b"wios")]
        if colon and any(number is not None for number in numbers):
            found.append(DeviceUsage(int(major), int(minor), *(number or 0 for number in numbers)))
    return tuple(found)


def _times(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor
