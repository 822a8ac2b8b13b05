# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what cgroups use, from cgroup v1 or v2 alike; no process is started.

    reader = UsageReader()
    group = reader.group("/kubepods/pod1/container1")
    group.usage().cpu_ns

Each file is read once per group, whatever is asked of it.  A group that is gone uses
nothing that is known: every figure is None.
"""

from __future__ import annotations

import os

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import Group
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage_v1 import GroupV1
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage_v2 import GroupV2

_HUGE_PAGES = "/sys/kernel/mm/hugepages"
_UNITS = (("GB", 1 << 20), ("MB", 1 << 10), ("KB", 1))


class UsageReader:
    """Reads the groups of a host, whose kind of hierarchies is looked up once."""

    def __init__(self, tree: CgroupTree | None = None, *, huge_pages: str = _HUGE_PAGES) -> None:
        """Set up; ``huge_pages`` is the kernel's directory of the sizes that the host has."""
        tree = tree or CgroupTree()
        self._tree = tree
        self._root = tree.root
        self._is_v2 = tree.is_v2
        self._sizes = page_sizes(huge_pages)
        # A host with its controllers in v1 may have an empty v2 beside: that counts the pressure.
        beside = f"{tree.root}/unified"
        self._pressure = beside if os.path.exists(f"{beside}/cgroup.controllers") else ""

    @property
    def has_pressure(self) -> bool:
        """Whether the host counts how long groups wait for resources."""
        return (self._is_v2 or bool(self._pressure)) and os.path.exists("/proc/pressure")

    def group(self, path: str) -> Group:
        """Return a group by its path below the root of its hierarchies; nothing is read yet."""
        path = "/" + path.strip("/")
        if self._is_v2:
            return GroupV2(self._root + path, self._sizes)
        return GroupV1(self._root, path, self._sizes, self._pressure)

    def everyone(self, path: str) -> tuple[int, ...]:
        """Return the ids of the processes of a group and of all groups below it."""
        return tuple(self._tree.processes(path))


def page_sizes(directory: str) -> tuple[str, ...]:
    """Return the sizes of huge pages that a host has, as cgroups name them: 2MB, 1GB."""
    try:
        names = os.listdir(directory)
    except OSError:
        return ()
    sizes = sorted(int(name.removeprefix("hugepages-").removesuffix("kB")) for name in names)
    return tuple(_named(size_kib) for size_kib in sizes)


def _named(size_kib: int) -> str:
    unit, factor = next(pair for pair in _UNITS if size_kib >= pair[1])
    return f"{size_kib // factor}{unit}"
