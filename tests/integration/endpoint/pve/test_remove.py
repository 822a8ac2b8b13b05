# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is ours is destroyed, however far its making came; what is not proven to be ours is not touched."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    MissingPrivilege,
    TaskFailed,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import Stage
from ansible_collections.pvecri.runtime.tests.support.fakepve import FakeCluster
from ansible_collections.pvecri.runtime.tests.support.lxc_driver import StandIn, add_guest
from pvecri.errors import Unavailable
from pvecri.pve import identity, remove
from pvecri.pve.node import PveNode

NAME = "c" * 64
VMID = 900001
ONE = "/nodes/pve1/lxc/900001"


def included(driver: StandIn) -> str:
    """Write what a container's configuration includes and return its path."""
    path = layout.guest(driver.paths, VMID).config
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pathlib.Path(path).write_text("lxc.console.path = none\n")
    return path


def deletes(cluster: FakeCluster) -> int:
    return cluster.requests_seen().count(("DELETE", ONE))


def test_destroy_takes_container_and_files(cluster: FakeCluster, driver: StandIn, node: PveNode) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record)
    path = included(driver)
    remove.destroy(node, driver, record)
    assert cluster.pve.ct(VMID) is None
    assert not os.path.exists(path)
    assert driver.cleared == {NAME: False}


def test_destroy_writes_its_task_before_it_waits(
    cluster: FakeCluster, driver: StandIn, node: PveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record)
    noted: list[t.Any] = []
    monkeypatch.setattr(remove.waiting, "wait_task", lambda *_args: noted.append(driver.record(NAME)))
    remove.destroy(node, driver, record)
    assert noted[0].stage is Stage.DESTROYING
    assert "vzdestroy" in noted[0].upids["destroy"]


@pytest.mark.parametrize("stage", [Stage.READY, Stage.RUNNING, Stage.STARTING], ids=lambda stage: stage.value)
def test_destroy_stops_what_runs(
    cluster: FakeCluster, driver: StandIn, node: PveNode, monkeypatch: pytest.MonkeyPatch, stage: Stage
) -> None:
    monkeypatch.setattr(remove, "_SETTLE_S", 0.1)
    record = driver.remember(NAME, VMID, stage=stage)
    add_guest(cluster, record).status = "running"
    remove.destroy(node, driver, record)
    assert cluster.pve.ct(VMID) is None


def test_destroy_of_what_is_gone_clears_up(cluster: FakeCluster, driver: StandIn, node: PveNode) -> None:
    record = driver.remember(NAME, VMID)
    path = included(driver)
    remove.destroy(node, driver, record)
    assert not os.path.exists(path)
    assert driver.cleared == {NAME: False}
    assert deletes(cluster) == 0


@pytest.mark.parametrize(
    "config",
    [
        {"tags": ""},
        {"tags": "pvecri"},
        {"tags": "pvecri-cri"},
        {"description": "a database of somebody's"},
        {"description": 'pvecri-cri: {"endpoint":"another","container":"' + NAME + '","sandbox":"s"}'},
        {"description": 'pvecri-cri: {"endpoint":"0123456789abcdef","container":"another","sandbox":"s"}'},
    ],
    ids=["untagged", "one-tag", "other-tag", "no-identity", "other-endpoint", "other-container"],
)
def test_destroy_touches_nothing_that_is_not_proven_ours(
    cluster: FakeCluster, driver: StandIn, node: PveNode, config: dict[str, t.Any]
) -> None:
    record = driver.remember(NAME, VMID, stage=Stage.RUNNING)
    path = included(driver)
    guest = add_guest(cluster, record, lxc=[["lxc.include", path]], **config)
    guest.status = "running"
    before = dict(guest.config)
    remove.destroy(node, driver, record)
    assert (guest.config, guest.status) == (before, "running")
    assert cluster.pve.ct(VMID) is guest
    assert {method for method, _path in cluster.requests_seen()} == {"GET"}
    # Its configuration includes the file: without it nobody could stop it.
    assert os.path.exists(path)
    assert driver.cleared == {NAME: True}


def test_destroy_leaves_no_files_to_a_stranger_who_does_not_include_them(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    path = included(driver)
    add_guest(cluster, record, tags="", description="theirs")
    remove.destroy(node, driver, record)
    assert not os.path.exists(path)
    assert cluster.pve.ct(VMID) is not None


def test_destroy_of_a_claim_asks_nobody(cluster: FakeCluster, driver: StandIn, node: PveNode) -> None:
    record = driver.remember(NAME, VMID, stage=Stage.CLAIMED)
    # Somebody else took the number meanwhile.
    add_guest(cluster, record, tags="", description="theirs")
    remove.destroy(node, driver, record)
    assert cluster.requests_seen() == []
    assert driver.cleared == {NAME: False}


def test_destroy_waits_for_the_create_that_a_killed_daemon_left(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID, stage=Stage.CREATING)
    cluster.pve.ct_secs["create"] = 0.5
    cluster.pve.store_file("local", "image.tar", 1024, "vztmpl")
    notes = identity.description(
        identity.Identity(endpoint=record.endpoint, container=NAME, sandbox=record.sandbox_id),
        pod="web",
        namespace="default",
        container="main",
        image="busybox",
    )
    cluster.client().post(
        "/nodes/pve1/lxc",
        vmid=VMID,
        ostemplate="local:vztmpl/image.tar",
        rootfs="local-lvm:1",
        tags="pvecri;pvecri-cri",
        description=notes,
    )
    remove.destroy(node, driver, record)
    assert cluster.pve.ct(VMID) is None
    assert driver.cleared == {NAME: False}


def test_destroy_that_is_repeated_joins_its_task(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record)
    cluster.pve.ct_secs["destroy"] = 0.5
    upid = cluster.client().delete(ONE)
    remove.destroy(node, driver, driver.amend(NAME, stage=Stage.DESTROYING, upids={"destroy": upid}))
    assert cluster.pve.ct(VMID) is None
    assert deletes(cluster) == 1


def test_destroy_of_a_locked_container_names_the_lock_and_keeps_all(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record, lock="backup")
    path = included(driver)
    with pytest.raises(WrongState, match=r"\(backup\)"):
        remove.destroy(node, driver, record)
    assert os.path.exists(path)
    assert driver.cleared == {}


def test_destroy_of_a_protected_container_says_so(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record, protection=1)
    with pytest.raises(WrongState, match="protected"):
        remove.destroy(node, driver, record)
    assert deletes(cluster) == 0


@pytest.mark.parametrize("trouble", ["offline", "quorum"])
def test_destroy_is_repeated_when_proxmox_cannot(
    cluster: FakeCluster, driver: StandIn, node: PveNode, trouble: str
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record)
    path = included(driver)
    if trouble == "offline":
        cluster.pve.set_node_offline("pve1")
    else:
        cluster.pve.lose_quorum()
        # fakepve destroys without a quorum; Proxmox VE cannot write its configuration then.
        cluster.pve.fail("DELETE", ONE, 500, "cluster not ready - no quorum?", times=1)
    with pytest.raises(Unavailable):
        remove.destroy(node, driver, record)
    assert os.path.exists(path)
    cluster.pve.set_node_offline("pve1", offline=False)
    cluster.pve.regain_quorum()
    remove.destroy(node, driver, driver.record(NAME))
    assert cluster.pve.ct(VMID) is None
    assert not os.path.exists(path)


def test_destroy_that_failed_is_told_with_the_log(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record)

    async def fails(*_args: t.Any, **_more: t.Any) -> t.Any:
        from fakepve import TaskError

        async def body() -> None:
            raise TaskError("lvremove failed: contains a filesystem in use")

        return await cluster.pve.task("pve1", "vzdestroy", VMID, "root@pam", body)

    from ansible_collections.pvecri.runtime.tests.support.pve_lxc import rewire

    rewire(cluster, "DELETE", "/nodes/{node}/lxc/{vmid}", fails)
    with pytest.raises(TaskFailed, match=r"cannot be removed: .*filesystem in use"):
        remove.destroy(node, driver, record)
    assert driver.cleared == {}


def test_destroy_follows_a_container_to_another_node(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID, stage=Stage.RUNNING)
    add_guest(cluster, record).node = "pve2"
    remove.destroy(node, driver, record)
    assert cluster.pve.ct(VMID) is None
    assert ("DELETE", "/nodes/pve2/lxc/900001") in cluster.requests_seen()


def test_destroy_takes_what_it_may_not_see_for_there(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    path = included(driver)
    pathlib.Path(node.raw_dir, f"{VMID}.conf").write_text("arch: amd64\n")
    with pytest.raises(MissingPrivilege, match=r"VM\.Audit|may not see"):
        remove.destroy(node, driver, record)
    assert os.path.exists(path)
