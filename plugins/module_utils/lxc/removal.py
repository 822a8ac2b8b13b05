# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take away what there is of an LXC container on this host, and mend what was cut short.

The container itself is Proxmox VE's to remove, and that comes first: as long as it is there, its
configuration includes our file, and without that nobody could even stop it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import files
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs, removal
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Problem, Status, conmon_pid
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import preparation, staging
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.host import LxcHost
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.state import holder_pid, read_state

#: How long LXC's monitor may take to leave after the container's end.
_MONITOR_S: t.Final = 10.0
_MONITOR_POLL_S: t.Final = 0.02

#: How long conmon may take to write the exit file.
_EXIT_S: t.Final = 2.0


def clear_away(host: LxcHost, layout: LxcLayout, *, keep_guest: bool) -> None:
    """Remove all traces of a container but its log; see `LxcDriver.clear_away`."""
    record = records.loaded(layout) if records.exists(layout) else None
    if record is not None:
        # What is kept is somebody else's, who may run it; so is a number that was only claimed.
        is_ours = not keep_guest and record.stage is not Stage.CLAIMED and not _is_shared(host, record)
        _refuse_alive(host, layout, record, wait_for_lxc=is_ours)
    _await_conmon(host, layout)
    if os.path.isdir(layout.crun.monitor_dir) and not _have_left(layout):
        removal.kill_all(lambda: removal.monitors_of(layout.crun))
    if record is not None and not _is_shared(host, record):
        if keep_guest:
            # A mount would hold the pod's network; what is included stays, and does not let it start.
            rootfs.unmount_below(layouts.guest_dir(host.paths, record.vmid))
        else:
            clear_guest(host, record.vmid)
    shutil.rmtree(layout.crun.monitor_dir, ignore_errors=True)
    for path in (os.path.dirname(layout.crun.attach_socket), layout.crun.exit_file):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    records.remove(layout)


def clear_guest(host: LxcHost, vmid: int) -> None:
    """Remove the files of a vmid; see `LxcDriver.clear_guest`."""
    directory = layouts.guest_dir(host.paths, vmid)
    if not os.path.isdir(directory):
        return
    rootfs.unmount_below(directory)
    files.remove_tree(directory)


def _refuse_alive(host: LxcHost, layout: LxcLayout, record: LxcRecord, *, wait_for_lxc: bool) -> None:
    """Raise WrongState when the container's first process, or LXC's process for it, is there."""
    state = read_state(layout, host.cgroups)
    if state is not None and state.status is Status.RUNNING:
        raise WrongState(f"container '{layout.name}' is running", hint="Stop it first")
    deadline = time.monotonic() + _MONITOR_S
    while wait_for_lxc and has_monitor(record.lxc_path, record.vmid):
        if time.monotonic() >= deadline:
            raise WrongState(
                f"LXC still has container {record.vmid}, of which '{layout.name}' shall be removed",
                hint="Stop it first",
            )
        time.sleep(_MONITOR_POLL_S)


def has_monitor(lxc_path: str, vmid: int) -> bool:
    """Say whether LXC runs a container: its process listens on a socket without a file (unix(7))."""
    name = f"@{lxc_path}/{vmid}/command"
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as stream:
        return any(line.rstrip("\n").endswith(" " + name) for line in stream)


def _await_conmon(host: LxcHost, layout: LxcLayout) -> None:
    """Let conmon write the log and the exit file of a container that has just ended."""
    state = read_state(layout, host.cgroups)
    if state is None or state.is_alive or state.conmon_pid is None:
        return
    with procfs.held(state.conmon_pid) as pidfd:
        if pidfd is not None:
            procfs.await_end(pidfd, _EXIT_S)


def _have_left(layout: LxcLayout) -> bool:
    """Say whether conmon and holder were there and are gone: then nobody needs to be looked for."""
    crun = layout.crun
    were_there = os.path.exists(crun.conmon_pid_file) and os.path.exists(crun.init_pid_file)
    return were_there and conmon_pid(crun) is None and holder_pid(crun) is None


def _is_shared(host: LxcHost, record: LxcRecord) -> bool:
    """Say whether another container has the same vmid by now: its files are not ours any more."""
    return any(
        other.vmid == record.vmid and other.name != record.name for other in records.everyone(host.paths)
    )


def repair(host: LxcHost, layout: LxcLayout) -> tuple[Problem, ...]:
    """Mend what can be mended without ending a container that works; see `LxcDriver.repair`."""
    state = read_state(layout, host.cgroups)
    record = records.load(layout)
    if state is None or record is None:
        return ()
    if state.status is Status.CREATED and Problem.MONITOR_LOST in state.problems:
        preparation.again(host, record)
        return (Problem.MONITOR_LOST,)
    if state.status is Status.RUNNING:
        # Whoever waited for its start may not have lived to see it.
        staging.unstage(layouts.guest(host.paths, record.vmid))
    if state.is_alive or state.status is Status.CREATING:
        return ()
    return removal.repair_monitor(layout.crun, state)
