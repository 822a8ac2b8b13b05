# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what a cgroup or an interface uses into the messages of the CRI; pure.

What the host does not count is not set.  Nought is: a wrapper that is not there says that
nobody knows.  The sums of pressure are the kernel's microseconds, as kubelet's own figures are.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import CgroupUsage, PressureStall
from ansible_collections.pvecri.runtime.plugins.module_utils.network.counters import Interface
from pvecri.api import cri_pb2
from pvecri.disk.layers import Figure

#: What CNI calls the interface that it gives to a pod.
DEFAULT_INTERFACE: t.Final = "eth0"


def fill(
    message: cri_pb2.ContainerStats | cri_pb2.LinuxPodSandboxStats,
    usage: CgroupUsage,
    time_ns: int,
    nano_cores: int | None,
) -> None:
    """Write what containers and pods have in common: CPU, memory and pressure."""
    cpu, memory = message.cpu, message.memory
    cpu.timestamp = memory.timestamp = time_ns
    _set(cpu.usage_core_nano_seconds, usage.cpu_ns)
    _set(cpu.usage_nano_cores, nano_cores)
    _set(memory.usage_bytes, usage.memory_bytes)
    _set(memory.working_set_bytes, usage.working_set_bytes)
    _set(memory.rss_bytes, usage.rss_bytes)
    _set(memory.page_faults, usage.page_faults)
    _set(memory.major_page_faults, usage.major_page_faults)
    _set(memory.available_bytes, _rest(usage.memory_limit_bytes, usage.working_set_bytes))
    for name, stall in usage.pressure.items():
        place = getattr(message, name)
        place.timestamp = time_ns
        place.psi.CopyFrom(_pressure(stall))


def fill_container(
    message: cri_pb2.ContainerStats, usage: CgroupUsage, time_ns: int, nano_cores: int | None
) -> None:
    """Write the use of a container."""
    fill(message, usage, time_ns, nano_cores)
    message.swap.timestamp = time_ns
    _set(message.swap.swap_usage_bytes, usage.swap_bytes)
    _set(message.swap.swap_available_bytes, _rest(usage.swap_limit_bytes, usage.swap_bytes))


def fill_pod(
    message: cri_pb2.LinuxPodSandboxStats, usage: CgroupUsage, time_ns: int, nano_cores: int | None
) -> None:
    """Write the use of a pod."""
    fill(message, usage, time_ns, nano_cores)
    if usage.pids is not None:
        message.process.timestamp = time_ns
        _set(message.process.process_count, usage.pids)


def fill_layer(message: cri_pb2.FilesystemUsage, figure: Figure, mountpoint: str) -> None:
    """Write what a container has written to its root file system."""
    message.timestamp = figure.time_ns
    message.fs_id.mountpoint = mountpoint
    _set(message.used_bytes, figure.usage.size_bytes)
    _set(message.inodes_used, figure.usage.inodes)


def fill_network(message: cri_pb2.NetworkUsage, interfaces: t.Iterable[Interface], time_ns: int) -> None:
    """Write what went through a pod's interfaces, the one that CNI made apart from others."""
    message.timestamp = time_ns
    for interface in interfaces:
        is_default = interface.name == DEFAULT_INTERFACE
        place = message.default_interface if is_default else message.interfaces.add()
        place.name = interface.name
        _set(place.rx_bytes, interface.received.bytes)
        _set(place.rx_errors, interface.received.errors)
        _set(place.tx_bytes, interface.sent.bytes)
        _set(place.tx_errors, interface.sent.errors)


def _set(field: cri_pb2.UInt64Value, value: int | None) -> None:
    if value:
        field.value = value
    elif value is not None:
        field.SetInParent()


def _rest(limit: int | None, used: int | None) -> int | None:
    return None if limit is None or used is None else max(0, limit - used)


@functools.lru_cache(1024)
def _pressure(stall: PressureStall) -> cri_pb2.PsiStats:
    """Return the message of a pressure; that of a group which waits for nothing stays the same."""
    message = cri_pb2.PsiStats()
    for place, line in ((message.Some, stall.some), (message.Full, stall.full)):
        if line is not None:
            place.SetInParent()
            place.Total, place.Avg10, place.Avg60, place.Avg300 = line
    return message
