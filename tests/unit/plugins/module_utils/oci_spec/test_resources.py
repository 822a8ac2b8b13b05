# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold limits: what is written, what is refused, and what can change while a container runs."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IoLimit, Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostDevice, HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.resources import (
    MAX_CPU_QUOTA_US,
    MAX_PIDS,
    MIN_MEMORY_BYTES,
    build_resources,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.update import live_resources
from ansible_collections.pvecri.runtime.tests.support import specs

MIB = 1 << 20
DISK = HostDevice(path="/dev/vda", kind="b", major=254, minor=0)
ALIAS = HostDevice(path="/dev/disk/x", kind="b", major=254, minor=0)
NULL = HostDevice(path="/dev/null", kind="c", major=1, minor=3)

V2 = HostFacts(
    controllers=frozenset({"cpu", "cpuset", "memory", "pids", "io", "hugetlb"}),
    cpus=frozenset({0, 1, 2, 3}),
    memory_nodes=frozenset({0}),
    hugepage_sizes=frozenset({"2MB"}),
    devices=(DISK, ALIAS, NULL),
)
V1 = dataclasses.replace(
    V2,
    cgroup_version=1,
    controllers=frozenset({"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb"}),
    has_io_weight=False,
)
BARE = HostFacts(controllers=frozenset(), devices=(DISK,))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {}),
        ({"cpu_shares": 2}, {"cpu": {"shares": 2}}),
        ({"cpu_quota_us": 1000}, {"cpu": {"quota": 1000, "period": 100000}}),
        ({"cpu_quota_us": 5000, "cpu_period_us": 1000}, {"cpu": {"quota": 5000, "period": 1000}}),
        ({"cpu_quota_us": -1}, {}),
        ({"cpu_quota_us": 0}, {}),
        ({"cpu_quota_us": -1, "cpu_period_us": 5000}, {"cpu": {"period": 5000}}),
        ({"cpuset_cpus": "0-1, 3", "cpuset_mems": "0"}, {"cpu": {"cpus": "0-1,3", "mems": "0"}}),
        ({"memory_bytes": MIN_MEMORY_BYTES}, {"memory": {"limit": MIN_MEMORY_BYTES}}),
        (
            {"memory_bytes": -1, "memory_swap_bytes": -1, "memory_reservation_bytes": -1},
            {"memory": {"limit": -1, "swap": -1}},
        ),
        (
            {"memory_bytes": 4 * MIB, "memory_swap_bytes": 4 * MIB, "memory_reservation_bytes": MIB},
            {"memory": {"limit": 4 * MIB, "swap": 4 * MIB, "reservation": MIB}},
        ),
        ({"memory_bytes": 4 * MIB, "memory_swap_bytes": -1}, {"memory": {"limit": 4 * MIB, "swap": -1}}),
        ({"memory_reservation_bytes": MIB}, {"memory": {"reservation": MIB}}),
        (
            {"memory_bytes": MIB, "memory_reservation_bytes": -1},
            {"memory": {"limit": MIB}},
        ),
        ({"pids_limit": 1}, {"pids": {"limit": 1}}),
        ({"pids_limit": 0}, {}),
        ({"pids_limit": -1}, {}),
        ({"io_weight": 10}, {"blockIO": {"weight": 10}}),
        (
            {"io_limits": (IoLimit(device="/dev/vda", read_bps=1, write_bps=2, read_iops=3, write_iops=4),)},
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": 254, "minor": 0, "rate": 1}],
                    "throttleWriteBpsDevice": [{"major": 254, "minor": 0, "rate": 2}],
                    "throttleReadIOPSDevice": [{"major": 254, "minor": 0, "rate": 3}],
                    "throttleWriteIOPSDevice": [{"major": 254, "minor": 0, "rate": 4}],
                }
            },
        ),
        ({"hugepages": (("2MB", 0),)}, {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}),
        ({"unified": (("memory.high", "5"),)}, {"unified": {"memory.high": "5"}}),
    ],
)
def test_build_resources(asked, expected):
    assert build_resources(Resources(**asked), V2) == expected


@pytest.mark.parametrize(
    ("asked", "field", "message"),
    [
        ({"cpu_shares": 1}, "cpu_shares", "2 to 262144"),
        ({"cpu_shares": -5}, "cpu_shares", "-5 is out of range"),
        ({"cpu_shares": 262145}, "cpu_shares", "out of range"),
        ({"cpu_quota_us": 999}, "cpu_quota", "999 is out of range"),
        ({"cpu_quota_us": -2}, "cpu_quota", "out of range"),
        ({"cpu_quota_us": MAX_CPU_QUOTA_US + 1}, "cpu_quota", "out of range"),
        ({"cpu_period_us": 999}, "cpu_period", "1000 to 1000000"),
        ({"cpuset_cpus": "0-"}, "cpuset_cpus", "not a list of numbers"),
        ({"cpuset_cpus": ""}, "cpuset_cpus", "not a list of numbers"),
        ({"cpuset_cpus": "2-5"}, "cpuset_cpus", "names 4, 5, which this host does not have"),
        ({"cpuset_mems": "1"}, "cpuset_mems", "Online are 0"),
        ({"memory_bytes": 0}, "memory", "at least 524288"),
        ({"memory_bytes": MIN_MEMORY_BYTES - 1}, "memory", "out of range"),
        ({"memory_bytes": -2}, "memory", "out of range"),
        ({"memory_reservation_bytes": 0}, "memory_reservation", "at least 1"),
        (
            {"memory_bytes": MIB, "memory_reservation_bytes": 2 * MIB},
            "memory_reservation",
            "is above resources.memory",
        ),
        ({"memory_swap_bytes": MIB}, "memory_swap", "Set resources.memory as well"),
        ({"memory_swap_bytes": -1}, "memory_swap", "Set resources.memory as well"),
        ({"memory_bytes": 2 * MIB, "memory_swap_bytes": MIB}, "memory_swap", "is below resources.memory"),
        (
            {"memory_bytes": -1, "memory_swap_bytes": MIB},
            "memory_swap",
            "while resources.memory is unlimited",
        ),
        ({"pids_limit": -2}, "pids_limit", "1 to 4194304"),
        ({"pids_limit": MAX_PIDS + 1}, "pids_limit", "out of range"),
        ({"io_weight": 9}, "io_weight", "10 to 1000"),
        ({"io_weight": 1001}, "io_weight", "out of range"),
        ({"io_limits": (IoLimit(device="/dev/vda"),)}, "io_limits[0]", "limits nothing"),
        ({"io_limits": (IoLimit(device="/dev/vda", read_bps=0),)}, "io_limits[0].read_bps", "at least 1"),
        ({"io_limits": (IoLimit(device="/dev/null", read_bps=1),)}, "io_limits[0].device", "no block device"),
        ({"io_limits": (IoLimit(device="/dev/none", read_bps=1),)}, "io_limits[0].device", "no block device"),
        (
            {
                "io_limits": (
                    IoLimit(device="/dev/vda", read_bps=1),
                    IoLimit(device="/dev/disk/x", read_iops=1),
                )
            },
            "io_limits[1].device",
            "limited twice",
        ),
        ({"hugepages": (("1GB", 1),)}, "hugepages.1GB", "no huge pages of that size"),
        ({"hugepages": (("2MB", -1),)}, "hugepages.2MB", "out of range"),
        ({"unified": (("memory", "1"),)}, "unified.memory", "not the name of a cgroup file"),
        ({"unified": (("../x.y", "1"),)}, "unified.../x.y", "not the name of a cgroup file"),
        ({"unified": (("cgroup.procs", "1"),)}, "unified.cgroup.procs", "are the runtime's"),
        ({"unified": (("memory.high", "1\n2"),)}, "unified.memory.high", "more than one line"),
    ],
)
def test_build_resources_refuses(asked, field, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        build_resources(Resources(**asked), V2)
    assert caught.value.field == f"resources.{field}"


@pytest.mark.parametrize("size", ["2mb", "0MB", "MB", "2 MB"])
def test_build_resources_refuses_a_page_size(size):
    with pytest.raises(InvalidSpec, match="not a page size"):
        build_resources(Resources(hugepages=((size, 1),)), HostFacts())


@pytest.mark.parametrize(
    ("asked", "host", "message"),
    [
        ({"cpu_shares": 5}, BARE, "resources.cpu_shares: the cgroup controller 'cpu' is not available"),
        ({"cpu_quota_us": 5000}, BARE, "resources.cpu_quota: .*cgroup v2 with none"),
        ({"cpu_period_us": 5000}, BARE, "resources.cpu_period"),
        ({"cpuset_cpus": "0"}, BARE, "resources.cpuset_cpus: the cgroup controller 'cpuset'"),
        ({"memory_bytes": MIB}, BARE, "resources.memory: "),
        ({"memory_reservation_bytes": MIB}, BARE, "resources.memory_reservation: "),
        ({"pids_limit": 5}, BARE, "resources.pids_limit: "),
        ({"hugepages": (("2MB", 1),)}, BARE, "resources.hugepages: the cgroup controller 'hugetlb'"),
        ({"io_weight": 100}, BARE, "cannot weigh I/O"),
        ({"io_weight": 100}, V1, "It needs the scheduler BFQ"),
        ({"io_limits": (IoLimit(device="/dev/vda", read_bps=1),)}, BARE, "controller 'io' is not available"),
        ({"unified": (("memory.high", "1"),)}, V1, "this host has cgroup v1"),
        ({"unified": (("rdma.max", "1"),)}, V2, "resources.unified.rdma.max: the cgroup controller 'rdma'"),
        (
            {"memory_bytes": MIB, "memory_swap_bytes": MIB},
            HostFacts(has_swap_accounting=False),
            "swapaccount=1",
        ),
    ],
)
def test_build_resources_unsupported(asked, host, message):
    with pytest.raises(Unsupported, match=message):
        build_resources(Resources(**asked), host)


# ---- changes while a container runs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "v1", "v2"),
    [
        ({}, {}, {}, {}),
        ({"pids_limit": -1}, {"pids_limit": 0}, {}, {}),
        ({"memory_bytes": -1}, {}, {}, {}),
        ({"cpu_quota_us": -1, "cpu_period_us": 100000}, {}, {}, {}),
        (
            {"unified": (("a.b", "1"), ("a.c", "1"))},
            {"unified": (("a.c", "1"), ("a.b", "1"))},
            {},
            {},
        ),
        (
            {},
            {"memory_bytes": 4 * MIB},
            {"memory": {"limit": 4 * MIB, "swap": -1}},
            {"memory": {"limit": 4 * MIB, "swap": -1}},
        ),
        (
            {"memory_bytes": 4 * MIB},
            {"memory_bytes": 8 * MIB, "memory_swap_bytes": 8 * MIB},
            {"memory": {"limit": 8 * MIB, "swap": 8 * MIB}},
            {"memory": {"limit": 8 * MIB, "swap": 8 * MIB}},
        ),
        (
            {"memory_bytes": 4 * MIB, "memory_swap_bytes": 8 * MIB, "pids_limit": 7},
            {"pids_limit": 7},
            {"memory": {"limit": -1, "swap": -1}},
            {"memory": {"limit": -1, "swap": -1}},
        ),
        (
            {"memory_reservation_bytes": MIB},
            {},
            {"memory": {"reservation": -1}},
            {"memory": {"reservation": 0}},
        ),
        ({"cpu_shares": 5}, {"cpu_shares": 9}, {"cpu": {"shares": 9}}, {"cpu": {"shares": 9}}),
        ({"cpu_shares": 5}, {}, {"cpu": {"shares": 1024}}, {"unified": {"cpu.weight": "100"}}),
        (
            {"cpu_quota_us": 5000},
            {},
            {"cpu": {"quota": MAX_CPU_QUOTA_US, "period": 100000}},
            {"cpu": {"quota": -1, "period": 100000}},
        ),
        (
            {"cpu_quota_us": 5000, "cpu_period_us": 9000},
            {"cpu_quota_us": 5000},
            {"cpu": {"quota": 5000, "period": 100000}},
            {"cpu": {"quota": 5000, "period": 100000}},
        ),
        ({"cpuset_cpus": "0"}, {}, {"cpu": {"cpus": "0,1,2,3"}}, {"cpu": {"cpus": "0,1,2,3"}}),
        ({"cpuset_mems": "0"}, {}, {"cpu": {"mems": "0"}}, {"cpu": {"mems": "0"}}),
        ({"pids_limit": 5}, {}, {"pids": {"limit": MAX_PIDS}}, {"pids": {"limit": MAX_PIDS}}),
        ({"pids_limit": 5}, {"pids_limit": -1}, {"pids": {"limit": MAX_PIDS}}, {"pids": {"limit": MAX_PIDS}}),
        (
            {"hugepages": (("2MB", MIB),)},
            {"hugepages": (("2MB", 2 * MIB),)},
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}]},
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}]},
        ),
        ({"hugepages": (("2MB", MIB),)}, {}, None, None),
        (
            {"io_limits": (IoLimit(device="/dev/vda", read_bps=1),)},
            {"io_limits": (IoLimit(device="/dev/vda", read_bps=2),)},
            {"blockIO": {"throttleReadBpsDevice": [{"major": 254, "minor": 0, "rate": 2}]}},
            {"blockIO": {"throttleReadBpsDevice": [{"major": 254, "minor": 0, "rate": 2}]}},
        ),
        ({"io_limits": (IoLimit(device="/dev/vda", read_bps=1),)}, {}, None, None),
    ],
)
def test_live_resources(old, new, v1, v2):
    assert live_resources(Resources(**old), Resources(**new), V1) == v1
    assert live_resources(Resources(**old), Resources(**new), V2) == v2


@pytest.mark.parametrize(
    ("old", "new", "host", "expected"),
    [
        (
            {"unified": (("memory.high", "1"),)},
            {"unified": (("memory.high", "2"),)},
            V2,
            {"memory.high": "2"},
        ),
        ({"unified": (("memory.high", "1"),)}, {}, V2, None),
        ({"io_weight": 50}, {}, V2, None),
        ({"cpuset_cpus": "0"}, {}, HostFacts(), None),
    ],
)
def test_live_resources_of_v2(old, new, host, expected):
    found = live_resources(Resources(**old), Resources(**new), host)
    assert (found if found is None else found["unified"]) == expected


def test_live_resources_without_swap_accounting():
    host = dataclasses.replace(V1, has_swap_accounting=False)
    found = live_resources(Resources(), Resources(memory_bytes=4 * MIB), host)
    assert found == {"memory": {"limit": 4 * MIB}}


def test_live_resources_checks_the_whole_request():
    with pytest.raises(InvalidSpec, match=r"is above resources\.memory"):
        live_resources(
            Resources(memory_reservation_bytes=8 * MIB),
            Resources(memory_reservation_bytes=8 * MIB, memory_bytes=4 * MIB),
            V2,
        )


@settings(max_examples=100, deadline=None)
@given(old=specs.resources(), new=specs.resources())
def test_live_resources_says_nothing_only_when_nothing_changes(old, new):
    host = dataclasses.replace(V2, cpus=None, devices=(specs.DISK,))
    assert live_resources(new, new, host) == {}
    found = live_resources(old, new, host)
    if found == {}:
        assert build_resources(old, host) == build_resources(new, host)
