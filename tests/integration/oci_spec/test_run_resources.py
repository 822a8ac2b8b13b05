# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that the cgroup of a container has the limits that were asked for, before and after an update."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, IoLimit, Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec import resources as limits
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host_request import with_request
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.update import live_resources

pytestmark = pytest.mark.host

MIB = 1 << 20

#: Our name → (controller and file of v1, file of v2).
FILES = {
    "cpu_shares": ("cpu/cpu.shares", "cpu.weight"),
    "cpu_quota_us": ("cpu/cpu.cfs_quota_us", "cpu.max"),
    "cpu_period_us": ("cpu/cpu.cfs_period_us", "cpu.max"),
    "cpuset_cpus": ("cpuset/cpuset.cpus", "cpuset.cpus"),
    "cpuset_mems": ("cpuset/cpuset.mems", "cpuset.mems"),
    "memory_bytes": ("memory/memory.limit_in_bytes", "memory.max"),
    "memory_reservation_bytes": ("memory/memory.soft_limit_in_bytes", "memory.low"),
    "memory_swap_bytes": ("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
    "pids_limit": ("pids/pids.max", "pids.max"),
    "hugepages": ("hugetlb/hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"),
}

#: «No limit» as v1 shows it: the largest number of pages, in bytes.
V1_UNLIMITED = (1 << 63) - os.sysconf("SC_PAGE_SIZE")


def whole_disk() -> str | None:
    """Return a block device of this host that is no partition."""
    for path in sorted(pathlib.Path("/sys/block").glob("*")):
        node = pathlib.Path("/dev") / path.name
        if node.is_block_device() and not path.name.startswith(("loop", "ram")):
            return str(node)
    return None


class Group:
    """The cgroup of a container."""

    def __init__(self, name: str, version: int) -> None:
        self.name, self.version = name, version

    def file(self, v1: str, v2: str) -> str:
        controller, _slash, file = v1.partition("/")
        top = f"{controller}/pvecri/{self.name}/{file}" if self.version == 1 else f"pvecri/{self.name}/{v2}"
        return (pathlib.Path("/sys/fs/cgroup") / top).read_text().strip()

    def value(self, key: str) -> str:
        return self.file(*FILES[key])


@pytest.fixture
def container(box):
    """Start a container with limits and return its name and cgroup; systemd's paths are not looked at."""
    box.host = dataclasses.replace(box.host, has_systemd=False)

    def start(resources: Resources) -> Group:
        name, _state = box.start(resources=resources)
        return Group(name, box.host.cgroup_version)

    return start


@pytest.fixture
def update(box):
    """Change the limits of a running container as a driver would."""

    def change(group: Group, old: Resources, new: Resources) -> None:
        host = with_request(box.host, ContainerSpec(name="x", resources=new))
        wanted = live_resources(old, new, host)
        assert wanted, "nothing to change, or not possible while it runs"
        path = box.top / "update.json"
        path.write_text(json.dumps(wanted))
        done = box.crun("update", "--resources", str(path), group.name)
        assert done.returncode == 0, (wanted, done.stderr)

    return change


class TestLimits:
    def test_cpu(self, container):
        group = container(
            Resources(cpu_shares=512, cpu_quota_us=50000, cpu_period_us=200000, cpuset_cpus="0")
        )
        if group.version == 1:
            assert group.value("cpu_shares") == "512"
            assert (group.value("cpu_quota_us"), group.value("cpu_period_us")) == ("50000", "200000")
        else:
            assert 1 <= int(group.value("cpu_shares")) < 100
            assert group.value("cpu_quota_us") == "50000 200000"
        assert group.value("cpuset_cpus") == "0"

    def test_quota_without_period(self, container):
        group = container(Resources(cpu_quota_us=30000))
        assert group.value("cpu_quota_us").split()[0] == "30000"
        assert group.value("cpu_period_us").split()[-1] == "100000"

    def test_memory_and_swap(self, container):
        asked = Resources(
            memory_bytes=64 * MIB, memory_reservation_bytes=32 * MIB, memory_swap_bytes=96 * MIB
        )
        group = container(asked)
        assert group.value("memory_bytes") == str(64 * MIB)
        assert group.value("memory_reservation_bytes") == str(32 * MIB)
        assert group.value("memory_swap_bytes") == str((96 if group.version == 1 else 32) * MIB)

    def test_unlimited_words(self, container):
        group = container(Resources(memory_bytes=-1, memory_swap_bytes=-1, cpu_quota_us=-1, pids_limit=-1))
        assert group.value("memory_bytes") == (str(V1_UNLIMITED) if group.version == 1 else "max")
        assert group.value("cpu_quota_us").split()[0] == ("-1" if group.version == 1 else "max")
        assert group.value("pids_limit") == "max"

    def test_pids_limit_holds(self, box):
        script = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo all"
        answer = box.run(script, resources=Resources(pids_limit=4))
        assert "can't fork" in answer.err
        assert "all" not in answer.out

    def test_memory_limit_holds(self, box):
        script = "head -c 64m /dev/zero | tail > /dev/null"
        answer = box.run(script, resources=Resources(memory_bytes=8 * MIB, memory_swap_bytes=8 * MIB))
        assert answer.rc in (1, 137)

    def test_smallest_memory_limit_lets_a_program_start(self, box):
        answer = box.run("echo alive", resources=Resources(memory_bytes=limits.MIN_MEMORY_BYTES))
        assert answer.out == "alive\n", answer.err

    def test_io_limits(self, container):
        disk = whole_disk()
        if disk is None:
            pytest.skip("this host has no disk to throttle")
        group = container(Resources(io_limits=(IoLimit(device=disk, read_bps=MIB, write_iops=100),)))
        number = f"{os.major(os.stat(disk).st_rdev)}:{os.minor(os.stat(disk).st_rdev)}"
        if group.version == 1:
            assert group.file("blkio/blkio.throttle.read_bps_device", "") == f"{number} {MIB}"
            assert group.file("blkio/blkio.throttle.write_iops_device", "") == f"{number} 100"
        else:
            assert group.file("", "io.max") == f"{number} rbps={MIB} wbps=max riops=max wiops=100"

    def test_io_weight(self, box, container):
        if not box.host.has_io_weight:
            pytest.skip("this host cannot weigh I/O")
        group = container(Resources(io_weight=300))
        texts = [
            path.read_text()
            for pattern in ("blkio/pvecri/{}/blkio*weight", "pvecri/{}/io*.weight")
            for path in pathlib.Path("/sys/fs/cgroup").glob(pattern.format(group.name))
        ]
        assert any(text.split()[-1:] == ["300"] for text in texts) or group.version == 2

    def test_hugepages(self, box, container):
        if "2MB" not in (box.host.hugepage_sizes or ()):
            pytest.skip("this host has no huge pages of 2 MB")
        assert container(Resources(hugepages=(("2MB", 8 * MIB),))).value("hugepages") == str(8 * MIB)

    def test_unified(self, box, container):
        if box.host.cgroup_version == 1:
            pytest.skip("this host has cgroup v1")
        group = container(Resources(unified=(("memory.high", str(32 * MIB)),)))
        assert group.file("", "memory.high") == str(32 * MIB)


class TestUpdate:
    @pytest.mark.parametrize(
        ("old", "new", "key", "v1", "v2"),
        [
            ({}, {"memory_bytes": 64 * MIB}, "memory_bytes", str(64 * MIB), str(64 * MIB)),
            (
                {"memory_bytes": 64 * MIB},
                {"memory_bytes": 32 * MIB},
                "memory_bytes",
                str(32 * MIB),
                str(32 * MIB),
            ),
            ({"memory_bytes": 64 * MIB}, {}, "memory_bytes", str(V1_UNLIMITED), "max"),
            ({"memory_bytes": 64 * MIB}, {"memory_bytes": -1}, "memory_bytes", str(V1_UNLIMITED), "max"),
            (
                {"memory_bytes": 64 * MIB, "memory_swap_bytes": 64 * MIB},
                {"memory_bytes": 128 * MIB, "memory_swap_bytes": 256 * MIB},
                "memory_swap_bytes",
                str(256 * MIB),
                str(128 * MIB),
            ),
            (
                {"memory_bytes": 128 * MIB, "memory_swap_bytes": 256 * MIB},
                {"memory_bytes": 32 * MIB, "memory_swap_bytes": 32 * MIB},
                "memory_swap_bytes",
                str(32 * MIB),
                "0",
            ),
            (
                {"memory_bytes": 32 * MIB, "memory_swap_bytes": 32 * MIB},
                {"memory_bytes": 64 * MIB},
                "memory_swap_bytes",
                str(V1_UNLIMITED),
                "max",
            ),
            (
                {"memory_bytes": 32 * MIB, "memory_swap_bytes": 32 * MIB},
                {},
                "memory_swap_bytes",
                str(V1_UNLIMITED),
                "max",
            ),
            (
                {"memory_reservation_bytes": 32 * MIB},
                {},
                "memory_reservation_bytes",
                str(V1_UNLIMITED),
                "0",
            ),
            ({"cpu_quota_us": 50000}, {"cpu_quota_us": 70000}, "cpu_quota_us", "70000", "70000 100000"),
            ({"cpu_quota_us": 50000}, {}, "cpu_quota_us", str(limits.MAX_CPU_QUOTA_US), "max 100000"),
            (
                {"cpu_quota_us": 50000, "cpu_period_us": 50000},
                {"cpu_quota_us": 50000},
                "cpu_period_us",
                "100000",
                "50000 100000",
            ),
            ({"cpu_shares": 512}, {}, "cpu_shares", "1024", "100"),
            ({"cpuset_cpus": "0"}, {"cpuset_cpus": "1"}, "cpuset_cpus", "1", "1"),
            ({"cpuset_cpus": "0"}, {}, "cpuset_cpus", "ONLINE", "ONLINE"),
            ({"pids_limit": 10}, {"pids_limit": 20}, "pids_limit", "20", "20"),
            ({"pids_limit": 10}, {}, "pids_limit", str(limits.MAX_PIDS), str(limits.MAX_PIDS)),
            ({}, {"pids_limit": 10}, "pids_limit", "10", "10"),
        ],
    )
    def test_update(self, box, container, update, old, new, key, v1, v2):
        if key == "cpuset_cpus" and len(box.host.cpus or ()) < 2:
            pytest.skip("this host has one CPU")
        group = container(Resources(**old))
        update(group, Resources(**old), Resources(**new))
        expected = v1 if group.version == 1 else v2
        if expected == "ONLINE":
            expected = pathlib.Path("/sys/devices/system/cpu/online").read_text().strip()
        assert group.value(key) == expected

    def test_update_leaves_the_process_alone(self, box, container, update):
        group = container(Resources())
        before = json.loads(box.crun("state", group.name).stdout)["pid"]
        update(group, Resources(), Resources(memory_bytes=64 * MIB, pids_limit=50))
        after = json.loads(box.crun("state", group.name).stdout)
        assert (after["pid"], after["status"]) == (before, "running")

    def test_update_io_limits(self, container, update):
        disk = whole_disk()
        if disk is None:
            pytest.skip("this host has no disk to throttle")
        old = Resources(io_limits=(IoLimit(device=disk, read_bps=MIB),))
        new = Resources(io_limits=(IoLimit(device=disk, read_bps=2 * MIB, write_bps=MIB),))
        group = container(old)
        update(group, old, new)
        if group.version == 1:
            assert group.file("blkio/blkio.throttle.read_bps_device", "").split()[1] == str(2 * MIB)
            assert group.file("blkio/blkio.throttle.write_bps_device", "").split()[1] == str(MIB)
        else:
            assert f"rbps={2 * MIB} wbps={MIB}" in group.file("", "io.max")


def effective(group: str, file: str) -> int | None:
    """Return the lowest limit of a cgroup of v2 and its parents; None is no limit."""
    path = pathlib.Path("/sys/fs/cgroup") / group.lstrip("/")
    texts = [(place / file).read_text().strip() for place in (path, *path.parents) if (place / file).exists()]
    return min((int(text) for text in texts if text != "max"), default=None)


class TestSystemd:
    def test_container_is_a_scope_with_its_limits(self, box):
        if not box.host.has_systemd:
            pytest.skip("systemd is not the init here")
        old, new = Resources(memory_bytes=64 * MIB, pids_limit=50), Resources(memory_bytes=32 * MIB)
        name, state = box.start(resources=old)
        # Older versions of crun put the process and its limits one level below the scope.
        group = pathlib.Path(f"/proc/{state['pid']}/cgroup").read_text().strip().split("::")[1]
        assert group.startswith(f"/pvecri.slice/pvecri-{name}.scope")
        assert (effective(group, "memory.max"), effective(group, "pids.max")) == (64 * MIB, 50)
        path = box.top / "update.json"
        path.write_text(json.dumps(live_resources(old, new, box.host)))
        done = box.crun("update", "--resources", str(path), name)
        assert done.returncode == 0, done.stderr
        assert effective(group, "memory.max") == 32 * MIB
        assert (effective(group, "pids.max") or limits.MAX_PIDS) > 50
