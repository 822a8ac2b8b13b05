# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cgroup files of both versions, in directories of the test's own."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import cgroups
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree


@pytest.fixture(params=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> str:
    """The version of the hierarchy."""
    return str(request.param)


@pytest.fixture
def tree(tmp_path: pathlib.Path, version: str) -> CgroupTree:
    """A hierarchy with one group."""
    if version == "v2":
        (tmp_path / "cgroup.controllers").write_text("cpu\n")
        (tmp_path / "g").mkdir()
    else:
        for name in ("freezer", "memory", "pids", "systemd"):
            (tmp_path / name / "g").mkdir(parents=True)
    return CgroupTree(str(tmp_path))


def test_path(tree: CgroupTree, version: str) -> None:
    assert tree.is_v2 is (version == "v2")
    top = tree.root if version == "v2" else f"{tree.root}/memory"
    assert tree.path("/g", "memory", "x") == f"{top}/g/x"


@pytest.mark.parametrize(
    ("v1", "v2", "expected"),
    [("FROZEN\n", "1\n", True), ("FREEZING\n", "1\n", True), ("THAWED\n", "0\n", False), (None, None, False)],
)
def test_is_frozen(tree: CgroupTree, version: str, v1: str | None, v2: str | None, expected: bool) -> None:
    text, name = (v2, "cgroup.freeze") if version == "v2" else (v1, "freezer.state")
    if text is not None:
        pathlib.Path(tree.path("/g", "freezer", name)).write_text(text)
    assert tree.is_frozen("/g") is expected


@pytest.mark.parametrize(("count", "expected"), [("oom_kill 2\n", 2), ("other 1\n", 0), ("", 0)])
def test_oom_kills(tree: CgroupTree, version: str, count: str, expected: int) -> None:
    name = "memory.events" if version == "v2" else "memory.oom_control"
    pathlib.Path(tree.path("/g", "memory", name)).write_text("oom_kill_disable 0\n" + count)
    assert tree.oom_kills("/g") == expected


def test_write(tree: CgroupTree) -> None:
    tree.write("/g", "pids", "pids.max", "max")
    assert pathlib.Path(tree.path("/g", "pids", "pids.max")).read_text() == "max"


def test_adopt(tree: CgroupTree, version: str) -> None:
    assert tree.adopt(42) is True
    top = pathlib.Path(tree.root) if version == "v2" else pathlib.Path(tree.root, "systemd")
    assert (top / "pvecri-conmon" / "cgroup.procs").read_text() == "42"


def test_adopt_where_that_is_not_possible(tree: CgroupTree, version: str) -> None:
    top = pathlib.Path(tree.root) if version == "v2" else pathlib.Path(tree.root, "systemd")
    (top / "pvecri-conmon").write_text("a file")
    assert tree.adopt(42) is False


def test_remove(tree: CgroupTree) -> None:
    tree.remove("/g")
    assert not os.path.exists(tree.path("/g", "memory"))
    tree.remove("/g")


def test_remove_waits_for_the_kernel(tree: CgroupTree, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [OSError(16, "busy"), OSError(16, "busy")]
    real = os.rmdir

    def rmdir(path: str) -> None:
        if refusals:
            raise refusals.pop()
        real(path)

    monkeypatch.setattr(os, "rmdir", rmdir)
    tree.remove("/g")
    assert not os.path.exists(tree.path("/g", "memory"))


def test_remove_gives_up_in_the_end(tree: CgroupTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def rmdir(_path: str) -> None:
        raise OSError(16, "busy")

    monkeypatch.setattr(os, "rmdir", rmdir)
    with pytest.raises(OSError, match="busy"):
        tree.remove("/g", timeout_s=0.01)


def test_remove_leaves_groups_below(tree: CgroupTree) -> None:
    os.mkdir(tree.path("/g", "memory", "below"))
    with pytest.raises(OSError, match="not empty"):
        tree.remove("/g")
    assert os.path.isdir(tree.path("/g", "memory", "below"))


def test_hierarchy_that_is_not_there(tmp_path: pathlib.Path) -> None:
    tree = CgroupTree(str(tmp_path / "none"))
    tree.remove("/g")
    assert tree.oom_kills("/g") == 0


@pytest.mark.parametrize(
    ("swap_max", "swap_used", "free_kib", "expected"),
    [
        ("max", "0", 0, 1030),
        ("0", "0", 100, 1030),
        ("max", "0", 100, 30),
        ("500", "100", 100, 630),
        ("500", "", 100, 530),
        ("500", "600", 100, 1030),
        (None, None, 100, 30),
    ],
)
def test_pinned_memory(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    swap_max: str | None,
    swap_used: str | None,
    free_kib: int,
    expected: int,
) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    group = tmp_path / "only"
    group.mkdir()
    stat = "anon 900\nshmem 100\nfile 7\nkernel_stack 10\npagetables 10\nslab_unreclaimable 10\n"
    (group / "memory.stat").write_text(stat)
    for name, text in (("memory.swap.max", swap_max), ("memory.swap.current", swap_used)):
        if text is not None:
            (group / name).write_text(text)
    real = cgroups._read
    answers = {"/proc/meminfo": f"MemFree: 5 kB\nSwapFree: {free_kib} kB\n"}
    monkeypatch.setattr(cgroups, "_read", lambda path: answers.get(path) or real(path))
    assert CgroupTree(str(tmp_path)).pinned_memory("/only") == expected
    answers["/proc/meminfo"] = "MemFree: 5 kB\n"
    assert CgroupTree(str(tmp_path)).pinned_memory("/only") == 1030
