# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod's cgroup is called and what is written to it, on trees of plain files."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Resources
from pvecri.sandboxes import cgroup

LIMITS = Resources(
    cpu_shares=1024,
    cpu_quota_us=12345,
    cpu_period_us=50000,
    cpuset_cpus="0-1",
    cpuset_mems="0",
    memory_bytes=1 << 30,
    memory_swap_bytes=3 << 29,
    hugepages=(("2MB", 4 << 20),),
)


class Recorder:
    """A runner that remembers."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def run(self, argv: t.Sequence[str], **_options: t.Any) -> Completed:
        self.calls.append(list(argv))
        return Completed(list(argv), 0, "", "")


@pytest.fixture
def runner() -> Recorder:
    """A runner that remembers."""
    return Recorder()


@pytest.fixture
def v2(tmp_path: pathlib.Path) -> CgroupTree:
    """A tree that looks like cgroup v2's."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    return CgroupTree(str(tmp_path))


@pytest.fixture
def v1(tmp_path: pathlib.Path) -> CgroupTree:
    """A tree that looks like cgroup v1's with two controllers, and v2's beside them."""
    for name in ("cpuset", "memory", "unified"):
        (tmp_path / name).mkdir()
    for name in ("cpuset", "memory"):
        (tmp_path / name / "cgroup.clone_children").write_text("0\n")
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-3\n")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0\n")
    return CgroupTree(str(tmp_path))


@pytest.mark.parametrize(
    ("parent", "path", "container"),
    [
        ("/kubepods/pod1", "/kubepods/pod1", "/kubepods/pod1/c"),
        (
            "kubepods-burstable-pod1.slice",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice",
            "kubepods-burstable-pod1.slice:pvecri:c",
        ),
        ("pvecri.slice", "/pvecri.slice", "pvecri.slice:pvecri:c"),
    ],
)
def test_group_path_and_container_cgroup(parent: str, path: str, container: str) -> None:
    assert cgroup.group_path(parent) == path
    assert cgroup.container_cgroup(parent, "c") == container


def test_own_parent() -> None:
    assert cgroup.own_parent("ab", is_systemd=False) == "/pvecri/podab"
    assert cgroup.own_parent("ab", is_systemd=True) == "pvecri-podab.slice"


def test_limit_files_of_v1() -> None:
    assert cgroup.limit_files(LIMITS, is_v2=False) == [
        ("cpu", "cpu.shares", "1024"),
        ("cpu", "cpu.cfs_period_us", "50000"),
        ("cpu", "cpu.cfs_quota_us", "12345"),
        ("cpuset", "cpuset.cpus", "0-1"),
        ("cpuset", "cpuset.mems", "0"),
        ("memory", "memory.limit_in_bytes", "1073741824"),
        ("memory", "memory.memsw.limit_in_bytes", "1610612736"),
        ("hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304"),
    ]


def test_limit_files_of_v2() -> None:
    raw = Resources(cpu_quota_us=5000, unified=(("memory.high", "5"),))
    assert cgroup.limit_files(raw, is_v2=True) == [
        ("cpu", "cpu.max", "5000 100000"),
        ("memory", "memory.high", "5"),
    ]
    assert cgroup.limit_files(LIMITS, is_v2=True) == [
        ("cpu", "cpu.weight", "39"),
        ("cpu", "cpu.max", "12345 50000"),
        ("cpuset", "cpuset.cpus", "0-1"),
        ("cpuset", "cpuset.mems", "0"),
        ("memory", "memory.max", "1073741824"),
        ("memory", "memory.swap.max", "536870912"),
        ("hugetlb", "hugetlb.2MB.max", "4194304"),
    ]
    assert cgroup.limit_files(Resources(), is_v2=True) == []


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000)])
def test_cpu_weight(shares: int, weight: int) -> None:
    assert cgroup.cpu_weight(shares) == weight


def test_properties_of_systemd() -> None:
    assert cgroup.properties(LIMITS, is_v2=True) == [
        "CPUWeight=39",
        "CPUQuotaPeriodSec=50000us",
        "CPUQuota=24.69%",
        "AllowedCPUs=0-1",
        "AllowedMemoryNodes=0",
        "MemoryMax=1073741824",
        "MemorySwapMax=536870912",
    ]
    assert cgroup.properties(Resources(memory_swap_bytes=-1), is_v2=True) == ["MemorySwapMax=infinity"]
    both = cgroup.properties(Resources(cpu_shares=2, memory_bytes=5), is_v2=False)
    assert both == ["CPUShares=2", "MemoryLimit=5"]


def test_pod_cgroup_of_v2(v2: CgroupTree, runner: Recorder) -> None:
    group = cgroup.PodCgroup("/a/b", runner, v2)
    assert not group.exists()
    group.make(Resources(memory_bytes=5))
    top = pathlib.Path(v2.root)
    assert group.exists()
    assert (top / "a/b/memory.max").read_text() == "5"
    # Each controller is handed down by a write of its own; a plain file keeps the last.
    assert (top / "cgroup.subtree_control").read_text() == "+pids"
    (top / "a/b/memory.max").unlink()
    group.remove()
    group.remove()
    assert not group.exists()
    assert runner.calls == []


def test_pod_cgroup_of_v1_inherits_its_processors(v1: CgroupTree, runner: Recorder) -> None:
    group = cgroup.PodCgroup("/a/b", runner, v1)
    top = pathlib.Path(v1.root)
    for directory in ("cpuset/a", "cpuset/a/b", "memory/a", "memory/a/b"):
        # The kernel fills a new group with files.
        (top / directory).mkdir()
        (top / directory / "cgroup.clone_children").write_text("0")
    for directory in ("a", "a/b"):
        for name in ("cpuset.cpus", "cpuset.mems"):
            (top / "cpuset" / directory / name).write_text("\n")
    (top / "cpuset/a/cpuset.mems").write_text("1\n")
    group.make(Resources(cpuset_cpus="2"))
    assert (top / "cpuset/a/cpuset.cpus").read_text() == "0-3\n"
    assert (top / "cpuset/a/b/cpuset.mems").read_text() == "1\n"
    assert (top / "cpuset/a/b/cpuset.cpus").read_text() == "2"
    assert not (top / "unified/a").exists()


def test_limits_that_systemd_does_not_know_are_written(v2: CgroupTree, runner: Recorder) -> None:
    directory = pathlib.Path(v2.root, "pvecri.slice/pvecri-podab.slice")
    directory.mkdir(parents=True)
    cgroup.PodCgroup("pvecri-podab.slice", runner, v2).make(Resources(unified=(("memory.high", "5"),)))
    assert runner.calls == [["systemctl", "start", "pvecri-podab.slice"]]
    assert (directory / "memory.high").read_text() == "5"


def test_limits_of_a_slice_that_never_began_are_taken_back(
    v2: CgroupTree, runner: Recorder, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "_DROP_INS", str(tmp_path))
    (tmp_path / "pvecri-podab.slice.d").mkdir()
    cgroup.PodCgroup("pvecri-podab.slice", runner, v2).remove()
    assert runner.calls == [["systemctl", "stop", "pvecri-podab.slice"]]
    assert not (tmp_path / "pvecri-podab.slice.d").exists()


def test_pod_cgroup_of_systemd(v2: CgroupTree, runner: Recorder) -> None:
    group = cgroup.PodCgroup("pvecri-podab.slice", runner, v2)
    group.make(Resources())
    group.remove()
    assert runner.calls == []
    group.make(Resources(memory_bytes=5))
    assert runner.calls == [
        ["systemctl", "set-property", "--runtime", "pvecri-podab.slice", "MemoryMax=5"],
        ["systemctl", "start", "pvecri-podab.slice"],
    ]
    pathlib.Path(v2.root, "pvecri.slice/pvecri-podab.slice").mkdir(parents=True)
    runner.calls.clear()
    group.remove()
    # Nothing that makes systemd read all units of the host anew.
    assert runner.calls == [["systemctl", "stop", "pvecri-podab.slice"]]


def test_a_cgroup_that_another_pod_uses_is_left_to_it(v2: CgroupTree, runner: Recorder) -> None:
    group = cgroup.PodCgroup("/a/b", runner, v2)
    group.make(Resources())
    pathlib.Path(v2.root, "a/b/other").mkdir()
    group.remove()
    assert group.exists()
