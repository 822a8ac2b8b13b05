# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold how the endpoint's figures become tables and verdicts, without an endpoint."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.pvecri.runtime.tests.performance import (
    endpoint_calls,
    endpoint_tables,
    endpoint_targets,
)
from ansible_collections.pvecri.runtime.tests.performance.endpoint import CRUN, RUNC
from ansible_collections.pvecri.runtime.tests.performance.endpoint_calls import Rate
from ansible_collections.pvecri.runtime.tests.performance.endpoint_hosts import Memory
from ansible_collections.pvecri.runtime.tests.performance.endpoint_load import CHEAP, RPCS, TO_RUNNING, Lives


def lives(factor: float) -> Lives:
    made = Lives()
    for number in (1, 2, 3):
        made.add([dict.fromkeys(RPCS, factor * number / 1000)], wall=factor)
    return made


@pytest.fixture
def one():
    return {"ours": lives(1), RUNC: lives(2), CRUN: lives(4)}


def calls(ours, peer):
    return {"ours": Rate([ours[0]], [ours[1]]), RUNC: Rate([peer[0]], [peer[1]])}


@pytest.fixture
def figures(one):
    return endpoint_targets.Figures(
        ours="ours",
        peer=RUNC,
        peers=(RUNC, CRUN),
        cheap=CHEAP,
        lives={1: one, 8: one, 10: one},
        rates={
            0: {"Version": calls((99, 1), (100, 1)), "ListContainers": calls((1, 9), (100, 1))},
            50: {"Version": calls((1, 9), (100, 1)), "ListContainers": calls((300, 0.5), (200, 1))},
        },
        memory={"ours": Memory(50, 10, 60), RUNC: Memory(100, 200, 100)},
        recovery={"ours": [0.8, 0.2, 0.3], RUNC: [1.0]},
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5.0], 5.0), ([1.0, 2.0], 2.0), ([float(n) for n in range(1, 101)], 95.0), ([3.0, 1.0, 2.0], 3.0)],
)
def test_p95_is_what_95_of_100_do_not_exceed(values, expected):
    assert endpoint_tables.p95(values) == expected


def test_lives_table_has_every_call_and_ratios_to_the_peers(one):
    table = endpoint_tables.lives_table("t", one, "ours")
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == [*RPCS, "a pod to its running container", "a whole life"]
    assert rows["ExecSync"] == pytest.approx((2, 3, 4, 6, 8, 12, 0.5, 0.25))
    assert rows["a pod to its running container"][0] == pytest.approx(6)
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_calls_of_a_life_are_told_apart():
    assert TO_RUNNING == ("RunPodSandbox", "CreateContainer", "StartContainer")
    assert CHEAP == ("Version", "ContainerStatus", "ListContainers", "PodSandboxStatus", "ListPodSandbox")


def test_throughput_and_rates_say_more_is_better(one):
    table = endpoint_tables.throughput_table({1: one, 8: one}, "ours")
    assert [row[0] for row in table.rows] == ["1 at a time", "8 at a time"]
    assert table.rows[0][1:] == pytest.approx((1, 0.5, 0.25, 2, 4))
    rates = {"Version": calls((200.0, 0.125), (100.0, 0.25))}
    assert endpoint_tables.rates_table(0, rates, "ours").rows == (
        ("Version", 200.0, 125.0, 100.0, 250.0, 2.0),
    )


def test_stages_table_is_left_out_where_nothing_was_logged():
    assert endpoint_tables.stages_table({}) == []
    (table,) = endpoint_tables.stages_table({("sandbox made", "network"): [30.0, 10.0, 20.0]})
    assert table.rows == (("sandbox made: network", 20.0, 30.0),)


def test_streams_table_has_no_figure_of_who_cannot_do_it():
    assert endpoint_tables.streams_table(64, {}) == []
    found = {"exec": {"ours": [1.0, 3.0, 2.0], RUNC: [4.0]}, "other": {"ours": [5.0]}}
    (table,) = endpoint_tables.streams_table(64, found)
    assert table.columns == ("", "ours", RUNC)
    assert table.rows == (("exec", 2.0, 4.0), ("other", 5.0, None))


def test_host_table_says_what_a_pod_adds(figures):
    before = {"ours": Memory(40, 0, 50), RUNC: Memory(50, 0, 50)}
    table = endpoint_tables.host_table(50, before, figures.memory, figures.recovery)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["ours"] == pytest.approx((60, 50, 60, 10, 0.4, 300, 800))
    assert rows[RUNC] == pytest.approx((300, 100, 100, 200, 5, 1000, 1000))
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_targets_name_what_they_are_about(figures):
    found = {
        target.text: (pytest.approx(target.value), target.is_met)
        for target in endpoint_targets.targets(figures)
    }
    assert found == {
        f"a pod to its running container against {RUNC}": (0.5, False),
        f"whole lives per second, 8 pods at a time, against {RUNC}": (2.0, True),
        f"ExecSync against {RUNC}": (0.5, True),
        "p95 of calls that start no process, one at a time; the slowest is Version": (3.0, True),
        "p95 of the other calls, one at a time; the slowest is RunPodSandbox": (3.0, True),
        "Version with 0 pods: calls per second, level with the best peer": (0.99, True),
        "Version with 0 pods: the daemon's processor time for a call": (1.0, True),
        "ListContainers with 50 pods: calls per second, ahead of the best peer": (1.5, True),
        "ListContainers with 50 pods: the daemon's processor time for a call": (0.5, True),
        "PSS of the daemon with 50 pods": (50.0, True),
        f"PSS of daemon and helpers with 50 pods against {RUNC}": (0.2, True),
        "recovery of 50 running pods": (0.3, True),
    }


def test_targets_of_slow_calls_are_missed(figures):
    slow = {"ours": lives(60), RUNC: lives(2)}
    found = endpoint_targets.targets(dataclasses.replace(figures, lives={1: slow, 8: slow}))
    assert [target.is_met for target in found[:5]] == [False, False, False, False, False]


@pytest.mark.parametrize("names", [["ours"], [RUNC]])
def test_targets_are_not_claimed_when_one_of_both_could_not_run(figures, one, names):
    some = {name: one[name] for name in names}
    assert endpoint_targets.targets(dataclasses.replace(figures, lives={1: some, 8: some})) == ()


def test_framed_is_a_grpc_message():
    assert endpoint_calls.framed(b"abc") == b"\0\0\0\0\3abc"


def test_caller_argv_has_a_connection_per_caller():
    argv = endpoint_calls.caller_argv("/run/x.sock", "Version", "/w/body")
    assert argv[0] == "h2load"
    assert {
        "--clients=8",
        "--max-concurrent-streams=1",
        "--data=/w/body",
        "--base-uri=unix:/run/x.sock",
    } < set(argv)
    assert argv[-1] == "http://localhost/runtime.v1.RuntimeService/Version"


_PRINTED = """starting benchmark...
finished in 701.00ms, 6988.50 req/s, 512.85KB/s
requests: 4898 total, 4906 started, 4898 done, {} succeeded, {} failed, {} errored, 0 timeout
status codes: 4898 2xx, 0 3xx, 0 4xx, 0 5xx
"""


def test_outcome_of_a_window():
    assert endpoint_calls.outcome(_PRINTED.format(4898, 0, 0)) == (4898, 6988.5)


@pytest.mark.parametrize(
    "printed", ["", _PRINTED.format(4897, 1, 0), _PRINTED.format(1, 0, 1), _PRINTED.format(0, 0, 0)]
)
def test_outcome_of_calls_that_failed(printed):
    with pytest.raises(RuntimeError):
        endpoint_calls.outcome(printed)
