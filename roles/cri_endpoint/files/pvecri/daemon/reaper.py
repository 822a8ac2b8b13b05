# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adopt what loses its parent, and reap it at once.

conmon forks itself free of its caller, and what a killed conmon or a timed-out exec
leaves behind has no parent either: all of it becomes the daemon's child while the
daemon is a subreaper (prctl(2)).  A thread of its own reaps, woken by SIGCHLD.
Children that the core waits for are not touched (`children`).
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import logging
import os
import queue
import threading

from ansible_collections.pvecri.runtime.plugins.module_utils import children
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs

_log = logging.getLogger(__name__)

_PR_SET_CHILD_SUBREAPER = 36

#: How long an ended child of ours may hide others in the kernel's list until these are looked up.
_HIDDEN_S = 0.1

#: How many exit statuses are remembered for those who ask late.
_REMEMBERED = 1024


class Reaper:
    """The thread that reaps; `start` it, tell it of SIGCHLD by `wake`, and `stop` it."""

    def __init__(self) -> None:
        # Unlike an Event it may be used by a signal handler that interrupts itself.
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_over = False
        self._thread = threading.Thread(target=self._work, name="pvecri-reaper", daemon=True)
        self._statuses: collections.OrderedDict[int, int] = collections.OrderedDict()

    def start(self) -> None:
        """Become a subreaper and begin; children that have ended already are reaped too."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        self._stop_listening = children.listen(self.wake)
        self._calls.put(None)
        self._thread.start()

    def wake(self) -> None:
        """Say that a child has ended: to be called for SIGCHLD, from any thread."""
        self._calls.put(None)

    def stop(self) -> None:
        """End the thread; the process stays a subreaper."""
        self._is_over = True
        self._calls.put(None)
        self._thread.join()
        self._stop_listening()

    def exit_code(self, pid: int) -> int | None:
        """Return the exit code of an adopted process that was reaped lately, 128 + number for a signal."""
        status = self._statuses.get(pid)
        return None if status is None else _code(status)

    def _work(self) -> None:
        is_hidden = False
        while True:
            woken = self._was_called(_HIDDEN_S if is_hidden else None)
            if self._is_over:
                return
            try:
                is_hidden = not children.reap_adopted(seen=self._seen)
                if is_hidden and not woken:
                    # Whoever waits for that child takes its time.
                    children.reap_adopted(_ended_children(), seen=self._seen)
            except OSError:
                _log.exception("cannot reap")

    def _was_called(self, timeout_s: float | None) -> bool:
        """Wait for a call; several at once count as one."""
        try:
            self._calls.get(timeout=timeout_s)
        except queue.Empty:
            return False
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()
        return True

    def _seen(self, pid: int, status: int) -> None:
        self._statuses[pid] = status
        self._statuses.move_to_end(pid)
        while len(self._statuses) > _REMEMBERED:
            self._statuses.popitem(last=False)
        _log.debug("reaped process %d with exit code %d", pid, _code(status))


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _ended_children() -> list[int]:
    """Return the ids of this process's children that wait to be reaped."""
    me = os.getpid()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError):
                stat = procfs.read_stat(int(entry))
                if stat is not None and stat.parent == me and not stat.is_alive:
                    found.append(stat.pid)
    return found
