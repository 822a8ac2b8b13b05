# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take away what there is of a container, however far its making or its removal came."""

from __future__ import annotations

from pvecri.context import Context
from pvecri.stages import Stages


def undo(context: Context, container_id: str, stages: Stages | None = None) -> None:
    """End a container's processes and remove its runtime state and bundle; nothing there is fine.

    The record stays, and is removed by the caller when this has succeeded: while there is
    something of a container, there is a record of it.  The log stays, too.
    """
    stages = stages or Stages()
    context.runtimes.delete(container_id, force=True)
    stages.done("delete")
    context.bundles.remove(container_id)
    stages.done("bundle")
