# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask for statistics and metrics with crictl, as a person does, and compare them with the kernel's."""

from __future__ import annotations

import os
import pathlib
import threading
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import CgroupUsage
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage_reader import UsageReader
from ansible_collections.pvecri.runtime.plugins.module_utils.network import counters
from ansible_collections.pvecri.runtime.plugins.module_utils.network.counters import Interface
from ansible_collections.pvecri.runtime.tests.support import crictl
from ansible_collections.pvecri.runtime.tests.support.crictl import Crictl
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

MIB = 1 << 20
#: 48 MiB in the shell's own memory, 4 MiB in a file that go to the disk at once, and no end of work.
SCRIPT = (
    "x=$(head -c 50331648 /dev/zero | tr '\\0' x); dd if=/dev/zero of=/file bs=1M count=4 oflag=direct;"
    " echo ready; while :; do :; done"
)
LIMIT = 256 * MIB


class Node:
    """An endpoint with crictl, and a container that is busy."""

    def __init__(self, endpoint: Endpoint, tool: Crictl) -> None:
        self.endpoint = endpoint
        self.tool = tool
        self.reader = UsageReader()
        limits = pb.LinuxContainerResources(memory_limit_in_bytes=LIMIT, cpu_quota=50_000, cpu_period=100_000)
        pod = endpoint.pod("busy", labels={"app": "busy"})
        self.pod_group = pod.linux.cgroup_parent
        self.pod_id, self.container_id = endpoint.run_container(
            ["sh", "-c", SCRIPT],
            pod=pod,
            name="worker",
            labels={"part": "worker"},
            linux={"resources": limits},
        )
        log = pathlib.Path(endpoint.pod_logs, "busy", "worker.log")
        eventually(lambda: log.exists() and "ready" in log.read_text(), timeout_s=60)
        self.idle_pod, self.idle = endpoint.run_container(pod=endpoint.pod("idle"), name="sleeper")
        status = endpoint.cri.pod_status(self.pod_id)
        self.address = status.network.ip

    @property
    def has_no_disk(self) -> bool:
        """Whether the endpoint's files are on no block device: `/tmp` of Debian 13 is a tmpfs."""
        return os.major(os.stat(self.endpoint.top).st_dev) == 0

    def usage(self) -> CgroupUsage:
        """Return what the kernel says of the busy container."""
        return self.reader.group(f"{self.pod_group}/{self.container_id}").usage()

    def interface(self) -> Interface:
        """Return what the kernel says of the busy pod's interface."""
        path = self.endpoint.host.path(f"{self.endpoint.run_dir}/sandboxes/{self.pod_id}/ns/net")
        (found,) = counters.read_all([path])[path]
        return found

    def send(self, count: int, size: int) -> None:
        """Send datagrams to the busy pod."""
        code = (
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            f"for _ in range({count}):\n"
            f"    try: s.sendto(b'x' * {size}, ('{self.address}', 4444))\n"
            "    except ConnectionRefusedError: pass"
        )
        self.endpoint.host.run(["python3", "-c", code])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Node]:
    """One node for all tests of this file."""
    reason = crictl.missing()
    if reason:
        pytest.skip(reason)
    with running_endpoint() as endpoint:
        yield Node(endpoint, Crictl(endpoint.socket, tmp_path_factory.mktemp("crictl")))
        assert endpoint.tracebacks() == []


def number(field: t.Any) -> int:
    return int(field["value"])


def stats_of(node: Node) -> t.Any:
    (stats,) = node.tool.json("stats", node.container_id)["stats"]
    return stats


def pod_stats_of(node: Node) -> t.Any:
    (stats,) = node.tool.json("statsp", "--id", node.pod_id)["stats"]
    return stats


# ---- containers -------------------------------------------------------------------------------------------


def test_cpu_time_is_the_kernels_and_the_rate_that_of_the_quota(node):
    # A rate takes two readings, a second apart.
    eventually(lambda: "usageNanoCores" in stats_of(node)["cpu"])
    before = node.usage()
    cpu = stats_of(node)["cpu"]
    after = node.usage()
    assert before.cpu_ns <= number(cpu["usageCoreNanoSeconds"]) <= after.cpu_ns
    # Half a processor is allowed; how much of that a busy host gives is its own affair.
    assert 0 < number(cpu["usageNanoCores"]) < 750_000_000


def test_memory_is_the_kernels(node):
    memory = stats_of(node)["memory"]
    used = node.usage()
    assert 48 * MIB < number(memory["rssBytes"]) < 64 * MIB
    for name, value in (("usageBytes", used.memory_bytes), ("workingSetBytes", used.working_set_bytes)):
        assert abs(number(memory[name]) - value) < 2 * MIB, name
    assert number(memory["availableBytes"]) == LIMIT - number(memory["workingSetBytes"])
    # One page at a time, or a huge page.
    assert number(memory["pageFaults"]) >= 48 * MIB // (2 * MIB)
    assert "majorPageFaults" in memory


def test_writable_layer_is_what_was_written(node):
    def layer_of() -> t.Any:
        # A slow host has not counted it by the first question.
        return eventually(lambda: stats_of(node).get("writableLayer"))

    # What was counted last may be some seconds old.
    eventually(lambda: number(layer_of()["usedBytes"]) >= 4 * MIB, timeout_s=40)
    layer = layer_of()
    assert number(layer["usedBytes"]) < 6 * MIB
    assert number(layer["inodesUsed"]) >= 2
    assert os.path.isdir(layer["fsId"]["mountpoint"])
    assert abs(int(layer["timestamp"]) / 1e9 - time.time()) < 60


def test_pressure_is_told_where_the_kernel_counts_it(node):
    if not node.reader.has_pressure:
        pytest.skip("this kernel counts no pressure")
    stats = stats_of(node)
    before = node.usage().pressure["cpu"].some.total_us
    # It is throttled half of the time: somebody waits.
    assert int(stats["cpu"]["psi"]["Some"]["Total"]) > 0
    assert abs(int(stats["cpu"]["psi"]["Some"]["Total"]) - before) < 5_000_000
    assert set(stats["io"]["psi"]) == set(stats["memory"]["psi"]) == {"Full", "Some"}


def test_table_is_for_people(node):
    header, *rows = node.tool("stats").replace("\x1b[2J\x1b[H", "").splitlines()
    assert header.split() == ["CONTAINER", "NAME", "CPU", "%", "MEM", "DISK", "INODES", "SWAP"]
    assert {row.split()[1] for row in rows} == {"worker", "sleeper"}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], {"worker", "sleeper"}),
        (["--label", "part=worker"], {"worker"}),
        (["--label", "part=other"], set()),
        (["--pod", "{pod}"], {"worker"}),
        (["--id", "{container}"], {"worker"}),
        (["--id", "0123"], set()),
    ],
)
def test_filters_of_containers(node, arguments, names):
    known = {"pod": node.pod_id[:12], "container": node.container_id[:12]}
    found = node.tool.json("stats", *(argument.format(**known) for argument in arguments))
    assert {stats["attributes"]["metadata"]["name"] for stats in found.get("stats", [])} == names


def test_container_that_has_ended_has_no_use_and_one_that_is_gone_is_not_found(node):
    cri = node.endpoint.cri
    container = cri.create(node.idle_pod, node.endpoint.container("brief", ["true"]))
    cri.start(container)
    eventually(lambda: cri.container_status(container).state == pb.CONTAINER_EXITED, timeout_s=20)
    assert container[:13] not in node.tool("stats")
    assert container[:13] in node.tool("stats", "--all")
    (stats,) = node.tool.json("stats", "--all", "--id", container)["stats"]
    assert "cpu" not in stats
    assert stats["attributes"]["metadata"]["name"] == "brief"
    cri.remove(container)
    assert node.tool.json("stats", "--all", "--id", container) == {"stats": []}


# ---- pods -------------------------------------------------------------------------------------------------


def test_pod_uses_what_its_group_does(node):
    eventually(lambda: "usageNanoCores" in pod_stats_of(node)["linux"]["cpu"])
    before = node.reader.group(node.pod_group).usage()
    stats = pod_stats_of(node)
    after = node.reader.group(node.pod_group).usage()
    linux = stats["linux"]
    assert before.cpu_ns <= number(linux["cpu"]["usageCoreNanoSeconds"]) <= after.cpu_ns
    assert number(linux["cpu"]["usageNanoCores"]) > 0
    assert abs(number(linux["memory"]["workingSetBytes"]) - after.working_set_bytes) < 2 * MIB
    assert number(linux["process"]["processCount"]) == after.pids
    (container,) = linux["containers"]
    assert container["attributes"]["id"] == node.container_id
    assert number(container["memory"]["rssBytes"]) > 48 * MIB
    assert stats["attributes"]["labels"] == {"app": "busy"}


def test_traffic_of_a_pod_is_counted(node):
    before = node.interface()
    first = pod_stats_of(node)["linux"]["network"]
    assert first["defaultInterface"]["name"] == "eth0"
    assert first["interfaces"] == []
    node.send(500, 1000)
    second = pod_stats_of(node)["linux"]["network"]["defaultInterface"]
    after = node.interface()
    assert number(second["rxBytes"]) - number(first["defaultInterface"]["rxBytes"]) >= 500 * 1000
    for name, low, high in (
        ("rxBytes", before.received.bytes, after.received.bytes),
        ("txBytes", before.sent.bytes, after.sent.bytes),
        ("rxErrors", before.received.errors, after.received.errors),
        ("txErrors", before.sent.errors, after.sent.errors),
    ):
        assert low <= number(second[name]) <= high, name


@pytest.mark.parametrize(
    ("arguments", "names"),
    [([], {"busy", "idle"}), (["--label", "app=busy"], {"busy"}), (["--id", "{pod}"], {"busy"})],
)
def test_filters_of_pods(node, arguments, names):
    found = node.tool.json("statsp", *(argument.format(pod=node.pod_id[:12]) for argument in arguments))
    assert {stats["attributes"]["metadata"]["name"] for stats in found["stats"]} == names


def test_pod_that_is_stopped_is_no_longer_listed(node):
    cri = node.endpoint.cri
    pod, _container = node.endpoint.run_container(pod=node.endpoint.pod("brief"))
    assert "brief" in node.tool("statsp")
    cri.stop_pod(pod)
    assert "brief" not in node.tool("statsp")
    assert (
        node.endpoint.cri.call(
            "PodSandboxStats", pb.PodSandboxStatsRequest(pod_sandbox_id=pod)
        ).stats.attributes.id
        == pod
    )
    cri.remove_pod(pod)


def test_pods_and_containers_that_go_while_lists_are_read_break_nothing(node):
    cri, over = node.endpoint.cri, threading.Event()
    failures: list[Exception] = []

    def lives() -> None:
        try:
            for _life in range(6):
                pod, _container = node.endpoint.run_container()
                cri.stop_pod(pod)
                cri.remove_pod(pod)
        except Exception as exc:
            failures.append(exc)
        finally:
            over.set()

    threads = [threading.Thread(target=lives) for _number in range(2)]
    for thread in threads:
        thread.start()
    rounds = 0
    while any(thread.is_alive() for thread in threads):
        for name in ("ListContainerStats", "ListPodSandboxStats", "ListPodSandboxMetrics"):
            found = cri.call(name)
            assert found.ByteSize() > 0
        rounds += 1
    assert failures == []
    assert rounds > 3
    assert node.endpoint.tracebacks() == []


# ---- metrics ----------------------------------------------------------------------------------------------


def metrics_of(node: Node) -> t.Any:
    (found,) = (pod for pod in node.tool.json("metricsp")["podMetrics"] if pod["podSandboxId"] == node.pod_id)
    return found


def test_every_metric_that_is_described_is_there_with_the_labels_of_its_description(node):
    described = {
        descriptor["name"]: descriptor for descriptor in node.tool.json("metricdescs")["descriptors"]
    }
    # Lists do not wait for the first count of what was written.
    eventually(lambda: "writableLayer" in stats_of(node))
    pod = metrics_of(node)
    (container,) = pod["containerMetrics"]
    delivered = [*pod["metrics"], *container["metrics"]]
    assert all(
        len(metric["labelValues"]) == len(described[metric["name"]]["labelKeys"]) for metric in delivered
    )
    missing = set(described) - {metric["name"] for metric in delivered}
    # What only some kernels count: the limits of huge pages, and the highest use by cgroup v2 before 5.19.
    # And what went to disks, where the containers' files lie in memory.
    uncounted = (
        {"container_fs_reads", "container_fs_writes", "container_blkio"} if node.has_no_disk else set()
    )
    assert missing <= {
        name
        for name in described
        if "hugetlb" in name
        or name == "container_memory_max_usage_bytes"
        or name.startswith(tuple(uncounted))
    }
    assert all(descriptor["help"] for descriptor in described.values())


def test_metrics_tell_what_the_kernel_does(node):
    before = node.usage()
    pod = metrics_of(node)
    after = node.usage()
    (container,) = pod["containerMetrics"]
    found: dict[t.Any, int] = {}
    for metric in container["metrics"]:
        own = metric["labelValues"][6:]
        found[(metric["name"], *own)] = number(metric["value"])
    cpu = found["container_cpu_usage_seconds_total", "total"]
    assert before.cpu_ns // 10**9 <= cpu <= after.cpu_ns // 10**9
    assert 48 * MIB < found["container_memory_rss",] < 64 * MIB
    assert found["container_memory_max_usage_bytes",] >= found["container_memory_rss",]
    assert found["container_spec_memory_limit_bytes",] == LIMIT
    assert found["container_spec_cpu_quota",] == 50_000
    # A busy host does not give so much that the quota is used up.
    periods = found["container_cpu_cfs_periods_total",]
    assert periods >= found["container_cpu_cfs_throttled_periods_total",] >= 0
    assert periods > 0
    assert found["container_processes",] == found["container_threads",] == after.pids
    assert found["container_file_descriptors",] >= 3
    written = [value for key, value in found.items() if key[0] == "container_fs_writes_bytes_total"]
    assert node.has_no_disk or sum(written) >= 4 * MIB
    start = node.endpoint.cri.container_status(node.container_id).started_at // 10**9
    assert found["container_start_time_seconds",] == start
    labels = container["metrics"][0]["labelValues"]
    assert labels[:2] == ["worker", node.container_id]
    assert labels[4:6] == ["default", "busy"]


# ---- the disk ---------------------------------------------------------------------------------------------


def test_disk_usage_counts_what_containers_have_written(node):
    def info() -> t.Any:
        return node.tool.json("imagefsinfo")["status"]

    eventually(lambda: number(info()["containerFilesystems"][0]["usedBytes"]) > 4 * MIB, timeout_s=40)
    found = info()
    (images,), (containers,) = found["imageFilesystems"], found["containerFilesystems"]
    assert number(images["usedBytes"]) > MIB
    assert number(containers["usedBytes"]) < 16 * MIB
    # kubelet asks the kernel about these places.
    assert os.path.isdir(images["fsId"]["mountpoint"])
    assert os.path.isdir(containers["fsId"]["mountpoint"])


def test_open_files_of_containers_are_limited_as_the_daemon_was(node):
    """The daemon raises its own limit for what it watches; containers do not get that."""
    with open(f"/proc/{node.endpoint.pid}/limits", encoding="ascii") as stream:
        (raised,) = (line.split()[3] for line in stream if line.startswith("Max open files"))
    cri = node.endpoint.cri
    out, _error, code = _output(cri.exec_sync(node.container_id, ["sh", "-c", "ulimit -Sn"]))
    assert code == 0
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert out.strip() == str(soft)
    (limits,) = (
        number(metric["value"])
        for metric in metrics_of(node)["containerMetrics"][0]["metrics"]
        if metric["name"] == "container_ulimits_soft"
    )
    assert limits == soft
    assert int(raised) >= soft


def _output(answer: t.Any) -> tuple[str, str, int]:
    return answer.stdout.decode(), answer.stderr.decode(), answer.exit_code
