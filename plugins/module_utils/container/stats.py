# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a container uses from the files of its cgroup; no process is started.

Both hierarchies are read: v2 (kernel documentation, admin-guide/cgroup-v2) and the
controllers of v1.  A value that the kernel does not have is None.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree

#: v1 says "no limit" by the largest multiple of a page in 63 bits.
_V1_UNLIMITED = 0x7FFFFFFFFFFFF000


def read_stats(group: str, tree: CgroupTree) -> dict[str, t.Any] | None:
    """Return what the cgroup ``group`` uses; None when there is no such group."""
    stats = _read_v2(group, tree) if tree.is_v2 else _read_v1(group, tree)
    return stats if any(value is not None for value in stats.values()) else None


def _read_v2(group: str, tree: CgroupTree) -> dict[str, t.Any]:
    cpu = _table(_text(tree, group, "", "cpu.stat"))
    memory = _number(_text(tree, group, "", "memory.current"))
    reads, writes = _io_v2(_text(tree, group, "", "io.stat"))
    return {
        "cpu_usage_ns": _times(cpu.get("usage_usec"), 1000),
        "cpu_throttled_ns": _times(cpu.get("throttled_usec"), 1000),
        "memory_bytes": memory,
        "memory_working_set_bytes": _working_set(
            memory, _table(_text(tree, group, "", "memory.stat")).get("inactive_file")
        ),
        "memory_limit_bytes": _number(_text(tree, group, "", "memory.max")),
        "oom_kills": _table(_text(tree, group, "", "memory.events")).get("oom_kill"),
        "pids": _number(_text(tree, group, "", "pids.current")),
        "read_bytes": reads,
        "written_bytes": writes,
    }


def _read_v1(group: str, tree: CgroupTree) -> dict[str, t.Any]:
    throttled = _table(_text(tree, group, "cpu", "cpu.stat")).get("throttled_time")
    memory = _number(_text(tree, group, "memory", "memory.usage_in_bytes"))
    limit = _number(_text(tree, group, "memory", "memory.limit_in_bytes"))
    reads, writes = _io_v1(_text(tree, group, "blkio", "blkio.throttle.io_service_bytes"))
    return {
        "cpu_usage_ns": _number(_text(tree, group, "cpuacct", "cpuacct.usage")),
        "cpu_throttled_ns": throttled,
        "memory_bytes": memory,
        "memory_working_set_bytes": _working_set(
            memory, _table(_text(tree, group, "memory", "memory.stat")).get("total_inactive_file")
        ),
        "memory_limit_bytes": None if limit is None or limit >= _V1_UNLIMITED else limit,
        "oom_kills": _table(_text(tree, group, "memory", "memory.oom_control")).get("oom_kill"),
        "pids": _number(_text(tree, group, "pids", "pids.current")),
        "read_bytes": reads,
        "written_bytes": writes,
    }


def _working_set(used: int | None, inactive_file: int | None) -> int | None:
    """Return the memory that the kernel cannot take back easily, as Kubernetes counts it."""
    return None if used is None else max(used - (inactive_file or 0), 0)


def _io_v2(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    fields = [part.partition("=") for line in text.splitlines() for part in line.split()[1:]]
    total = [
        sum(int(value) for name, _equals, value in fields if name == wanted)
        for wanted in ("rbytes", "wbytes")
    ]
    return total[0], total[1]


def _io_v1(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    fields = [line.split() for line in text.splitlines()]
    rows = [row for row in fields if len(row) == 3]
    total = [sum(int(value) for _device, name, value in rows if name == kind) for kind in ("Read", "Write")]
    return total[0], total[1]


def _text(tree: CgroupTree, group: str, controller: str, name: str) -> str | None:
    with contextlib.suppress(OSError), open(tree.path(group, controller, name), encoding="ascii") as stream:
        return stream.read()
    return None


def _number(text: str | None) -> int | None:
    """Return a number; ``max`` and what is no number are None."""
    with contextlib.suppress(ValueError):
        return None if text is None else int(text)
    return None


def _table(text: str | None) -> dict[str, int]:
    """Return the numbers of a file with one name and number per line."""
    rows = (line.split() for line in (text or "").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _times(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor
