# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove a container."""

from __future__ import annotations

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound
from pvecri.containers import teardown
from pvecri.context import Context
from pvecri.stages import Stages
from pvecri.state.holds import REMOVING


def remove(context: Context, container_id: str) -> None:
    """Remove a container with its bundle and its record, by force if it runs; one that is gone is fine.

    The record goes last: a removal that is cut short is repeated, by the client or by recovery.
    """
    try:
        record = context.registry.container(container_id)
    except NotFound:
        return
    stages = Stages()
    with context.registry.flagged(record.id, REMOVING):
        teardown.undo(context, record.id, stages)
        context.registry.remove_container(record.id)
        stages.done("record")
    context.log.info("container removed", extra={"container": record.id})
    context.log.debug("container gone", extra={"container": record.id, **stages.times})
