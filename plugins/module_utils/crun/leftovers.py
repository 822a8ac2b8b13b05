# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End the commands in containers whose caller was killed, and remove what tells of them.

crun stays as the parent of a command until that ends, and nobody reads what it writes.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import (
    PID_SUFFIX,
    TERMINAL_SUFFIX,
    sockets,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

#: By how much a file may seem older than the process it tells of: its time goes by the kernel's ticks.
_CLOCKS_S = 0.1


def left_commands(paths: Paths) -> list[str]:
    """Return the files of commands of this owner.

    They are left-overs only for whoever alone runs commands for the owner, and has run none yet.
    """
    directory = sockets(paths)
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [os.path.join(directory, name) for name in names if name.endswith((PID_SUFFIX, TERMINAL_SUFFIX))]


def end_commands(files: t.Sequence[str]) -> None:
    """Kill the commands of these files with all that they started, and remove the files."""
    if not files:
        return
    # crun has them on its command line; who works in their directory is an administrator.
    for helper in procfs.belonging_to(None, *files):
        for stat in procfs.descendants(helper.pid):
            procfs.kill_family(stat.pid)
        procfs.kill_family(helper.pid)
    for path in files:
        # A command outlives a crun that was killed.
        if path.endswith(PID_SUFFIX):
            end_orphan(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def end_orphan(pid_file: str) -> None:
    """Kill the process of a pid file, unless the id is another's by now."""
    with contextlib.suppress(OSError, ValueError):
        with open(pid_file, "rb") as stream:
            pid, written = int(stream.read()), os.fstat(stream.fileno()).st_mtime
        stat = procfs.read_stat(pid)
        if stat is not None and stat.is_alive and procfs.started_s(stat) <= written + _CLOCKS_S:
            procfs.kill_family(pid)
