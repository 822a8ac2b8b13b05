# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon that dies between any two steps of a guest's life: the next one undoes it or goes on."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import preparation
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.driver import LxcDriver
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_raw
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.tests.support.node import Killed, Node, own_node
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.containers.create import Creator
from pvecri.pve import remove
from pvecri.pve.runtime import LxcRuntime
from pvecri.pve.templates import Templates
from pvecri.state.records import Phase
from pvecri.state.registry import Registry

AFTER = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


@pytest.fixture(scope="module")
def made() -> t.Iterator[Node]:
    with own_node(plays_pve=True) as node:
        yield node


@pytest.fixture
def node(made: Node) -> t.Iterator[Node]:
    """A node of Proxmox VE without pods."""
    yield made
    made.remove_all()
    assert made.leftovers() == {}


def kill_at(patch: pytest.MonkeyPatch, owner: t.Any, name: str, *, after: bool, turn: int = 1) -> None:
    """Have a step end the daemon before or after what it does, when it is done for the ``turn``-th time."""
    real, turns = getattr(owner, name), iter(range(1, 1000))

    def step(*args: t.Any, **options: t.Any) -> t.Any:
        is_it = next(turns) == turn
        answer = real(*args, **options) if after or not is_it else None
        if is_it:
            raise Killed(name)
        return answer

    patch.setattr(owner, name, step)


def steps(*table: tuple[t.Any, str, int]) -> t.Any:
    names = [f"{owner.__name__.rpartition('.')[2]}-{name}-{turn}" for owner, name, turn in table]
    return pytest.mark.parametrize(("owner", "step", "turn"), table, ids=names)


def settled(node: Node) -> None:
    """Wait until Proxmox VE does nothing any more."""
    tasks = node.played.pve.tasklog if node.played else []
    eventually(lambda: all(task["status"] == "stopped" for task in tasks))


@AFTER
@steps(
    (Registry, "reserve_container", 1),
    (BundleManager, "commit", 1),
    (LxcRuntime, "create", 1),
    (Templates, "place", 1),
    (records, "save", 1),
    (PveClient, "post", 1),
    (records, "amend", 1),
    (LxcDriver, "prepare", 1),
    (preparation, "_launch", 1),
    (preparation, "_show_pod", 1),
    (records, "amend", 2),
    (lxc_raw, "write", 1),
    (records, "amend", 3),
    (Registry, "update_container", 1),
)
def test_killed_while_a_guest_is_created(
    node: Node, monkeypatch: pytest.MonkeyPatch, owner: t.Any, step: str, turn: int, after: bool
) -> None:
    pod = node.run_pod()
    with monkeypatch.context() as patch:
        # A daemon that is killed clears nothing away.
        patch.setattr(Creator, "_undo", lambda *_args: None)
        kill_at(patch, owner, step, after=after, turn=turn)
        with pytest.raises(Killed):
            node.create(pod)
    settled(node)
    node.restart()
    container = node.create(pod)
    assert [record.id for record in node.context.registry.containers()] == [container]
    node.services.containers.start(container)
    assert node.container(container).phase is Phase.RUNNING
    assert node.played is not None
    assert node.played.vmids() == [node.played.vmid_of(container)]


@AFTER
@steps(
    (LxcRuntime, "start", 1),
    (records, "amend", 1),
    (PveClient, "post", 1),
    (records, "amend", 2),
    (LxcDriver, "await_start", 1),
    (Registry, "started", 1),
)
def test_killed_while_a_guest_is_started(
    node: Node, monkeypatch: pytest.MonkeyPatch, owner: t.Any, step: str, turn: int, after: bool
) -> None:
    container = node.create(node.run_pod())
    assert node.played is not None
    # Numbers are used again: those of all containers before count, too.
    before = len(node.played.tasks("vzstart"))
    with monkeypatch.context() as patch:
        kill_at(patch, owner, step, after=after, turn=turn)
        with pytest.raises(Killed):
            node.services.containers.start(container)
    settled(node)
    node.restart()
    if node.container(container).phase is Phase.CREATED:
        node.services.containers.start(container)
    assert node.container(container).phase is Phase.RUNNING
    assert len(node.played.tasks("vzstart")) == before + 1


@AFTER
@steps((LxcRuntime, "stop", 1), (records, "amend", 1), (Registry, "exited", 1))
def test_killed_while_a_guest_is_stopped(
    node: Node, monkeypatch: pytest.MonkeyPatch, owner: t.Any, step: str, turn: int, after: bool
) -> None:
    container = node.run_container(node.run_pod())
    with monkeypatch.context() as patch:
        kill_at(patch, owner, step, after=after, turn=turn)
        with pytest.raises(Killed):
            node.services.containers.stop(container, 0)
    settled(node)
    node.restart()
    node.services.containers.stop(container, 0)
    assert (node.container(container).phase, node.container(container).exit_code) == (Phase.EXITED, 137)


@pytest.mark.parametrize("state", ["running", "exited"])
@AFTER
@steps(
    (LxcRuntime, "delete", 1),
    (remove, "destroy", 1),
    (records, "amend", 1),
    (PveClient, "delete", 1),
    (LxcDriver, "clear_away", 1),
    (records, "remove", 1),
    (BundleManager, "remove", 1),
    (Registry, "remove_container", 1),
)
def test_killed_while_a_guest_is_removed(
    node: Node, monkeypatch: pytest.MonkeyPatch, owner: t.Any, step: str, turn: int, after: bool, state: str
) -> None:
    container = node.run_container(node.run_pod())
    if state == "exited":
        node.services.containers.stop(container, 0)
    with monkeypatch.context() as patch:
        kill_at(patch, owner, step, after=after, turn=turn)
        with pytest.raises(Killed):
            node.services.containers.remove(container)
    settled(node)
    node.restart()
    assert [record.id for record in node.context.registry.containers()] in ([], [container])
    node.services.containers.remove(container)
    assert node.played is not None
    assert node.played.vmids() == []


def test_reboot_leaves_no_second_guest(node: Node) -> None:
    running = node.run_container(node.run_pod())
    assert node.played is not None
    before = node.played.vmids()
    node.reboot()
    node.restart()
    assert node.container(running).phase is Phase.EXITED
    assert node.played.vmids() == before
