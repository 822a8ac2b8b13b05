# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root disk of a guest is read where it is one, and nothing is told of a directory of another's."""

from __future__ import annotations

import os
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.disk import guests
from pvecri.state.records import Phase

LINE = "36 35 253:7 {root} {point} rw,relatime - ext4 /dev/dm-7 rw\n"


@pytest.fixture
def proc(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "7/root").symlink_to(tmp_path / "disk")
    syscalls.mount("tmpfs", str(tmp_path / "disk"), "tmpfs", 0, "size=1m,nr_inodes=100")
    yield tmp_path
    syscalls.umount2(str(tmp_path / "disk"))


def mountinfo(proc, *mounts):
    text = "".join(LINE.format(root=root, point=point) for root, point in mounts)
    (proc / "7/mountinfo").write_text(text)


def test_disk_of_its_own_is_counted(proc):
    mountinfo(proc, ("/", "/"), ("/volumes/1", "/data"))
    empty = guests.read(7, str(proc))
    (proc / "disk/file").write_bytes(bytes(100_000))
    found = guests.read(7, str(proc))
    assert 100_000 <= found.figure.usage.size_bytes - empty.figure.usage.size_bytes < 110_000
    assert found.figure.usage.inodes == empty.figure.usage.inodes + 1
    assert found.file_system.f_files == 100
    assert found.figure.time_ns > 0


@pytest.mark.parametrize(
    "mounts",
    [[("/var/lib/vz/images/100/subvol", "/")], [("/", "/"), ("/@", "/")], [("/", "/data")]],
    ids=["directory", "mounted-over", "none"],
)
def test_directory_of_a_file_system_is_not(proc, mounts):
    mountinfo(proc, *mounts)
    assert guests.read(7, str(proc)) is None


def test_process_that_is_gone_has_none(proc):
    assert guests.read(7, str(proc)) is None
    assert guests.read(8, str(proc)) is None


def test_own_process_can_be_read():
    # On whatever it runs: an answer, and no error.
    found = guests.read(os.getpid())
    assert found is None or found.figure.usage.size_bytes > 0


def test_directories_are_counted_of_guests_that_run_on_one(proc):
    mountinfo(proc, ("/var/lib/vz/images/100/subvol", "/"))
    (proc / "8").mkdir()
    (proc / "8/mountinfo").write_text(LINE.format(root="/", point="/"))
    guest = {"selection": {"runtime": "pve-lxc"}, "phase": Phase.RUNNING}
    made = {
        name: records.container("5" * 64, name, **{**guest, **fields})
        for name, fields in {
            "directory": {},
            "disk": {},
            "gone": {},
            "created": {"phase": Phase.CREATED},
            "unknown": {},
            "crun": {"selection": {"runtime": "crun"}},
        }.items()
    }
    states = {
        made[name].id: types.SimpleNamespace(pid=pid, is_alive=True)
        for name, pid in {"directory": 7, "disk": 8, "gone": 9, "created": 7}.items()
    }
    registry = types.SimpleNamespace(containers=made.values)
    found = guests.directories(registry, types.SimpleNamespace(state=states.get), str(proc))
    assert found == {
        made["directory"].id: f"{proc}/7/root/.",
        **{made[name].id: "" for name in ("disk", "gone", "created", "unknown")},
    }
