# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits as files of a cgroup and as options of Proxmox VE."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import resources
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.resources import MIB

Json = dict[str, t.Any]


@pytest.mark.parametrize(
    ("asked", "v2", "v1"),
    [
        ({}, {}, {}),
        ({"cpu": {"shares": 2}}, {"cpu.weight": "1"}, {"cpu.shares": "2"}),
        ({"cpu": {"shares": 262144}}, {"cpu.weight": "10000"}, {"cpu.shares": "262144"}),
        ({"cpu": {"quota": 5000}}, {"cpu.max": "5000 100000"}, {"cpu.cfs_quota_us": "5000"}),
        ({"cpu": {"period": 7000}}, {"cpu.max": "max 7000"}, {"cpu.cfs_period_us": "7000"}),
        ({"cpu": {"quota": -1}}, {"cpu.max": "max 100000"}, {"cpu.cfs_quota_us": "-1"}),
        ({"cpu": {"quota": 0}}, {"cpu.max": "max 100000"}, {"cpu.cfs_quota_us": "-1"}),
        (
            {"cpu": {"cpus": "0-1", "mems": "0"}},
            {"cpuset.cpus": "0-1", "cpuset.mems": "0"},
            {"cpuset.cpus": "0-1", "cpuset.mems": "0"},
        ),
        (
            {"memory": {"limit": 100, "swap": 150, "reservation": 50}},
            {"memory.high": "max", "memory.max": "100", "memory.low": "50", "memory.swap.max": "50"},
            {
                "memory.limit_in_bytes": "100",
                "memory.memsw.limit_in_bytes": "150",
                "memory.soft_limit_in_bytes": "50",
            },
        ),
        (
            {"memory": {"limit": -1, "swap": -1, "reservation": -1}},
            {"memory.high": "max", "memory.max": "max", "memory.low": "0", "memory.swap.max": "max"},
            {
                "memory.limit_in_bytes": "-1",
                "memory.memsw.limit_in_bytes": "-1",
                "memory.soft_limit_in_bytes": "-1",
            },
        ),
        ({"pids": {"limit": 5}}, {"pids.max": "5"}, {"pids.max": "5"}),
        ({"pids": {"limit": -1}}, {"pids.max": "max"}, {"pids.max": "max"}),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]},
            {"hugetlb.2MB.max": "4"},
            {"hugetlb.2MB.limit_in_bytes": "4"},
        ),
        (
            {"blockIO": {"weight": 10, "throttleWriteBpsDevice": [{"major": 8, "minor": 1, "rate": 9}]}},
            {"io.bfq.weight": "10", "io.max": "8:1 wbps=9"},
            {"blkio.bfq.weight": "10", "blkio.throttle.write_bps_device": "8:1 9"},
        ),
    ],
)
def test_settings_of_both_versions(asked: Json, v2: Json, v1: Json) -> None:
    for expected, uses_v2 in ((v2, True), (v1, False)):
        made = resources.settings(asked, uses_v2=uses_v2)
        assert {setting.file: setting.value for setting in made} == expected


def test_settings_of_raw_files_need_v2() -> None:
    asked = {"unified": {"memory.high": " 7\n"}}
    assert resources.settings(asked, uses_v2=True)[0].value == "7"
    with pytest.raises(Unsupported, match="unified"):
        resources.settings(asked, uses_v2=False)


@pytest.mark.parametrize("memory", [{"swap": 5}, {"limit": 10, "swap": 5}, {"limit": -1, "swap": 5}])
def test_settings_of_swap_that_is_no_sum_are_refused(memory: Json) -> None:
    with pytest.raises(InvalidSpec, match="memory_swap"):
        resources.settings({"memory": memory}, uses_v2=True)


@pytest.mark.parametrize(
    ("asked", "limits"),
    [
        ({}, {}),
        ({"pids": {"limit": 5}}, {}),
        ({"cpu": {"shares": 512}}, {"cpuunits": 20}),
        ({"cpu": {"quota": 150_000}}, {"cpulimit": 1.5, "cores": 2}),
        ({"cpu": {"quota": 1000, "period": 1_000_000}}, {"cpulimit": 0.01, "cores": 1}),
        ({"cpu": {"quota": 200_000, "period": 100_000}}, {"cpulimit": 2, "cores": 2}),
        ({"cpu": {"quota": -1}}, {"cpulimit": None, "cores": None}),
        ({"cpu": {"quota": 50_000, "cpus": "3"}}, {"cpulimit": 0.5, "cores": None}),
        ({"memory": {"limit": 100 * MIB}}, {"memory": 100}),
        ({"memory": {"limit": 100 * MIB + 1}}, {"memory": 101}),
        ({"memory": {"limit": 1}}, {"memory": 16}),
        ({"memory": {"limit": 100 * MIB, "swap": 100 * MIB}}, {"memory": 100, "swap": 0}),
        ({"memory": {"limit": 100 * MIB, "swap": 101 * MIB + 1}}, {"memory": 100, "swap": 2}),
    ],
)
def test_pve_limits(asked: Json, limits: Json) -> None:
    assert resources.pve_limits(asked) == limits


def test_pve_limits_that_are_lifted_become_the_hosts_memory() -> None:
    host = resources.host_memory_mib()
    assert host > 64
    lifted = resources.pve_limits({"memory": {"limit": -1, "swap": -1}})
    assert lifted == {"memory": host, "swap": host}
    assert resources.pve_limits({"cpu": {"shares": 512}}, uses_v2=False) == {"cpuunits": 512}


# ---- written ---------------------------------------------------------------------------------------------


@pytest.fixture
def v2(tmp_path: pathlib.Path) -> CgroupTree:
    """A tree of files that stands for cgroup v2, with one container."""
    (tmp_path / "cgroup.controllers").touch()
    inner = tmp_path / "lxc/7/ns"
    inner.mkdir(parents=True)
    for place in (inner, inner.parent):
        for name in ("memory.max", "memory.swap.max", "memory.high", "cpu.max", "cpu.weight", "pids.max"):
            (place / name).touch()
    (inner.parent / "cpu.max").write_text("max 50000\n")
    return CgroupTree(str(tmp_path))


@pytest.fixture
def v1(tmp_path: pathlib.Path) -> CgroupTree:
    """The same for cgroup v1."""
    for controller in ("memory", "cpu", "cpuset", "pids"):
        (tmp_path / controller / "lxc/7/ns").mkdir(parents=True)
    return CgroupTree(str(tmp_path))


class _Writes(list[tuple[str, str]]):
    """What is written to a tree, in its order."""

    def __init__(self, tree: CgroupTree, monkeypatch: pytest.MonkeyPatch, *refused: tuple[str, str]) -> None:
        super().__init__()

        def write(_tree: CgroupTree, group: str, _controller: str, name: str, value: str) -> None:
            self.append((f"{group}/{name}", value))
            if (group, name) in refused:
                raise OSError(22, os.strerror(22))

        monkeypatch.setattr(CgroupTree, "write", write)


def test_apply_writes_what_is_seen_from_within_to_the_inner_group_too(v2: CgroupTree) -> None:
    asked = {"memory": {"limit": 100 * MIB, "swap": 100 * MIB}, "cpu": {"shares": 1024}, "pids": {"limit": 3}}
    resources.apply(v2, 7, asked)
    top = pathlib.Path(v2.root, "lxc/7")
    written = {
        name: (top / name).read_text() for name in ("memory.max", "memory.high", "cpu.weight", "pids.max")
    }
    assert written == {
        "memory.max": str(100 * MIB),
        "memory.high": "max",
        "cpu.weight": "39",
        "pids.max": "3",
    }
    assert (top / "ns/memory.max").read_text() == str(100 * MIB)
    assert (top / "ns/memory.swap.max").read_text() == "0"
    assert (top / "ns/pids.max").read_text() == ""


@pytest.mark.parametrize(
    ("cpu", "text"),
    [
        ({"quota": 5000}, "5000 50000"),
        ({"period": 7000}, "max 7000"),
        ({"quota": 5000, "period": 6000}, "5000 6000"),
    ],
)
def test_apply_keeps_the_other_half_of_cpu_max(v2: CgroupTree, cpu: Json, text: str) -> None:
    resources.apply(v2, 7, {"cpu": cpu})
    assert pathlib.Path(v2.root, "lxc/7/cpu.max").read_text() == text


def test_apply_names_a_controller_that_is_missing(v2: CgroupTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_args: str) -> None:
        raise FileNotFoundError(2, "none")

    monkeypatch.setattr(CgroupTree, "write", write)
    with pytest.raises(Unsupported, match=r"pids\.max"):
        resources.apply(v2, 7, {"pids": {"limit": 3}})


@pytest.mark.parametrize(
    ("now", "limit", "first"),
    [("100", 200, "memory.memsw.limit_in_bytes"), ("300", 200, "memory.limit_in_bytes")],
    ids=["grows", "shrinks"],
)
def test_apply_of_v1_keeps_memory_below_memory_with_swap(
    v1: CgroupTree, monkeypatch: pytest.MonkeyPatch, now: str, limit: int, first: str
) -> None:
    pathlib.Path(v1.root, "memory/lxc/7/memory.memsw.limit_in_bytes").write_text(now)
    writes = _Writes(v1, monkeypatch)
    resources.apply(v1, 7, {"memory": {"limit": limit, "swap": limit}})
    assert writes[0][0] == f"/lxc/7/{first}"


def test_apply_of_v1_shrinks_the_inner_group_first(v1: CgroupTree, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = _Writes(v1, monkeypatch)
    resources.apply(v1, 7, {"cpu": {"cpus": "1"}})
    names = [name for name, _value in writes]
    assert names == [f"/lxc/7{inner}/cpuset.cpus" for inner in ("", "/ns", "")]


def test_apply_names_what_the_kernel_refuses(v1: CgroupTree, monkeypatch: pytest.MonkeyPatch) -> None:
    _Writes(v1, monkeypatch, ("/lxc/7", "cpuset.cpus"))
    with pytest.raises(InvalidSpec, match=r"cpuset\.cpus"):
        resources.apply(v1, 7, {"cpu": {"cpus": "99"}})
    with pytest.raises(InvalidSpec, match="devices"):
        resources.apply(v1, 7, {"devices": [{}]})


def test_inner_writes_are_those_that_programs_ask_for(v2: CgroupTree) -> None:
    asked = {"memory": {"limit": 5 * MIB}, "pids": {"limit": 3}, "cpu": {"quota": 1000, "shares": 5}}
    assert resources.inner_writes(v2, 7, asked) == [
        (f"{v2.root}/lxc/7/ns/cpu.max", "1000 100000"),
        (f"{v2.root}/lxc/7/ns/memory.max", str(5 * MIB)),
    ]


def test_apply_refuses_less_memory_than_is_in_use(v2: CgroupTree) -> None:
    pathlib.Path(v2.root, "lxc/7/memory.stat").write_text(f"kernel_stack {100 * MIB}\n")
    with pytest.raises(InvalidSpec, match="already use"):
        resources.apply(v2, 7, {"memory": {"limit": 50 * MIB}})
