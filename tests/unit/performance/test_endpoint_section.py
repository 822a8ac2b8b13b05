# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold how the endpoint's figures are put into tables, without an endpoint."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.tests.performance import endpoint
from ansible_collections.pvecri.runtime.tests.performance.endpoint_load import RPCS, Lives, Rate


def lives(factor: float) -> Lives:
    made = Lives()
    for number in (1, 2, 3):
        made.add([dict.fromkeys(RPCS, factor * number / 1000)], wall=factor)
    return made


@pytest.fixture
def one():
    return {"ours": lives(1), endpoint.RUNC: lives(2), endpoint.CRUN: lives(4)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5.0], 5.0), ([1.0, 2.0], 2.0), ([float(n) for n in range(1, 101)], 95.0), ([3.0, 1.0, 2.0], 3.0)],
)
def test_p95_is_what_95_of_100_do_not_exceed(values, expected):
    assert endpoint.p95(values) == expected


def test_lives_table_has_every_call_and_ratios_to_the_peers(one):
    table = endpoint._lives_table("t", one, "ours")
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == [*RPCS, "a pod to its running container", "a whole life"]
    assert rows["ExecSync"] == pytest.approx((2, 3, 4, 6, 8, 12, 0.5, 0.25))
    assert rows["a pod to its running container"][0] == pytest.approx(6)
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_throughput_and_rates_say_more_is_better(one):
    table = endpoint._throughput_table(one, one, "ours")
    assert table.rows[0][1:] == pytest.approx((1, 0.5, 0.25, 2, 4))
    rates = {"Version": {"ours": Rate([200.0], [0.1]), endpoint.RUNC: Rate([100.0], [0.2])}}
    assert endpoint._rates_table(0, rates, "ours").rows == (("Version", 200.0, 0.1, 100.0, 0.2, 2.0),)


def test_target_is_the_time_to_a_running_container_against_runc(one):
    (target,) = endpoint._targets(one, "ours")
    assert target.value == pytest.approx(0.5)
    assert target.is_met
    slow = {"ours": lives(1.7), endpoint.RUNC: lives(2)}
    assert not endpoint._targets(slow, "ours")[0].is_met


def test_target_is_not_claimed_when_one_of_both_could_not_run(one):
    assert endpoint._targets({"ours": lives(1)}, "ours") == ()
    assert endpoint._targets({endpoint.RUNC: lives(1)}, endpoint.RUNC) == ()
