# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statistics of containers: rates, and what is said of what the host does not count."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import (
    CgroupUsage,
    Pressure,
    PressureStall,
)
from pvecri.api import cri_pb2
from pvecri.containers.stats import Rates, fill

S = 1_000_000_000


def filled(**fields):
    message = cri_pb2.ContainerStats()
    fill(message, CgroupUsage(**fields), 5 * S)
    return message


@pytest.mark.parametrize(
    ("readings", "rates"),
    [
        ([(0, 0), (2 * S, S)], [None, S // 2]),
        # Too soon to say anything new.
        ([(0, 0), (S // 2, S // 2)], [None, None]),
        ([(0, 0), (S, S), (S + 1, 2 * S)], [None, S, S]),
        # It began anew.
        ([(0, 5 * S), (2 * S, S), (4 * S, 2 * S)], [None, None, S // 2]),
    ],
)
def test_rate_is_taken_over_a_second_at_least(readings, rates):
    known = Rates()
    assert [known.cores("one", *reading) for reading in readings] == rates


def test_rates_of_others_are_forgotten():
    known = Rates()
    known.cores("one", 0, 0)
    known.cores("two", 0, 0)
    known.keep(["two"])
    assert known.cores("one", 2 * S, S) is None
    assert known.cores("two", 2 * S, S) == S // 2


def test_nought_is_said_and_unknown_is_not():
    message = filled(cpu_ns=0, memory_bytes=10)
    assert message.cpu.HasField("usage_core_nano_seconds")
    assert message.cpu.usage_core_nano_seconds.value == 0
    assert message.memory.usage_bytes.value == 10
    assert not message.memory.HasField("working_set_bytes")
    assert not message.swap.HasField("swap_usage_bytes")
    assert not message.cpu.HasField("psi")
    assert message.cpu.timestamp == message.memory.timestamp == 5 * S


def test_available_is_what_the_limit_leaves():
    message = filled(
        memory_limit_bytes=100, working_set_bytes=30, swap_limit_bytes=10, swap_bytes=4, memory_bytes=60
    )
    assert message.memory.available_bytes.value == 70
    assert message.swap.swap_available_bytes.value == 6
    message = filled(working_set_bytes=30, swap_bytes=4)
    assert not message.memory.HasField("available_bytes")
    assert not message.swap.HasField("swap_available_bytes")
    assert filled(memory_limit_bytes=10, working_set_bytes=30).memory.available_bytes.value == 0


def test_pressure_is_said_by_resource():
    line = Pressure(7, 1.5, 2.5, 3.5)
    message = filled(pressure={"cpu": PressureStall(line, None), "io": PressureStall(None, line)})
    assert (message.cpu.psi.Some.Total, message.cpu.psi.Some.Avg60) == (7, 2.5)
    assert not message.cpu.psi.HasField("Full")
    assert message.io.psi.Full.Avg300 == 3.5
    assert message.io.timestamp == 5 * S
