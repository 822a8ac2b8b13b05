# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.container.stats import read_stats
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree

V2 = {
    "g/cpu.stat": "usage_usec 120\nuser_usec 100\nthrottled_usec 3\n",
    "g/memory.current": "8192\n",
    "g/memory.stat": "anon 1\ninactive_file 4096\nodd line here\n",
    "g/memory.max": "max\n",
    "g/memory.events": "oom 2\noom_kill 1\n",
    "g/pids.current": "3\n",
    "g/io.stat": "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n",
}
V1 = {
    "cpuacct/g/cpuacct.usage": "120000\n",
    "cpu/g/cpu.stat": "nr_periods 0\nthrottled_time 3000\n",
    "memory/g/memory.usage_in_bytes": "8192\n",
    "memory/g/memory.stat": "inactive_file 1\ntotal_inactive_file 4096\n",
    "memory/g/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/g/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "pids/g/pids.current": "3\n",
    "blkio/g/blkio.throttle.io_service_bytes_recursive": (
        "8:0 Read 10\n8:0 Write 20\n8:16 Read 1\n8:16 Write 2\n"
    ),
}
STATS = {
    "cpu_usage_ns": 120000,
    "cpu_throttled_ns": 3000,
    "memory_bytes": 8192,
    "memory_working_set_bytes": 4096,
    "memory_limit_bytes": None,
    "oom_kills": 1,
    "pids": 3,
    "read_bytes": 11,
    "written_bytes": 22,
}


def tree(path, files):
    for name, text in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return CgroupTree(str(path))


@pytest.mark.parametrize(
    ("files", "changes"),
    [
        ({"cgroup.controllers": "", **V2}, {}),
        ({"cgroup.controllers": "", **V2, "g/memory.max": "65536"}, {"memory_limit_bytes": 65536}),
        (V1, {}),
        ({**V1, "memory/g/memory.limit_in_bytes": "65536"}, {"memory_limit_bytes": 65536}),
    ],
)
def test_read_stats(tmp_path, files, changes):
    assert read_stats("/g", tree(tmp_path, files)) == {**STATS, **changes}


@pytest.mark.parametrize("files", [{"cgroup.controllers": ""}, {"memory/x": ""}])
def test_read_stats_of_no_group(tmp_path, files):
    assert read_stats("/g", tree(tmp_path, files)) is None


@pytest.mark.parametrize(
    "files", [{"cgroup.controllers": "", "g/pids.current": "3"}, {"pids/g/pids.current": "3"}]
)
def test_read_stats_without_some_controllers(tmp_path, files):
    stats = read_stats("/g", tree(tmp_path, files))
    assert stats.pop("pids") == 3
    assert set(stats.values()) == {None}


def test_read_stats_of_garbage(tmp_path):
    files = {"cgroup.controllers": "", "g/memory.current": "many", "g/pids.current": "3"}
    assert read_stats("/g", tree(tmp_path, files))["memory_bytes"] is None
