# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make, limit and remove the cgroup of a pod, for cgroup v1 and v2, by ourselves or by systemd.

kubelet makes the cgroups of its pods before it asks for them, sets their limits and
changes them by itself; it tells of ``resources`` only what its containers add up to, and a
limit made of that would choke a pod one of whose containers has none.  So a cgroup that
is there already is left as it is.  One that is not is ours: it is made, limited as
asked, changed by UpdatePodSandboxResources, and removed with the pod.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.resources import (
    DEFAULT_CPU_PERIOD_US,
    MAX_CPU_SHARES,
    MIN_CPU_SHARES,
)

#: Where the pods are that name no parent.
_TOP = "pvecri"

#: v1 refuses processes in a group of this controller until these are set.
_CPUSET = ("cpuset.cpus", "cpuset.mems")

_WEIGHTS = 9999

#: Where systemd keeps what `systemctl set-property --runtime` has set.
_DROP_INS = "/run/systemd/system.control"


def own_parent(sandbox_id: str, *, is_systemd: bool) -> str:
    """Return the cgroup of a pod whose request names none."""
    return f"{_TOP}-pod{sandbox_id}.slice" if is_systemd else f"/{_TOP}/pod{sandbox_id}"


def group_path(parent: str) -> str:
    """Return the path of a pod's cgroup below the hierarchy's top: ``a-b.slice`` lies in ``a.slice``."""
    if parent.startswith("/"):
        return parent
    parts = parent.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(parts[:count])}.slice" for count in range(1, len(parts) + 1))


def container_cgroup(parent: str, container_id: str) -> str:
    """Return the cgroup of a container in a pod's, as crun is to be told."""
    return f"{parent}/{container_id}" if parent.startswith("/") else f"{parent}:pvecri:{container_id}"


class PodCgroup:
    """One pod's cgroup."""

    def __init__(self, parent: str, runner: Runner, tree: CgroupTree | None = None) -> None:
        self.parent = parent
        self.path = group_path(parent)
        self._is_slice = not parent.startswith("/")
        self._runner = runner
        self._tree = tree or CgroupTree()

    def exists(self) -> bool:
        """Say whether the group is there, in any hierarchy."""
        return any(os.path.isdir(top + self.path) for top in self._tops())

    def make(self, resources: Resources) -> None:
        """Make the group and limit it by what the host was found to have (`resources.check`)."""
        if not self._is_slice:
            for top in self._tops():
                self._make_below(top)
        # Without limits there is nothing to do for a slice: crun's scopes bring it with them.
        self.limit(resources)

    def limit(self, resources: Resources) -> None:
        """Set the limits that are given; the others stay as they are."""
        if self._is_slice:
            wanted = properties(resources, is_v2=self._tree.is_v2)
            swap = None if self._tree.is_v2 else resources.memory_swap_bytes
            resources = Resources(
                hugepages=resources.hugepages, unified=resources.unified, memory_swap_bytes=swap
            )
            if wanted:
                self._systemctl("set-property", "--runtime", self.parent, *wanted)
            if wanted or resources != Resources():
                self._systemctl("start", self.parent)
        for controller, name, value in limit_files(resources, is_v2=self._tree.is_v2):
            self._tree.write(self.path, controller, name, value)

    def remove(self) -> None:
        """Remove the group; one that is gone is fine, and one that others use is theirs.  Raises OSError."""
        if self._is_slice:
            drop_ins = f"{_DROP_INS}/{self.parent}.d"
            has_limits = os.path.isdir(drop_ins)
            if has_limits or self.exists():
                self._systemctl("stop", self.parent)
            if has_limits:
                # Not by `systemctl revert`, which makes systemd read all units of the host anew: a unit that
                # is stopped is forgotten, and what it is set to with it.
                shutil.rmtree(drop_ins)
            return
        try:
            self._tree.remove(self.path)
        except OSError as exc:
            # Another pod whose request names the same group.
            if exc.errno not in {errno.EBUSY, errno.ENOTEMPTY}:
                raise

    def _systemctl(self, *args: str) -> None:
        self._runner.run(["systemctl", *args])

    def _tops(self) -> list[str]:
        root = self._tree.root
        if self._tree.is_v2:
            return [root]
        return [
            entry.path
            for entry in os.scandir(root)
            if entry.is_dir(follow_symlinks=False) and os.path.exists(f"{entry.path}/cgroup.clone_children")
        ]

    def _make_below(self, top: str) -> None:
        parts = self.path.strip("/").split("/")
        for count in range(1, len(parts) + 1):
            above = "/".join([top, *parts[: count - 1]])
            directory = "/".join([top, *parts[:count]])
            if self._tree.is_v2:
                _hand_down(above)
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o755)
            for name in _CPUSET:
                _inherit(above, directory, name)


def _hand_down(directory: str) -> None:
    """Let the groups of a v2 group have all its controllers; one that is refused is not needed for it."""
    with contextlib.suppress(OSError):
        with open(f"{directory}/cgroup.controllers", encoding="ascii") as stream:
            controllers = stream.read().split()
        for controller in controllers:
            with contextlib.suppress(OSError), open(f"{directory}/cgroup.subtree_control", "w") as out:
                out.write(f"+{controller}")


def _inherit(above: str, directory: str, name: str) -> None:
    """Give a v1 group of the controller cpuset what its parent has, where it has nothing."""
    if not os.path.exists(f"{directory}/cgroup.clone_children"):
        return
    with contextlib.suppress(FileNotFoundError):
        with open(f"{directory}/{name}", encoding="ascii") as stream:
            if stream.read().strip():
                return
        with open(f"{above}/{name}", encoding="ascii") as stream:
            value = stream.read()
        with open(f"{directory}/{name}", "w", encoding="ascii") as out:
            out.write(value)


def limit_files(resources: Resources, *, is_v2: bool) -> list[tuple[str, str, str]]:
    """Return controller, file and content for each limit (cgroup-v1 and cgroup-v2 of the kernel); pure."""
    found: list[tuple[str, str, t.Any]] = []
    period = resources.cpu_period_us or DEFAULT_CPU_PERIOD_US
    if resources.cpu_shares is not None:
        if is_v2:
            found.append(("cpu", "cpu.weight", cpu_weight(resources.cpu_shares)))
        else:
            found.append(("cpu", "cpu.shares", resources.cpu_shares))
    if resources.cpu_quota_us is not None:
        if is_v2:
            found.append(("cpu", "cpu.max", f"{resources.cpu_quota_us} {period}"))
        else:
            found.append(("cpu", "cpu.cfs_period_us", period))
            found.append(("cpu", "cpu.cfs_quota_us", resources.cpu_quota_us))
    for name, value in (("cpuset.cpus", resources.cpuset_cpus), ("cpuset.mems", resources.cpuset_mems)):
        if value is not None:
            found.append(("cpuset", name, value))
    if resources.memory_bytes is not None:
        found.append(("memory", "memory.max" if is_v2 else "memory.limit_in_bytes", resources.memory_bytes))
    if resources.memory_swap_bytes is not None:
        found.append(("memory", *_swap(resources.memory_swap_bytes, resources.memory_bytes, is_v2=is_v2)))
    for size, limit in resources.hugepages:
        found.append(("hugetlb", f"hugetlb.{size}.max" if is_v2 else f"hugetlb.{size}.limit_in_bytes", limit))
    found += [(name.partition(".")[0], name, value) for name, value in resources.unified]
    return [(controller, name, str(value)) for controller, name, value in found]


def _swap(both: int, memory: int | None, *, is_v2: bool) -> tuple[str, t.Any]:
    """Return file and content: v1 limits memory and swap together, v2 the swap alone."""
    if not is_v2:
        return "memory.memsw.limit_in_bytes", both
    return "memory.swap.max", "max" if both < 0 else max(0, both - (memory or 0))


def properties(resources: Resources, *, is_v2: bool) -> list[str]:
    """Return the limits that systemd knows as it writes them (systemd.resource-control(5)); pure."""
    found = []
    if resources.cpu_shares is not None:
        weight = f"CPUWeight={cpu_weight(resources.cpu_shares)}"
        found.append(weight if is_v2 else f"CPUShares={resources.cpu_shares}")
    if resources.cpu_quota_us is not None:
        period = resources.cpu_period_us or DEFAULT_CPU_PERIOD_US
        # Hundredths of a percent at the finest, and never less than asked for.
        hundredths = -(-resources.cpu_quota_us * 10000 // period)
        found.append(f"CPUQuotaPeriodSec={period}us")
        found.append(f"CPUQuota={hundredths // 100}.{hundredths % 100:02}%")
    if resources.cpuset_cpus is not None:
        found.append(f"AllowedCPUs={resources.cpuset_cpus}")
    if resources.cpuset_mems is not None:
        found.append(f"AllowedMemoryNodes={resources.cpuset_mems}")
    if resources.memory_bytes is not None:
        found.append(f"{'MemoryMax' if is_v2 else 'MemoryLimit'}={resources.memory_bytes}")
    if resources.memory_swap_bytes is not None and is_v2:
        _name, swap = _swap(resources.memory_swap_bytes, resources.memory_bytes, is_v2=True)
        found.append(f"MemorySwapMax={'infinity' if swap == 'max' else swap}")
    return found


def cpu_weight(shares: int) -> int:
    """Return the weight of cgroup v2 for shares of v1: the ends of one scale meet those of the other."""
    return 1 + (shares - MIN_CPU_SHARES) * _WEIGHTS // (MAX_CPU_SHARES - MIN_CPU_SHARES)
