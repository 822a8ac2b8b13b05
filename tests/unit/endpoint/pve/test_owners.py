# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a file system can show files to an unprivileged guest as its own is tried on the file system."""

from __future__ import annotations

import os

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from pvecri.pve.owners import Owners


@pytest.fixture
def owners():
    return Owners()


@pytest.fixture
def overlay(tmp_path):
    places = [tmp_path / name for name in ("lower", "upper", "work", "merged")]
    for place in places:
        place.mkdir()
    lower, upper, work, merged = map(str, places)
    # The tests may lie on an overlay themselves, and one cannot be the upper layer of another.
    syscalls.mount("tmpfs", str(tmp_path), "tmpfs")
    try:
        for place in places:
            place.mkdir()
        syscalls.mount("overlay", merged, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
        try:
            yield merged
        finally:
            syscalls.umount2(merged)
    finally:
        syscalls.umount2(str(tmp_path), syscalls.MNT_DETACH)


def test_overlays_cannot(owners, overlay):
    assert owners.problem(overlay) == "overlayfs"
    # Also for what is not there yet.
    assert owners.problem(f"{overlay}/not/yet") == "overlayfs"


def test_kernels_own_files_cannot(owners):
    assert owners.problem("/proc/sys").startswith("a file system of kind 0x")


def test_tmpfs_can_and_is_tried_once(owners, tmp_path, monkeypatch):
    syscalls.mount("tmpfs", str(tmp_path), "tmpfs")
    try:
        assert owners.problem(str(tmp_path)) == ""
        monkeypatch.setattr(syscalls, "open_tree_clone", lambda _path: pytest.fail("tried again"))
        assert owners.problem(f"{tmp_path}/x") == ""
    finally:
        syscalls.umount2(str(tmp_path))


def test_path_that_cannot_be_looked_at_is_for_who_mounts_it(owners, monkeypatch):
    def fail(_path):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(syscalls, "file_system_kind", fail)
    assert owners.problem("/srv") == ""
