# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw lines in a container's config file."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    Conflict,
    NotFound,
    Unsupported,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_raw

CONFIG = """#notes
arch: amd64
hostname: ct
lxc.cap.drop: sys_time
lxc.init.uid = 1000
"""

SECTIONS = """
[pve:pending]
memory: 1024

[before]
lxc.cap.drop: old
memory: 512
"""


@pytest.mark.parametrize(
    ("before", "lines", "after"),
    [
        ("", {"lxc.x": ("1",)}, "lxc.x: 1\n"),
        (CONFIG, {}, CONFIG),
        (CONFIG, {"lxc.x": ("1", "2")}, CONFIG + "lxc.x: 1\nlxc.x: 2\n"),
        ("arch: amd64\n", {"lxc.x": ("1",)}, "arch: amd64\nlxc.x: 1\n"),
        (CONFIG, {"lxc.init.uid": None}, CONFIG.replace("lxc.init.uid = 1000\n", "")),
        (CONFIG, {"lxc.init.uid": ("0",)}, CONFIG.replace("lxc.init.uid = 1000", "lxc.init.uid: 0")),
        (CONFIG, {"lxc.cap.drop": ("a", "b")}, CONFIG.replace("drop: sys_time", "drop: a\nlxc.cap.drop: b")),
        (CONFIG, {"lxc.cap.drop": ("sys_time",)}, CONFIG),
        (CONFIG, {"lxc.unknown": None}, CONFIG),
    ],
)
def test_edited_table(before, lines, after):
    assert lxc_raw.edited(before, lines) == after


def test_edited_leaves_sections_alone():
    after = lxc_raw.edited(CONFIG + SECTIONS, {"lxc.cap.drop": None, "lxc.x": ("1",)})
    assert after == CONFIG.replace("lxc.cap.drop: sys_time\n", "") + "lxc.x: 1\n" + SECTIONS


def test_edited_twice_is_the_same():
    lines = {"lxc.cap.drop": ("a", "b"), "lxc.x": ("1",)}
    once = lxc_raw.edited(CONFIG + SECTIONS, lines)
    assert lxc_raw.edited(once, lines) == once


def test_write_changes_the_file_once(tmp_path):
    (tmp_path / "100.conf").write_text(CONFIG)
    how = {"config_dir": str(tmp_path), "lock_dir": str(tmp_path / "lock")}
    assert lxc_raw.write(100, {"lxc.x": ("1",)}, **how)
    assert (tmp_path / "100.conf").read_text() == CONFIG + "lxc.x: 1\n"
    assert not lxc_raw.write(100, {"lxc.x": ("1",)}, **how)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["100.conf", "lock"]


def test_write_waits_for_proxmox_ves_own_lock(tmp_path, monkeypatch):
    (tmp_path / "100.conf").write_text(CONFIG)
    monkeypatch.setattr(lxc_raw, "_LOCK_TIMEOUT_S", 0.0)
    with locked(str(tmp_path / "pve-config-100.lock")), pytest.raises(Conflict, match="container 100"):
        lxc_raw.write(100, {"lxc.x": ("1",)}, config_dir=str(tmp_path), lock_dir=str(tmp_path))
    assert (tmp_path / "100.conf").read_text() == CONFIG


def test_write_needs_the_container_to_be_here(tmp_path):
    with pytest.raises(NotFound, match="not on this node"):
        lxc_raw.write(100, {"lxc.x": ("1",)}, config_dir=str(tmp_path), lock_dir=str(tmp_path))


def test_write_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    (tmp_path / "100.conf").write_text(CONFIG)

    def full(*_paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lxc_raw.os, "rename", full)
    with pytest.raises(OSError, match="No space"):
        lxc_raw.write(100, {"lxc.x": ("1",)}, config_dir=str(tmp_path), lock_dir=str(tmp_path / "l"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["100.conf", "l"]
    lxc_raw._discard(str(tmp_path / "never-there"))


def test_check_possible_names_node_and_remedy(tmp_path):
    with pytest.raises(Unsupported, match="as root on node 'pve7' itself"):
        lxc_raw.check_possible(100, "pve7", config_dir=str(tmp_path))
    (tmp_path / "100.conf").write_text(CONFIG)
    lxc_raw.check_possible(100, "pve7", config_dir=str(tmp_path))


def test_local_node(tmp_path):
    link = tmp_path / "local"
    link.symlink_to("nodes/pve3")
    assert lxc_raw.local_node(str(link)) == "pve3"
    assert lxc_raw.local_node(str(tmp_path / "nothing")) is None


def test_bytes_that_are_no_text_stay(tmp_path):
    config = tmp_path / "100.conf"
    config.write_bytes(b"memory: 512\nlxc.environment: A=\xff\n")
    assert lxc_raw.write(
        100, {"lxc.apparmor.profile": ("generated",)}, config_dir=tmp_path, lock_dir=tmp_path
    )
    assert config.read_bytes() == (b"memory: 512\nlxc.environment: A=\xff\nlxc.apparmor.profile: generated\n")


def test_write_sweeps_what_killed_processes_left(tmp_path):
    (tmp_path / "100.conf").write_text("arch: amd64\n")
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f"100.conf.tmp.{dead.pid}", f"101.conf.tmp.{dead.pid}", "100.conf.tmp.1"):
        (tmp_path / name).write_text("")
    assert lxc_raw.write(100, {"lxc.x": ("1",)}, config_dir=str(tmp_path), lock_dir=str(tmp_path / "l"))
    left = {entry.name for entry in tmp_path.iterdir() if ".tmp." in entry.name}
    assert left == {f"101.conf.tmp.{dead.pid}", "100.conf.tmp.1"}


def test_included_are_the_files_of_that_key_alone():
    lines = [["lxc.include", "/a"], ["lxc.init.uid", "1000"], ["lxc.include", "/b"]]
    assert lxc_raw.included({"lxc": lines}) == ("/a", "/b")
    assert lxc_raw.included({}) == ()


@pytest.mark.parametrize("lines", [7, [7], ["lxc.include"]])
def test_included_of_an_answer_that_is_none_is_told(lines):
    with pytest.raises(ApiError, match="not like one of Proxmox VE"):
        lxc_raw.included({"lxc": lines})
