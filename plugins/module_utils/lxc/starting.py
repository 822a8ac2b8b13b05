# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a container that Proxmox VE starts has become the program that it is to run."""

from __future__ import annotations

import contextlib
import json
import select
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.exits import ExitWatcher
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    CoreError,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import handover, staging
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.handover import Answer
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import Guest, LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.state import holder_pid


def is_decided(layout: LxcLayout) -> bool:
    """Say whether a first process has come for a container."""
    return handover.read_answer(layout.answer) is not None


def await_start(layout: LxcLayout, guest: Guest, timeout_s: float, stop: int | None) -> int:
    """Return the process id of the container's program; see `LxcDriver.await_start`."""
    answer = _final(layout, timeout_s, stop)
    # It has mounts of its own now, or will never have any; kubelet must get its volumes free.
    staging.unstage(guest)
    if answer.started_at is None:
        raise _failure(layout, answer)
    # It runs: a disk that is too full to note since when is no reason to say that it does not.
    with contextlib.suppress(OSError):
        records.amend(layout, started_at=answer.started_at)
    return answer.pid


def _final(layout: LxcLayout, timeout_s: float, stop: int | None) -> Answer:
    """Wait for the holder's last word."""
    time_left = procfs.monotonic_deadline(timeout_s)
    with contextlib.ExitStack() as stack:
        try:
            watcher = stack.enter_context(ExitWatcher(layout.crun.monitor_dir))
        except FileNotFoundError as exc:
            raise _nobody(layout) from exc
        pid = holder_pid(layout.crun)
        pidfd = None if pid is None else stack.enter_context(procfs.held(pid))
        poller = select.poll()
        for handle in (watcher.fileno(), pidfd, stop):
            if handle is not None:
                poller.register(handle, select.POLLIN)
        # Looked at once more after the holder's end, which comes after its last word.
        is_over = pidfd is None
        while True:
            answer = handover.read_answer(layout.answer)
            if answer is not None and answer.is_final:
                return answer
            if is_over:
                raise _nobody(layout)
            ready = {handle for handle, _event in poller.poll((time_left() or 0.0) * 1000)}
            if not ready:
                raise CommandTimeout(
                    f"container '{layout.name}' did not run its program within {timeout_s:g} s",
                    hint="Look at the task of its start at Proxmox VE, or raise the time-out",
                )
            if stop in ready and watcher.fileno() not in ready:
                raise WrongState(f"the start of container '{layout.name}' is not waited for any more")
            watcher.read()
            is_over = pidfd in ready


def _nobody(layout: LxcLayout) -> WrongState:
    return WrongState(
        f"nobody waits for the first process of container '{layout.name}': its conmon or holder was killed",
        hint="Remove it and make it anew",
    )


def _failure(layout: LxcLayout, answer: Answer) -> CoreError:
    if answer.stage is None:
        return CommandError(f"container '{layout.name}' was not started: {answer.refused}")
    process: dict[str, t.Any] = {}
    with contextlib.suppress(OSError, ValueError), open(layout.config, "rb") as stream:
        process = json.load(stream).get("process") or {}
    return handover.explained(answer.stage, answer.errno, process)
