# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look into cgroup trees, v1 and v2 alike, and clear away those of a test."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import time

_TREE = pathlib.Path("/sys/fs/cgroup")
_END_S = 5.0


def hierarchies() -> list[pathlib.Path]:
    """Return the roots of all hierarchies."""
    if (_TREE / "cgroup.controllers").exists():
        return [_TREE]
    return [path for path in _TREE.iterdir() if path.is_dir() and not path.is_symlink()]


def directories(cgroup: str) -> list[pathlib.Path]:
    """Return the directories of a cgroup, ``/``-separated, in all hierarchies that have it."""
    places = (root / cgroup.strip("/") for root in hierarchies())
    return [place for place in places if place.is_dir()]


def below(cgroup: str) -> list[str]:
    """Return the cgroups below ``cgroup`` in any hierarchy."""
    found = {
        os.path.join(cgroup, os.path.relpath(path, top))
        for top in directories(cgroup)
        for path, _directories, _files in os.walk(top)
        if path != str(top)
    }
    return sorted(found)


def remove(cgroup: str) -> None:
    """End what runs in a cgroup and below, and remove both."""
    deadline = time.monotonic() + _END_S
    while directories(cgroup) and time.monotonic() < deadline:
        for top in directories(cgroup):
            for path, _directories, _files in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    for pid in pathlib.Path(path, "cgroup.procs").read_text().split():
                        os.kill(int(pid), signal.SIGKILL)
                with contextlib.suppress(OSError):
                    os.rmdir(path)
        if directories(cgroup):
            time.sleep(0.02)
