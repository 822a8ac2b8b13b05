# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node after the role took the endpoint away: nothing of it is in the kernel or in systemd."""

from __future__ import annotations

import pathlib

from ansible_collections.pvecri.runtime.tests.vm.node import CGROUPS, run


def test_no_control_group_is_left() -> None:
    left = [path for path in CGROUPS.rglob("*pvecri*") if path.is_dir()]
    assert left == []


def test_no_unit_is_left() -> None:
    assert run("systemctl", "list-units", "--all", "--plain", "--no-legend", "pvecri*", "crun*") == ""
    files = run("systemctl", "list-unit-files", "--plain", "--no-legend").splitlines()
    assert [line for line in files if line.startswith("pvecri")] == []
    assert list(pathlib.Path("/run/systemd").rglob("pvecri*")) == []


def test_no_mount_and_no_process_is_left() -> None:
    assert "pvecri" not in pathlib.Path("/proc/self/mountinfo").read_text()
    commands = [path.read_text() for path in pathlib.Path("/proc").glob("[0-9]*/comm")]
    assert not {"conmon\n", "crun\n"} & set(commands)


def test_no_profile_is_left() -> None:
    assert "pvecri-default" not in pathlib.Path("/sys/kernel/security/apparmor/profiles").read_text()


def test_no_file_is_left() -> None:
    for place in (
        "/usr/lib/pvecri",
        "/usr/local/sbin/pvecri",
        "/etc/pvecri",
        "/var/lib/pvecri",
        "/run/pvecri",
    ):
        assert not pathlib.Path(place).exists(), place
