# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sweeping takes what is stale and ours, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import time

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.pve import leftovers

NAME = re.compile(r"x-[a-z]+")


def aged(path, age_s):
    os.utime(path, (time.time() - age_s,) * 2, follow_symlinks=False)
    return path


def test_sweep_takes_stale_files_and_directories(tmp_path):
    (tmp_path / "x-dir" / "below").mkdir(parents=True)
    (tmp_path / "x-dir" / "below" / "file").write_text("")
    (tmp_path / "x-young").write_text("")
    (tmp_path / "other").write_text("")
    (tmp_path / "x-file").write_text("")
    (tmp_path / "x-link").symlink_to(tmp_path / "other")
    for name in ("x-dir", "other", "x-file", "x-link"):
        aged(tmp_path / name, leftovers.STALE_S + 60)
    aged(tmp_path / "x-young", leftovers.STALE_S - 60)
    leftovers.sweep(str(tmp_path), NAME)
    assert sorted(os.listdir(tmp_path)) == ["other", "x-link", "x-young"]


def test_sweep_leaves_what_is_others(tmp_path, monkeypatch):
    aged(tmp_path, 0)
    (tmp_path / "x-file").write_text("")
    aged(tmp_path / "x-file", leftovers.STALE_S + 60)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    leftovers.sweep(str(tmp_path), NAME)
    assert os.listdir(tmp_path) == ["x-file"]


@pytest.mark.parametrize("sweep", [leftovers.sweep, leftovers.sweep_dead])
def test_sweep_of_no_directory_does_nothing(tmp_path, sweep):
    sweep(str(tmp_path / "none"), NAME)
    assert os.listdir(tmp_path) == []


def test_sweep_dead_asks_for_the_process(tmp_path):
    process = subprocess.Popen(["true"])
    process.wait()
    (tmp_path / f"1.tmp.{process.pid}").write_text("")
    (tmp_path / f"1.tmp.{os.getpid()}").write_text("")
    (tmp_path / f"11.tmp.{process.pid}").write_text("")
    leftovers.sweep_dead(str(tmp_path), re.compile(r"1\.tmp\.(?P<pid>[0-9]+)"))
    assert sorted(os.listdir(tmp_path)) == sorted([f"1.tmp.{os.getpid()}", f"11.tmp.{process.pid}"])
