# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of waiting in advance for moves between cgroups."""

from __future__ import annotations

import os
import pathlib
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.anticipation import Anticipation

ENDLESS_S = 1000.0


def tree(tmp_path: pathlib.Path, own: str, *groups: str) -> Anticipation:
    """Return an anticipation for a process in the cgroups ``own``; ``groups`` are there."""
    root = tmp_path / "cgroup"
    for group in groups:
        (root / group).mkdir(parents=True)
        (root / group / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    (tmp_path / "own").write_text(own)
    return Anticipation(str(root), str(tmp_path / "own"))


@pytest.mark.parametrize(
    ("own", "groups", "written"),
    [
        ("0::/system.slice/x.service\n", ["system.slice/x.service"], "system.slice/x.service"),
        ("0::/\n", ["."], "."),
        ("4:memory:/a\n1:name=systemd:/b\n0::/\n", ["memory/a", "systemd/b"], "memory/a"),
        ("4:memory:/gone\n1:name=systemd:/b\n0::/\n", ["systemd/b", "unified"], "systemd/b"),
        ("4:memory:/gone\n0::/c\n", ["unified/c"], "unified/c"),
        ("2:cpu,cpuacct:/a:b\n", ["cpu,cpuacct/a:b"], "cpu,cpuacct/a:b"),
    ],
)
def test_wait_now_moves_to_where_it_is(
    tmp_path: pathlib.Path, own: str, groups: list[str], written: str
) -> None:
    anticipation = tree(tmp_path, own, *groups)
    anticipation.wait_now()
    anticipation.wait_now()
    found = {
        str(path.parent.relative_to(tmp_path / "cgroup")): path.read_text()[0]
        for path in (tmp_path / "cgroup").rglob("cgroup.procs")
    }
    assert found == {**dict.fromkeys(groups, "1"), written: "0"}


def test_wait_now_keeps_away_from_a_cgroup_in_which_it_is_not(tmp_path: pathlib.Path) -> None:
    """As where the hierarchies of another cgroup namespace are mounted."""
    anticipation = tree(tmp_path, "0::/\n", ".")
    procs = tmp_path / "cgroup" / "cgroup.procs"
    procs.write_text(f"1\n{os.getpid()}0\n")
    with pytest.raises(FileNotFoundError):
        anticipation.wait_now()
    assert procs.read_text() == f"1\n{os.getpid()}0\n"


@pytest.mark.parametrize("own", ["", "0::/gone\n"])
def test_wait_now_without_a_cgroup_to_write(tmp_path: pathlib.Path, own: str) -> None:
    with pytest.raises(FileNotFoundError):
        tree(tmp_path, own).wait_now()


class Counted(Anticipation):
    """Counts its waits instead of waiting, and is refused after ``allowed`` of them."""

    def __init__(self, allowed: int) -> None:
        super().__init__()
        self.allowed = allowed
        self.waits = 0
        self.threads: list[threading.Thread] = []
        self.refused = threading.Event()

    def wait_now(self) -> None:
        self.waits += 1
        self.threads.append(threading.current_thread())
        if self.waits > self.allowed:
            self.refused.set()
            raise PermissionError("a read-only cgroup file system")


def test_expect_waits_again_and_again_in_one_thread_until_refused() -> None:
    anticipation = Counted(allowed=2)
    anticipation.expect(ENDLESS_S)
    anticipation.expect(ENDLESS_S)
    assert anticipation.refused.wait(30)
    anticipation.threads[0].join(30)
    assert anticipation.waits == 3
    assert len(set(anticipation.threads)) == 1

    anticipation.expect(ENDLESS_S)
    assert anticipation.waits == 3


def test_expect_without_room_for_a_thread_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    anticipation = Counted(allowed=0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        anticipation.expect(ENDLESS_S)
    anticipation.expect(ENDLESS_S)
    assert anticipation.refused.wait(30)


def test_expect_goes_on_after_a_pause() -> None:
    anticipation = Counted(allowed=1)
    anticipation.expect(0.0)
    anticipation.expect(ENDLESS_S)
    assert anticipation.refused.wait(30)
