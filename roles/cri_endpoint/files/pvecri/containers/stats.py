# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what containers use: CPU, memory, swap, waiting for them, and what they have written."""

from __future__ import annotations

import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import (
    CgroupUsage,
    Pressure,
    PressureStall,
    read_usage,
)
from pvecri.api import cri_pb2
from pvecri.containers.layers import WritableLayers
from pvecri.context import Context

#: A rate is taken over at least so long: shorter ones say nothing.
_RATE_NS = 1_000_000_000


class Rates:
    """CPU use per second, from two readings of what was used in all."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        #: By container: time and CPU time of the last reading that counts, and the rate up to it.
        self._last: dict[str, tuple[int, int, int | None]] = {}

    def cores(self, identity: str, time_ns: int, cpu_ns: int) -> int | None:
        """Return billionths of a core that are used; None at the first reading."""
        with self._guard:
            last = self._last.get(identity)
            if last is None or cpu_ns < last[1]:
                self._last[identity] = (time_ns, cpu_ns, None)
                return None
            then_ns, before_ns, rate = last
            if time_ns - then_ns >= _RATE_NS:
                rate = (cpu_ns - before_ns) * 1_000_000_000 // (time_ns - then_ns)
                self._last[identity] = (time_ns, cpu_ns, rate)
            return rate

    def keep(self, identities: t.Collection[str]) -> None:
        """Forget all others."""
        with self._guard:
            for identity in self._last.keys() - set(identities):
                del self._last[identity]


class ContainerStats:
    """Answers requests for statistics; one for the daemon."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tree = CgroupTree()
        self._rates = Rates()
        self._bundles = context.paths.bundles
        self._layers = WritableLayers(self._bundles, context.runner, context.log)

    def one(self, container_id: str) -> cri_pb2.ContainerStats:
        """Return the statistics of one container; raises NotFound."""
        identity = self._context.registry.container(container_id).id
        found = self.all(cri_pb2.ContainerStatsFilter(id=identity))
        # It was there a moment ago: one that is gone now has no figures.
        return found[0] if found else cri_pb2.ContainerStats()

    def all(self, wanted: cri_pb2.ContainerStatsFilter) -> list[cri_pb2.ContainerStats]:
        """Return the statistics of the containers that a filter lets through."""
        chosen = cri_pb2.ContainerFilter(
            id=wanted.id, pod_sandbox_id=wanted.pod_sandbox_id, label_selector=wanted.label_selector
        )
        answer = self._context.registry.list_containers_bytes(chosen)
        containers = cri_pb2.ListContainersResponse.FromString(answer).containers
        layers = self._layers.figures([container.id for container in containers])
        self._rates.keep([record.id for record in self._context.registry.containers()])
        stats = []
        for container in containers:
            # Not MergeFrom of one map into another: Debian's protobuf 3.21 aborts the process for it.
            attributes = cri_pb2.ContainerAttributes(
                id=container.id,
                metadata=container.metadata,
                labels=container.labels,
                annotations=container.annotations,
            )
            message = cri_pb2.ContainerStats(attributes=attributes)
            self._fill_usage(message, container.id)
            if container.id in layers:
                usage, time_ns = layers[container.id]
                message.writable_layer.timestamp = time_ns
                message.writable_layer.fs_id.mountpoint = self._bundles
                message.writable_layer.used_bytes.value = usage.size_bytes
                message.writable_layer.inodes_used.value = usage.inodes
            stats.append(message)
        return stats

    def _fill_usage(self, message: cri_pb2.ContainerStats, identity: str) -> None:
        state = self._context.crun.state(identity)
        if state is None or not state.is_alive or not state.cgroup:
            return
        usage = read_usage(self._tree, state.cgroup)
        now = time.time_ns()
        fill(message, usage, now)
        if usage.cpu_ns is not None:
            rate = self._rates.cores(identity, now, usage.cpu_ns)
            if rate is not None:
                message.cpu.usage_nano_cores.value = rate


def fill(message: cri_pb2.ContainerStats, usage: CgroupUsage, time_ns: int) -> None:
    """Write the use of a cgroup into a message; what the host does not count is not set."""
    message.cpu.timestamp = message.memory.timestamp = message.swap.timestamp = time_ns
    available = None
    if usage.memory_limit_bytes is not None and usage.working_set_bytes is not None:
        available = max(0, usage.memory_limit_bytes - usage.working_set_bytes)
    swap_available = None
    if usage.swap_limit_bytes is not None and usage.swap_bytes is not None:
        swap_available = max(0, usage.swap_limit_bytes - usage.swap_bytes)
    for field, value in (
        (message.cpu.usage_core_nano_seconds, usage.cpu_ns),
        (message.memory.usage_bytes, usage.memory_bytes),
        (message.memory.working_set_bytes, usage.working_set_bytes),
        (message.memory.rss_bytes, usage.rss_bytes),
        (message.memory.page_faults, usage.page_faults),
        (message.memory.major_page_faults, usage.major_page_faults),
        (message.memory.available_bytes, available),
        (message.swap.swap_usage_bytes, usage.swap_bytes),
        (message.swap.swap_available_bytes, swap_available),
    ):
        if value is not None:
            # Set even when nought: an unset wrapper says that nobody knows.
            field.SetInParent()
            field.value = value
    for name, stall in usage.pressure.items():
        place = getattr(message, name)
        place.timestamp = time_ns
        _fill_pressure(place.psi, stall)


def _fill_pressure(message: cri_pb2.PsiStats, stall: PressureStall) -> None:
    for place, line in ((message.Some, stall.some), (message.Full, stall.full)):
        if line is not None:
            _fill_line(place, line)


def _fill_line(message: cri_pb2.PsiData, line: Pressure) -> None:
    message.Total = line.total_us
    message.Avg10, message.Avg60, message.Avg300 = line.avg10, line.avg60, line.avg300
