# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statistics of what the registry knows, from a tree of cgroups that looks like a host's."""

from __future__ import annotations

import logging
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage_reader import UsageReader
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.network import counters
from ansible_collections.pvecri.runtime.plugins.module_utils.network.counters import Direction, Interface
from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.api import cri_pb2 as pb
from pvecri.disk import guests
from pvecri.disk.guests import Disk
from pvecri.disk.layers import Figure
from pvecri.disk.usage import Usage
from pvecri.state.records import Phase
from pvecri.state.registry import Registry
from pvecri.stats import service as service_module
from pvecri.stats.service import StatsService

S = 1_000_000_000


class Layers:
    """Knows what every container has written that was told of."""

    def __init__(self, directory):
        self.directory = directory
        self.known = {}
        self.waits = []

    def figures(self, wanted, *, wait_s=0.0):
        self.waits.append(wait_s)
        return {identity: self.known[identity] for identity in wanted if identity in self.known}


class Node:
    """A registry, cgroups of v2, and the service on top of them."""

    def __init__(self, directory):
        self.cgroups = directory / "cgroup"
        self.cgroups.mkdir()
        (self.cgroups / "cgroup.controllers").write_text("cpu memory\n")
        self.registry = Registry.open(str(directory / "db"))
        self.layers = Layers(str(directory))
        self.asked = []
        self.pids = {}
        context = types.SimpleNamespace(
            registry=self.registry, runtimes=self, log=logging.getLogger("test"), runner=None
        )
        reader = UsageReader(CgroupTree(str(self.cgroups)), huge_pages=str(directory / "none"))
        self.service = StatsService(context, self.layers, reader)

    def state(self, name):
        """Answer as crun's driver does."""
        self.asked.append(name)
        if name not in self.pids:
            return None
        pid = self.pids[name]
        return types.SimpleNamespace(is_alive=pid is not None, pid=pid, cgroup=f"/pods/{name}")

    def group(self, path, cpu_us=2_000_000):
        place = self.cgroups / path.strip("/")
        place.mkdir(parents=True, exist_ok=True)
        (place / "cpu.stat").write_text(f"usage_usec {cpu_us}\n")
        (place / "memory.current").write_text("1000\n")
        (place / "pids.current").write_text("1\n")

    def pod(self, name, **fields):
        record = self.registry.reserve_sandbox(
            records.sandbox(name, **{"cgroup_parent": f"/pods/{name}", **fields})
        )
        if record.cgroup_parent:
            self.group(record.cgroup_parent)
        return record

    def container(self, pod, name="app", phase=Phase.RUNNING, **fields):
        record = self.registry.reserve_container(
            records.container(pod.id, name, phase=phase, started_at_ns=50 * S, **fields)
        )
        if phase in {Phase.CREATED, Phase.RUNNING}:
            self.pids[record.id] = 1
            self.group(f"/pods/{record.id}")
        return record

    def containers(self, **wanted):
        answer = b"".join(self.service.container_items(pb.ContainerStatsFilter(**wanted)))
        return list(pb.ListContainerStatsResponse.FromString(answer).stats)

    def pods(self, **wanted):
        answer = b"".join(self.service.pod_items(pb.PodSandboxStatsFilter(**wanted)))
        return list(pb.ListPodSandboxStatsResponse.FromString(answer).stats)

    def metrics(self):
        answer = b"".join(self.service.metric_items())
        return list(pb.ListPodSandboxMetricsResponse.FromString(answer).pod_metrics)


@pytest.fixture
def node(tmp_path):
    found = Node(tmp_path)
    yield found
    found.registry.close()


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    """Let pods' namespaces be what a test says."""
    known = {}
    monkeypatch.setattr(
        counters, "read_all", lambda paths: {path: known[path] for path in paths if path in known}
    )
    return known


def names(stats):
    return [found.attributes.metadata.name for found in stats]


def one(node, record):
    return pb.ContainerStatsResponse.FromString(node.service.container_bytes(record.id)).stats


def one_pod(node, record):
    return pb.PodSandboxStatsResponse.FromString(node.service.pod_bytes(record.id)).stats


# ---- containers -------------------------------------------------------------------------------------------


def test_container_has_attributes_figures_and_layer(node):
    pod = node.pod("web")
    record = node.container(pod, labels={"part": "db"})
    node.layers.known[record.id] = Figure(Usage(4096, 3), 7 * S)
    stats = one(node, record)
    assert stats.attributes == pb.ContainerAttributes(
        id=record.id, metadata=pb.ContainerMetadata(name="app"), labels={"part": "db"}
    )
    assert stats.cpu.usage_core_nano_seconds.value == 2 * S
    assert stats.cpu.timestamp > 0
    assert stats.memory.usage_bytes.value == 1000
    assert stats.writable_layer.used_bytes.value == 4096
    assert stats.writable_layer.fs_id.mountpoint == node.layers.directory
    assert node.layers.waits == [service_module._FIRST_COUNT_S]


def test_container_can_be_asked_for_by_the_begin_of_its_id(node):
    record = node.container(node.pod("web"))
    answer = node.service.container_bytes(record.id[:8])
    assert pb.ContainerStatsResponse.FromString(answer).stats.attributes.id == record.id


def test_container_that_is_not_there_is_not_found(node):
    with pytest.raises(NotFound):
        node.service.container_bytes("1234")
    with pytest.raises(NotFound):
        node.service.pod_bytes("1234")


def test_rate_comes_with_the_second_reading(node, monkeypatch):
    now = [100 * S]
    monkeypatch.setattr(service_module.time, "time_ns", lambda: now[0])
    pod = node.pod("web")
    record = node.container(pod)
    assert not one(node, record).cpu.HasField("usage_nano_cores")
    assert not one_pod(node, pod).linux.cpu.HasField("usage_nano_cores")
    now[0] += 2 * S
    node.group(f"/pods/{record.id}", cpu_us=3_000_000)
    node.group("/pods/web", cpu_us=3_500_000)
    assert one(node, record).cpu.usage_nano_cores.value == S // 2
    assert one_pod(node, pod).linux.cpu.usage_nano_cores.value == 3 * S // 4


def test_ended_container_has_what_it_is_and_what_it_has_written(node):
    record = node.container(node.pod("web"), phase=Phase.EXITED)
    node.layers.known[record.id] = Figure(Usage(4096, 3), 7 * S)
    (stats,) = node.containers()
    assert stats.attributes.id == record.id
    assert stats.writable_layer.used_bytes.value == 4096
    assert not stats.HasField("cpu")
    assert not stats.HasField("memory")


@pytest.mark.parametrize("loss", ["group", "process", "state"])
def test_container_that_ends_while_it_is_read_uses_nothing(node, loss):
    pod = node.pod("web")
    record = node.container(pod)
    if loss == "group":
        for file in (node.cgroups / "pods" / record.id).iterdir():
            file.unlink()
    elif loss == "process":
        node.pids[record.id] = None
    else:
        del node.pids[record.id]
    (stats,) = node.containers()
    assert not stats.HasField("cpu")
    assert not one(node, record).HasField("cpu")
    (metrics,) = node.metrics()
    assert list(metrics.container_metrics) == []
    (found,) = node.pods()
    assert not found.linux.containers[0].HasField("cpu")


def test_container_in_the_making_is_not_shown(node):
    pod = node.pod("web")
    node.container(pod, "new", phase=Phase.CREATING)
    node.container(pod, "old")
    assert names(node.containers()) == ["old"]
    assert names(node.pods()[0].linux.containers) == ["old"]


def test_filters_of_containers_hold_together(node):
    web, db = node.pod("web"), node.pod("db")
    records_ = [
        node.container(web, "one", labels={"a": "1", "b": "2"}),
        node.container(web, "two", labels={"a": "1"}),
        node.container(db, "three", labels={"a": "1"}),
    ]
    assert names(node.containers()) == ["one", "two", "three"]
    assert names(node.containers(label_selector={"a": "1", "b": "2"})) == ["one"]
    assert names(node.containers(pod_sandbox_id=web.id)) == ["one", "two"]
    assert names(node.containers(id=records_[1].id)) == ["two"]
    assert names(node.containers(id=records_[1].id[:20], pod_sandbox_id=db.id)) == []
    # A list waits for no count.
    assert set(node.layers.waits) == {0.0}


def test_group_of_a_container_is_looked_up_once(node):
    record = node.container(node.pod("web"))
    for _round in range(3):
        node.containers()
        node.pods()
        node.metrics()
    assert node.asked == [record.id]


def test_removed_objects_are_forgotten(node):
    pod = node.pod("web")
    record = node.container(pod)
    node.pods()
    node.registry.update_container(record.id, reason="changed")
    node.pods()
    assert node.asked == [record.id]
    node.registry.remove_container(record.id)
    node.registry.remove_sandbox(pod.id)
    facts = node.service._facts
    assert (facts._pods, facts._containers) == ({}, {})
    assert node.service._rates._last == {}


# ---- guests of Proxmox VE ----------------------------------------------------------------------------------

GUEST = {"selection": {"runtime": "pve-lxc"}}


@pytest.fixture
def disk(monkeypatch):
    """Let the root disk of every guest be one that is told of."""
    asked = []
    found = Disk(
        Figure(Usage(8192, 5), 9 * S),
        types.SimpleNamespace(f_ffree=1, f_files=6, f_blocks=4, f_frsize=4096),
        "/dev/dm-7",
    )
    monkeypatch.setattr(guests, "read", lambda pid: asked.append(pid) or found)
    return asked


def test_guest_has_written_what_its_disk_holds(node, disk):
    record = node.container(node.pod("web"), **GUEST)
    # What lies in its bundle is not its own.
    node.layers.known[record.id] = Figure(Usage(0, 1), 7 * S)
    stats = one(node, record)
    assert stats.writable_layer.used_bytes.value == 8192
    assert stats.writable_layer.inodes_used.value == 5
    assert stats.writable_layer.timestamp == 9 * S
    assert disk == [1]


def test_guest_that_does_not_run_has_no_figures(node, disk):
    pod = node.pod("web")
    for name, phase in (("a", Phase.CREATED), ("b", Phase.EXITED)):
        record = node.container(pod, name, phase=phase, **GUEST)
        stats = one(node, record)
        assert not stats.HasField("writable_layer")
        assert not stats.HasField("cpu")
    assert disk == []
    # Its process before the start is not that after it.
    assert node.asked == []


def test_guest_without_a_disk_of_its_own_has_what_was_counted(node, monkeypatch):
    monkeypatch.setattr(guests, "read", lambda _pid: None)
    record = node.container(node.pod("web"), **GUEST)
    assert not one(node, record).HasField("writable_layer")
    names_ = {
        metric.name for pod in node.metrics() for each in pod.container_metrics for metric in each.metrics
    }
    assert "container_fs_usage_bytes" not in names_
    node.layers.known[record.id] = Figure(Usage(4096, 3), 7 * S)
    assert one(node, record).writable_layer.used_bytes.value == 4096
    (found,) = [each for pod in node.metrics() for each in pod.container_metrics]
    values = {metric.name: metric.value.value for metric in found.metrics}
    assert values["container_fs_usage_bytes"] == 4096
    assert "container_fs_limit_bytes" not in values


def test_metrics_of_a_guest_count_its_own_groups_and_disk(node, disk):
    record = node.container(node.pod("web"), **GUEST)
    for below, processes in (("ns", "11\n12\n"), ("ns/system.slice/a.service", "13\n")):
        place = node.cgroups / "pods" / record.id / below
        place.mkdir(parents=True, exist_ok=True)
        (place / "cgroup.procs").write_text(processes)
    (found,) = [each for pod in node.metrics() for each in pod.container_metrics]
    values = {metric.name: metric for metric in found.metrics}
    assert values["container_processes"].value.value == 3
    assert values["container_fs_usage_bytes"].value.value == 8192
    assert values["container_fs_limit_bytes"].value.value == 4 * 4096
    assert values["container_fs_usage_bytes"].label_values[-1] == "/dev/dm-7"


def test_pod_uses_what_its_cgroup_and_its_guest_use(node, disk):
    pod = node.pod("web")
    node.container(pod, "side")
    alone = one_pod(node, pod).linux
    node.container(pod, "app", **GUEST)
    both = one_pod(node, pod).linux
    assert both.cpu.usage_core_nano_seconds.value == alone.cpu.usage_core_nano_seconds.value + 2 * S
    assert both.memory.usage_bytes.value == alone.memory.usage_bytes.value + 1000
    assert both.process.process_count.value == alone.process.process_count.value + 1
    # A pod whose cgroup is not there yet has its guest's use.
    other = node.pod("bare", cgroup_parent="")
    node.container(other, "app", **GUEST)
    assert one_pod(node, other).linux.memory.usage_bytes.value == 1000


# ---- pods -------------------------------------------------------------------------------------------------


def test_pod_has_attributes_figures_network_and_containers(node, networks):
    pod = node.pod("web", netns="/ns/web", labels={"app": "web"})
    node.container(pod, "one")
    node.container(pod, "two", phase=Phase.CREATED)
    node.container(pod, "three", phase=Phase.EXITED)
    networks["/ns/web"] = (Interface("eth0", Direction(1, 2, 3, 4), Direction(5, 6, 7, 8)),)
    (stats,) = node.pods()
    assert stats.attributes == one_pod(node, pod).attributes
    assert stats.attributes.id == pod.id
    assert stats.attributes.metadata.namespace == "default"
    assert dict(stats.attributes.labels) == {"app": "web"}
    assert stats.linux.cpu.usage_core_nano_seconds.value == 2 * S
    assert stats.linux.process.process_count.value == 1
    assert stats.linux.network.default_interface.tx_bytes.value == 5
    assert names(stats.linux.containers) == ["one", "two"]
    assert stats.linux.containers[1].cpu.usage_core_nano_seconds.value == 2 * S


def test_pod_in_the_hosts_network_has_no_network_of_its_own(node):
    node.pod("web")
    assert not node.pods()[0].linux.HasField("network")


def test_pod_whose_namespace_or_group_is_gone_is_shown_without(node):
    node.pod("one", netns="/ns/gone", cgroup_parent="")
    two = node.pod("two")
    for file in (node.cgroups / "pods" / "two").iterdir():
        file.unlink()
    found = node.pods()
    assert names(found) == ["one", "two"]
    assert not any(stats.linux.HasField(field) for stats in found for field in ("network", "cpu", "memory"))
    assert not one_pod(node, two).linux.HasField("cpu")


def test_pod_that_is_not_ready_is_left_out_of_lists_and_uses_nothing(node):
    pod = node.pod("web")
    node.registry.update_sandbox(pod.id, phase=Phase.STOPPED)
    assert node.pods() == []
    assert node.metrics() == []
    stats = one_pod(node, pod)
    assert stats.attributes.id == pod.id
    assert not stats.linux.HasField("cpu")


def test_filters_of_pods_hold_together(node):
    one_, _two = node.pod("one", labels={"a": "1"}), node.pod("two", labels={"a": "1", "b": "2"})
    assert names(node.pods(label_selector={"a": "1"})) == ["one", "two"]
    assert names(node.pods(label_selector={"b": "2"})) == ["two"]
    assert names(node.pods(id=one_.id[:12])) == ["one"]
    assert names(node.pods(id=one_.id, label_selector={"b": "2"})) == []


# ---- metrics ----------------------------------------------------------------------------------------------


def test_metrics_stand_by_pod_and_container(node, networks):
    pod = node.pod("web", netns="/ns/web")
    record = node.container(pod, resources=pb.LinuxContainerResources(cpu_quota=7).SerializeToString())
    node.container(pod, "over", phase=Phase.EXITED)
    networks["/ns/web"] = (Interface("eth0", Direction(1, 2, 3, 4), Direction(5, 6, 7, 8)),)
    (found,) = node.metrics()
    assert found.pod_sandbox_id == pod.id
    assert found.metrics[0].name == "container_network_receive_bytes_total"
    assert list(found.metrics[0].label_values) == ["", pod.id, "", "", "default", "web", "eth0"]
    (container,) = found.container_metrics
    assert container.container_id == record.id
    values = {metric.name: metric.value.value for metric in container.metrics}
    assert values["container_cpu_usage_seconds_total"] == 2
    assert values["container_spec_cpu_quota"] == 7
    assert values["container_start_time_seconds"] == 50
    image = "docker.io/library/busybox:1"
    assert list(container.metrics[1].label_values) == ["app", record.id, image, record.id, "default", "web"]


def test_limits_of_metrics_are_those_in_force(node):
    record = node.container(node.pod("web"))
    quota = [pb.LinuxContainerResources(cpu_quota=value).SerializeToString() for value in (7, 8)]
    seen = []
    for resources in quota:
        node.registry.update_container(record.id, resources=resources)
        values = {m.name: m.value.value for m in node.metrics()[0].container_metrics[0].metrics}
        seen.append(values["container_spec_cpu_quota"])
    assert seen == [7, 8]


def test_container_whose_pod_is_gone_has_no_namespace(node):
    record = records.container("a" * 64, "app", phase=Phase.RUNNING)
    node.registry.adopt_container(record)
    assert names(node.containers()) == ["app"]


def test_file_system_that_is_gone_is_not_told(node):
    node.container(node.pod("web"))
    node.layers.directory = "/nonexistent/directory"
    (found,) = node.metrics()
    seen = {metric.name for metric in found.container_metrics[0].metrics}
    assert "container_fs_limit_bytes" not in seen
    assert "container_cpu_usage_seconds_total" in seen


def test_descriptors_are_told(node):
    found = pb.ListMetricDescriptorsResponse.FromString(node.service.descriptors_bytes())
    assert "container_cpu_usage_seconds_total" in {descriptor.name for descriptor in found.descriptors}


def test_no_pods_are_no_elements(node):
    assert (node.pods(), node.containers(), node.metrics()) == ([], [], [])


def test_what_is_removed_while_a_list_is_told_is_not_kept(node):
    pods = [node.pod(name) for name in ("one", "two")]
    apps = [node.container(pod) for pod in pods]
    containers = node.service.container_items(pb.ContainerStatsFilter())
    sandboxes = node.service.pod_items(pb.PodSandboxStatsFilter())
    next(containers)
    next(sandboxes)
    for app, pod in zip(apps, pods, strict=True):
        del node.pids[app.id]
        node.registry.remove_container(app.id)
        node.registry.remove_sandbox(pod.id)
    assert len([*containers, *sandboxes]) == 2
    assert (node.service._facts._pods, node.service._facts._containers) == ({}, {})
