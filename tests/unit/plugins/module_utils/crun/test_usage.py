# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cgroup uses, read from trees that look like a host's."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import usage_files
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import (
    CgroupDetails,
    CgroupUsage,
    DeviceUsage,
    HugePages,
    Pressure,
    PressureStall,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage_reader import UsageReader, page_sizes

V1 = {
    "cpuacct/pod/one/cpuacct.usage": "2500000000\n",
    "cpuacct/pod/one/cpuacct.stat": "user 150\nsystem 50\n",
    "cpu/pod/one/cpu.stat": "nr_periods 8\nnr_throttled 3\nthrottled_time 4000000000\nnr_bursts 0\n",
    "memory/pod/one/memory.usage_in_bytes": "10000\n",
    "memory/pod/one/memory.limit_in_bytes": "50000\n",
    "memory/pod/one/memory.memsw.limit_in_bytes": "80000\n",
    "memory/pod/one/memory.max_usage_in_bytes": "20000\n",
    "memory/pod/one/memory.kmem.usage_in_bytes": "600\n",
    "memory/pod/one/memory.failcnt": "5\n",
    "memory/pod/one/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "memory/pod/one/memory.stat": "rss 1\npgfault 4\npgmajfault 1\nhierarchical_memory_limit 50000\n"
    "total_rss 7000\ntotal_cache 2500\ntotal_mapped_file 40\ntotal_swap 2000\ntotal_pgfault 9\n"
    "total_pgmajfault 2\ntotal_inactive_anon 11\ntotal_active_anon 12\ntotal_inactive_file 3000\n"
    "total_active_file 13\n",
    "memory/pod/one/cgroup.procs": "12\n13\n0\n",
    "pids/pod/one/pids.current": "3\n",
    "pids/pod/one/pids.max": "100\n",
    "blkio/pod/one/blkio.throttle.io_service_bytes_recursive": "8:16 Read 4096\n8:16 Write 8192\n"
    "8:16 Sync 1\n8:0 Read 1\nTotal 12289\n",
    "blkio/pod/one/blkio.throttle.io_serviced_recursive": "8:16 Read 2\n8:16 Write 3\nTotal 5\n",
    "hugetlb/pod/one/hugetlb.2MB.usage_in_bytes": "2097152\n",
    "hugetlb/pod/one/hugetlb.2MB.max_usage_in_bytes": "4194304\n",
}
V2 = {
    "cgroup.controllers": "cpu memory pids\n",
    "pod/one/cpu.stat": "usage_usec 2500000\nuser_usec 1500000\nsystem_usec 500000\nnr_periods 8\n"
    "nr_throttled 3\nthrottled_usec 4000000\n",
    "pod/one/memory.current": "10000\n",
    "pod/one/memory.max": "max\n",
    "pod/one/memory.peak": "20000\n",
    "pod/one/memory.stat": "anon 7000\nfile 2500\nkernel 600\nkernel_stack 77\nfile_mapped 40\n"
    "inactive_anon 11\nactive_anon 12\ninactive_file 3000\nactive_file 13\npgfault 9\npgmajfault 2\n",
    "pod/one/memory.events": "low 0\nhigh 0\nmax 5\noom 2\noom_kill 2\n",
    "pod/one/memory.swap.current": "2000\n",
    "pod/one/memory.swap.max": "30000\n",
    "pod/one/cgroup.procs": "12\n13\n",
    "pod/one/pids.current": "3\n",
    "pod/one/pids.max": "100\n",
    "pod/one/io.stat": "8:16 rbytes=4096 wbytes=8192 rios=2 wios=3 dbytes=0 dios=0\n8:0 \nloop rbytes=1\n",
    "pod/one/hugetlb.2MB.current": "2097152\n",
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
COMMON_DETAILS = {
    "cpu_user_ns": 1_500_000_000,
    "cpu_system_ns": 500_000_000,
    "periods": 8,
    "throttled_periods": 3,
    "throttled_ns": 4_000_000_000,
    "cache_bytes": 2_500,
    "mapped_file_bytes": 40,
    "kernel_bytes": 600,
    "max_usage_bytes": 20_000,
    "limit_hits": 5,
    "active_file_bytes": 13,
    "inactive_file_bytes": 3_000,
    "active_anon_bytes": 12,
    "inactive_anon_bytes": 11,
    "oom_kills": 2,
    "pids_limit": 100,
    "processes": (12, 13),
}
SOME = Pressure(4711, 1.5, 0.25, 0.0)
NOTHING = Pressure(0, 0.0, 0.0, 0.0)
PRESSURE = {
    "cpu": PressureStall(SOME, None),
    "io": PressureStall(Pressure(1, 0.0, 0.0, 0.0), NOTHING),
}


def reader(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sizes = tmp_path / "hugepages"
    (sizes / "hugepages-2048kB").mkdir(parents=True)
    (sizes / "hugepages-1048576kB").mkdir()
    return UsageReader(CgroupTree(str(tmp_path)), huge_pages=str(sizes))


def group(tmp_path, files, path="/pod/one"):
    return reader(tmp_path, files).group(path)


def test_usage_of_v1(tmp_path):
    assert group(tmp_path, V1).usage() == CgroupUsage(memory_limit_bytes=50_000, **COMMON)


def test_usage_of_v2_with_pressure(tmp_path):
    assert group(tmp_path, V2, "pod/one/").usage() == CgroupUsage(pressure=PRESSURE, **COMMON)


def test_pressure_of_v1_is_that_of_the_v2_beside_it(tmp_path):
    beside = {f"unified/{name}": text for name, text in V2.items() if "pressure" in name}
    files = {**V1, **beside, "unified/cgroup.controllers": "\n"}
    assert group(tmp_path, files).usage().pressure == PRESSURE


@pytest.mark.parametrize("is_read_before", [True, False])
@pytest.mark.parametrize(
    ("files", "own"),
    [
        (
            V1,
            {
                "own_page_faults": 4,
                "own_major_page_faults": 1,
                "devices": (DeviceUsage(8, 0, 1, 0, 0, 0), DeviceUsage(8, 16, 4096, 8192, 2, 3)),
                "huge_pages": (HugePages("2MB", 2097152, 4194304),),
            },
        ),
        (
            V2,
            {
                "devices": (DeviceUsage(8, 16, 4096, 8192, 2, 3),),
                "huge_pages": (HugePages("2MB", 2097152, None),),
            },
        ),
    ],
    ids=["v1", "v2"],
)
def test_details(tmp_path, files, own, is_read_before):
    found = group(tmp_path, files)
    if is_read_before:
        found.usage()
    assert found.details() == CgroupDetails(**COMMON_DETAILS, **own)


@pytest.mark.parametrize("files", [{}, {"cgroup.controllers": ""}], ids=["v1", "v2"])
def test_group_that_is_gone_uses_nothing_that_is_known(tmp_path, files):
    found = group(tmp_path, files)
    assert found.usage() == CgroupUsage()
    assert found.details() == CgroupDetails()


@pytest.mark.parametrize(
    ("files", "name"), [(V1, "pids/pod/one/pids.max"), (V2, "pod/one/pids.max")], ids=["v1", "v2"]
)
def test_no_limit_of_processes_is_nought(tmp_path, files, name):
    assert group(tmp_path, {**files, name: "max\n"}).details().pids_limit == 0


def test_kernel_memory_of_older_kernels_is_that_of_stacks(tmp_path):
    stat = V2["pod/one/memory.stat"].replace("kernel 600\n", "")
    assert group(tmp_path, {**V2, "pod/one/memory.stat": stat}).details().kernel_bytes == 77


def test_usage_of_v1_without_limits_and_swap(tmp_path):
    stat = "hierarchical_memory_limit 9223372036854771712\ntotal_rss 7\n"
    usage = group(tmp_path, {**V1, "memory/pod/one/memory.stat": stat}).usage()
    assert (usage.memory_limit_bytes, usage.swap_bytes, usage.swap_limit_bytes) == (None, None, None)


def test_limit_of_a_group_above_is_not_the_groups_own(tmp_path):
    files = {**V1, "memory/pod/one/memory.limit_in_bytes": "9223372036854771712\n"}
    usage = group(tmp_path, files).usage()
    assert (usage.memory_limit_bytes, usage.swap_limit_bytes) == (None, None)


@pytest.mark.parametrize(
    ("files", "name", "text"),
    [
        (V1, "memory/pod/one/memory.stat", "total_inactive_file 99999\n"),
        (V2, "pod/one/memory.stat", "inactive_file 99999\n"),
    ],
    ids=["v1", "v2"],
)
def test_working_set_is_never_negative(tmp_path, files, name, text):
    assert group(tmp_path, {**files, name: text}).usage().working_set_bytes == 0


@pytest.mark.parametrize(("files", "has"), [(V1, False), (V2, True)], ids=["v1", "v2"])
def test_host_has_pressure_if_its_kernel_counts_it(tmp_path, files, has, monkeypatch):
    found = reader(tmp_path, files)
    monkeypatch.setattr("os.path.exists", lambda path: path == "/proc/pressure")
    assert found.has_pressure is has


def test_page_sizes_are_named_as_cgroups_do(tmp_path):
    for size in (2048, 64, 1048576):
        (tmp_path / f"hugepages-{size}kB").mkdir()
    assert page_sizes(str(tmp_path)) == ("64KB", "2MB", "1GB")
    assert page_sizes(str(tmp_path / "none")) == ()


def test_content_of_any_length_is_read_whole(tmp_path):
    path = tmp_path / "io.stat"
    path.write_bytes(b"x" * 200_000)
    assert len(usage_files.content(str(path))) == 200_000


def test_content_of_a_group_that_goes_while_it_is_read_is_empty(tmp_path):
    # A directory can be opened and not read, as the file of a removed group.
    assert usage_files.content(str(tmp_path)) == b""
