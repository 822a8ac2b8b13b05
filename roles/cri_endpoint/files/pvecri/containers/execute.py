# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command in a container to its end."""

from __future__ import annotations

import os
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from pvecri.checks import check_text
from pvecri.containers import fields
from pvecri.containers.stop import LONGEST_S
from pvecri.context import Context
from pvecri.state.records import Phase


class Stop:
    """Calls a command off from another thread; any number of times, before, during or after it."""

    def __init__(self) -> None:
        self._handle = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._is_closed = False

    def set(self) -> None:
        """Call the command off."""
        with self._lock:
            if not self._is_closed:
                os.eventfd_write(self._handle, 1)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._handle

    def close(self) -> None:
        """Let go; by whoever waits for the command, at the end."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._handle)


def exec_sync(
    context: Context, container_id: str, command: t.Sequence[str], timeout_s: float, stop: Stop | None = None
) -> tuple[bytes, bytes, int]:
    """Return standard output, standard error and exit code; output beyond the configured limit is dropped.

    No lock of the container is taken, so that probes go on whatever else is done to it.  Raises
    InvalidSpec, NotFound, WrongState, and CommandTimeout after the command was killed with
    everything it started.  ``stop`` is closed at the end.
    """
    context.runtimes.anticipate()
    try:
        return _exec_sync(context, container_id, command, timeout_s, stop)
    finally:
        if stop is not None:
            stop.close()


def _exec_sync(
    context: Context, container_id: str, command: t.Sequence[str], timeout_s: float, stop: Stop | None
) -> tuple[bytes, bytes, int]:
    if not command or not command[0]:
        raise InvalidSpec("cmd", "there is no program to run")
    for index, word in enumerate(command):
        check_text(word, f"cmd[{index}]")
    if timeout_s < 0:
        raise InvalidSpec("timeout", f"{timeout_s} is negative", hint="0 is no time-out")
    record = context.registry.container(container_id)
    if record.phase is not Phase.RUNNING:
        raise WrongState(f"container {record.id} is {record.phase}, not running")
    with fields.named(fields.exec_field):
        done = context.runtimes.exec(
            record.id,
            command,
            timeout_s=min(float(timeout_s), LONGEST_S) or None,
            limit_bytes=context.config.runtime.exec_output_max_bytes,
            stop=None if stop is None else stop.fileno(),
        )
    return done.stdout_bytes, done.stderr_bytes, done.rc
