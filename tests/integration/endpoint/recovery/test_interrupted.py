# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon that dies between any two steps of a container's life: the next one undoes or goes on."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.staging import Staging
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import conmon, creation, removal
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import record as crun_records
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.tests.support.node import Killed, Node
from pvecri.containers.create import Creator
from pvecri.state.records import Phase
from pvecri.state.registry import Registry


def kill_at(patch: pytest.MonkeyPatch, owner: t.Any, name: str, *, after: bool) -> None:
    """Have a step end the daemon before or after what it does."""
    real = getattr(owner, name)

    def step(*args: t.Any, **options: t.Any) -> t.Any:
        if after:
            real(*args, **options)
        raise Killed(name)

    patch.setattr(owner, name, step)


CREATING = [
    (Registry, "reserve_container"),
    (BundleManager, "stage"),
    (Staging, "build"),
    (BundleManager, "commit"),
    (crun_records, "save"),
    (creation, "_prepare"),
    (conmon, "launch"),
    (creation, "amend"),
    (CrunRuntime, "create"),
    (Registry, "update_container"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "step"), CREATING, ids=[name for _owner, name in CREATING])
def test_killed_while_a_container_is_created(
    node: Node, monkeypatch: pytest.MonkeyPatch, owner: t.Any, step: str, after: bool
) -> None:
    pod = node.run_pod()
    with monkeypatch.context() as patch:
        # A daemon that is killed clears nothing away.
        patch.setattr(Creator, "_undo", lambda *_args: None)
        patch.setattr(removal, "clear_away", lambda *_args: None)
        patch.setattr(BundleManager, "_clear", lambda *_args: None)
        kill_at(patch, owner, step, after=after)
        with pytest.raises(Killed):
            node.create(pod)
    held = list(node.context.registry.containers())
    mended = node.restart()
    if (step, after) == ("update_container", True):
        (record,) = node.context.registry.containers()
        assert (record.phase, mended) == (Phase.CREATED, [])
        assert node.create(pod) == record.id
    else:
        assert mended == (["container in the making"] if held else [])
        assert node.context.registry.containers() == []
    container = node.create(pod)
    node.services.containers.start(container)
    assert node.container(container).phase is Phase.RUNNING
    node.remove_all()
    assert node.leftovers() == {}


@pytest.mark.parametrize("step", ["stage", "commit", "launch", "update_container"])
def test_a_repeated_create_does_not_wait_for_recovery(
    node: Node, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    owner = {"stage": BundleManager, "commit": BundleManager, "launch": conmon}.get(step, Registry)
    pod = node.run_pod()
    with monkeypatch.context() as patch:
        patch.setattr(Creator, "_undo", lambda *_args: None)
        patch.setattr(removal, "clear_away", lambda *_args: None)
        kill_at(patch, owner, step, after=step != "update_container")
        with pytest.raises(Killed):
            node.create(pod)
    node.begin()
    mends = node.survey()
    container = node.create(pod)
    for mend in mends:
        mend.act()
    assert [record.id for record in node.context.registry.containers()] == [container]
    node.services.containers.start(container)
    node.remove_all()
    assert node.leftovers() == {}


STARTING = [(CrunRuntime, "start"), (creation, "amend"), (Registry, "started")]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "step"), STARTING, ids=[name for _owner, name in STARTING])
def test_killed_while_a_container_is_started(
    node: Node, monkeypatch: pytest.MonkeyPatch, owner: t.Any, step: str, after: bool
) -> None:
    pod = node.run_pod()
    container = node.create(pod)
    before = node.container(container).created_at_ns
    with monkeypatch.context() as patch:
        kill_at(patch, owner, step, after=after)
        with pytest.raises(Killed):
            node.services.containers.start(container)
    assert node.restart() == []
    record = node.container(container)
    if (step, after) == ("start", False):
        assert record.phase is Phase.CREATED
        node.services.containers.start(container)
        record = node.container(container)
    assert record.phase is Phase.RUNNING
    assert record.started_at_ns > before


@pytest.mark.parametrize("step", ["start", "started"])
def test_killed_at_the_start_of_a_container_that_ends_at_once(
    node: Node, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    pod = node.run_pod()
    container = node.create(pod, command=["sh", "-c", "exit 3"])
    owner = CrunRuntime if step == "start" else Registry
    with monkeypatch.context() as patch:
        kill_at(patch, owner, step, after=step == "start")
        with pytest.raises(Killed):
            node.services.containers.start(container)
    node.context.crun.wait(container, 20)
    assert node.restart() == []
    record = node.container(container)
    assert (record.phase, record.exit_code) == (Phase.EXITED, 3)
    assert record.finished_at_ns >= record.created_at_ns


STOPPING = [(CrunRuntime, "stop"), (Registry, "exited")]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "step"), STOPPING, ids=[name for _owner, name in STOPPING])
def test_killed_while_a_container_is_stopped(
    node: Node, monkeypatch: pytest.MonkeyPatch, owner: t.Any, step: str, after: bool
) -> None:
    container = node.run_container(node.run_pod())
    with monkeypatch.context() as patch:
        kill_at(patch, owner, step, after=after)
        with pytest.raises(Killed):
            node.services.containers.stop(container, 0)
    assert node.restart() == []
    record = node.container(container)
    is_over = (step, after) != ("stop", False)
    assert (record.phase, record.exit_code) == ((Phase.EXITED, 137) if is_over else (Phase.RUNNING, None))
    node.services.containers.stop(container, 0)
    assert node.container(container).exit_code == 137


REMOVING = [
    (CrunRuntime, "delete"),
    (removal, "_end_monitor"),
    (removal, "forget"),
    (crun_records, "remove"),
    (BundleManager, "remove"),
    (BundleManager, "_clear"),
    (Registry, "remove_container"),
]


@pytest.mark.parametrize("state", ["running", "exited"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "step"), REMOVING, ids=[name for _owner, name in REMOVING])
def test_killed_while_a_container_is_removed(
    node: Node, monkeypatch: pytest.MonkeyPatch, owner: t.Any, step: str, after: bool, state: str
) -> None:
    container = node.run_container(node.run_pod())
    if state == "exited":
        node.services.containers.stop(container, 0)
    with monkeypatch.context() as patch:
        kill_at(patch, owner, step, after=after)
        with pytest.raises(Killed):
            node.services.containers.remove(container)
    assert node.restart() == []
    left = node.context.registry.containers()
    if (step, after) == ("remove_container", True):
        assert left == []
    else:
        assert [record.phase for record in left] == [
            Phase.RUNNING if (state, step, after) == ("running", "delete", False) else Phase.EXITED
        ]
    node.services.containers.remove(container)
    node.remove_all()
    assert node.leftovers() == {}
