# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Go on in a new log file after somebody moved the old one away."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout, WrongState
from pvecri.context import Context
from pvecri.state.records import Phase

#: conmon reopens its log between two reads of the container's output.
_REOPEN_S: t.Final = 5.0
_LOOK_S: t.Final = 0.002


def reopen(context: Context, container_id: str) -> None:
    """Let conmon begin a new log file, and wait until that is there; no lock is taken.

    Raises NotFound, WrongState for a container that does not run or has no log, and CommandTimeout.
    """
    record = context.registry.container(container_id)
    if record.phase is not Phase.RUNNING:
        raise WrongState(f"container {record.id} is {record.phase}, not running")
    if not record.log_path:
        raise WrongState(f"container {record.id} has no log")
    before = _inode(record.log_path)
    context.runtimes.reopen_log(record.id)
    deadline = time.monotonic() + _REOPEN_S
    while _inode(record.log_path) in (None, before):
        if time.monotonic() > deadline:
            state = context.runtimes.state(record.id)
            if state is None or not state.is_alive:
                raise WrongState(f"container {record.id} ended meanwhile")
            raise CommandTimeout(
                f"conmon did not reopen the log {record.log_path} within {_REOPEN_S:g} s",
                hint="Is its directory still there, and is there space?",
            )
        time.sleep(_LOOK_S)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino
