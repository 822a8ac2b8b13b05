# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do what follows from what was found in Proxmox VE; the container's lock is held."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers, lxc_raw
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import split_tags
from pvecri.pve import failures, identity, remove, stopping
from pvecri.pve.findings import Act, Finding, Known, Sighting
from pvecri.state.records import CONTAINER_LOST, ContainerRecord, Phase
from pvecri.state.registry import Registry

if t.TYPE_CHECKING:
    from pvecri.pve.node import PveNode

_log = logging.getLogger(__name__)

#: Exit code of a container that was killed.
_KILLED: t.Final = 128 + signal.SIGKILL

#: Tasks by which somebody ends a container.
_ENDING = frozenset({"vzstop", "vzshutdown", "vzreboot", "vzsuspend", "vzmigrate", "vzrollback", "vzdestroy"})

#: Tasks of a container that are looked through for the one that ended it.
_LISTED = 20


class Driver(remove.Driver, t.Protocol):
    """The part of `LxcDriver` that watching needs."""

    def knows(self, name: str) -> bool:
        """Say whether a container is on record."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One finding, and what it takes to act on it."""

    node: PveNode
    driver: Driver
    registry: Registry
    known: Known
    seen: Sighting | None
    finding: Finding

    @property
    def record(self) -> LxcRecord:
        """The container's record."""
        return self.known.record

    @property
    def what(self) -> str:
        """The begin of a message about what cannot be done."""
        return f"container {self.record.name} cannot be put right"


def lose(case: Case) -> None:
    """Note that a container has ended because it is gone, whatever waited for its start."""
    record = case.record
    state = case.driver.state(record.name)
    waits = state is not None and state.is_alive
    code = _KILLED if waits else state.exit_code if state is not None else None

    def decide(now: ContainerRecord) -> dict[str, t.Any]:
        return {
            "phase": Phase.EXITED,
            "exit_code": now.exit_code if now.exit_code is not None else code,
            "finished_at_ns": now.finished_at_ns or max(time.time_ns(), now.started_at_ns),
            "reason": CONTAINER_LOST,
            "message": case.finding.message,
        }

    # Told before it is done, so that nobody takes the signal for the reason.
    case.registry.change_container(record.name, decide)
    if waits:
        stopping.stop(case.node, case.driver, record, signal.SIGKILL, 0.0)


def tag(case: Case) -> None:
    """Put the missing tag back; what others added stays."""
    assert case.seen is not None
    now = split_tags(case.seen.config.get("tags"))
    tags = ";".join(dict.fromkeys((*now, *identity.TAGS)))
    with failures.named(case.node, case.what, vmid=case.record.vmid):
        container = case.node.container(case.record.vmid)
        # Refused when somebody else changes it at the same time: then the next look sees what there is.
        container.configure({"tags": tags}, digest=case.seen.config.get("digest"))
    _note_digest(case)


def include(case: Case) -> None:
    """Put the line back that takes in our file; those of others stay."""
    assert case.seen is not None
    files = tuple(dict.fromkeys((*lxc_raw.included(case.seen.config), case.known.include)))
    with failures.named(case.node, case.what, vmid=case.record.vmid):
        lxc_raw.write(
            case.record.vmid,
            {lxc_raw.INCLUDE: files},
            config_dir=case.node.raw_dir,
            lock_dir=case.node.lock_dir,
        )
    _note_digest(case)


def _note_digest(case: Case) -> None:
    with contextlib.suppress(CoreError, OSError):
        digest = case.node.container(case.record.vmid).read().digest
        case.driver.amend(case.record.name, config_digest=digest or "")


def stop(case: Case) -> None:
    """Stop what runs although the container has ended."""
    with failures.named(case.node, f"container {case.record.name} cannot be stopped", vmid=case.record.vmid):
        case.node.container(case.record.vmid).shutdown(timeout_s=0, force=True)


def runs(case: Case) -> None:
    """Note that a container runs that somebody else has started."""
    case.driver.amend(case.record.name, stage=Stage.RUNNING, started_at=time.time())
    case.registry.started(case.record.name, time.time_ns())


ACTS: t.Final[t.Mapping[Act, t.Callable[[Case], None]]] = {
    Act.LOSE: lose,
    Act.TAG: tag,
    Act.INCLUDE: include,
    Act.STOP: stop,
    Act.RUNS: runs,
}


# ---- who did it -------------------------------------------------------------------------------------------


def ended_untold(known: Known) -> bool:
    """Say whether a container that ran has ended without the endpoint's doing."""
    return known.phase is Phase.EXITED and not known.runs and known.record.stage is Stage.RUNNING


def who_stopped(node: PveNode, record: LxcRecord) -> str:
    """Return whose task ended a container, in words; empty: it ended by itself, or nobody tells."""
    ours = set(record.upids.values())
    with contextlib.suppress(CoreError):
        listed = node.client.get(("nodes", node.name, "tasks"), vmid=record.vmid, limit=_LISTED, source="all")
        with answers.understood("GET /nodes/…/tasks"):
            for task in sorted(listed, key=lambda task: -int(task["starttime"])):
                is_ending = task["type"] in _ENDING and task["upid"] not in ours
                if is_ending and int(task["starttime"]) >= int(record.started_at or 0):
                    return f"it was ended in Proxmox VE by {task['user']} ({task['upid']})"
    return ""
