# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A control group per host, so that the systemd of one never meets the units of another."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

from test_hosts.ground import HostError

TREE = Path("/sys/fs/cgroup")


def _base() -> Path:
    unified = TREE if (TREE / "cgroup.controllers").exists() else TREE / "unified"
    if not (unified / "cgroup.procs").exists():
        raise HostError("no cgroup v2 is mounted; run: mount -t cgroup2 none /sys/fs/cgroup/unified")
    return unified / "pvecri-hosts"


def make(name: str) -> Path:
    """Make a host's group, with every controller that the machine gives away."""
    base = _base()
    base.mkdir(exist_ok=True)
    for parent in (base.parent, base):
        for controller in (parent / "cgroup.controllers").read_text().split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")
    group = base / name
    group.mkdir(exist_ok=True)
    return group


def kill(name: str) -> None:
    """End every process of a host at once, and wait until they are gone."""
    group = _base() / name
    deadline = time.monotonic() + 120
    while _is_populated(group):
        # The keeper removes the group as soon as it is empty, whoever emptied it.
        with contextlib.suppress(FileNotFoundError):
            (group / "cgroup.kill").write_text("1")
        if time.monotonic() > deadline:
            raise HostError(f"processes of the host {name} do not end; see {group}/cgroup.procs")
        time.sleep(0.02)


def _is_populated(group: Path) -> bool:
    try:
        return "populated 1" in (group / "cgroup.events").read_text()
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENODEV):
            return False
        raise


def remove(name: str) -> None:
    """Remove a host's group and all below it; its processes must be gone."""
    for folder, _folders, _files in os.walk(_base() / name, topdown=False):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(folder)
    with contextlib.suppress(OSError):
        _base().rmdir()
