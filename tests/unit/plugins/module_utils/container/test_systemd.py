# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.container import places, systemd
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import RestartPolicy
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, Unsupported

COMMAND = ["/usr/bin/python3", "/var/lib/pvecri/lib/pvecri.pyz"]


def text(policy, **options):
    values = {
        "command": COMMAND,
        "pid_file": "/run/pvecri/conmon.pid",
        "state_dir": "/var/lib/pvecri",
        "bundle": "/var/lib/pvecri/bundles/play/web",
        "stop_timeout_s": 10.0,
    }
    return systemd.unit_text("web", policy, **{**values, **options})


@pytest.mark.parametrize(
    ("policy", "lines"),
    [
        (RestartPolicy(name="always"), ["Restart=always", "StartLimitIntervalSec=0"]),
        (RestartPolicy(name="unless-stopped"), ["Restart=always", "StartLimitIntervalSec=0"]),
        (RestartPolicy(name="on-failure"), ["Restart=on-failure", "StartLimitIntervalSec=0"]),
        (
            RestartPolicy(name="on-failure", max_retries=3),
            ["Restart=on-failure", "StartLimitIntervalSec=infinity", "StartLimitBurst=4"],
        ),
    ],
)
def test_unit_text_follows_the_policy(policy, lines):
    unit = text(policy).splitlines()
    assert unit[0] == systemd.MARK
    assert set(lines) <= set(unit)
    assert "ExecStart=/usr/bin/python3 /var/lib/pvecri/lib/pvecri.pyz start web" in unit
    assert "ExecStop=/usr/bin/python3 /var/lib/pvecri/lib/pvecri.pyz stop web" in unit
    assert "PIDFile=/run/pvecri/conmon.pid" in unit
    assert "TimeoutStopSec=40" in unit


def test_unit_text_protects_what_systemd_would_expand():
    unit = text(RestartPolicy(name="always"), command=["/opt/50% $x/python"], bundle="/a b%c")
    assert "ExecStart='/opt/50%% $$x/python' start web" in unit
    assert "RequiresMountsFor='/a b%%c'" in unit


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["on-failure", "always", "unless-stopped"])
def test_unit_text_is_understood_by_systemd(tmp_path, name):
    policy = RestartPolicy(name=name, max_retries=2 if name == "on-failure" else None)
    path = tmp_path / systemd.unit_name("web")
    path.write_text(text(policy, command=["/bin/sh", "/a b/50%"], bundle="/var/lib/a b"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if path.name in line]
    assert (complaints, done.returncode) == ([], 0)
    # The check itself can fail.
    path.write_text(path.read_text().replace("Restart=", "Restart=now and then "))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    assert "now and then" in done.stderr


def test_require_booted(tmp_path, monkeypatch):
    monkeypatch.setattr(systemd, "BOOTED", str(tmp_path))
    systemd.require_booted("restart_policy", RestartPolicy(name="always"))
    monkeypatch.setattr(systemd, "BOOTED", str(tmp_path / "no"))
    with pytest.raises(Unsupported, match="restart_policy: always needs systemd"):
        systemd.require_booted("restart_policy", RestartPolicy(name="always"))


class Recorder:
    def __init__(self):
        self.calls = []
        self.answers = {}

    def run(self, argv, *, timeout_s=60.0, check=True, **_more):
        self.calls.append((" ".join(argv), check))
        return Completed(list(argv), 0, self.answers.get(argv[1], ""), "")


@pytest.fixture
def units(tmp_path, monkeypatch):
    (tmp_path / "units").mkdir()
    (tmp_path / "booted").mkdir()
    recorder = Recorder()
    monkeypatch.setattr(places, "UNIT_DIR", str(tmp_path / "units"))
    monkeypatch.setattr(systemd, "BOOTED", str(tmp_path / "booted"))
    made = systemd.Units(recorder, "/var/lib/pvecri")
    made.recorder = recorder
    return made


def test_units_write_start_stop(units):
    assert units.text("web") is None
    units.write("web", text(RestartPolicy(name="always")))
    assert units.text("web") == text(RestartPolicy(name="always"))
    units.start("web")
    units.enable("web", True)
    units.enable("web", False)
    units.stop("web", 10)
    assert units.recorder.calls == [
        ("systemctl daemon-reload", True),
        ("systemctl show --property=NeedDaemonReload pvecri-web.service", False),
        ("systemctl reset-failed pvecri-web.service", False),
        ("systemctl start pvecri-web.service", True),
        ("systemctl enable pvecri-web.service", True),
        ("systemctl disable pvecri-web.service", True),
        ("systemctl stop pvecri-web.service", True),
        ("systemctl reset-failed pvecri-web.service", False),
    ]


@pytest.mark.parametrize(
    "other", ["[Unit]\nDescription=mine\n", text(RestartPolicy(name="always"), state_dir="/srv/other")]
)
def test_units_leave_the_files_of_others_alone(units, other):
    with open(units.path("web"), "w") as stream:
        stream.write(other)
    assert units.text("web") is None
    with pytest.raises(Conflict, match="is not the unit of this container"):
        units.write("web", text(RestartPolicy(name="always")))
    with open(units.path("web")) as stream:
        assert stream.read() == other


def enabled(units):
    link = os.path.join(os.path.dirname(units.path("web")), "multi-user.target.wants", "pvecri-web.service")
    os.makedirs(os.path.dirname(link), exist_ok=True)
    os.symlink(units.path("web"), link)


def test_units_is_enabled_asks_nobody(units):
    assert units.is_enabled("web") is False
    enabled(units)
    assert units.is_enabled("web") is True
    assert units.recorder.calls == []


def test_units_remove(units):
    units.write("web", text(RestartPolicy(name="always")))
    units.recorder.calls.clear()
    units.remove("web")
    assert not os.path.exists(units.path("web"))
    assert [call for call, _check in units.recorder.calls] == [
        "systemctl disable pvecri-web.service",
        "systemctl daemon-reload",
        "systemctl reset-failed pvecri-web.service",
    ]


def test_units_remove_without_systemd(units, tmp_path):
    units.write("web", text(RestartPolicy(name="always")))
    enabled(units)
    units.recorder.calls.clear()
    (tmp_path / "booted").rmdir()
    units.remove("web")
    assert not os.path.exists(units.path("web"))
    assert units.is_enabled("web") is False
    assert units.recorder.calls == []


@pytest.mark.parametrize(("answer", "is_reloaded"), [("yes", True), ("no", False)])
def test_units_start_reads_what_a_killed_run_has_written(units, answer, is_reloaded):
    units.recorder.answers["show"] = f"NeedDaemonReload={answer}\n"
    units.start("web")
    assert (("systemctl daemon-reload", True) in units.recorder.calls) is is_reloaded


def test_units_cancel_never_fails(units):
    units.cancel("web")
    assert units.recorder.calls == [("systemctl --no-block stop pvecri-web.service", False)]
