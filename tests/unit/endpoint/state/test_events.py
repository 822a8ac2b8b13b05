# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which events a change of a record stands for, and what they carry."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.api import cri_pb2 as pb
from pvecri.state.events import CREATED, DELETED, STARTED, STOPPED, Event, kinds
from pvecri.state.records import PHASE_BEFORE, Phase
from pvecri.state.views import ContainerView, SandboxView

POD = records.sandbox("p")
APP = records.container(POD.id, "a")


def app(phase: Phase | None, **fields: t.Any) -> t.Any:
    return None if phase is None else dataclasses.replace(APP, phase=phase, **fields)


def pod(phase: Phase | None, **fields: t.Any) -> t.Any:
    return None if phase is None else dataclasses.replace(POD, phase=phase, **fields)


def lost(phase: Phase) -> dict[str, t.Any]:
    return {"extra": {PHASE_BEFORE: phase.value}}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, app(Phase.CREATING), ()),
        (app(Phase.CREATING), app(Phase.CREATED), (CREATED,)),
        (app(Phase.CREATED), app(Phase.RUNNING), (STARTED,)),
        (app(Phase.RUNNING), app(Phase.EXITED), (STOPPED,)),
        (app(Phase.EXITED), None, (DELETED,)),
        (app(Phase.RUNNING), None, (DELETED,)),
        # Nobody was told of it.
        (app(Phase.CREATING), None, ()),
        # It never ran, or it ran and nobody saw that before its end.
        (app(Phase.CREATED), app(Phase.EXITED), (STOPPED,)),
        (app(Phase.CREATED), app(Phase.EXITED, started_at_ns=5), (STARTED, STOPPED)),
        # An exit code that comes late, an update, and a record that was found.
        (app(Phase.EXITED), app(Phase.EXITED, exit_code=3), ()),
        (app(Phase.RUNNING), app(Phase.RUNNING, resources=b"x"), ()),
        (None, app(Phase.RUNNING), ()),
        # UNKNOWN for a while, and nothing happened; or something did.
        (app(Phase.RUNNING), app(Phase.UNKNOWN, **lost(Phase.RUNNING)), ()),
        (app(Phase.UNKNOWN, **lost(Phase.RUNNING)), app(Phase.RUNNING), ()),
        (app(Phase.UNKNOWN, **lost(Phase.RUNNING)), app(Phase.EXITED), (STOPPED,)),
        (app(Phase.UNKNOWN), app(Phase.RUNNING), ()),
        (app(Phase.UNKNOWN, extra={PHASE_BEFORE: "odd"}), app(Phase.EXITED), ()),
        (app(Phase.UNKNOWN), None, (DELETED,)),
        (pod(Phase.CREATING), pod(Phase.READY), (CREATED, STARTED)),
        (pod(Phase.READY), pod(Phase.STOPPED), (STOPPED,)),
        (pod(Phase.STOPPED), pod(Phase.STOPPED, ips=()), ()),
        (pod(Phase.STOPPED), None, (DELETED,)),
        (pod(Phase.CREATING), None, ()),
    ],
)
def test_kinds(old: t.Any, new: t.Any, expected: tuple[int, ...]) -> None:
    assert kinds(old, new) == expected


def test_event_carries_what_clients_see_of_the_pod() -> None:
    views = [ContainerView(app(Phase.RUNNING)), ContainerView(records.container(POD.id, "b"))]
    event = Event(STARTED, APP.id, 12345678901234567, SandboxView(POD), views)
    message = pb.ContainerEventResponse.FromString(event.answer)
    assert (message.container_id, message.container_event_type, message.created_at) == (
        APP.id,
        pb.CONTAINER_STARTED_EVENT,
        12345678901234567,
    )
    assert message.pod_sandbox_status.metadata.uid == "uid-p"
    assert [status.metadata.name for status in message.containers_statuses] == ["a", "b"]
    assert message.containers_statuses[0].state == pb.CONTAINER_RUNNING
    # Byte for byte what protobuf writes, and encoded once for all subscribers.
    assert event.answer is event.answer
    assert message.SerializeToString(deterministic=True) == event.answer


def test_event_without_its_pod_has_no_status() -> None:
    message = pb.ContainerEventResponse.FromString(Event(CREATED, APP.id, 1, None, []).answer)
    assert not message.HasField("pod_sandbox_status")
    assert message.container_id == APP.id
