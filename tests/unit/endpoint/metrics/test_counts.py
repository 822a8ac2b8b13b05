# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count calls, ends and pulls."""

from __future__ import annotations

import dataclasses
import pathlib
import threading

import pytest

from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.metrics.counts import ExitCounts, PullCounts, RpcCounts
from pvecri.state.records import Phase
from pvecri.state.registry import Change, Registry


def test_calls_are_counted_by_method_and_code() -> None:
    counts = RpcCounts()
    counts.observe("Version", "OK", 0.0001)
    counts.observe("Version", "OK", 0.3)
    counts.observe("Version", "UNAVAILABLE", 100.0)
    counts.observe("GetContainerEvents", "CANCELLED", 5000.0)
    ended = {labels: value for labels, value in counts.ended() if value}
    assert ended == {
        ("Version", "OK"): 2,
        ("Version", "UNAVAILABLE"): 1,
        ("GetContainerEvents", "CANCELLED"): 1,
    }
    # A method that was never called is there, too, so that a rate has a beginning.
    assert (("Status", "OK"), 0) in list(counts.ended())
    (times,) = counts.times()
    assert times[0] == ("Version",)
    assert (times[1].counts[0], times[1].counts[-1], sum(times[1].counts)) == (1, 1, 3)
    assert times[1].sum == pytest.approx(100.3001)


def test_ends_are_counted_once_by_reason(tmp_path: pathlib.Path) -> None:
    counts = ExitCounts()
    registry = Registry.open(str(tmp_path / "db"))
    registry.listen(counts.heard)
    pod = registry.reserve_sandbox(records.sandbox()).id
    codes = {"Completed": 0, "Error": 1, "OOMKilled": 137, "MonitorLost": 137, "StartError": 128, "odd": 5}
    for reason, code in codes.items():
        app = registry.reserve_container(records.container(pod, phase=Phase.RUNNING)).id
        registry.exited(app, exit_code=code, finished_at_ns=1, reason=reason)
    # One whose code comes late, and one that was found ended.
    late = registry.reserve_container(records.container(pod, phase=Phase.RUNNING)).id
    registry.exited(late, exit_code=None, finished_at_ns=1, reason="Unknown")
    registry.exited(late, exit_code=3, finished_at_ns=1, reason="Error")
    registry.adopt_container(records.container(pod, phase=Phase.EXITED))
    registry.close()
    assert {labels[0]: value for labels, value in counts.values()} == {
        "Completed": 1,
        "Error": 1,
        "OOMKilled": 1,
        "MonitorLost": 1,
        "ContainerLost": 0,
        "StartError": 1,
        "Unknown": 1,
        "Other": 1,
    }


def test_what_is_no_end_is_not_counted() -> None:
    counts = ExitCounts()
    app = records.container("p")
    counts.heard(Change(app, dataclasses.replace(app, phase=Phase.RUNNING)))
    counts.heard(Change(app, None))
    counts.heard(Change(records.sandbox(), records.sandbox(phase=Phase.STOPPED)))
    assert not any(value for _labels, value in counts.values())


def test_pulls_are_counted_from_many_threads() -> None:
    counts = PullCounts()

    def pull() -> None:
        for number in range(500):
            counts.ended(0.1, fetched_bytes=10, has_failed=number % 5 == 0)

    threads = [threading.Thread(target=pull) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counts.succeeded, counts.failed, counts.bytes) == (1600, 400, 16000)
    assert sum(counts.times.counts) == 2000
