# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of real containers, changed while they run."""

from __future__ import annotations

import os
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState

pytestmark = pytest.mark.host

Bundle = t.Callable[..., str]
MIB = 1 << 20

TREE = CgroupTree()


@pytest.fixture
def box(runtime: CrunRuntime, bundle: Bundle) -> str:
    """A running container; returns its name."""
    runtime.create(bundle(), "box")
    runtime.start("box")
    return "box"


def read(runtime: CrunRuntime, name: str, v1: tuple[str, str], v2: str) -> str:
    state = runtime.state(name)
    assert state is not None
    controller, file = ("", v2) if TREE.is_v2 else v1
    with open(TREE.path(str(state.cgroup), controller, file), encoding="ascii") as stream:
        return stream.read().strip()


@pytest.mark.parametrize(
    ("change", "v1", "v2", "expected"),
    [
        ({"memory": {"limit": 64 * MIB}}, ("memory", "memory.limit_in_bytes"), "memory.max", {str(64 * MIB)}),
        ({"pids": {"limit": 55}}, ("pids", "pids.max"), "pids.max", {"55"}),
        ({"cpu": {"shares": 512}}, ("cpu", "cpu.shares"), "cpu.weight", {"512", "20", "59"}),
        (
            {"cpu": {"quota": 50000, "period": 100000}},
            ("cpu", "cpu.cfs_quota_us"),
            "cpu.max",
            {"50000", "50000 100000"},
        ),
    ],
)
def test_update_sets_a_limit(
    runtime: CrunRuntime, box: str, change: dict[str, t.Any], v1: tuple[str, str], v2: str, expected: set[str]
) -> None:
    runtime.update(box, change)
    assert read(runtime, box, v1, v2) in expected


@pytest.mark.parametrize("limit", [0, -1])
def test_update_lifts_the_limit_on_processes(runtime: CrunRuntime, box: str, limit: int) -> None:
    runtime.update(box, {"pids": {"limit": 5}})
    runtime.update(box, {"pids": {"limit": limit}})
    assert read(runtime, box, ("pids", "pids.max"), "pids.max") == "max"


def test_update_lifts_the_quota(runtime: CrunRuntime, box: str) -> None:
    runtime.update(box, {"cpu": {"quota": 50000, "period": 100000}})
    runtime.update(box, {"cpu": {"quota": -1}, "pids": {"limit": 9}})
    assert read(runtime, box, ("cpu", "cpu.cfs_quota_us"), "cpu.max") in {"-1", "max 100000"}
    assert read(runtime, box, ("pids", "pids.max"), "pids.max") == "9"


def test_update_raises_and_lowers_memory_and_swap(runtime: CrunRuntime, box: str) -> None:
    for limit in (64, 256, 32):
        runtime.update(box, {"memory": {"limit": limit * MIB, "swap": (limit + 8) * MIB}})
        assert read(runtime, box, ("memory", "memory.limit_in_bytes"), "memory.max") == str(limit * MIB)
    runtime.update(box, {"memory": {"limit": -1, "swap": -1}})
    assert read(runtime, box, ("memory", "memory.limit_in_bytes"), "memory.max") in {
        "max",
        "9223372036854771712",
    }


def test_update_of_a_created_container(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    runtime.update("one", {"pids": {"limit": 7}})
    assert read(runtime, "one", ("pids", "pids.max"), "pids.max") == "7"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"devices": [{"allow": True, "access": "rwm"}]}, "linux.resources.devices"),
        ({"cpu": {"cpus": "4000"}}, "linux.resources.cpu.cpus"),
        ({"memory": {"limit": 1}}, "linux.resources.memory.limit"),
    ],
)
def test_update_that_cannot_be(runtime: CrunRuntime, box: str, change: dict[str, t.Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        runtime.update(box, change)
    assert caught.value.field == field


def test_update_of_what_has_ended(runtime: CrunRuntime, box: str) -> None:
    runtime.stop(box, timeout_s=0)
    with pytest.raises(WrongState, match="stopped"):
        runtime.update(box, {"pids": {"limit": 7}})


def test_conmon_is_taken_out_of_the_caller_s_group(runtime: CrunRuntime, box: str) -> None:
    state = runtime.state(box)
    assert state is not None
    with open(f"/proc/{state.conmon_pid}/cgroup", encoding="ascii") as stream:
        groups = [line.rstrip().split(":")[1:] for line in stream]
    hierarchy = "" if TREE.is_v2 else "name=systemd"
    assert [hierarchy, "/pvecri-conmon"] in groups


def test_cgroups_are_gone_with_the_container(runtime: CrunRuntime, box: str) -> None:
    state = runtime.state(box)
    assert state is not None
    group = TREE.path(str(state.cgroup), "pids")
    assert os.path.isdir(group)
    runtime.delete(box, force=True)
    assert not os.path.isdir(group)
