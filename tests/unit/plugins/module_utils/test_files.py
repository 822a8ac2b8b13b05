# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import stat
import subprocess
import sys

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import files
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict
from ansible_collections.pvecri.runtime.plugins.module_utils.syscalls import mounts_below


@pytest.mark.parametrize("durable", [False, True])
def test_write_atomic_replaces_and_sets_mode(tmp_path: pathlib.Path, durable: bool) -> None:
    target = tmp_path / "record.json"
    target.write_text("old")
    files.write_atomic(str(target), b"new", mode=0o600, durable=durable)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["record.json"]


def test_write_atomic_failure_leaves_the_old_file_and_no_litter(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "record.json"
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(str(target), b"new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_canonical_json_does_not_depend_on_order() -> None:
    assert (
        files.canonical_json({"b": 1, "a": "ä"})
        == files.canonical_json({"a": "ä", "b": 1})
        == '{"a":"ä","b":1}'.encode()
    )


def test_locked_refuses_a_second_holder_and_frees_on_exit(tmp_path: pathlib.Path) -> None:
    lock, web = str(tmp_path / "locks" / "web.lock"), "container 'web'"
    with (
        files.locked(lock, what=web),
        pytest.raises(Conflict, match=web),
        files.locked(lock, timeout_s=0.1, what=web),
    ):
        pass
    with files.locked(lock, timeout_s=0):
        pass


def test_locked_is_dropped_when_the_holder_is_killed(tmp_path: pathlib.Path) -> None:
    lock = tmp_path / "x.lock"
    code = (
        "import fcntl,os,sys,time; h=os.open(sys.argv[1],os.O_RDWR|os.O_CREAT);"
        "fcntl.flock(h,fcntl.LOCK_EX); print('held',flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Conflict), files.locked(str(lock), timeout_s=0):
            pass
        holder.kill()
        holder.wait()
    with files.locked(str(lock), timeout_s=5):
        pass


def test_remove_temporaries_leaves_other_files_alone(tmp_path: pathlib.Path) -> None:
    kept = ["c.json", ".c.json", ".c.json.x.json.abcd1234", "other", ".other.abcd1234", ".c.json."]
    for name in [*kept, ".c.json.abcd1234", ".c.json.a_b_c_d_"]:
        (tmp_path / name).touch()
    files.remove_temporaries(str(tmp_path / "c.json"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(kept)
    files.remove_temporaries(str(tmp_path / "missing" / "c.json"))


def _nested(path: pathlib.Path, depth: int) -> None:
    """Make directories within each other, deeper than a path may be long."""
    below = os.open(path, os.O_RDONLY)
    for number in range(depth):
        with open(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=below), "wb"):
            os.mkdir("d", dir_fd=below)
        if number % 7 == 0:
            os.mkdir("empty", dir_fd=below)
            os.symlink("/", "link", dir_fd=below)
        inner = os.open("d", os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = inner
    os.close(below)


def test_remove_tree_of_any_depth(tmp_path: pathlib.Path) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    _nested(top, 3000)
    files.remove_tree(str(top))
    assert os.listdir(tmp_path) == []


def test_remove_tree_follows_no_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "link").symlink_to("kept")
    with pytest.raises(NotADirectoryError):
        files.remove_tree(str(tmp_path / "link"))
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "below" / "link").symlink_to(tmp_path / "kept")
    files.remove_tree(str(tmp_path / "tree"))
    assert sorted(os.listdir(tmp_path)) == ["kept", "link"]
    assert (tmp_path / "kept" / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
@pytest.mark.parametrize("place", ["m", "a/b/m"])
def test_remove_tree_stops_at_a_mount(tmp_path: pathlib.Path, place: str) -> None:
    host, point = tmp_path / "host", tmp_path / "tree" / place
    host.mkdir()
    (host / "file").touch()
    point.mkdir(parents=True)
    subprocess.run(["mount", "--bind", host, point], check=True)
    try:
        with pytest.raises(OSError, match="busy"):
            files.remove_tree(str(tmp_path / "tree"))
        assert (host / "file").exists()
    finally:
        # It may have been moved up with the directory that it lies in.
        for mounted in mounts_below(str(tmp_path)):
            subprocess.run(["umount", mounted], check=True)
    files.remove_tree(str(tmp_path / "tree"))


def test_is_locked_tells_of_others_alone(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "lock")
    assert not files.is_locked(path)
    with files.locked(path):
        assert files.is_locked(path)
    assert not files.is_locked(path)
