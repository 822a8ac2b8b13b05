# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an administrator does in Proxmox VE is seen, told, and put right where that is safe.

fakepve lets nobody migrate, tag or destroy behind its back: a test changes what it has.  It keeps raw lines
in the configuration that it answers with, and in no file: where a line is to be written there is a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout, monitord
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.tests.support import records as made
from ansible_collections.pvecri.runtime.tests.support.fakepve import FakeCluster
from ansible_collections.pvecri.runtime.tests.support.lxc_driver import StandIn, add_guest
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.containers.exits import Exits
from pvecri.errors import Unavailable
from pvecri.pve import identity, remove, watch
from pvecri.pve.node import PveNode
from pvecri.pve.watch import Watch
from pvecri.state.holds import REMOVING
from pvecri.state.records import ContainerRecord, Phase
from pvecri.state.registry import Registry

VMID = 900001
CONFIG = f"/nodes/pve1/lxc/{VMID}/config"


class Scene:
    """An endpoint with one pod and what it takes to look after it."""

    def __init__(self, cluster: FakeCluster, driver: StandIn, node: PveNode, directory: pathlib.Path) -> None:
        self.cluster, self.driver, self.node = cluster, driver, node
        self.registry = Registry.open(str(directory / "db"))
        self.pod = self.registry.reserve_sandbox(made.sandbox("web"))
        self.watch = Watch(
            self.registry, Exits(self.registry, t.cast("t.Any", driver)), node, driver, interval_s=0.05
        )

    def add(
        self, phase: Phase = Phase.RUNNING, *, vmid: int = VMID, **config: t.Any
    ) -> tuple[LxcRecord, t.Any]:
        """Make a container that runs, or waits, on both sides; return record and guest."""
        name = self.registry.reserve_container(made.container(self.pod.id, "main", phase=Phase.CREATED)).id
        stage = Stage.READY if phase is Phase.CREATED else Stage.RUNNING
        record = self.driver.remember(name, vmid, stage=stage, started_at=time.time())
        path = layout.guest(self.driver.paths, vmid).config
        guest = add_guest(self.cluster, record, **{"lxc": [["lxc.include", path]], **config})
        guest.status = "stopped" if phase is Phase.CREATED else "running"
        self.driver.run(name, status=Status.CREATED if phase is Phase.CREATED else Status.RUNNING)
        self.registry.update_container(name, phase=phase)
        return record, guest

    def ended(self, **config: t.Any) -> tuple[LxcRecord, t.Any]:
        """Make a container that has ended by itself."""
        record, guest = self.add(**config)
        self.driver.kill(record.name)
        self.registry.exited(record.name, exit_code=0, finished_at_ns=1, reason="Completed")
        guest.status = "stopped"
        return record, guest

    def container(self, record: LxcRecord) -> ContainerRecord:
        return self.registry.container(record.name)

    def found(self) -> set[str]:
        return {kind for kind, count in self.watch.counts.items() if count}

    def writes(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path in self.cluster.requests_seen() if method != "GET"]


@pytest.fixture
def scene(cluster: FakeCluster, driver: StandIn, node: PveNode, tmp_path: pathlib.Path) -> t.Iterator[Scene]:
    """One endpoint."""
    made_scene = Scene(cluster, driver, node, tmp_path)
    yield made_scene
    made_scene.watch.stop()
    made_scene.registry.close()


def test_nothing_is_found_when_nothing_was_done(scene: Scene) -> None:
    record, _guest = scene.add()
    scene.watch.look()
    assert scene.found() == set()
    assert scene.container(record).message == ""
    assert scene.driver.record(record.name).problem == ""
    assert scene.writes() == []


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"hostname": "db"}, "renamed", "renamed in Proxmox VE to db"),
        ({"lock": "backup"}, "locked", "locked in Proxmox VE (backup)"),
        ({"parent": "before"}, "snapshotted", "snapshot before"),
        ({"tags": "shop"}, "untagged", "given up"),
        ({"description": "mine now"}, "foreign", "notes of 900001"),
    ],
    ids=["renamed", "locked", "snapshotted", "untagged", "foreign"],
)
def test_change_is_told_and_no_more(scene: Scene, change: dict[str, t.Any], kind: str, said: str) -> None:
    record, guest = scene.add()
    guest.config.update(change)
    before = dict(guest.config)
    scene.watch.look()
    assert scene.found() == {kind}
    assert said in scene.container(record).message
    assert scene.driver.record(record.name).problem == scene.container(record).message
    assert scene.container(record).phase is Phase.RUNNING
    assert guest.config == before
    assert scene.writes() == []


def test_what_is_over_is_told_no_more(scene: Scene) -> None:
    record, guest = scene.add()
    guest.lock = "backup"
    scene.watch.look()
    scene.watch.look()
    assert scene.watch.counts["locked"] == 1
    guest.lock = None
    scene.watch.look()
    assert scene.container(record).message == ""
    guest.lock = "backup"
    scene.watch.look()
    assert scene.watch.counts["locked"] == 2


def test_what_others_said_of_a_container_stays(scene: Scene) -> None:
    record, guest = scene.add()
    scene.registry.update_container(record.name, message="something else")
    guest.lock = "backup"
    scene.watch.look()
    assert scene.container(record).message == "something else"
    assert "backup" in scene.driver.record(record.name).problem


def test_missing_tag_is_put_back_beside_those_of_others(scene: Scene) -> None:
    record, guest = scene.add(tags="pvecri-cri;shop")
    scene.watch.look()
    assert set(identity.split_tags(guest.config["tags"])) == {"pvecri", "pvecri-cri", "shop"}
    assert scene.found() == {"untagged"}
    scene.watch.look()
    assert "was put back" in scene.container(record).message
    assert scene.watch.counts["untagged"] == 1
    assert scene.driver.record(record.name).config_digest == guest.digest()


def test_missing_include_is_put_back_beside_those_of_others(scene: Scene) -> None:
    record, guest = scene.add(lxc=[["lxc.include", "/theirs"]])
    file = pathlib.Path(scene.node.raw_dir, f"{VMID}.conf")
    os.makedirs(scene.node.lock_dir)
    file.write_text("hostname: web-main\nlxc.include: /theirs\n")
    scene.watch.look()
    path = layout.guest(scene.driver.paths, VMID).config
    assert file.read_text() == f"hostname: web-main\nlxc.include: /theirs\nlxc.include: {path}\n"
    # As Proxmox VE answers then.
    guest.config["lxc"] = [["lxc.include", "/theirs"], ["lxc.include", path]]
    scene.watch.look()
    assert "lxc.include was taken away in Proxmox VE and was put back" in scene.container(record).message


def test_nothing_is_put_back_while_somebody_works_on_it(scene: Scene) -> None:
    record, _guest = scene.add(tags="pvecri")
    busy = threading.Event()
    done = threading.Event()

    def work() -> None:
        with scene.registry.held(record.name):
            busy.set()
            done.wait(30)

    worker = threading.Thread(target=work)
    worker.start()
    busy.wait(30)
    scene.watch.look()
    assert scene.writes() == []
    done.set()
    worker.join()
    scene.watch.look()
    assert scene.writes() == [("PUT", CONFIG)]


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.CREATED], ids=lambda phase: phase.value)
def test_destroyed_container_has_ended(scene: Scene, phase: Phase) -> None:
    record, guest = scene.add(phase)
    scene.cluster.pve.cts.remove(guest)
    if phase is Phase.RUNNING:
        scene.driver.kill(record.name)
    scene.watch.look()
    now = scene.container(record)
    assert now.phase is Phase.EXITED
    assert now.reason == "ContainerLost"
    assert now.message == "it was destroyed in Proxmox VE"
    assert now.finished_at_ns >= now.started_at_ns
    assert now.exit_code == 137
    state = scene.driver.state(record.name)
    assert state is not None
    assert not state.is_alive


def test_migrated_container_has_ended_here(scene: Scene) -> None:
    record, guest = scene.add()
    guest.node = "pve2"
    scene.driver.kill(record.name)
    scene.watch.look()
    assert scene.container(record).phase is Phase.EXITED
    assert "migrated to node pve2" in scene.container(record).message
    assert scene.writes() == []


def test_container_that_the_token_may_not_see_is_not_gone(scene: Scene) -> None:
    record, guest = scene.add()
    scene.cluster.pve.cts.remove(guest)
    pathlib.Path(scene.node.raw_dir, f"{VMID}.conf").write_text("arch: amd64\n")
    scene.watch.look()
    assert scene.container(record).phase is Phase.RUNNING
    assert scene.found() == set()


def test_container_on_its_way_out_is_left_to_who_removes_it(scene: Scene) -> None:
    record, guest = scene.add()
    scene.cluster.pve.cts.remove(guest)
    scene.driver.kill(record.name)
    with scene.registry.flagged(record.name, REMOVING):
        scene.watch.look()
    assert scene.container(record).phase is Phase.RUNNING


def test_container_started_after_its_end_is_stopped_when_it_stays(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    _record, guest = scene.ended()
    guest.status = "running"
    scene.watch.look()
    assert scene.found() == {"started"}
    # The launcher finds nobody and ends by itself, usually.
    assert scene.writes() == []
    monkeypatch.setattr(watch, "_GRACE_S", 0.0)
    scene.watch.look()
    assert guest.status == "stopped"


def test_container_started_by_another_runs(scene: Scene) -> None:
    record, guest = scene.add(Phase.CREATED)
    scene.driver._statuses[record.name] = Status.RUNNING
    guest.status = "running"
    scene.watch.look()
    now = scene.container(record)
    assert (now.phase, now.started_at_ns > 0) == (Phase.RUNNING, True)
    assert scene.driver.record(record.name).stage is Stage.RUNNING
    assert "started in Proxmox VE" in now.message


def test_who_stopped_a_container_is_told(scene: Scene) -> None:
    record, guest = scene.ended()
    guest.status = "running"
    upid = scene.cluster.client().post(f"/nodes/pve1/lxc/{VMID}/status/stop")
    eventually(lambda: guest.status == "stopped", what="the stop")
    scene.watch.look()
    assert scene.container(record).message == f"it was ended in Proxmox VE by root@pam!root ({upid})"
    assert scene.found() == {"stopped"}
    scene.watch.look()
    assert upid in scene.container(record).message
    assert scene.watch.counts["stopped"] == 1


def test_one_that_ended_by_itself_or_by_us_is_nobodys_doing(scene: Scene) -> None:
    record, _guest = scene.ended()
    scene.watch.look()
    assert scene.found() == set()
    assert scene.container(record).message == ""


# ---- orphans ----------------------------------------------------------------------------------------------


def orphan(scene: Scene, vmid: int = 900007, **config: t.Any) -> tuple[LxcRecord, t.Any]:
    """Add a container of this endpoint without a record."""
    name = made.new_id()
    record = scene.driver.remember(name, vmid, endpoint=scene.node.endpoint_id)
    guest = add_guest(scene.cluster, record, **config)
    layout_file = pathlib.Path(layout.LxcLayout(scene.driver.paths, name).record)
    layout_file.unlink()
    return record, guest


def test_orphan_is_stopped_and_destroyed(scene: Scene) -> None:
    scene.add()
    record, guest = orphan(scene)
    guest.status = "running"
    included = pathlib.Path(layout.guest(scene.driver.paths, record.vmid).config)
    included.parent.mkdir(parents=True)
    included.write_text("")
    scene.watch.look()
    assert scene.cluster.pve.ct(900007) is None
    assert not included.exists()
    assert scene.found() == {"orphaned"}
    assert scene.cluster.pve.ct(VMID) is not None


@pytest.mark.parametrize(
    ("vmid", "config"),
    [
        (900007, {"tags": "pvecri"}),
        (900007, {"tags": ""}),
        (900007, {"description": "mine"}),
        (900007, {"description": 'pvecri-cri: {"endpoint":"another","container":"c","sandbox":"s"}'}),
        (900007, {"description": "clone"}),
        (500, {}),
    ],
    ids=["one-tag", "untagged", "no-identity", "other-endpoint", "clone", "outside"],
)
def test_what_is_not_ours_is_no_orphan(scene: Scene, vmid: int, config: dict[str, t.Any]) -> None:
    scene.add()
    record, guest = orphan(scene, vmid, **config)
    if config.get("description") == "clone":
        whose = identity.Identity(
            endpoint=record.endpoint, container=record.name, sandbox=record.sandbox_id, vmid=VMID
        )
        guest.config["description"] = identity.description(
            whose, pod="web", namespace="default", container="main", image="busybox"
        )
    guest.status = "running"
    scene.watch.look()
    assert (scene.cluster.pve.ct(vmid), guest.status) == (guest, "running")
    assert scene.writes() == []
    assert scene.found() == set()


def test_orphan_whose_container_a_client_knows_is_kept(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    record, guest = orphan(scene)
    scene.registry.reserve_container(made.container(scene.pod.id, id=record.name, phase=Phase.RUNNING))
    scene.watch.look()
    assert scene.cluster.pve.ct(900007) is guest
    assert "record of a container of Proxmox VE is lost" in caplog.text


def test_container_whose_record_cannot_be_read_is_no_orphan(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    record, guest = orphan(scene)
    guest.status = "running"
    path = pathlib.Path(layout.LxcLayout(scene.driver.paths, record.name).record)
    # As a newer version may have left it.
    path.write_text('{"stage": "frozen"}')
    scene.watch.look()
    scene.watch.look()
    assert (scene.cluster.pve.ct(900007), guest.status) == (guest, "running")
    assert scene.writes() == []
    assert caplog.text.count("record of a container of Proxmox VE is lost") == 1


def test_container_that_was_made_twice_goes_on_with_the_number_of_its_record(scene: Scene) -> None:
    record, guest = scene.add()
    twin = dataclasses.replace(record, vmid=900007, endpoint=scene.node.endpoint_id)
    add_guest(scene.cluster, twin)
    scene.watch.look()
    assert scene.cluster.pve.ct(900007) is None
    assert (scene.cluster.pve.ct(VMID), guest.status) == (guest, "running")


def test_orphan_that_cannot_be_removed_is_told_of_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    _record, guest = orphan(scene, protection=1)
    for _look in range(3):
        scene.watch.look()
    assert scene.cluster.pve.ct(900007) is guest
    assert len([line for line in caplog.records if getattr(line, "vmid", 0) == 900007]) == 2
    guest.config["protection"] = 0
    scene.watch.look()
    assert scene.cluster.pve.ct(900007) is None


def test_files_that_were_kept_go_with_the_container(scene: Scene) -> None:
    record, guest = scene.add(tags="shop", description="mine")
    scene.driver.kill(record.name)
    path = pathlib.Path(layout.guest(scene.driver.paths, VMID).config)
    path.parent.mkdir(parents=True)
    path.write_text("")
    remove.destroy(scene.node, scene.driver, scene.driver.record(record.name))
    scene.watch.look()
    assert path.exists()
    scene.cluster.pve.cts.remove(guest)
    scene.watch.look()
    assert not path.exists()


# ---- the thread -------------------------------------------------------------------------------------------


def test_look_without_proxmox_is_to_be_repeated(scene: Scene) -> None:
    record, _guest = scene.add()
    scene.cluster.pve.set_node_offline("pve1")
    with pytest.raises(Unavailable):
        scene.watch.look()
    assert scene.container(record).phase is Phase.RUNNING


def test_thread_looks_now_and_then_and_survives_troubles(scene: Scene) -> None:
    record, guest = scene.add()
    scene.cluster.pve.set_node_offline("pve1")
    scene.watch.start()
    eventually(lambda: ("GET", "/nodes/pve1/lxc") in scene.cluster.requests_seen(), what="a look")
    scene.cluster.pve.set_node_offline("pve1", offline=False)
    guest.lock = "backup"
    eventually(lambda: "backup" in scene.container(record).message, what="the finding")


def test_thread_asks_nothing_without_containers(scene: Scene) -> None:
    scene.watch.start()
    time.sleep(0.3)
    assert scene.cluster.requests_seen() == []


def test_thread_looks_rarely_without_containers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # A create whose answer was lost, and of which nothing is known any more, came through all the same.
    orphan(scene)
    monkeypatch.setattr(watch, "_RARELY_S", 0.2)
    seldom = Watch(scene.registry, t.cast("t.Any", None), scene.node, scene.driver, interval_s=0.05)
    seldom.start()
    try:
        eventually(lambda: scene.cluster.pve.ct(900007) is None, what="the removal")
    finally:
        seldom.stop()


def test_thread_hears_of_an_end_from_lxc_monitord(
    scene: Scene, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, _guest = scene.add()
    scene.watch._interval_s = 3600.0
    listener = socket.socket(socket.AF_UNIX)
    with contextlib.closing(listener):
        listener.bind(monitord.address(scene.node.lxc_path))
        listener.listen()
        scene.watch.start()
        connection, _address = listener.accept()
        scene.driver.kill(record.name)
        with contextlib.closing(connection):
            name = str(VMID).encode()
            connection.sendall(monitord._MESSAGE.pack(monitord.STATE, name, monitord.STOPPED))
            eventually(lambda: scene.container(record).phase is Phase.EXITED, what="the end")
    assert scene.container(record).exit_code == 137


def test_remove_stays_possible_after_everything(scene: Scene) -> None:
    record, guest = scene.add(tags="pvecri")
    guest.lock = "snapshot"
    scene.watch.look()
    guest.lock = None
    scene.watch.look()
    scene.driver.kill(record.name)
    guest.status = "stopped"
    remove.destroy(scene.node, scene.driver, scene.driver.record(record.name))
    assert scene.cluster.pve.ct(VMID) is None
