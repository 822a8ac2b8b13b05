# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's unit under a systemd that owns the machine."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.vm.node import Node, eventually, run, unit_properties

UNIT = "pvecri.service"
DROP_IN = pathlib.Path("/run/systemd/system/pvecri.service.d/verify.conf")


def main_pid() -> int:
    return int(unit_properties(UNIT, "MainPID")["MainPID"])


def last_sign() -> int:
    """Return when the daemon last told systemd that it works."""
    name = "WatchdogTimestampMonotonic"
    return int(unit_properties(UNIT, name)[name])


def answers(node: Node) -> bool:
    return node.crictl.try_("version").returncode == 0


@pytest.fixture
def short_watchdog(node: Node) -> t.Iterator[None]:
    """The unit as it is, but for a watchdog that does not take a minute."""
    DROP_IN.parent.mkdir(parents=True)
    DROP_IN.write_text("[Service]\nWatchdogSec=20\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", UNIT)
    yield
    DROP_IN.unlink()
    DROP_IN.parent.rmdir()
    # The daemon goes on telling that it works at the shorter intervals, which does no harm.
    run("systemctl", "daemon-reload")


def test_unit_is_what_a_runtime_needs() -> None:
    names = ("Type", "Delegate", "KillMode", "Restart", "ActiveState", "UnitFileState", "NotifyAccess")
    assert unit_properties(UNIT, *names) == {
        "Type": "notify",
        "Delegate": "yes",
        "KillMode": "process",
        "Restart": "always",
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "NotifyAccess": "main",
    }
    assert unit_properties(UNIT, "WatchdogUSec") != {"WatchdogUSec": "0"}
    pid = main_pid()
    assert pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "-999"
    # Its mounts are the host's, so that what it mounts is there for who enters later.
    assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/1/ns/mnt")


def test_containers_outlive_a_restart(node: Node) -> None:
    container = node.start("exec sleep 3600")
    before, cgroup = main_pid(), container.scope
    run("systemctl", "restart", UNIT)
    eventually(lambda: answers(node))
    assert main_pid() != before
    assert (container.status()["state"], container.scope) == ("CONTAINER_RUNNING", cgroup)
    assert container.exec("echo", "there") == "there"


def test_daemon_that_hangs_is_restarted(node: Node, short_watchdog: None) -> None:
    container = node.start("exec sleep 3600")
    before = main_pid()
    told = last_sign()
    eventually(lambda: last_sign() > told)
    assert main_pid() == before
    os.kill(before, 19)
    eventually(lambda: main_pid() not in {0, before})
    eventually(lambda: answers(node))
    assert "watchdog" in run("journalctl", "-u", UNIT, "--no-pager", "-n", "50").lower()
    assert container.status()["state"] == "CONTAINER_RUNNING"
    assert container.exec("echo", "there") == "there"


def test_nothing_complained() -> None:
    """Neither the daemon nor systemd about its units."""
    assert run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--all") == ""
