# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what there is of a container: bundle, runtime state, unit, network.

Everything is read from files; no process is started.
"""

from __future__ import annotations

import dataclasses
import os

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import Bundle, load_bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.container.intent import Intent
from ansible_collections.pvecri.runtime.plugins.module_utils.container.places import wrapper_folder
from ansible_collections.pvecri.runtime.plugins.module_utils.container.terms import Actual, Status
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Problem
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status as RuntimeStatus
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

_STATUS = {
    RuntimeStatus.CREATED: Status.CREATED,
    RuntimeStatus.RUNNING: Status.RUNNING,
    RuntimeStatus.PAUSED: Status.PAUSED,
    # Half made: cleared away and made again.
    RuntimeStatus.CREATING: Status.STOPPED,
    RuntimeStatus.STOPPED: Status.STOPPED,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What there is of one container at one moment."""

    name: str
    #: None when there is none of a container's own.
    bundle: Bundle | None = None
    intent: Intent | None = None
    state: ContainerState | None = None
    unit: str | None = None
    has_network: bool = False
    has_files: bool = False
    #: Somebody else's bundle has the name.
    is_taken: bool = False

    @property
    def lost_secrets(self) -> list[str]:
        """Paths of secrets of the bundle that are gone, as after a reboot."""
        record = self.bundle.record if self.bundle else None
        return [path for path in record.volatile if not os.path.exists(path)] if record else []

    @property
    def broken(self) -> str | None:
        """Why the bundle cannot be used; secrets that are gone can be written again."""
        if self.bundle is None:
            return None
        problems = self.bundle.problems
        if len(problems) == 1 and self.lost_secrets:
            return None
        if self.intent is None and not problems:
            return "it does not say what was asked for"
        return "; ".join(problems) or None

    def actual(self) -> Actual:
        """Return the side of the plan that is."""
        state, intent = self.state, self.intent
        status = Status.STOPPED if self.bundle is not None else Status.ABSENT
        is_half = state is not None and Problem.HALF_CREATED in state.problems
        if state is not None and not is_half:
            status = _STATUS[state.status]
        if status is Status.STOPPED and self.bundle is None:
            status = Status.ABSENT
        return Actual(
            status=status,
            has_bundle=self.bundle is not None,
            has_runtime=state is not None,
            request=intent.request if intent else {},
            broken=self.broken,
            pending=intent.pending if intent else [],
            exit_code=state.exit_code if state is not None and not is_half else None,
            was_stopped=intent.was_stopped if intent else False,
            unit=self.unit,
            has_network=self.has_network,
            has_files=self.has_files,
        )


def find_bundle(name: str, paths: Paths) -> tuple[Bundle | None, bool]:
    """Return the bundle of a container, and whether the name is taken by a bundle of somebody else.

    A wrapper stands for a bundle that was made elsewhere.  A directory whose record is
    lost counts as the container's own: there is nobody else who could repair it.
    """
    wrapper = load_bundle(name, os.path.join(wrapper_folder(paths), name))
    if wrapper is not None:
        return wrapper, False
    bundle = load_bundle(name, os.path.join(paths.bundles, name))
    if bundle is None or bundle.record is None:
        return bundle, False
    if Intent.load(bundle.record.extra) is None:
        return None, True
    return bundle, False
