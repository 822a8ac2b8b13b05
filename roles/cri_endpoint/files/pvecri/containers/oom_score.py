# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change how soon the kernel ends the processes of a running container for want of memory.

crun sets the score when it starts a process, and never again (proc(5), /proc/pid/oom_score_adj).
"""

from __future__ import annotations

import contextlib
import os

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import usage_files
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts

_SYS_RESOURCE = "CAP_SYS_RESOURCE"

#: A process that is made while others are changed has its parent's old score: it is found in the next round.
_ROUNDS = 3


def for_host(score: int, host: HostFacts, told: list[str]) -> int:
    """Return the score that this host lets us set, and tell when it is another."""
    if score >= host.oom_score_adj or host.has_capability(_SYS_RESOURCE):
        return score
    told.append(
        f"oom_score_adj {score} was raised to {host.oom_score_adj}: this host does not let us go lower "
        f"({_SYS_RESOURCE} is missing)"
    )
    return host.oom_score_adj


def apply(group: str, score: int, tree: CgroupTree | None = None, proc: str = "/proc") -> None:
    """Set the score of all processes of a cgroup and of those below; raises InvalidSpec if refused."""
    tree = tree or CgroupTree()
    known: set[int] = set()
    for _round in range(_ROUNDS):
        new = _processes(tree.path(group, "memory")) - known
        if not new:
            return
        for pid in new:
            _set(f"{proc}/{pid}/oom_score_adj", score)
        known |= new


def _processes(directory: str) -> set[int]:
    found: set[int] = set()
    for path, _directories, _files in os.walk(directory):
        found.update(usage_files.processes(usage_files.content(f"{path}/cgroup.procs")))
    return found


def _set(path: str, score: int) -> None:
    # One that has ended meanwhile needs none.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        try:
            with open(path, "w", encoding="ascii") as stream:
                stream.write(str(score))
        except PermissionError as exc:
            raise InvalidSpec("linux.oom_score_adj", f"the kernel refuses {score}") from exc
