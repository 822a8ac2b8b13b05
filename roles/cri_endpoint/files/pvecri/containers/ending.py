# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Note how a container ended."""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout, NotFound
from pvecri.state.records import ContainerRecord, Phase

if t.TYPE_CHECKING:
    from pvecri.daemon.context import Context

OOM_KILLED: t.Final = "OOMKilled"
COMPLETED: t.Final = "Completed"
ERROR: t.Final = "Error"
#: Nobody saw the exit code.
UNKNOWN: t.Final = "Unknown"

#: How long conmon may take to write the exit code of a process that is gone.
_CODE_WAIT_S: t.Final = 2.0


def ended(context: Context, container_id: str) -> bool:
    """Write a container's end into its record, if it has ended; return whether.

    Comes at any time and any number of times: what is known already stays.
    """
    try:
        record = context.registry.container(container_id)
    except NotFound:
        return True
    if record.phase is Phase.EXITED and record.exit_code is not None:
        return True
    if record.phase is Phase.CREATING:
        # Whoever makes it will find out.
        return False
    state = context.crun.state(record.id)
    if state is not None and state.is_alive:
        return False
    if state is not None and state.exit_code is None and state.conmon_pid is not None:
        with contextlib.suppress(CommandTimeout, NotFound):
            context.crun.wait(record.id, _CODE_WAIT_S)
            state = context.crun.state(record.id)
    with contextlib.suppress(NotFound):
        _note(context, record, state)
    return True


def _note(context: Context, record: ContainerRecord, state: ContainerState | None) -> None:
    code = state.exit_code if state is not None else None
    finished = state.finished_at if state is not None else None
    reason, message = why(code, oom_killed=state is not None and state.oom_killed)
    before = context.registry.container(record.id)
    after = context.registry.exited(
        record.id,
        exit_code=code,
        finished_at_ns=time.time_ns() if finished is None else int(finished * 1e9),
        reason=reason,
        message=message,
    )
    if after is not before:
        context.log.info(
            "container ended",
            extra={"container": record.id, "exit_code": "" if code is None else code, "reason": reason},
        )


def why(code: int | None, *, oom_killed: bool) -> tuple[str, str]:
    """Return reason and message of an end."""
    if code is None:
        return UNKNOWN, "The container ended while nothing watched it; its exit code is not known."
    if code != 0 and oom_killed:
        return OOM_KILLED, ""
    return (COMPLETED if code == 0 else ERROR), ""
