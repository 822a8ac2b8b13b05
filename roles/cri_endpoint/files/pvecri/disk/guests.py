# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know how full the root disk of a guest of Proxmox VE is: it has one of its own, and the kernel counts it.

Where a storage gives directories of a file system that others use, too, their files are counted.
"""

from __future__ import annotations

import os
import time
import typing as t

from pvecri.containers.selection import is_guest
from pvecri.disk.layers import Figure
from pvecri.disk.usage import Usage
from pvecri.runtimes.runtimes import Runtimes
from pvecri.state.records import Phase
from pvecri.state.registry import Registry
from pvecri.stats.devices import device_of


class Disk(t.NamedTuple):
    """What was read of a root disk."""

    figure: Figure
    file_system: os.statvfs_result
    device: str


def directories(registry: Registry, runtimes: Runtimes, proc: str = "/proc") -> dict[str, str]:
    """Return for each guest the directory whose files are to be counted; empty: none is.

    That is its root as long as it runs, unless that is a disk of its own.
    """
    found = {}
    for record in registry.containers():
        if is_guest(record):
            state = runtimes.state(record.id) if record.phase is Phase.RUNNING else None
            pid = state.pid if state is not None and state.is_alive else None
            # A link that is the last part of a path is not followed.
            found[record.id] = f"{proc}/{pid}/root/." if pid and not _has_own(pid, proc) else ""
    return found


def _has_own(pid: int, proc: str) -> bool:
    try:
        return _is_whole(f"{proc}/{pid}/mountinfo")
    except OSError:
        return True


def read(pid: int, proc: str = "/proc") -> Disk | None:
    """Return the root disk of a process in the guest; None: it has ended, or the disk is not its own."""
    root = f"{proc}/{pid}/root"
    try:
        if not _is_whole(f"{proc}/{pid}/mountinfo"):
            return None
        found, device = os.statvfs(root), device_of(root)
    except OSError:
        return None
    size = (found.f_blocks - found.f_bfree) * found.f_frsize
    return Disk(Figure(Usage(size, found.f_files - found.f_ffree), time.time_ns()), found, device)


def _is_whole(mountinfo: str) -> bool:
    """Say whether what is mounted on / is a whole file system, and no part of one (proc_pid_mountinfo(5))."""
    with open(mountinfo, encoding="utf-8", errors="replace") as stream:
        roots = [fields[3] for line in stream if (fields := line.split(" "))[4] == "/"]
    # The last one hides those before it.
    return bool(roots) and roots[-1] == "/"
