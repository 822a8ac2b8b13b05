# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the limits of a running container."""

from __future__ import annotations

import copy
import dataclasses
import json
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import argv as argvs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.host import CrunHost
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

#: Of cpu.max, when none is given (cgroup v2, "CPU").
_DEFAULT_PERIOD_US = 100_000

#: crun reads this path as any other.
_STDIN = "/dev/stdin"


def update(host: CrunHost, state: ContainerState, resources: t.Mapping[str, t.Any]) -> None:
    """Apply OCI ``linux.resources`` to a container that is alive; keys left out stay as they are.

    -1 lifts a limit.  Devices cannot be changed, and memory cannot be limited to less than is in
    use (InvalidSpec).
    """
    wanted = copy.deepcopy(dict(resources))
    if wanted.get("devices"):
        raise InvalidSpec("linux.resources.devices", "cannot be changed while the container exists")
    if state.cgroup is not None:
        check_memory(host.cgroups, state.cgroup, wanted)
    lifts = _lifts(host, wanted)
    if not host.cgroups.is_v2:
        # crun 1.8 writes numbers that cgroup v1 refuses: these limits are lifted here alone.
        _take_out(wanted, lifts)
    if wanted:
        host.run(
            state.name,
            argvs.update_argv(host.programs, host.root, state.name, _STDIN),
            stdin=json.dumps(wanted).encode(),
        )
    if state.cgroup is not None:
        for lift in lifts:
            host.cgroups.write(state.cgroup, lift.controller, lift.file, lift.value)


def check_memory(tree: CgroupTree, group: str, wanted: t.Mapping[str, t.Any]) -> None:
    """Refuse a limit below what is in use: v2 would kill processes until it fits, v1 refuses by itself."""
    limit = (wanted.get("memory") or {}).get("limit")
    if not tree.is_v2 or limit is None or limit < 0:
        return
    used = tree.pinned_memory(group)
    if limit < used:
        raise InvalidSpec(
            "linux.resources.memory.limit",
            f"the processes of the container already use {used} bytes, more than the new limit of {limit}",
            hint="Choose a higher limit, or restart the container with it",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Lift:
    """A limit that is taken away by writing one cgroup file."""

    section: str
    key: str
    controller: str
    file: str
    value: str


def _lifts(host: CrunHost, wanted: dict[str, t.Any]) -> list[_Lift]:
    """Return what crun cannot lift: on v2 a quota without a period is passed over by it."""
    is_v2 = host.cgroups.is_v2
    cpu, pids = wanted.get("cpu") or {}, wanted.get("pids") or {}
    found = []
    if cpu.get("quota", 0) < 0:
        period = cpu.get("period", _DEFAULT_PERIOD_US)
        found.append(
            _Lift("cpu", "quota", "cpu", "cpu.max", f"max {period}")
            if is_v2
            else _Lift("cpu", "quota", "cpu", "cpu.cfs_quota_us", "-1")
        )
    if "limit" in pids and pids["limit"] <= 0:
        # crun passes over a limit of 0, which means no limit as well.
        wanted["pids"] = {"limit": -1}
        found.append(_Lift("pids", "limit", "pids", "pids.max", "max"))
    return found


def _take_out(wanted: dict[str, t.Any], lifts: list[_Lift]) -> None:
    for lift in lifts:
        del wanted[lift.section][lift.key]
        if not wanted[lift.section]:
            del wanted[lift.section]
