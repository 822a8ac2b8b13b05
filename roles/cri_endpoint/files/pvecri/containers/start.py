# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a container."""

from __future__ import annotations

import contextlib
import signal
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, WrongState
from pvecri.checkpoints import restoring
from pvecri.context import Context
from pvecri.errors import Untouched
from pvecri.stages import Stages
from pvecri.state.records import START_ERROR, Phase

#: What clients know from other runtimes for a container whose process never ran.
START_ERROR_CODE: t.Final = 128


def start(context: Context, container_id: str) -> None:
    """Let a created container run.

    One that cannot be started has ended with that: it is EXITED with exit code 128.  One whose start
    could not even be begun stays as it is.
    Raises NotFound, WrongState for one that is not CREATED or whose pod is not ready, and crun's reasons.
    """
    record = context.registry.container(container_id)
    if record.phase is not Phase.CREATED:
        raise WrongState(f"container {record.id} is {record.phase}, not created")
    sandbox = context.registry.sandbox(record.sandbox_id)
    if sandbox.phase is not Phase.READY:
        raise WrongState(f"sandbox {sandbox.id} is {sandbox.phase}, not ready")
    stages = Stages()
    # Taken before: whoever looks at both must not find an end before the start.
    when_ns = time.time_ns()
    try:
        if record.awaits_restore:
            restoring.restore(context, record)
        else:
            context.runtimes.start(record.id)
    except Untouched:
        # It is as it was, and can be started when what is in the way is gone.
        raise
    except CoreError as exc:
        context.registry.exited(
            record.id,
            exit_code=START_ERROR_CODE,
            finished_at_ns=time.time_ns(),
            reason=START_ERROR,
            message=str(exc),
        )
        # A start that was given up may have come through all the same.  Told before it is done, so that
        # nobody takes the signal for the reason, and a daemon that is killed here ends it at its next start.
        with contextlib.suppress(CoreError, OSError):
            context.runtimes.stop(record.id, signal.SIGKILL)
        raise
    stages.done("start")
    context.registry.started(record.id, when_ns)
    stages.done("record")
    if record.awaits_restore:
        restoring.discard(context, record.id)
    context.log.info("container started", extra={"container": record.id})
    context.log.debug("container runs", extra={"container": record.id, **stages.times})
