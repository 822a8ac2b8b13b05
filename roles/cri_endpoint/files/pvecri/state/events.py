# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which events of the CRI a change of a record stands for, and encode them; pure.

A sandbox has the events of a container with its own id, as other runtimes send them for
the container that holds a pod: kubelet knows a pod by its status alone, and passes over
an event without one.
"""

from __future__ import annotations

import typing as t

from pvecri.api import cri_pb2
from pvecri.state.records import PHASE_BEFORE, ContainerRecord, Phase, SandboxRecord
from pvecri.state.views import ContainerView, SandboxView, element, number

Record = SandboxRecord | ContainerRecord
Kind = cri_pb2.ContainerEventType

CREATED: t.Final = cri_pb2.CONTAINER_CREATED_EVENT
STARTED: t.Final = cri_pb2.CONTAINER_STARTED_EVENT
STOPPED: t.Final = cri_pb2.CONTAINER_STOPPED_EVENT
DELETED: t.Final = cri_pb2.CONTAINER_DELETED_EVENT

#: How far an object has come by its phase: the first events of its life that clients were told.
_TOLD: t.Final[dict[Phase, int]] = {
    Phase.CREATING: 0,
    Phase.CREATED: 1,
    Phase.RUNNING: 2,
    Phase.READY: 2,
    Phase.EXITED: 3,
    Phase.STOPPED: 3,
}

_LIFE: t.Final[tuple[Kind, ...]] = (CREATED, STARTED, STOPPED)


def kinds(old: Record | None, new: Record | None) -> tuple[Kind, ...]:
    """Return the events of a change, in order.

    What is adopted was there before, and what clients never saw is not deleted for them.
    UNKNOWN is no step of a life: what is told goes on from the phase before.
    """
    if old is None:
        return ()
    before = _told(old)
    if new is None:
        return (DELETED,) if before != 0 else ()
    after = _told(new)
    if before is None or after is None or after <= before:
        return ()
    # A container that ended without having run was not started.
    return tuple(
        kind for kind in _LIFE[before:after] if kind != STARTED or after == _TOLD[Phase.RUNNING] or _ran(new)
    )


def _told(record: Record) -> int | None:
    phase = record.phase
    if phase is Phase.UNKNOWN:
        try:
            phase = Phase(record.extra[PHASE_BEFORE])
        except (KeyError, ValueError):
            return None
    return _TOLD.get(phase)


def _ran(record: Record) -> bool:
    return isinstance(record, SandboxRecord) or record.started_at_ns > 0


class Event:
    """One event, encoded when the first subscriber takes it."""

    __slots__ = ("_answer", "containers", "created_at_ns", "kind", "object_id", "sandbox")

    def __init__(
        self,
        kind: Kind,
        object_id: str,
        created_at_ns: int,
        sandbox: SandboxView | None,
        containers: t.Sequence[ContainerView],
    ) -> None:
        self.kind = kind
        self.object_id = object_id
        self.created_at_ns = created_at_ns
        self.sandbox = sandbox
        self.containers = containers
        self._answer: bytes | None = None

    @property
    def answer(self) -> bytes:
        """The `ContainerEventResponse`."""
        if self._answer is None:
            parts = [
                element(1, self.object_id.encode()),
                number(2, self.kind),
                number(3, self.created_at_ns),
            ]
            if self.sandbox is not None:
                parts.append(element(4, self.sandbox.status))
            parts.extend(element(5, container.status) for container in self.containers)
            self._answer = b"".join(parts)
        return self._answer
