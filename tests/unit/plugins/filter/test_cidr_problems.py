# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell wrong networks of pods before the first pod starts."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.filter.cidr_problems import FilterModule

cidr_problems = FilterModule().filters()["cidr_problems"]


@pytest.mark.parametrize(
    "cidrs",
    [
        ["10.88.0.0/16"],
        ["fd00:88::/64"],
        ["10.88.0.0/16", "fd00:88::/64"],
        ["10.0.0.0/30", "10.0.0.4/30"],
        ["FD00:0:88::0/64"],
    ],
)
def test_networks_that_pods_can_have(cidrs):
    assert cidr_problems(cidrs) == []


@pytest.mark.parametrize(
    ("cidrs", "said"),
    [
        ("10.88.0.0/16", "Write it in brackets"),
        (None, "Write it in brackets"),
        ({"10.88.0.0/16": {}}, "Write it in brackets"),
        ([], "it is empty"),
        (["10.88.0.0/99"], "'10.88.0.0/99' is no network"),
        (["10.88.0.0"], "length of its prefix"),
        ([5], "5 is no network"),
        ([None], "None is no network"),
        (["/16"], "'/16' is no network"),
        (["10.88.0.0/16 --x"], "is no network"),
        (["１０.88.0.0/16"], "is no network"),
        (["10.88.0.0/255.255.0.0"], "is no network"),
        (["fe80::%eth0/64"], "is no network"),
        (["10.88.0.5/16"], "Write 10.88.0.0/16"),
        (["10.88.0.0/31"], "30 long at most"),
        (["fd00::/127"], "126 long at most"),
        (["10.88.0.0/16", "fd00::/64", "10.88.1.0/24"], "10.88.1.0/24 and 10.88.0.0/16 overlap"),
    ],
)
def test_networks_that_they_cannot_have(cidrs, said):
    assert [said in problem for problem in cidr_problems(cidrs)] == [True]


def test_every_problem_is_told():
    assert len(cidr_problems(["nonsense", 5, "10.0.0.0/8"])) == 2


@given(st.text() | st.ip_addresses().map(str), st.integers(-2, 130))
def test_what_is_accepted_is_a_network_written_as_such(address, length):
    cidr = f"{address}/{length}"
    if not cidr_problems([cidr]):
        assert ipaddress.ip_network(cidr).num_addresses >= 4
