# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups of containers and pods under systemd and cgroup v2: where they are, and what they limit."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.pvecri.runtime.tests.vm.node import (
    CGROUPS,
    MIB,
    Container,
    Node,
    counters,
    run,
    unit_properties,
)

SLEEP = "exec sleep 3600"
#: 48 MiB of memory at once.
HOG = "dd if=/dev/zero of=/dev/shm/hog bs=1M count=48"
LIMITS: dict[str, t.Any] = {
    "cpu_period": 100_000,
    "cpu_quota": 20_000,
    "cpu_shares": 512,
    "cpuset_cpus": "0",
    "memory_limit_in_bytes": 64 * MIB,
    "unified": {"pids.max": "24", "memory.high": str(60 * MIB)},
}


def disk() -> str:
    """Return the number of the device that containers write to, as io.max has it."""
    device = os.stat("/var/lib/pvecri").st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def test_systemd_is_the_driver(node: Node) -> None:
    """kubelet takes it from RuntimeConfig, and refuses to start when it is another's."""
    assert node.crictl("runtime-config").split() == ["cgroup", "driver:", "SYSTEMD"]


def test_container_is_in_a_scope_of_its_pods_slice(node: Node) -> None:
    container = node.start(SLEEP)
    slice_name = f"pvecri-pod{container.pod_id}.slice"
    assert container.scope == f"/pvecri.slice/{slice_name}/pvecri-{container.id}.scope"
    scope = unit_properties(f"pvecri-{container.id}.scope", "Slice", "ActiveState", "Transient", "Delegate")
    assert scope == {"Slice": slice_name, "ActiveState": "active", "Transient": "yes", "Delegate": "yes"}
    # Nothing of it is in the daemon's unit, so that neither its stop nor its limits reach containers.
    assert str(container.pid) not in run("systemctl", "show", "pvecri", "-p", "MainPID")
    node.remove_pods()
    assert not (CGROUPS / "pvecri.slice" / slice_name).exists()
    assert unit_properties(f"pvecri-{container.id}.scope", "LoadState") == {"LoadState": "not-found"}
    assert unit_properties(slice_name, "ActiveState") == {"ActiveState": "inactive"}


def test_slice_that_kubelet_made_is_used_and_left(node: Node) -> None:
    """As kubelet does it: it makes the pod's slice before, with its limits, and removes it after."""
    name = "kubepods-burstable-podverify.slice"
    run("systemctl", "set-property", "--runtime", name, f"MemoryMax={128 * MIB}")
    run("systemctl", "start", name)
    path = f"/kubepods.slice/kubepods-burstable.slice/{name}"
    try:
        container = node.start(
            SLEEP,
            pod={"cgroup_parent": path, "resources": {"memory_limit_in_bytes": 16 * MIB}},
            linux={"resources": LIMITS},
        )
        assert container.scope == f"{path}/pvecri-{container.id}.scope"
        assert (CGROUPS / path.strip("/") / "memory.max").read_text().strip() == str(128 * MIB)
        node.remove_pods()
        assert (CGROUPS / path.strip("/")).is_dir()
    finally:
        run("systemctl", "stop", name)
        run("systemctl", "revert", name)


def test_limits_of_a_container_are_set_and_changed(node: Node) -> None:
    """In the kernel's files and in systemd's view: it writes its own view anew at each daemon-reload."""
    more = {**LIMITS["unified"], "io.max": f"{disk()} rbps=max wbps=4194304 riops=max wiops=max"}
    container = node.start(SLEEP, linux={"resources": {**LIMITS, "unified": more}})
    before = limits(container)
    assert before == {
        "cpu.max": "20000 100000",
        "cpu.weight": before["cpu.weight"],
        "cpuset.cpus": "0",
        "memory.max": str(64 * MIB),
        "memory.high": str(60 * MIB),
        "memory.swap.max": "0",
        "pids.max": "24",
        "io.max": f"{disk()} rbps=max wbps=4194304 riops=max wiops=max",
    }
    assert 10 <= int(before["cpu.weight"]) <= 60
    node.crictl(
        *("update", "--cpu-quota", "50000", "--cpu-period", "100000", "--cpu-share", "2048"),
        *("--memory", str(96 * MIB), container.id),
    )
    changed = limits(container)
    weight = int(changed["cpu.weight"])
    assert weight > 2 * int(before["cpu.weight"])
    expected = {"cpu.max": "50000 100000", "memory.max": str(96 * MIB), "cpu.weight": str(weight)}
    assert changed == {**before, **expected}
    run("systemctl", "daemon-reload")
    assert limits(container) == changed
    shown = unit_properties(f"pvecri-{container.id}.scope", "MemoryMax", "CPUQuotaPerSecUSec", "CPUWeight")
    assert shown == {
        "MemoryMax": str(96 * MIB),
        "CPUQuotaPerSecUSec": "500ms",
        "CPUWeight": str(weight),
    }
    resources = container.status()["resources"]["linux"]
    assert int(resources["memoryLimitInBytes"]) == 96 * MIB
    assert int(resources["cpuQuota"]) == 50_000


def limits(container: Container) -> dict[str, str]:
    names = ("cpu.max", "cpu.weight", "cpuset.cpus", "memory.max", "memory.high", "memory.swap.max")
    return {name: container.limit(name) for name in (*names, "pids.max", "io.max")}


def test_pod_is_limited_as_a_whole(node: Node) -> None:
    resources = {"cpu_period": 100_000, "cpu_quota": 30_000, "memory_limit_in_bytes": 96 * MIB}
    overhead = {"memory_limit_in_bytes": 4 * MIB}
    container = node.start(SLEEP, pod={"resources": resources, "overhead": overhead})
    group = CGROUPS / "pvecri.slice" / f"pvecri-pod{container.pod_id}.slice"
    assert (group / "memory.max").read_text().strip() == str(100 * MIB)
    assert (group / "cpu.max").read_text().strip() == "30000 100000"
    run("systemctl", "daemon-reload")
    assert (group / "memory.max").read_text().strip() == str(100 * MIB)


def test_cpu_quota_holds(node: Node) -> None:
    limit = {"cpu_period": 100_000, "cpu_quota": 20_000}
    container = node.start("echo ready; while :; do :; done", linux={"resources": limit})
    container.says("ready")
    started, used = time.monotonic(), counters(container.limit("cpu.stat"))["usage_usec"]
    time.sleep(4)
    stat = counters(container.limit("cpu.stat"))
    share = (stat["usage_usec"] - used) / 1e6 / (time.monotonic() - started)
    assert 0.02 < share < 0.3
    assert stat["nr_throttled"] > 0


def test_limit_of_processes_holds(node: Node) -> None:
    script = "(for i in $(seq 40); do sleep 3600 & done; echo all); echo refused; exec sleep 3600"
    container = node.start(script, linux={"resources": {"unified": {"pids.max": "16"}}})
    assert "all" not in container.says("refused")
    assert 8 <= int(container.limit("pids.current")) <= 16


def test_limit_of_writes_holds(node: Node) -> None:
    """Faster than allowed is a failure however busy the machine is; slower is none."""
    limit = {"unified": {"io.max": f"{disk()} wbps={2 * MIB}"}}
    script = "dd if=/dev/zero of=/file bs=65536 count=128 oflag=direct; echo done; exec sleep 3600"
    started = time.monotonic()
    container = node.start(script, linux={"resources": limit})
    container.says("done")
    assert time.monotonic() - started > 3
    written = container.limit("io.stat")
    assert f"wbytes={8 * MIB}" in written or int(written.split("wbytes=")[1].split()[0]) >= 8 * MIB


def test_exceeding_memory_ends_in_oom_killed(node: Node) -> None:
    limit = {"memory_limit_in_bytes": 24 * MIB}
    container = node.start(f"exec {HOG}", linux={"resources": limit})
    status = container.exited()
    assert (status["reason"], status["exitCode"]) == ("OOMKilled", 137)
    node.remove_pods()
    # A scope that ended by the kernel's hand stays as failed unless it was told otherwise.
    failed = run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--all", "pvecri*")
    assert failed == ""


def test_group_is_killed_as_one_when_asked_for(node: Node) -> None:
    """What kubelet asks for on cgroup v2: a child that is killed takes the container with it."""
    limit = {"memory_limit_in_bytes": 24 * MIB, "unified": {"memory.oom.group": "1"}}
    script = f"({HOG}; echo never); echo survived; sleep 3600"
    container = node.start(script, linux={"resources": limit})
    status = container.exited()
    assert (status["reason"], status["exitCode"]) == ("OOMKilled", 137)
    assert "survived" not in container.log()
