# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop a container."""

from __future__ import annotations

import contextlib
import signal
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound
from pvecri.containers.exits import Exits
from pvecri.containers.spec.build import DEFAULT_STOP_SIGNAL
from pvecri.context import Context
from pvecri.state.records import ERROR, Phase

#: Longer than any pod has to end; the kernel counts a wait in milliseconds of 32 bits.
LONGEST_S: t.Final = 1_000_000.0


def stop(context: Context, container_id: str, timeout_s: float, exits: Exits) -> None:
    """End a container's processes: its stop signal, and SIGKILL after ``timeout_s`` seconds.

    One that is gone, has ended or was never made is stopped.  Raises CommandTimeout when the kernel
    does not end a process that was killed.
    """
    try:
        record = context.registry.container(container_id)
    except NotFound:
        return
    if record.phase is Phase.EXITED:
        return
    if record.awaits_restore:
        # Nothing of it runs yet.
        context.registry.exited(
            record.id, exit_code=128 + signal.SIGKILL, finished_at_ns=time.time_ns(), reason=ERROR
        )
        return
    # Without anything left of it but the record, its end is noted all the same.
    with contextlib.suppress(NotFound):
        context.runtimes.stop(
            record.id,
            record.stop_signal or DEFAULT_STOP_SIGNAL,
            timeout_s=min(max(float(timeout_s), 0.0), LONGEST_S),
        )
    exits.settle(record.id)
