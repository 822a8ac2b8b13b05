# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve what the CRI asks about the use of resources; synchronous, for threads.

Nothing is read before somebody asks, and no process is started.  The lists come as elements,
one by one: an element is field 1 of the answer that it belongs to, so that joined they are the
answer, and any number of them is a part of a streamed one.
"""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import CgroupUsage
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage_reader import UsageReader
from ansible_collections.pvecri.runtime.plugins.module_utils.network import counters
from ansible_collections.pvecri.runtime.plugins.module_utils.network.counters import Interface
from pvecri.api import cri_pb2
from pvecri.containers.selection import is_guest
from pvecri.context import Context
from pvecri.disk import guests
from pvecri.disk.layers import Figure, WritableLayers
from pvecri.state.filters import is_empty, matcher
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord
from pvecri.state.views import element
from pvecri.stats import collect, messages, metrics
from pvecri.stats.devices import device_of
from pvecri.stats.facts import ALIVE, ContainerFacts, Facts, PodFacts
from pvecri.stats.processes import count_open, open_files_limit
from pvecri.stats.rates import Rates

#: How long the question for one container waits until what it has written was counted once.
_FIRST_COUNT_S = 2.0

#: Field of the linux part in PodSandboxStats, and of a container in that.
_LINUX, _CONTAINERS = 2, 5


class StatsService:
    """Answers requests for statistics and metrics; one for the daemon."""

    def __init__(self, context: Context, layers: WritableLayers, reader: UsageReader | None = None) -> None:
        self._registry = context.registry
        self._layers = layers
        self._reader = reader or UsageReader()
        self._rates = Rates()
        self._facts = Facts(context, self._rates.forget)
        self._descriptors = metrics.descriptors(has_pressure=self._reader.has_pressure)

    # ---- containers ---------------------------------------------------------------------------------------

    def container_bytes(self, container_id: str) -> bytes:
        """Return a `ContainerStatsResponse`; raises NotFound."""
        record = self._registry.container(container_id)
        layers = self._layers.figures([record.id], wait_s=_FIRST_COUNT_S)
        return element(1, self._container(record, layers))

    def container_items(self, wanted: cri_pb2.ContainerStatsFilter) -> t.Iterator[bytes]:
        """Yield the elements of a `ListContainerStatsResponse`, or of its streamed fellow."""
        records = self._containers(wanted)
        layers = self._layers.figures([record.id for record in records])
        for record in records:
            yield element(1, self._container(record, layers))

    def _containers(self, wanted: cri_pb2.ContainerStatsFilter) -> list[ContainerRecord]:
        shown = [record for record in self._registry.containers() if record.phase is not Phase.CREATING]
        chosen = cri_pb2.ContainerFilter(
            id=wanted.id, pod_sandbox_id=wanted.pod_sandbox_id, label_selector=wanted.label_selector
        )
        if is_empty(chosen):
            return shown
        matches = matcher(chosen)
        return [record for record in shown if matches(self._facts.container(record))]

    def _container(self, record: ContainerRecord, layers: t.Mapping[str, Figure]) -> bytes:
        """Return the statistics of a container; one that has ended has what it is and what it has written."""
        facts = self._facts.container(record)
        message = cri_pb2.ContainerStats()
        usage = self._usage(record, facts)
        if usage is not None:
            now = time.time_ns()
            messages.fill_container(message, usage, now, self._rate(record.id, usage, now))
        disk = _root_disk(record, facts)
        layer = layers.get(record.id) if disk is None else disk.figure
        if layer is not None:
            messages.fill_layer(message.writable_layer, layer, self._layers.directory)
        return facts.attributes + message.SerializeToString()

    def _usage(self, record: ContainerRecord, facts: ContainerFacts) -> CgroupUsage | None:
        """Return what a container uses; None for one that has ended, if only just now."""
        if record.phase not in ALIVE or not facts.cgroup:
            return None
        usage = self._reader.group(facts.cgroup).usage()
        return None if _is_gone(usage) else usage

    def _rate(self, identity: str, usage: CgroupUsage, now_ns: int) -> int | None:
        return None if usage.cpu_ns is None else self._rates.cores(identity, now_ns, usage.cpu_ns)

    # ---- pods ---------------------------------------------------------------------------------------------

    def pod_bytes(self, sandbox_id: str) -> bytes:
        """Return a `PodSandboxStatsResponse`; raises NotFound."""
        record = self._registry.sandbox(sandbox_id)
        members = self._registry.containers_of(record.id)
        layers = self._layers.figures([member.id for member in members], wait_s=_FIRST_COUNT_S)
        return element(1, self._pod(record, _networks([record]), layers))

    def pod_items(self, wanted: cri_pb2.PodSandboxStatsFilter) -> t.Iterator[bytes]:
        """Yield the elements of a `ListPodSandboxStatsResponse`, or of its streamed fellow.

        Pods that are not ready use nothing, and are left out.
        """
        records = self._pods(wanted)
        networks = _networks(records)
        layers = self._layers.figures([record.id for record in self._registry.containers()])
        for record in records:
            yield element(1, self._pod(record, networks, layers))

    def _pods(self, wanted: cri_pb2.PodSandboxStatsFilter | None = None) -> list[SandboxRecord]:
        ready = [record for record in self._registry.sandboxes() if record.phase is Phase.READY]
        if wanted is None or not wanted.ByteSize():
            return ready
        matches = matcher(cri_pb2.PodSandboxFilter(id=wanted.id, label_selector=wanted.label_selector))
        return [record for record in ready if matches(self._facts.pod(record))]

    def _pod(
        self,
        record: SandboxRecord,
        networks: t.Mapping[str, tuple[Interface, ...]],
        layers: t.Mapping[str, Figure],
    ) -> bytes:
        facts = self._facts.pod(record)
        message = cri_pb2.LinuxPodSandboxStats()
        usage = self._reader.group(facts.cgroup).usage() if facts.cgroup else CgroupUsage()
        for member in self._registry.containers_of(record.id):
            # The cgroup of a guest is not below the pod's.
            own = self._usage(member, self._facts.container(member)) if is_guest(member) else None
            usage = usage if own is None else usage.plus(own)
        now = time.time_ns()
        if record.phase is Phase.READY and not _is_gone(usage):
            messages.fill_pod(message, usage, now, self._rate(record.id, usage, now))
        interfaces = networks.get(record.netns)
        if interfaces is not None:
            messages.fill_network(message.network, interfaces, now)
        containers = [
            element(_CONTAINERS, self._container(member, layers))
            for member in self._registry.containers_of(record.id)
            if member.phase in ALIVE
        ]
        linux = b"".join([message.SerializeToString(), *containers])
        return facts.attributes + element(_LINUX, linux)

    # ---- metrics ------------------------------------------------------------------------------------------

    def descriptors_bytes(self) -> bytes:
        """Return a `ListMetricDescriptorsResponse`."""
        return self._descriptors

    def metric_items(self) -> t.Iterator[bytes]:
        """Yield the elements of a `ListPodSandboxMetricsResponse`, or of its streamed fellow."""
        records = self._pods()
        networks = _networks(records)
        layers = self._layers.figures([record.id for record in self._registry.containers()])
        place = self._place()
        for record in records:
            facts = self._facts.pod(record)
            containers = (
                self._metrics_of(member, layers.get(member.id), *place)
                for member in self._registry.containers_of(record.id)
            )
            yield element(1, self._pod_metrics(facts, networks.get(record.netns, ()), containers))

    @staticmethod
    def _pod_metrics(
        facts: PodFacts, interfaces: t.Iterable[Interface], containers: t.Iterable[bytes | None]
    ) -> bytes:
        known = [container for container in containers if container is not None]
        return collect.pod_metrics(facts.id, facts.label_values, interfaces, known)

    def _place(self) -> tuple[os.statvfs_result | None, str]:
        """Return file system and device of what containers write."""
        try:
            return os.statvfs(self._layers.directory), device_of(self._layers.directory)
        except OSError:
            return None, ""

    def _metrics_of(
        self,
        record: ContainerRecord,
        layer: Figure | None,
        file_system: os.statvfs_result | None,
        device: str,
    ) -> bytes | None:
        """Return the metrics of a container; None for one that has no process."""
        facts = self._facts.container(record)
        if record.phase not in ALIVE or not facts.cgroup:
            return None
        group = self._reader.group(facts.cgroup)
        usage = group.usage()
        if _is_gone(usage):
            return None
        details = group.details()
        if facts.is_guest:
            # Its processes are in groups below, as its own init has put them.
            details = details._replace(processes=self._reader.everyone(facts.cgroup))
            disk = _root_disk(record, facts)
            layer, file_system, device = (layer, None, "") if disk is None else disk
        reading = collect.Reading(
            usage=usage,
            details=details,
            resources=facts.resources_of(record),
            opened=count_open(details.processes),
            open_files_limit=open_files_limit(facts.pid),
            started_at_ns=record.started_at_ns,
            now_ns=time.time_ns(),
            layer=layer,
            file_system=file_system,
            device=device,
        )
        return collect.container_metrics(record.id, facts.label_values, reading)


def _root_disk(record: ContainerRecord, facts: ContainerFacts) -> guests.Disk | None:
    """Return the disk of a guest that runs, if it has one of its own."""
    is_running = facts.is_guest and record.phase is Phase.RUNNING and facts.pid
    return guests.read(facts.pid) if is_running else None


def _networks(records: t.Iterable[SandboxRecord]) -> dict[str, tuple[Interface, ...]]:
    """Return the interfaces of pods by their network namespaces; a pod in the host's has none of its own."""
    return counters.read_all([record.netns for record in records if record.netns])


def _is_gone(usage: CgroupUsage) -> bool:
    return usage.cpu_ns is None and usage.memory_bytes is None
