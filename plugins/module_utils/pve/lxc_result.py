# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what became of one container while it is worked on."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_plan import Actual
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import LxcSpec

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_new import Placed


@dataclasses.dataclass(slots=True)
class Result:
    """What became of one container."""

    spec: LxcSpec
    #: None for a container that does not exist (any more, or yet in check mode).
    actual: Actual | None = None
    differences: DifferenceTracker = dataclasses.field(default_factory=DifferenceTracker)
    #: Names of the steps that were, or in check mode would be, carried out.
    actions: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    placed: Placed | None = None
    #: Known as soon as the container is found or made.
    vmid: int | None = None

    @property
    def changed(self) -> bool:
        """Say whether anything was, or would be, changed."""
        return bool(self.differences)
