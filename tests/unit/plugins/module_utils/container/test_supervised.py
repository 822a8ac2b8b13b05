# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import sys

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.container import program, supervised
from ansible_collections.pvecri.runtime.plugins.module_utils.container.intent import Intent
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths


class FakeEngine:
    """Takes the verbs down; ``ends`` is the exit code of a container that ends at once."""

    def __init__(self, paths, policy="always", ends=None, failure=None):
        self.paths = paths
        self.calls = []
        self.policy = policy
        self.ends = ends
        self.failure = failure
        self.units = self.runtime = self

    def bring_up(self, name):
        self.calls.append(f"bring up {name}")
        if self.failure:
            raise self.failure

    def stop(self, name):
        self.calls.append(f"stop {name}")

    def cancel(self, name):
        self.calls.append(f"cancel {name}")

    def wait(self, name, timeout_s):
        if self.ends is None:
            raise CommandTimeout("it runs")

    def state(self, name):
        if self.ends is None:
            return ContainerState(name=name, status=Status.RUNNING, pid=1)
        return ContainerState(name=name, status=Status.STOPPED, exit_code=self.ends)

    def known(self, name):
        return None, Intent(request={"restart_policy": {"name": self.policy}})


@pytest.fixture
def paths(tmp_path):
    return Paths(str(tmp_path / "s"), str(tmp_path / "r"))


@pytest.mark.parametrize(
    ("policy", "ends", "calls"),
    [
        ("always", None, ["bring up c"]),
        ("always", 0, ["bring up c"]),
        ("on-failure", None, ["bring up c"]),
        ("on-failure", 3, ["bring up c"]),
        # Done: systemd must not take it for a failure.
        ("on-failure", 0, ["bring up c", "cancel c"]),
    ],
)
def test_start(paths, policy, ends, calls):
    engine = FakeEngine(paths, policy, ends)
    supervised.perform(engine, "start", "c")
    assert engine.calls == calls
    assert program.last_failure(paths, "c") is None


def test_stop(paths):
    engine = FakeEngine(paths)
    supervised.perform(engine, "stop", "c")
    assert engine.calls == ["stop c"]


def test_start_that_fails_leaves_its_reason_until_the_next(paths):
    with pytest.raises(NotFound):
        supervised.perform(FakeEngine(paths, failure=NotFound("no such thing")), "start", "c")
    assert program.last_failure(paths, "c") == "no such thing"
    assert os.stat(program.failure_path(paths, "c")).st_mode & 0o777 == 0o600
    supervised.perform(FakeEngine(paths), "start", "c")
    assert program.last_failure(paths, "c") is None


@pytest.mark.parametrize("arguments", [[], ["start"], ["restart", "c"], ["start", "c", "d"]])
def test_main_refuses_what_it_does_not_know(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["pvecri.pyz", *arguments])
    with pytest.raises(SystemExit, match="usage"):
        supervised.main()


@pytest.mark.parametrize(("failure", "code"), [(None, 0), (NotFound("gone"), "pvecri: gone")])
def test_main_takes_places_from_the_environment(monkeypatch, paths, failure, code):
    seen = []

    def engine(places, _runner):
        seen.append(places)
        return FakeEngine(places, failure=failure)

    monkeypatch.setattr(supervised, "Engine", engine)
    monkeypatch.setattr(sys, "argv", ["pvecri.pyz", "start", "c"])
    for name, value in program.environment(paths).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        supervised.main()
    assert ended.value.code == code
    assert seen == [paths]


def test_environment_names_unusual_places_only(paths):
    assert program.environment(Paths()) == {}
    assert program.environment(paths) == {
        "PVECRI_STATE_DIR": paths.state_dir,
        "PVECRI_RUN_DIR": paths.run_dir,
    }
