# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run, stop and remove sandboxes with real CNI plugins, namespaces and mounts."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import socket
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    Conflict,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from pvecri.api import cri_pb2
from pvecri.sandboxes.cgroup import PodCgroup
from pvecri.sandboxes.teardown import TeardownError
from pvecri.state.records import ContainerRecord, Phase


def test_run_gives_a_network_and_remove_takes_everything(pods: t.Any) -> None:
    record = pods.run(pods.pod("web"))
    assert record.phase is Phase.READY
    assert record.ips == tuple(pods.leases())
    assert len(record.ips) == 1
    places = pods.places(record)
    assert pods.inside(record, socket.gethostname) == "web"
    assert pathlib.Path(places.hostname).read_text() == "web\n"
    assert f"{record.ips[0]}\tweb\n" in pathlib.Path(places.hosts).read_text()
    assert os.statvfs(places.shm).f_blocks * os.statvfs(places.shm).f_frsize == 64 << 20
    assert os.stat(places.shm).st_mode & 0o7777 == 0o1777
    pods.service.stop(record.id)
    stopped = pods.context.registry.sandbox(record.id)
    assert (stopped.phase, stopped.ips, pods.leases()) == (Phase.STOPPED, (), [])
    assert os.path.exists(places.hosts)
    pods.service.stop(record.id)
    pods.service.remove(record.id)
    pods.service.remove(record.id)
    pods.service.stop(record.id)
    assert pods.leftovers() == {}


def test_run_in_the_hosts_network(pods: t.Any) -> None:
    config = pods.pod("web")
    config.linux.security_context.namespace_options.network = cri_pb2.NODE
    config.hostname = ""
    record = pods.run(config)
    assert (record.netns, record.utsns, record.ips) == ("", "", ())
    assert record.ipcns
    assert pods.leases() == []
    places = pods.places(record)
    assert pathlib.Path(places.hosts).read_text() == pathlib.Path("/etc/hosts").read_text()
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_run_repeated_gives_the_same_sandbox(pods: t.Any) -> None:
    config = pods.pod("web")
    first = pods.service.run(config)
    assert pods.service.run(config) == first
    other = cri_pb2.PodSandboxConfig()
    other.CopyFrom(config)
    other.labels["a"] = "b"
    with pytest.raises(Conflict):
        pods.service.run(other)
    pods.service.stop(first)
    with pytest.raises(Conflict, match="stopped"):
        pods.service.run(config)
    assert len(pods.context.registry.sandboxes()) == 1
    config.metadata.attempt = 1
    assert pods.service.run(config) != first


def test_run_refuses_before_it_does_anything(pods: t.Any) -> None:
    config = pods.pod("web")
    config.hostname = "a_b"
    with pytest.raises(InvalidSpec):
        pods.service.run(config)
    with pytest.raises(InvalidSpec, match="runtime_handler"):
        pods.service.run(pods.pod("web"), "kata")
    assert pods.leftovers() == {}


def _container(pods: t.Any, sandbox_id: str, number: int) -> str:
    record = ContainerRecord(
        id=f"{number:064x}",
        name=f"c{number}",
        sandbox_id=sandbox_id,
        config=b"",
        created_at_ns=number,
        phase=Phase.CREATED,
    )
    pods.context.registry.reserve_container(record)
    return record.id


def test_stop_and_remove_begin_with_the_containers(pods: t.Any) -> None:
    record = pods.run(pods.pod("web"))
    ids = [_container(pods, record.id, number) for number in range(3)]

    def end(container_id: str) -> None:
        # The network is there as long as a container may run.
        assert netns.is_pinned(record.netns)
        with pytest.raises(WrongState, match="ing, not ready"):
            _container(pods, record.id, 9)
        pods.ended.append(container_id)
        if container_id == ids[1] and len(pods.ended) < 4:
            raise WrongState("it hangs")

    pods.service._end_container = end
    with pytest.raises(TeardownError, match=f"container {ids[1]}: it hangs"):
        pods.service.stop(record.id)
    assert sorted(pods.ended) == ids
    found = pods.context.registry.sandbox(record.id)
    assert (found.phase, found.ips) == (Phase.READY, record.ips)
    pods.service.remove(record.id)
    assert sorted(pods.removed) == ids
    assert pods.leftovers() == {}


def test_many_pods_side_by_side(pods: t.Any) -> None:
    configs = [pods.pod(f"web{number}") for number in range(8)]
    for number, config in enumerate(configs):
        config.port_mappings.add(container_port=80, host_port=8100 + number)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(pods.service.run, configs))
    records = [pods.context.registry.sandbox(identity) for identity in ids]
    assert len({record.ips for record in records}) == 8
    assert len(pods.leases()) == 8
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(pods.service.remove, ids))
    assert pods.leftovers() == {}


def _limit(pods: t.Any, group: str) -> int:
    tree = CgroupTree()
    name = "memory.max" if tree.is_v2 else "memory.limit_in_bytes"
    return int(pathlib.Path(tree.path(group, "memory", name)).read_text())


def test_a_cgroup_of_our_own_is_limited_updated_and_removed(pods: t.Any) -> None:
    config = pods.pod("web")
    config.linux.resources.memory_limit_in_bytes = 64 << 20
    config.linux.overhead.memory_limit_in_bytes = 1 << 20
    record = pods.run(config)
    assert _limit(pods, config.linux.cgroup_parent) == 65 << 20
    more = cri_pb2.LinuxContainerResources(memory_limit_in_bytes=128 << 20)
    pods.service.update_resources(record.id, config.linux.overhead, more)
    assert _limit(pods, config.linux.cgroup_parent) == 129 << 20
    told = json.loads(pods.service.status_info(record.id)["info"])
    assert told["resources"] == {"memory_limit_in_bytes": str(128 << 20)}
    assert told["overhead"] == {"memory_limit_in_bytes": str(1 << 20)}
    with pytest.raises(InvalidSpec) as caught:
        pods.service.update_resources(
            record.id,
            cri_pb2.LinuxContainerResources(),
            cri_pb2.LinuxContainerResources(cpu_quota=-5, cpu_shares=1),
        )
    assert caught.value.field == "resources.cpu_shares"
    pods.service.stop(record.id)
    assert pods.cgroups()
    with pytest.raises(WrongState, match="stopped"):
        pods.service.update_resources(record.id, config.linux.overhead, more)
    pods.service.remove(record.id)
    assert pods.leftovers() == {}
    with pytest.raises(NotFound):
        pods.service.update_resources(record.id, config.linux.overhead, more)


def test_a_cgroup_of_kubelets_is_left_as_it_is(pods: t.Any) -> None:
    config = pods.pod("web")
    config.linux.resources.memory_limit_in_bytes = 64 << 20
    group = config.linux.cgroup_parent
    PodCgroup(group, pods.runner).make(Resources(memory_bytes=32 << 20))
    record = pods.run(config)
    more = cri_pb2.LinuxContainerResources(memory_limit_in_bytes=128 << 20)
    pods.service.update_resources(record.id, config.linux.overhead, more)
    assert _limit(pods, group) == 32 << 20
    pods.service.remove(record.id)
    assert _limit(pods, group) == 32 << 20
    PodCgroup(group, pods.runner).remove()
    assert pods.leftovers() == {}


def test_a_cgroup_that_two_pods_share_goes_with_the_last(pods: t.Any) -> None:
    first, second = pods.pod("one"), pods.pod("two")
    second.linux.cgroup_parent = first.linux.cgroup_parent
    records = [pods.run(first), pods.run(second)]
    assert [record.extra["owns_cgroup"] for record in records] == [True, False]
    pods.service.remove(records[0].id)
    assert PodCgroup(first.linux.cgroup_parent, pods.runner).exists()
    pods.service.remove(records[1].id)
    assert pods.leftovers() == {}


def test_a_pod_without_a_parent_has_a_cgroup_of_its_own_name(pods: t.Any) -> None:
    config = pods.pod("web")
    config.linux.cgroup_parent = ""
    record = pods.run(config)
    assert record.cgroup_parent == f"/pvecri/pod{record.id}"
    group = PodCgroup(record.cgroup_parent, pods.runner)
    assert group.exists()
    # Even a record that was lost leads to it.
    pods.context.registry.update_sandbox(record.id, cgroup_parent="", extra={}, phase=Phase.UNKNOWN)
    pods.service.remove(record.id)
    assert not group.exists()


def test_status_info_tells_what_was_made(pods: t.Any) -> None:
    config = pods.pod("web")
    config.linux.security_context.namespace_options.pid = cri_pb2.POD
    record = pods.run(config)
    told = json.loads(pods.service.status_info(record.id[:10])["info"])
    assert told["sandboxID"] == record.id
    assert told["namespaces"]["net"] == {"path": record.netns, "pinned": True}
    assert told["cniResult"]["ips"][0]["address"].startswith(record.ips[0])
    assert told["config"]["metadata"]["name"] == "web"
    assert told["cgroupPath"] == config.linux.cgroup_parent
    assert os.readlink(f"/proc/{told['pid']}/ns/net") == f"net:[{os.stat(record.netns).st_ino}]"
    pods.service.stop(record.id)
    told = json.loads(pods.service.status_info(record.id)["info"])
    assert (told["pid"], told["cniResult"], told["phase"]) == (0, None, "stopped")
    assert told["namespaces"]["net"]["pinned"] is False
    with pytest.raises(NotFound):
        pods.service.status_info("f" * 64)


def test_host_ipc_leaves_the_hosts_shared_memory(pods: t.Any) -> None:
    config = pods.pod("web")
    config.linux.security_context.namespace_options.ipc = cri_pb2.NODE
    record = pods.run(config)
    assert record.ipcns == ""
    assert not os.path.exists(pods.places(record).shm)
    assert json.loads(pods.service.status_info(record.id)["info"])["shm"] == "/dev/shm"
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_a_pod_that_shares_everything_with_the_host(pods: t.Any) -> None:
    config = pods.pod("web")
    options = config.linux.security_context.namespace_options
    options.network = options.pid = options.ipc = cri_pb2.NODE
    config.port_mappings.add(container_port=80, host_port=80)
    record = pods.run(config)
    assert (record.netns, record.ipcns, record.utsns, record.userns, record.has_pause) == (
        "",
        "",
        "",
        "",
        False,
    )
    pods.service.remove(record.id)
    assert pods.leftovers() == {}
