# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the metrics of pods and containers; pure.

Names, types and labels are those by which cAdvisor has made them known (Kubernetes
enhancement 2371 lets kubelet take them from the runtime instead).  A value is a whole number,
so seconds are whole ones.
"""

from __future__ import annotations

import typing as t

from pvecri.api import cri_pb2
from pvecri.state.views import element, varint

#: Labels that every metric has, before its own.  A pod's metric has neither container nor image nor name.
LABEL_KEYS: t.Final = ("container", "id", "image", "name", "namespace", "pod")

_NAME, _TIMESTAMP, _TYPE, _VALUE = 1, 2 << 3, 3 << 3, 5

ALL: t.Final[list[Metric]] = []


class Metric:
    """One metric."""

    __slots__ = ("_begin", "help", "is_pressure", "keys", "kind", "name")

    def __init__(self, name: str, text: str, *keys: str, kind: cri_pb2.MetricType) -> None:
        self.name = name
        self.help = text
        self.keys = keys
        self.kind = kind
        self.is_pressure = name.startswith("container_pressure_")
        self._begin = element(_NAME, name.encode()) + varint(_TYPE) + varint(kind)
        ALL.append(self)

    def encoded(self, label_values: bytes, value: int, time_ns: int = 0) -> bytes:
        """Return one value as a Metric; ``time_ns`` is when it was found out, if not just now."""
        stamp = varint(_TIMESTAMP) + varint(time_ns) if time_ns else b""
        return b"".join(
            (self._begin, stamp, label_values, element(_VALUE, b"\x08" + varint(value) if value else b""))
        )


def _counter(name: str, text: str, *keys: str) -> Metric:
    return Metric(name, text, *keys, kind=cri_pb2.COUNTER)


def _gauge(name: str, text: str, *keys: str) -> Metric:
    return Metric(name, text, *keys, kind=cri_pb2.GAUGE)


CPU_USAGE = _counter("container_cpu_usage_seconds_total", "CPU time used, in seconds.", "cpu")
CPU_USER = _counter("container_cpu_user_seconds_total", "CPU time used in user mode, in seconds.")
CPU_SYSTEM = _counter("container_cpu_system_seconds_total", "CPU time used in kernel mode, in seconds.")
CPU_PERIODS = _counter("container_cpu_cfs_periods_total", "Periods in which a CPU quota was in force.")
CPU_THROTTLED_PERIODS = _counter(
    "container_cpu_cfs_throttled_periods_total", "Periods in which the CPU quota was used up."
)
CPU_THROTTLED = _counter(
    "container_cpu_cfs_throttled_seconds_total", "Time spent waiting for a new CPU quota, in seconds."
)

MEMORY_CACHE = _gauge("container_memory_cache", "Memory of the page cache, in bytes.")
MEMORY_RSS = _gauge("container_memory_rss", "Anonymous memory, in bytes.")
MEMORY_KERNEL = _gauge("container_memory_kernel_usage", "Memory of the kernel for the container, in bytes.")
MEMORY_MAPPED = _gauge("container_memory_mapped_file", "Memory of mapped files, in bytes.")
MEMORY_SWAP = _gauge("container_memory_swap", "Memory that was swapped out, in bytes.")
MEMORY_FAILCNT = _counter("container_memory_failcnt", "How often the memory limit was hit.")
MEMORY_USAGE = _gauge("container_memory_usage_bytes", "Memory in use, caches included, in bytes.")
MEMORY_MAX = _gauge("container_memory_max_usage_bytes", "The most memory in use so far, in bytes.")
MEMORY_WORKING_SET = _gauge(
    "container_memory_working_set_bytes", "Memory in use without what can be dropped at once, in bytes."
)
MEMORY_ACTIVE_FILE = _gauge("container_memory_total_active_file_bytes", "Page cache in active use, in bytes.")
MEMORY_INACTIVE_FILE = _gauge(
    "container_memory_total_inactive_file_bytes", "Page cache not in active use, in bytes."
)
MEMORY_ACTIVE_ANON = _gauge("container_memory_active_anon_bytes", "Anonymous memory in active use, in bytes.")
MEMORY_INACTIVE_ANON = _gauge(
    "container_memory_inactive_anon_bytes", "Anonymous memory not in active use, in bytes."
)
MEMORY_FAILURES = _counter(
    "container_memory_failures_total",
    "Page faults, of the container's own group or with those below.",
    "failure_type",
    "scope",
)
OOM_EVENTS = _counter("container_oom_events_total", "Processes killed for want of memory.")

FS_INODES_FREE = _gauge("container_fs_inodes_free", "Free inodes of the file system.", "device")
FS_INODES = _gauge("container_fs_inodes_total", "Inodes of the file system.", "device")
FS_LIMIT = _gauge("container_fs_limit_bytes", "Size of the file system, in bytes.", "device")
FS_USAGE = _gauge("container_fs_usage_bytes", "What the container has written and kept, in bytes.", "device")

FS_READ_BYTES = _counter("container_fs_reads_bytes_total", "Bytes read from a device.", "device")
FS_READS = _counter("container_fs_reads_total", "Reads from a device.", "device")
FS_WRITE_BYTES = _counter("container_fs_writes_bytes_total", "Bytes written to a device.", "device")
FS_WRITES = _counter("container_fs_writes_total", "Writes to a device.", "device")
BLKIO = _counter(
    "container_blkio_device_usage_total",
    "Bytes read from and written to a device.",
    "device",
    "major",
    "minor",
    "operation",
)

HUGE_PAGES = _gauge("container_hugetlb_usage_bytes", "Huge pages in use, in bytes.", "pagesize")
HUGE_PAGES_MAX = _gauge(
    "container_hugetlb_max_usage_bytes", "The most huge pages in use so far, in bytes.", "pagesize"
)

RECEIVED_BYTES = _counter("container_network_receive_bytes_total", "Bytes received.", "interface")
RECEIVED_PACKETS = _counter("container_network_receive_packets_total", "Packets received.", "interface")
RECEIVED_DROPPED = _counter(
    "container_network_receive_packets_dropped_total", "Packets dropped while receiving.", "interface"
)
RECEIVED_ERRORS = _counter("container_network_receive_errors_total", "Errors while receiving.", "interface")
SENT_BYTES = _counter("container_network_transmit_bytes_total", "Bytes sent.", "interface")
SENT_PACKETS = _counter("container_network_transmit_packets_total", "Packets sent.", "interface")
SENT_DROPPED = _counter(
    "container_network_transmit_packets_dropped_total", "Packets dropped while sending.", "interface"
)
SENT_ERRORS = _counter("container_network_transmit_errors_total", "Errors while sending.", "interface")

PROCESSES = _gauge("container_processes", "Processes.")
THREADS = _gauge("container_threads", "Processes and threads.")
THREADS_MAX = _gauge("container_threads_max", "The most processes and threads allowed; 0 is any number.")
FILE_DESCRIPTORS = _gauge("container_file_descriptors", "Open files of all processes.")
SOCKETS = _gauge("container_sockets", "Open sockets of all processes.")
ULIMITS = _gauge("container_ulimits_soft", "Soft limits of the first process.", "ulimit")

LAST_SEEN = _gauge("container_last_seen", "When the container was last seen, in seconds of the epoch.")
START_TIME = _gauge(
    "container_start_time_seconds", "When the container was started, in seconds of the epoch."
)

SPEC_CPU_PERIOD = _gauge("container_spec_cpu_period", "Period of the CPU quota, in microseconds.")
SPEC_CPU_QUOTA = _gauge("container_spec_cpu_quota", "CPU time per period, in microseconds.")
SPEC_CPU_SHARES = _gauge("container_spec_cpu_shares", "Weight among those who want CPU time.")
SPEC_MEMORY = _gauge("container_spec_memory_limit_bytes", "Memory limit in bytes; 0 is none.")
SPEC_MEMORY_RESERVATION = _gauge(
    "container_spec_memory_reservation_limit_bytes", "Memory kept for the container, in bytes; 0 is none."
)
SPEC_MEMORY_SWAP = _gauge(
    "container_spec_memory_swap_limit_bytes", "Limit of memory and swap together in bytes; 0 is none."
)

_STALLED = "Time in which all processes waited for {}, in seconds."
_WAITING = "Time in which some process waited for {}, in seconds."
CPU_STALLED = _counter("container_pressure_cpu_stalled_seconds_total", _STALLED.format("a CPU"))
CPU_WAITING = _counter("container_pressure_cpu_waiting_seconds_total", _WAITING.format("a CPU"))
MEMORY_STALLED = _counter("container_pressure_memory_stalled_seconds_total", _STALLED.format("memory"))
MEMORY_WAITING = _counter("container_pressure_memory_waiting_seconds_total", _WAITING.format("memory"))
IO_STALLED = _counter("container_pressure_io_stalled_seconds_total", _STALLED.format("a device"))
IO_WAITING = _counter("container_pressure_io_waiting_seconds_total", _WAITING.format("a device"))


def descriptors(*, has_pressure: bool) -> bytes:
    """Return a `ListMetricDescriptorsResponse` of what this host can count."""
    return cri_pb2.ListMetricDescriptorsResponse(
        descriptors=[
            cri_pb2.MetricDescriptor(
                name=metric.name, help=metric.help, label_keys=(*LABEL_KEYS, *metric.keys)
            )
            for metric in ALL
            if has_pressure or not metric.is_pressure
        ]
    ).SerializeToString()
