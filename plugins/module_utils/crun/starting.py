# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a created container run without a process of its own for that.

The container's first process waits for a writer of the fifo ``exec.fifo`` in crun's state
directory.  ``crun start`` opens it, removes it, writes a byte and runs the hooks ``poststart``
(crun 1.8 and 1.21, libcrun_container_start).  Much the same is done here, and what has such hooks or
looks otherwise is left to crun.  But the fifo is removed last: a writer that goes without a word leaves the
process at its wait, for which it then takes a whole processor, and without the fifo nobody could end that.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import argv as argvs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.host import CrunHost
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState


def start(host: CrunHost, layout: Layout, state: ContainerState) -> None:
    """Let a container run that ``state`` says is created; raises what crun complains of."""
    if _has_poststart(layout) or not _let_go(layout, state):
        host.run(layout.name, argvs.start_argv(host.programs, host.root, layout.name))


def _has_poststart(layout: Layout) -> bool:
    try:
        with open(os.path.join(layout.runtime_dir, "config.json"), "rb") as stream:
            return bool((json.load(stream).get("hooks") or {}).get("poststart"))
    except (OSError, ValueError, AttributeError):
        return True


def _let_go(layout: Layout, state: ContainerState) -> bool:
    """Write to the fifo; return False, with nothing done, where crun must say what is wrong."""
    path = os.path.join(layout.runtime_dir, "exec.fifo")
    try:
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            return False
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno != errno.ENXIO or state.pid is None:
            return False
        # Nobody waits there any more.  If it lives, somebody let it go and was killed before the next line.
        if not procfs.is_same_process(state.pid, state.pid_start_time):
            return False
        _remove(path)
        return True
    try:
        # Its process may have been killed.
        with contextlib.suppress(BrokenPipeError):
            os.write(handle, b"\0")
        _remove(path)
    finally:
        os.close(handle)
    return True


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
