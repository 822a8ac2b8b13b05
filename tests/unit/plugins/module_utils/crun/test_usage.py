# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cgroup uses, read from trees that look like a host's."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import (
    CgroupUsage,
    Pressure,
    PressureStall,
    read_usage,
)

V1 = {
    "cpuacct/pod/one/cpuacct.usage": "2500000000\n",
    "memory/pod/one/memory.usage_in_bytes": "10000\n",
    "memory/pod/one/memory.limit_in_bytes": "50000\n",
    "memory/pod/one/memory.memsw.usage_in_bytes": "12000\n",
    "memory/pod/one/memory.memsw.limit_in_bytes": "80000\n",
    "memory/pod/one/memory.stat": "rss 1\ntotal_rss 7000\ntotal_inactive_file 3000\ntotal_pgfault 9\n"
    "total_pgmajfault 2\nhierarchical_memory_limit 50000\n",
    "pids/pod/one/pids.current": "3\n",
}
V2 = {
    "cgroup.controllers": "cpu memory pids\n",
    "pod/one/cpu.stat": "usage_usec 2500000\nuser_usec 2000000\n",
    "pod/one/memory.current": "10000\n",
    "pod/one/memory.max": "max\n",
    "pod/one/memory.stat": "anon 7000\ninactive_file 3000\npgfault 9\npgmajfault 2\n",
    "pod/one/memory.swap.current": "2000\n",
    "pod/one/memory.swap.max": "30000\n",
    "pod/one/pids.current": "3\n",
    "pod/one/cpu.pressure": "some avg10=1.50 avg60=0.25 avg300=0.00 total=4711\n",
    "pod/one/io.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "pod/one/memory.pressure": "some nonsense=1\nfull avg10=much avg60=0 avg300=0 total=0\n",
}
COMMON = {
    "cpu_ns": 2_500_000_000,
    "memory_bytes": 10_000,
    "working_set_bytes": 7_000,
    "rss_bytes": 7_000,
    "page_faults": 9,
    "major_page_faults": 2,
    "swap_bytes": 2_000,
    "swap_limit_bytes": 30_000,
    "pids": 3,
}


def tree(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return CgroupTree(str(tmp_path))


def test_usage_of_v1(tmp_path):
    assert read_usage(tree(tmp_path, V1), "/pod/one") == CgroupUsage(memory_limit_bytes=50_000, **COMMON)


def test_usage_of_v2_with_pressure(tmp_path):
    nothing = Pressure(0, 0.0, 0.0, 0.0)
    pressure = {
        "cpu": PressureStall(Pressure(4711, 1.5, 0.25, 0.0), None),
        "io": PressureStall(Pressure(1, 0.0, 0.0, 0.0), nothing),
    }
    assert read_usage(tree(tmp_path, V2), "/pod/one") == CgroupUsage(pressure=pressure, **COMMON)


@pytest.mark.parametrize("files", [{}, {"cgroup.controllers": ""}])
def test_usage_of_a_group_that_is_gone(tmp_path, files):
    assert read_usage(tree(tmp_path, files), "/pod/one") == CgroupUsage()


def test_usage_of_v1_without_limits_and_swap(tmp_path):
    files = {name: text for name, text in V1.items() if "memsw" not in name}
    files["memory/pod/one/memory.limit_in_bytes"] = "9223372036854771712\n"
    usage = read_usage(tree(tmp_path, files), "/pod/one")
    assert (usage.memory_limit_bytes, usage.swap_bytes, usage.swap_limit_bytes) == (None, None, None)


def test_working_set_is_never_negative(tmp_path):
    files = {**V1, "memory/pod/one/memory.stat": "total_inactive_file 99999\n"}
    assert read_usage(tree(tmp_path, files), "/pod/one").working_set_bytes == 0
