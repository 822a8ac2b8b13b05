# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for the end of a container."""

from __future__ import annotations

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, read_exit
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout


def await_exit(layout: Layout, state: ContainerState, timeout_s: float | None) -> int | None:
    """Return the exit code of a container in this state once it has ended; None when nobody saw it.

    Raises CommandTimeout after ``timeout_s`` seconds (None: never).
    """
    if state.exit_code is not None:
        return state.exit_code
    time_left = procfs.monotonic_deadline(timeout_s)
    # conmon ends after it has written the exit file, so its end is the one to wait for.
    for pid, start_time in ((state.conmon_pid, 0), (state.pid, state.pid_start_time)):
        if pid is None:
            continue
        with procfs.held(pid, start_time) as pidfd:
            if pidfd is not None and not procfs.await_end(pidfd, time_left()):
                raise CommandTimeout(
                    f"container '{layout.name}' did not end within {timeout_s:g} s",
                    hint="Raise the time-out, or look at its log",
                )
        code, _when = read_exit(layout)
        if code is not None:
            return code
    return None
