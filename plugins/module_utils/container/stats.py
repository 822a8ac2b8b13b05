# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a container uses, in the words of a module; no process is started.

A value that the kernel does not have is None.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import DeviceUsage
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage_reader import UsageReader


def read_stats(group: str, tree: CgroupTree) -> dict[str, t.Any] | None:
    """Return what the cgroup ``group`` uses; None when there is no such group."""
    reader = UsageReader(tree).group(group)
    usage, details = reader.usage(), reader.details()
    reads, writes = _transferred(group, tree, details.devices)
    stats = {
        "cpu_usage_ns": usage.cpu_ns,
        "cpu_throttled_ns": details.throttled_ns,
        "memory_bytes": usage.memory_bytes,
        "memory_working_set_bytes": usage.working_set_bytes,
        "memory_limit_bytes": usage.memory_limit_bytes,
        "oom_kills": details.oom_kills,
        "pids": usage.pids,
        "read_bytes": reads,
        "written_bytes": writes,
    }
    return stats if any(value is not None for value in stats.values()) else None


def _transferred(
    group: str, tree: CgroupTree, devices: t.Collection[DeviceUsage]
) -> tuple[int | None, int | None]:
    """Return the bytes that all devices together have read and written, where the kernel counts them."""
    name = "io.stat" if tree.is_v2 else "blkio.throttle.io_service_bytes_recursive"
    if not os.path.exists(tree.path(group, "blkio", name)):
        return None, None
    return sum(device.read_bytes for device in devices), sum(device.write_bytes for device in devices)
