# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encode the metrics of a container or pod from what was read of it; pure."""

from __future__ import annotations

import functools
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import CgroupDetails, CgroupUsage
from ansible_collections.pvecri.runtime.plugins.module_utils.network.counters import Interface
from pvecri.api import cri_pb2
from pvecri.disk.layers import Figure
from pvecri.state.views import element
from pvecri.stats import metrics
from pvecri.stats.devices import device_name
from pvecri.stats.facts import label_values
from pvecri.stats.metrics import Metric
from pvecri.stats.processes import Open

_S = 1_000_000_000
_US = 1_000_000

#: What the kernel does for who sets nothing.
_CPU_PERIOD_US, _CPU_SHARES = 100_000, 1024

#: Of a number that certainly fits a metric.
_DIGITS = 18

#: Labels of metrics repeat from scrape to scrape.
_labels = functools.lru_cache(4096)(label_values)


class Reading(t.NamedTuple):
    """What was read of a container."""

    usage: CgroupUsage
    details: CgroupDetails
    resources: cri_pb2.LinuxContainerResources
    opened: Open
    open_files_limit: int | None
    started_at_ns: int
    now_ns: int
    layer: Figure | None
    #: Of the file system that holds the layer.
    file_system: os.statvfs_result | None
    device: str


class _Sink:
    """Takes values one after the other."""

    def __init__(self, field: int, base: bytes) -> None:
        self.field = field
        self.base = base
        self.parts: list[bytes] = []

    def add(self, metric: Metric, value: int | None, *labels: str, time_ns: int = 0) -> None:
        """Add a value, unless nobody knows it."""
        if value is not None:
            values = self.base + _labels(*labels) if labels else self.base
            self.parts.append(element(self.field, metric.encoded(values, value, time_ns)))


def container_metrics(identity: str, base: bytes, reading: Reading) -> bytes:
    """Return a `ContainerMetrics`; ``base`` are the values of the labels that all metrics have."""
    sink = _Sink(2, base)
    _cpu(sink, reading)
    _memory(sink, reading)
    _devices(sink, reading)
    _file_system(sink, reading)
    _processes(sink, reading)
    _limits(sink, reading.resources)
    _pressure(sink, reading.usage)
    sink.add(metrics.LAST_SEEN, reading.now_ns // _S)
    sink.add(metrics.START_TIME, reading.started_at_ns // _S)
    return element(1, identity.encode()) + b"".join(sink.parts)


def pod_metrics(
    identity: str, base: bytes, interfaces: t.Iterable[Interface], containers: t.Iterable[bytes]
) -> bytes:
    """Return a `PodSandboxMetrics` with the `ContainerMetrics` of its containers."""
    sink = _Sink(2, base)
    for interface in interfaces:
        name, received, sent = interface
        sink.add(metrics.RECEIVED_BYTES, received.bytes, name)
        sink.add(metrics.RECEIVED_PACKETS, received.packets, name)
        sink.add(metrics.RECEIVED_DROPPED, received.dropped, name)
        sink.add(metrics.RECEIVED_ERRORS, received.errors, name)
        sink.add(metrics.SENT_BYTES, sent.bytes, name)
        sink.add(metrics.SENT_PACKETS, sent.packets, name)
        sink.add(metrics.SENT_DROPPED, sent.dropped, name)
        sink.add(metrics.SENT_ERRORS, sent.errors, name)
    parts = [element(1, identity.encode()), *sink.parts]
    return b"".join([*parts, *(element(3, container) for container in containers)])


def _cpu(sink: _Sink, reading: Reading) -> None:
    usage, details = reading.usage, reading.details
    sink.add(metrics.CPU_USAGE, _seconds(usage.cpu_ns), "total")
    sink.add(metrics.CPU_USER, _seconds(details.cpu_user_ns))
    sink.add(metrics.CPU_SYSTEM, _seconds(details.cpu_system_ns))
    sink.add(metrics.CPU_PERIODS, details.periods)
    sink.add(metrics.CPU_THROTTLED_PERIODS, details.throttled_periods)
    sink.add(metrics.CPU_THROTTLED, _seconds(details.throttled_ns))


def _memory(sink: _Sink, reading: Reading) -> None:
    usage, details = reading.usage, reading.details
    sink.add(metrics.MEMORY_CACHE, details.cache_bytes)
    sink.add(metrics.MEMORY_RSS, usage.rss_bytes)
    sink.add(metrics.MEMORY_KERNEL, details.kernel_bytes)
    sink.add(metrics.MEMORY_MAPPED, details.mapped_file_bytes)
    sink.add(metrics.MEMORY_SWAP, usage.swap_bytes)
    sink.add(metrics.MEMORY_FAILCNT, details.limit_hits)
    sink.add(metrics.MEMORY_USAGE, usage.memory_bytes)
    sink.add(metrics.MEMORY_MAX, details.max_usage_bytes)
    sink.add(metrics.MEMORY_WORKING_SET, usage.working_set_bytes)
    sink.add(metrics.MEMORY_ACTIVE_FILE, details.active_file_bytes)
    sink.add(metrics.MEMORY_INACTIVE_FILE, details.inactive_file_bytes)
    sink.add(metrics.MEMORY_ACTIVE_ANON, details.active_anon_bytes)
    sink.add(metrics.MEMORY_INACTIVE_ANON, details.inactive_anon_bytes)
    for kind, own, all_ in (
        ("pgfault", details.own_page_faults, usage.page_faults),
        ("pgmajfault", details.own_major_page_faults, usage.major_page_faults),
    ):
        # A container seldom has groups below its own: where only the sum is counted, it is the container's.
        sink.add(metrics.MEMORY_FAILURES, all_ if own is None else own, kind, "container")
        sink.add(metrics.MEMORY_FAILURES, all_, kind, "hierarchy")
    sink.add(metrics.OOM_EVENTS, details.oom_kills)
    for size, used, most in details.huge_pages:
        sink.add(metrics.HUGE_PAGES, used, size)
        sink.add(metrics.HUGE_PAGES_MAX, most, size)


def _devices(sink: _Sink, reading: Reading) -> None:
    for device in reading.details.devices:
        numbers = str(device.major), str(device.minor)
        # Two devices never have the same labels, or whoever scrapes takes none of them.
        name = device_name(device.major, device.minor) or ":".join(numbers)
        sink.add(metrics.FS_READ_BYTES, device.read_bytes, name)
        sink.add(metrics.FS_READS, device.reads, name)
        sink.add(metrics.FS_WRITE_BYTES, device.write_bytes, name)
        sink.add(metrics.FS_WRITES, device.writes, name)
        sink.add(metrics.BLKIO, device.read_bytes, name, *numbers, "Read")
        sink.add(metrics.BLKIO, device.write_bytes, name, *numbers, "Write")


def _file_system(sink: _Sink, reading: Reading) -> None:
    found, device = reading.file_system, reading.device
    if found is not None:
        sink.add(metrics.FS_INODES_FREE, found.f_ffree, device)
        sink.add(metrics.FS_INODES, found.f_files, device)
        sink.add(metrics.FS_LIMIT, found.f_blocks * found.f_frsize, device)
    if reading.layer is not None:
        usage, time_ns = reading.layer
        sink.add(metrics.FS_USAGE, usage.size_bytes, device, time_ns=time_ns)


def _processes(sink: _Sink, reading: Reading) -> None:
    details = reading.details
    sink.add(metrics.PROCESSES, len(details.processes))
    sink.add(metrics.THREADS, reading.usage.pids)
    sink.add(metrics.THREADS_MAX, details.pids_limit)
    sink.add(metrics.FILE_DESCRIPTORS, reading.opened.files)
    sink.add(metrics.SOCKETS, reading.opened.sockets)
    sink.add(metrics.ULIMITS, reading.open_files_limit, "max_open_files")


def _limits(sink: _Sink, resources: cri_pb2.LinuxContainerResources) -> None:
    sink.add(metrics.SPEC_CPU_PERIOD, resources.cpu_period or _CPU_PERIOD_US)
    sink.add(metrics.SPEC_CPU_SHARES, resources.cpu_shares or _CPU_SHARES)
    if resources.cpu_quota > 0:
        sink.add(metrics.SPEC_CPU_QUOTA, resources.cpu_quota)
    reserved = resources.unified.get("memory.min", "")
    sink.add(metrics.SPEC_MEMORY, max(0, resources.memory_limit_in_bytes))
    sink.add(metrics.SPEC_MEMORY_SWAP, max(0, resources.memory_swap_limit_in_bytes))
    # A client's word, which only the kernel of a host with cgroup v2 has looked at.
    is_number = reserved.isdecimal() and len(reserved) <= _DIGITS
    sink.add(metrics.SPEC_MEMORY_RESERVATION, int(reserved) if is_number else 0)


def _pressure(sink: _Sink, usage: CgroupUsage) -> None:
    for name, waiting, stalled in (
        ("cpu", metrics.CPU_WAITING, metrics.CPU_STALLED),
        ("memory", metrics.MEMORY_WAITING, metrics.MEMORY_STALLED),
        ("io", metrics.IO_WAITING, metrics.IO_STALLED),
    ):
        stall = usage.pressure.get(name)
        if stall is not None:
            sink.add(waiting, stall.some.total_us // _US if stall.some else None)
            sink.add(stalled, stall.full.total_us // _US if stall.full else None)


def _seconds(value_ns: int | None) -> int | None:
    return None if value_ns is None else value_ns // _S
