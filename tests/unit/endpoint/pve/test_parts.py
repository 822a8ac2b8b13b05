# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proxmox LXC is there where it is wanted, and hinders nobody else."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import records
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from pvecri.config.model import PveConfig
from pvecri.pve import parts
from pvecri.pve.node import PveNode


@pytest.fixture
def paths(tmp_path):
    return Paths(str(tmp_path / "s"), str(tmp_path / "r"), owner=Owner.CRI)


@pytest.mark.parametrize(
    ("enabled", "has_file", "has_record", "wanted"),
    [
        ("auto", False, False, False),
        ("auto", True, False, True),
        # What runs wants to be stopped, whoever took the file away.
        ("auto", False, True, True),
        ("true", False, False, True),
        ("false", True, True, False),
    ],
)
def test_is_wanted(paths, tmp_path, enabled: str, has_file: bool, has_record: bool, wanted: bool) -> None:
    file = tmp_path / "pve.json"
    if has_file:
        file.write_text("{}")
    if has_record:
        os.makedirs(records(paths))
        (tmp_path / "s/lxc/records" / f"{'a' * 64}.json").write_text("{}")
    assert parts.is_wanted(PveConfig(enabled=enabled, access_file=str(file)), paths) is wanted


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file or directory"),
        ("{}", "does not say host, port, user, token_id and secret"),
        ("\0", "does not say host, port, user, token_id and secret"),
        ("directory", "is there and no regular file"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_once_and_ends_nothing(
    paths, tmp_path, caplog, content: str | None, problem: str
) -> None:
    file = tmp_path / "pve.json"
    if content == "directory":
        file.mkdir()
    elif content is not None:
        file.write_text(content)
    log = logging.getLogger("test")
    with caplog.at_level(logging.INFO):
        parts.tell_problem(PveNode(PveConfig(access_file=str(file)), paths, log), log)
    (line,) = caplog.records
    assert line.message == "Proxmox LXC cannot be used"
    assert problem in line.problem
    assert "Run the role cri_endpoint" in line.problem


def test_a_token_that_others_may_read_is_told(paths, tmp_path, caplog) -> None:
    file = tmp_path / "pve.json"
    file.write_text('{"host": "localhost", "port": 8006, "user": "a@pve", "token_id": "t", "secret": "s"}')
    file.chmod(0o644)
    log = logging.getLogger("test")
    with caplog.at_level(logging.INFO):
        parts.tell_problem(PveNode(PveConfig(access_file=str(file)), paths, log), log)
    assert [line.message for line in caplog.records] == ["others may read the token"]


def test_a_daemon_without_proxmox_loads_nothing_of_it() -> None:
    program = (
        "import sys, pvecri.daemon.daemon\n"
        "print(*sorted({'requests', 'proxmoxer', 'pvecri.pve.node', 'pvecri.pve.watch'} & set(sys.modules)))"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
