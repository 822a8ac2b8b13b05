# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let units start and stop real containers; a script that reads units stands in place of systemctl."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import command
from ansible_collections.pvecri.runtime.plugins.module_utils.container import places, systemd
from ansible_collections.pvecri.runtime.plugins.module_utils.container.systemd import Units

SYSTEMCTL = r"""#!/bin/sh
# Does what a unit says, for units of one word per line.
echo "$@" >> {top}/calls
unit={top}/units/$2
value() {{ sed -n "s/^$1=//p" "$unit" | sed 's/%%/%/g; s/\$\$/$/g'; }}
case $1 in
start) eval "$(value Environment | sed 's/^/export /')"; sh -c "$(value ExecStart)" 2>{top}/errors || exit 1
       sleep 0.1; pid=$(cat "$(value PIDFile)"); test -e /proc/$pid && ! grep -q ') Z' /proc/$pid/stat ;;
stop) eval "$(value Environment | sed 's/^/export /')"; sh -c "$(value ExecStop)" ;;
enable) mkdir -p {top}/units/multi-user.target.wants
        ln -sf "$unit" {top}/units/multi-user.target.wants/ ;;
disable) rm -f {top}/units/multi-user.target.wants/$2 ;;
esac
"""


@pytest.fixture
def manager(box, tmp_path, monkeypatch):
    """A host whose init is said to be systemd; returns the list of systemctl's calls since the last look."""
    for name in ("bin", "units"):
        (tmp_path / name).mkdir()
    program = tmp_path / "bin/systemctl"
    program.write_text(SYSTEMCTL.format(top=tmp_path))
    program.chmod(0o755)
    monkeypatch.setattr(command, "DEFAULT_PATH", f"{tmp_path}/bin:{command.DEFAULT_PATH}")
    monkeypatch.setattr(places, "UNIT_DIR", str(tmp_path / "units"))
    monkeypatch.setattr(systemd, "BOOTED", str(tmp_path))
    box.engine.units = Units(box.engine.runner, box.paths.state_dir)
    calls = tmp_path / "calls"

    def since():
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.write_text("")
        return [line.replace(" pvecri-c.service", "") for line in lines if not line.startswith("show")]

    return since


def unit_of(box):
    path = pathlib.Path(box.engine.units.path("c"))
    return path.read_text() if path.exists() else None


def test_without_systemd_the_option_is_refused(box, monkeypatch, tmp_path):
    monkeypatch.setattr(systemd, "BOOTED", str(tmp_path / "no"))
    refused = box.refuse(restart_policy="always")
    assert refused["error"] == "unsupported"
    assert "restart_policy: always needs systemd" in refused["msg"]
    assert box.leftovers() == []
    assert box.change("absent", restart_policy="always")["changed"] is False


def test_unit_starts_the_container(box, manager):
    planned = box.ensure(restart_policy="always", check=True)
    assert "Restart=always" in planned["diff"]["after"]["systemd_unit"]
    assert manager() == []
    done = box.ensure(restart_policy="always")
    assert done["diff"] == planned["diff"]
    assert manager() == ["daemon-reload", "reset-failed", "start", "enable"]
    assert done["container"]["state"] == "running"
    assert done["container"]["restart_policy"] == "always"
    assert box.execute("echo", "works") == "works\n"
    assert box.ensure(restart_policy="always")["changed"] is False
    assert manager() == []


def test_unit_starts_what_has_died(box, manager):
    """What systemd does when conmon ends: run ExecStop, then ExecStart again."""
    pid = box.ensure(restart_policy="always")["container"]["pid"]
    os.kill(pid, signal.SIGKILL)
    box.engine.runtime.wait("c", 10)
    units = box.engine.units
    units.stop("c", 1)
    units.start("c")
    (seen,) = box.look()
    assert seen["state"] == "running"
    assert seen["pid"] != pid


def test_unit_starts_after_a_reboot(box, manager):
    box.ensure(restart_policy="unless-stopped")
    assert box.engine.units.is_enabled("c")
    box.reboot()
    box.engine.units.start("c")
    assert box.look()[0]["state"] == "running"


def test_stopped_stays_stopped(box, manager):
    box.ensure(restart_policy="unless-stopped")
    manager()
    assert box.change("stopped")["container"]["state"] == "stopped"
    assert manager() == ["stop", "reset-failed", "disable"]
    assert not box.engine.units.is_enabled("c")
    assert box.change("stopped")["changed"] is False
    assert box.change("started")["changed"] is True
    assert box.engine.units.is_enabled("c")


def test_always_starts_at_boot_even_when_stopped(box, manager):
    box.ensure(restart_policy="always")
    box.change("stopped")
    assert box.engine.units.is_enabled("c")


def test_stopping_what_is_about_to_be_restarted(box, manager):
    pid = box.ensure(restart_policy="always")["container"]["pid"]
    os.kill(pid, signal.SIGKILL)
    box.engine.runtime.wait("c", 10)
    manager()
    done = box.change("stopped")
    assert (done["changed"], done["diff"]["before"]["state"]) == (True, "restarting")
    assert manager() == ["stop", "reset-failed"]
    assert box.change("stopped")["changed"] is False


def test_policy_changes(box, manager):
    pid = box.ensure()["container"]["pid"]
    into = box.ensure(restart_policy="on-failure:3")
    assert into["container"]["pid"] != pid
    assert "StartLimitBurst=4" in unit_of(box)
    assert not box.engine.units.is_enabled("c")
    pid = into["container"]["pid"]
    other = box.ensure(restart_policy="always")
    assert other["container"]["pid"] == pid
    assert "Restart=always" in unit_of(box)
    longer = box.ensure(restart_policy="always", stop_timeout="60")
    assert longer["container"]["pid"] == pid
    assert "TimeoutStopSec=90" in unit_of(box)
    out_of = box.ensure(restart_policy="no")
    assert out_of["container"]["pid"] == pid
    assert unit_of(box) is None
    assert box.ensure()["changed"] is False


def test_policy_of_a_container_that_is_only_named(box, manager):
    box.ensure()
    assert box.change(restart_policy="always")["container"]["restart_policy"] == "always"
    assert box.change(restart_policy="always")["changed"] is False
    assert box.change(restart_policy="no")["container"]["restart_policy"] == "no"
    assert unit_of(box) is None


def test_unit_that_somebody_removed_or_changed_comes_back(box, manager):
    box.ensure(restart_policy="always")
    path = pathlib.Path(box.engine.units.path("c"))
    text = path.read_text()
    path.unlink()
    assert box.ensure(restart_policy="always")["changed"] is True
    assert path.read_text() == text
    path.write_text(text.replace("RestartSec=1", "RestartSec=99"))
    done = box.ensure(restart_policy="always")
    assert done["diff"]["before"].keys() == {"systemd_unit"}
    assert path.read_text() == text


def test_recreate_and_remove_go_through_the_unit(box, manager):
    box.ensure(restart_policy="always")
    manager()
    box.ensure(restart_policy="always", env={"A": "1"})
    assert manager() == ["stop", "reset-failed", "reset-failed", "start", "enable"]
    box.change("absent")
    assert manager() == ["stop", "reset-failed", "disable", "daemon-reload", "reset-failed"]
    assert unit_of(box) is None
    box.assert_clean()


def test_start_that_fails_is_reported(box, manager):
    refused = box.refuse(restart_policy="always", command=["/no/such/program"])
    assert refused["failed"]
    assert refused["error"] == "command_failed"
    assert "the unit of container 'c' could not start it: " in refused["msg"]
    assert "/no/such/program" in refused["msg"]
    assert box.ensure(restart_policy="always")["container"]["state"] == "running"


def test_secrets_reach_a_unit_after_a_reboot_only_by_a_task(box, manager, tmp_path):
    task = {
        "restart_policy": "always",
        "mounts": [{"type": "secret", "destination": "/run/secret", "secret": "hunter2"}],
    }
    box.ensure(**task)
    box.reboot()
    with pytest.raises(Exception, match="systemctl failed"):
        box.engine.units.start("c")
    assert "secrets of container 'c' are gone" in (tmp_path / "errors").read_text()
    assert box.ensure(**task)["container"]["state"] == "running"
    assert box.execute("cat", "/run/secret") == "hunter2"


def test_what_ends_at_once_is_reported_with_its_log(box, manager):
    refused = box.refuse(restart_policy="always", command=["sh", "-c", "echo cannot >&2; exit 3"])
    assert "it ended with exit code 3; the end of its log: cannot" in refused["msg"]
    done = box.ensure(restart_policy="on-failure", command=["true"])
    assert done["container"]["exit_code"] == 0


def test_unit_of_the_same_name_elsewhere_is_left_alone(box, manager):
    path = pathlib.Path(box.engine.units.path("c"))
    path.write_text("[Unit]\nDescription=somebody's\n")
    pid = box.ensure()["container"]["pid"]
    refused = box.refuse(restart_policy="always")
    assert refused["error"] == "conflict"
    assert str(path) in refused["msg"]
    assert box.look()[0]["pid"] == pid
    box.change("absent")
    assert path.read_text() == "[Unit]\nDescription=somebody's\n"
