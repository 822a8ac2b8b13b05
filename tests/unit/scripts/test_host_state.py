# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as left behind on a host."""

from __future__ import annotations

import importlib.util
import pathlib
import types

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(name="host_state", scope="module")
def fixture_host_state() -> types.ModuleType:
    path = ROOT / "extensions/molecule/default/files/host_state.py"
    spec = importlib.util.spec_from_file_location("host_state", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILE = "-rw-r--r-- 0:0"


@pytest.mark.parametrize(
    ("section", "key", "before", "after", "is_told"),
    [
        ("files", "/etc/pvecri/config.toml", None, FILE, True),
        ("files", "/etc/hosts", f"{FILE} 1", f"{FILE} 2", True),
        ("files", "/etc/hosts", FILE, None, True),
        ("files", "/etc/hosts", FILE, FILE, False),
        ("files", "/usr/bin/crun", None, FILE, False),
        ("files", "/usr/bin/crun", FILE, f"{FILE} 2", True),
        ("files", "/usr/sbin/iptables", None, "lrwxrwxrwx 0:0 /etc/alternatives/iptables", False),
        ("files", "/var/log/apt/history.log", None, FILE, False),
        ("files", "/var/lib/containers/cache", None, FILE, False),
        ("units", "pvecri.service", None, "enabled", True),
        ("units", "crun.service", None, "static", False),
        ("rules", "iptables nat -A POSTROUTING", None, "", True),
        ("mounts", "/run/netns/pod", None, "nsfs nsfs", True),
        ("network", "interface pvecri0", None, "", True),
    ],
)
def test_differences_table(
    host_state: types.ModuleType, section: str, key: str, before: str | None, after: str | None, is_told: bool
) -> None:
    then = {section: {} if before is None else {key: before}}
    now = {section: {} if after is None else {key: after}}
    owned = {"/usr/bin/crun", "/usr/lib/systemd/system/crun.service"}
    lines = host_state.differences(then, now, owned, [host_state.EXPECTED, host_state.PACKAGES])
    assert [line.startswith(f"{section}: {key}: ") for line in lines] == ([True] if is_told else [])


def test_differences_of_packages_that_are_gone_are_told(host_state: types.ModuleType) -> None:
    now = {"files": {"/var/lib/containers/cache": FILE}}
    assert len(host_state.differences({"files": {}}, now, set(), [host_state.EXPECTED])) == 1
