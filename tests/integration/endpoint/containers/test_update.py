# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limit containers, and change their limits while they run."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.resources import MAX_CPU_QUOTA_US
from pvecri.api import cri_pb2 as pb

IS_V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def limits(**fields):
    return pb.LinuxContainerResources(**fields)


def read(lab, container, controller, v1, v2):
    info = json.loads(lab.cri.container_status(container, verbose=True).info["info"])
    top = "/sys/fs/cgroup" if IS_V2 else f"/sys/fs/cgroup/{controller}"
    with open(f"{top}{info['cgroup']}/{v2 if IS_V2 else v1}", encoding="ascii") as stream:
        return stream.read().strip()


def memory(lab, container):
    return int(read(lab, container, "memory", "memory.limit_in_bytes", "memory.max"))


def quota(lab, container):
    return read(lab, container, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0]


def test_limits_of_a_new_container(lab):
    asked = limits(
        cpu_period=50000,
        cpu_quota=20000,
        cpu_shares=512,
        memory_limit_in_bytes=64 << 20,
        cpuset_cpus="0",
        oom_score_adj=321,
    )
    container = lab.run(linux={"resources": asked})
    assert memory(lab, container) == 64 << 20
    assert quota(lab, container) == "20000"
    assert read(lab, container, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"
    assert lab.sh(container, "cat /proc/1/oom_score_adj; nproc") == "321\n1"
    assert lab.status(container).resources.linux == asked


def test_limits_as_kubelet_sends_them(lab):
    """Huge pages of every size that it knows, swap as much as memory, raw files where there are some."""
    asked = limits(
        cpu_period=100000,
        cpu_shares=2,
        memory_limit_in_bytes=32 << 20,
        memory_swap_limit_in_bytes=32 << 20,
        oom_score_adj=1000,
        hugepage_limits=[pb.HugepageLimit(page_size=size) for size in ("2MB", "1GB", "64KB")],
        unified={"memory.oom.group": "1", "memory.high": "30000000"} if IS_V2 else {},
    )
    container = lab.run(linux={"resources": asked})
    assert memory(lab, container) == 32 << 20
    assert lab.sh(container, "cat /proc/1/oom_score_adj") == "1000"
    lab.cri.update_resources(container, limits(cpu_shares=200, hugepage_limits=asked.hugepage_limits))
    lab.cri.update_resources(container, limits(memory_limit_in_bytes=48 << 20, oom_score_adj=900))
    assert memory(lab, container) == 48 << 20
    assert lab.status(container).resources.linux.oom_score_adj == 900
    assert lab.sh(container, "cat /proc/1/oom_score_adj") == "900"


def test_raw_files_need_cgroup_v2(lab):
    if IS_V2:
        pytest.skip("this host has cgroup v2")
    with lab.refused("FAILED_PRECONDITION", "cgroup v2"):
        lab.create(lab.pod(), linux={"resources": limits(unified={"memory.high": "1000000"})})


@pytest.mark.parametrize("is_running", [True, False])
def test_update(lab, is_running):
    pod = lab.pod()
    container = lab.create(pod, linux={"resources": limits(memory_limit_in_bytes=64 << 20, cpu_shares=2)})
    if is_running:
        lab.cri.start(container)
    lab.cri.update_resources(container, limits(memory_limit_in_bytes=128 << 20, cpu_quota=30000))
    assert memory(lab, container) == 128 << 20
    assert quota(lab, container) == "30000"
    shown = lab.status(container).resources.linux
    assert shown == limits(memory_limit_in_bytes=128 << 20, cpu_quota=30000, cpu_shares=2)
    lab.cri.update_resources(container, limits(cpu_quota=-1))
    assert quota(lab, container) in {"-1", "max", str(MAX_CPU_QUOTA_US)}
    lab.cri.update_resources(container, limits())
    lab.endpoint.restart()
    assert lab.status(container).resources.linux.cpu_quota == -1
    lab.cri.update_resources(container, limits(memory_limit_in_bytes=32 << 20))
    assert memory(lab, container) == 32 << 20


def test_update_that_is_refused_changes_nothing(lab):
    container = lab.run(linux={"resources": limits(memory_limit_in_bytes=64 << 20)})
    before = lab.status(container).resources
    for wanted, word in (
        (limits(cpu_shares=1), "linux.cpu_shares"),
        (limits(cpuset_cpus="4000"), "linux.cpuset_cpus"),
        (limits(memory_limit_in_bytes=-3), "linux.memory_limit_in_bytes"),
        (limits(memory_swap_limit_in_bytes=1 << 20), "linux.memory_swap_limit_in_bytes"),
    ):
        with lab.refused("INVALID_ARGUMENT", word):
            lab.cri.update_resources(container, wanted)
    assert lab.status(container).resources == before
    assert memory(lab, container) == 64 << 20


def test_update_below_what_is_in_use(lab):
    fill = "head -c 40000000 /dev/zero >/dev/shm/full; echo full; sleep 1000"
    container = lab.run(
        lab.pod(host_network=False), fill, linux={"resources": limits(memory_limit_in_bytes=128 << 20)}
    )
    while lab.log(container) != ["full"]:
        pass
    with lab.refused("INVALID_ARGUMENT", "memory_limit_in_bytes"):
        lab.cri.update_resources(container, limits(memory_limit_in_bytes=8 << 20))
    assert memory(lab, container) == 128 << 20
    assert lab.status(container).state == pb.CONTAINER_RUNNING


def test_update_out_of_turn(lab):
    container = lab.run()
    lab.cri.stop(container)
    with lab.refused("FAILED_PRECONDITION", "exited"):
        lab.cri.update_resources(container, limits(cpu_shares=100))
    with lab.refused("NOT_FOUND"):
        lab.cri.update_resources("a" * 64, limits(cpu_shares=100))


def test_score_of_all_processes_is_changed(lab):
    container = lab.run(
        script="sleep 1000 & exec sleep 1001", linux={"resources": limits(oom_score_adj=500, cpu_shares=512)}
    )
    lab.cri.update_resources(container, limits(oom_score_adj=700))
    scores = lab.sh(container, "for p in $(pidof sleep); do cat /proc/$p/oom_score_adj; done")
    assert scores.split() == ["700", "700"]
    assert lab.status(container).resources.linux == limits(oom_score_adj=700, cpu_shares=512)
    # What is not set stays.
    lab.cri.update_resources(container, limits(cpu_shares=256))
    assert lab.status(container).resources.linux.oom_score_adj == 700
