# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log what becomes of sandboxes, and the ends of containers."""

from __future__ import annotations

import logging
import pathlib

import pytest

from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.daemon.changes import log_changes
from pvecri.daemon.logs import fields_of
from pvecri.state.records import Phase
from pvecri.state.registry import Registry


def test_log_has_one_line_for_each_state(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry.open(str(tmp_path / "db"))
    registry.listen(log_changes(logging.getLogger("pvecri.test")))
    pod = records.sandbox("web", phase=Phase.CREATING)
    with caplog.at_level("DEBUG", "pvecri.test"):
        registry.reserve_sandbox(pod)
        registry.update_sandbox(pod.id, netns="/run/x")
        registry.update_sandbox(pod.id, phase=Phase.READY, ips=("10.1.0.2", "fd00::2"))
        registry.update_sandbox(pod.id, extra={"a": 1})
        container = records.container(pod.id)
        registry.reserve_container(container)
        registry.remove_container(container.id)
        registry.update_sandbox(pod.id, phase=Phase.UNKNOWN, message="it cannot be read")
        registry.update_sandbox(pod.id, phase=Phase.STOPPED, message="")
        registry.remove_sandbox(pod.id)
    registry.close()
    assert [(record.message, fields_of(record)) for record in caplog.records] == [
        (
            "sandbox ready",
            {"sandbox": pod.id, "pod": pod.name, "handler": "", "addresses": "10.1.0.2,fd00::2"},
        ),
        ("sandbox unknown", {"sandbox": pod.id, "reason": "it cannot be read"}),
        ("sandbox stopped", {"sandbox": pod.id}),
        ("sandbox removed", {"sandbox": pod.id}),
    ]


def test_log_has_one_line_for_an_end_and_one_for_a_late_exit_code(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry.open(str(tmp_path / "db"))
    registry.listen(log_changes(logging.getLogger("pvecri.test")))
    pod = registry.reserve_sandbox(records.sandbox())
    name = registry.reserve_container(records.container(pod.id, phase=Phase.RUNNING)).id
    facts = {"container": name, "sandbox": pod.id}
    with caplog.at_level("DEBUG", "pvecri.test"):
        registry.exited(name, exit_code=None, finished_at_ns=5)
        registry.exited(name, exit_code=None, finished_at_ns=6)
        registry.exited(name, exit_code=0, finished_at_ns=7, reason="Completed")
        registry.exited(name, exit_code=1, finished_at_ns=8)
        registry.update_container(name, extra={"a": 1})
    registry.close()
    assert [(record.message, fields_of(record)) for record in caplog.records] == [
        ("container ended", {**facts, "exit_code": "unknown"}),
        ("container ended", {**facts, "exit_code": 0, "reason": "Completed"}),
    ]
