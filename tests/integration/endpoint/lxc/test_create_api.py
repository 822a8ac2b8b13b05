# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a container at Proxmox VE: the journal before each act, conflicts, lost answers, faults.

What is made on this host beside it is a double; nothing is started.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import pathlib
import tarfile
import threading
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    CoreError,
    MissingPrivilege,
    TaskFailed,
    Unsupported,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout, guest
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image, Owner, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.tasks import Upid
from ansible_collections.pvecri.runtime.tests.support import pve_machine, pve_node
from pvecri.api import cri_pb2 as pb
from pvecri.config.model import PveConfig
from pvecri.errors import Unavailable
from pvecri.pve import identity, remove
from pvecri.pve.create import Maker
from pvecri.pve.node import PveNode
from pvecri.pve.vmids import candidates
from pvecri.rpc.errors import status_of
from pvecri.rpc.status import Code
from pvecri.stages import Stages

pytestmark = pytest.mark.skipif(pve_machine.missing() is not None, reason=str(pve_machine.missing()))

NAME, SANDBOX = "c" * 64, "5" * 64
TEMPLATE = "local:vztmpl/tiny.tar.gz"


@pytest.fixture
def pve():
    with pve_node.FakePveNode() as node:
        with tarfile.open(f"{node.top}/vz/template/cache/tiny.tar.gz", "w:gz") as archive:
            info = tarfile.TarInfo("etc/hostname")
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
        yield node


class Killed(BaseException):
    """Stands for kill -9."""


def killed(*_args: object, **_more: object) -> None:
    """Be killed in place of what was to be done."""
    raise Killed


class Driver:
    """Notes when it is asked."""

    def __init__(self, paths) -> None:
        self.paths, self.prepared, self.error, self.cleared = paths, [], None, []
        self.before = lambda: None

    def prepare(self, record, config, facts) -> None:
        self.before()
        self.prepared.append((record, config, facts))
        if self.error is not None:
            raise self.error

    def amend(self, name, **changes):
        return records.amend(LxcLayout(self.paths, name), **changes)

    def clear_away(self, name, *, keep_guest=False) -> None:
        self.cleared.append((name, keep_guest))
        records.remove(LxcLayout(self.paths, name))

    def clear_guest(self, vmid) -> None:
        self.cleared.append(vmid)


class Site:
    """A maker and what it works with."""

    def __init__(self, pve, tmp_path, **settings) -> None:
        self.pve = pve
        self.paths = Paths(str(tmp_path / "s"), str(tmp_path / "r"), owner=Owner.CRI)
        config = dataclasses.replace(
            PveConfig(),
            **{k: tuple(v) if isinstance(v, list) else v for k, v in pve.settings()["pve"].items()},
        )
        self.node = PveNode(dataclasses.replace(config, **settings), self.paths, logging.getLogger("test"))
        self.driver = Driver(self.paths)
        self.placed = []
        self.renew()

    def renew(self) -> None:
        """Go on as a process that knows nothing but the files."""
        templates = types.SimpleNamespace(place=self.place)
        self.maker = Maker(self.node, self.driver, templates, self.paths, uses_v2=False)

    def place(self, image) -> str:
        self.placed.append(image.id)
        return TEMPLATE

    def create(self, name: str = NAME, **config):
        creation = self.creation(name, **config)
        self.maker.create(creation, {"linux": {}}, lambda record: ("facts", record.vmid))
        return creation

    def creation(self, name: str = NAME, **config):
        made = pb.ContainerConfig(metadata=pb.ContainerMetadata(name="app"), **config)
        made.image.image = "registry.test/tiny:1"
        pod = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="web", namespace="shop"))
        sandbox = types.SimpleNamespace(netns="", ipcns="", utsns="", id=SANDBOX)
        request = types.SimpleNamespace(config=made, pod=pod, sandbox=sandbox)
        return types.SimpleNamespace(
            wish=types.SimpleNamespace(request=request, image=Image(id="1" * 64, digest="sha256:2")),
            record=types.SimpleNamespace(id=name, sandbox_id=SANDBOX),
            bundle=types.SimpleNamespace(path="/bundle"),
            log_path="/log",
            stages=Stages(),
        )

    def record(self, name: str = NAME):
        return records.load(LxcLayout(self.paths, name))

    def undo(self, name: str = NAME) -> None:
        remove.destroy(self.node, self.driver, self.record(name))

    @property
    def writes(self) -> list[str]:
        return [f"{method} {path}" for method, path in self.pve.requests_seen() if method != "GET"]


@pytest.fixture
def site(pve, tmp_path):
    return Site(pve, tmp_path)


def first(site, name: str = NAME) -> int:
    return next(candidates(name, site.pve.vmid_range))


def test_create_makes_a_container_that_says_whose_it_is_and_includes_our_file(site) -> None:
    site.create()
    record = site.record()
    config = site.pve.config(record.vmid)
    assert record.vmid == first(site)
    assert identity.is_ours(config, record)
    assert config["lxc"][-1] == ["lxc.include", guest(site.paths, record.vmid).config]
    assert (record.stage, record.node, record.storage, record.template) == (
        Stage.READY,
        "pve1",
        "local-lvm",
        TEMPLATE,
    )
    assert (record.unprivileged, record.id_offset, record.bundle, record.log_path) == (
        True,
        100_000,
        "/bundle",
        "/log",
    )
    assert Upid.parse(record.upids["create"]).type == "vzcreate"
    assert record.config_digest == site.node.container(record.vmid).read().digest
    assert (config["unprivileged"], config["onboot"], config["hostname"]) == (1, 0, "web-app")
    assert not any(key.startswith("net") for key in config)
    assert site.driver.prepared[0][1:] == ({"linux": {}}, ("facts", record.vmid))


def test_create_asks_for_one_thing_and_once(site) -> None:
    site.create()
    assert site.writes == ["POST /nodes/pve1/lxc"]


def test_create_says_where_the_time_went(site) -> None:
    times = site.create().stages.times
    assert set(times) == {
        "template_ms",
        "request_ms",
        "pve_task_ms",
        "prepare_ms",
        "task_beyond_ms",
        "include_ms",
    }


def test_create_prepares_this_host_while_the_task_is_at_work(site) -> None:
    with site.pve.holding("vzcreate") as gate:
        site.driver.before = lambda: (gate.reached.wait(10), gate.open())
        site.create()
    assert gate.reached.is_set()
    assert site.record().stage is Stage.READY


def test_create_passes_over_numbers_that_others_have(site) -> None:
    taken = site.pve.add_ct(vmid=first(site))
    site.create()
    assert site.record().vmid != taken
    assert site.pve.config(taken)["hostname"] == f"other-{taken}"


def test_create_goes_on_with_the_next_number_when_somebody_was_faster(site) -> None:
    wanted = first(site)
    place = site.place

    def faster(image):
        # After the template there is only the question whether the number is free.
        site.maker.vmids.claims = lambda _client, _name: iter([wanted, wanted + 1])
        site.pve.add_ct(vmid=wanted, description="mine")
        return place(image)

    site.place = faster
    site.renew()
    site.create()
    assert site.record().vmid == wanted + 1
    assert site.pve.config(wanted)["description"].strip() == "mine"


def test_two_containers_at_a_time_get_two_numbers(site) -> None:
    names = [f"{number:064x}" for number in range(4)]
    threads = [threading.Thread(target=site.create, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    vmids = [site.record(name).vmid for name in names]
    assert len(set(vmids)) == 4
    assert site.pve.vmids() == sorted(vmids)


@pytest.mark.parametrize("at_work", [True, False], ids=["task at work", "task ended"])
def test_create_whose_answer_was_lost_joins_what_it_began(site, at_work: bool) -> None:
    site.pve.lose_answers("POST", "/nodes/pve1/lxc")
    if at_work:
        with site.pve.holding("vzcreate") as gate:
            site.driver.before = gate.open
            site.create()
    else:
        site.create()
    assert site.pve.vmids() == [site.record().vmid]
    assert site.record().stage is Stage.READY
    assert site.writes == ["POST /nodes/pve1/lxc"]


def test_a_kill_between_request_and_answer_leaves_what_is_found_by_number_and_notes(site) -> None:
    real = site.node.client.post

    def post(*args, **params):
        real(*args, **params)
        raise Killed

    site.node.client.post = post
    with pytest.raises(Killed):
        site.create()
    record = site.record()
    assert (record.stage, dict(record.upids), record.vmid) == (Stage.CREATING, {}, first(site))
    site.node.client.post = real
    site.undo()
    assert site.pve.vmids() == []
    assert site.record() is None


@pytest.mark.parametrize("step", ["prepare", "include"])
def test_a_kill_at_a_later_step_leaves_what_is_found(site, step: str, monkeypatch) -> None:
    if step == "prepare":
        site.driver.error = Killed()
    else:
        monkeypatch.setattr("pvecri.pve.create.lxc_raw.write", killed)
    with pytest.raises(Killed):
        site.create()
    assert site.record().stage is (Stage.CREATING if step == "prepare" else Stage.INCLUDED)
    assert site.record().upids["create"]
    site.undo()
    assert site.pve.vmids() == []


def test_a_task_that_fails_is_told_with_the_end_of_its_log(site) -> None:
    site.pve.fault("vzcreate", "unable to create CT", log=("Formatting…", "mkfs.ext4: no such device"))
    with pytest.raises(
        TaskFailed, match=r"cannot be created: .*unable to create CT.*mkfs.ext4: no such device"
    ):
        site.create()
    site.undo()
    site.create()
    assert site.record().stage is Stage.READY


def test_a_full_storage_is_told_as_such(site) -> None:
    site.pve.fill()
    with pytest.raises(CoreError, match="storage 'local-lvm'") as caught:
        site.create()
    assert status_of(caught.value) is Code.RESOURCE_EXHAUSTED
    site.undo()
    assert site.record() is None


@pytest.mark.parametrize("fault", ["set_offline", "lose_quorum", "down"])
def test_what_may_pass_is_told_as_unavailable_and_a_repeat_succeeds(site, fault: str) -> None:
    getattr(site.pve, fault)()
    with pytest.raises(Unavailable):
        site.create()
    if site.record() is not None:
        # Nothing was made, so nobody need be asked.
        site.undo()
    assert site.record() is None
    {
        "set_offline": lambda: site.pve.set_offline(offline=False),
        "lose_quorum": site.pve.regain_quorum,
        "down": site.pve.up,
    }[fault]()
    site.create()
    assert site.record().stage is Stage.READY
    assert site.pve.vmids() == [site.record().vmid]


def test_what_is_not_prepared_waits_for_the_task_before_it_is_told(site) -> None:
    site.driver.error = CoreError("no conmon")
    with site.pve.holding("vzcreate") as gate:
        threading.Timer(0.3, gate.open).start()
        with pytest.raises(CoreError, match="no conmon"):
            site.create()
        assert gate.reached.is_set()
    site.undo()
    assert site.pve.vmids() == []


def test_a_container_without_our_notes_is_not_written_to(site) -> None:
    def changed() -> None:
        site.pve.gui_set(first(site), description="Somebody else's")

    site.driver.before = changed
    with pytest.raises(CoreError, match="does not have the tags and notes"):
        site.create()
    assert "lxc" not in site.pve.config(first(site))
    site.undo()
    assert site.pve.vmids() == [first(site)]
    assert site.driver.cleared == [(NAME, True), first(site)]


def test_a_number_stays_claimed_as_long_as_it_is_on_record(site) -> None:
    site.driver.error = CoreError("no conmon")
    with pytest.raises(CoreError):
        site.create()
    site.driver.error = None
    site.renew()
    claims = site.maker.vmids.claims(site.node.client, NAME)
    assert next(claims) != first(site)


# ---- the node ---------------------------------------------------------------------------------------------


def test_node_knows_itself_and_needs_one_request(site) -> None:
    site.node.check()
    assert site.pve.requests_seen() == [("GET", "/version")]
    assert (site.node.name, site.node.storage, site.node.template_storage) == ("pve1", "local-lvm", "local")


def test_node_chooses_storages_once_when_none_is_named(pve, tmp_path) -> None:
    site = Site(pve, tmp_path, rootfs_storage="", template_storage="")
    site.node.check()
    site.node.check()
    assert (site.node.storage, site.node.template_storage) == ("local-lvm", "local")
    assert len([path for _method, path in pve.requests_seen() if path == "/nodes/pve1/storage"]) == 2


def test_node_reads_the_token_again_when_it_was_changed(site) -> None:
    before = site.node.client
    assert site.node.client is before
    path = pathlib.Path(site.pve.access_file)
    site.pve._give_access()
    after = site.node.client
    assert after is not before
    assert after.get("/version")
    path.write_text("{}")
    with pytest.raises(Unsupported, match="does not say host, port, user"):
        assert site.node.client
    path.unlink()
    with pytest.raises(Unsupported, match=r"No such file or directory.*Run the role cri_endpoint"):
        assert site.node.client


def test_node_with_a_token_that_is_refused_names_what_is_missing(site) -> None:
    site.pve.access.tokens.clear()
    site.pve.pve.apitokens.clear()
    with pytest.raises((ApiError, MissingPrivilege)):
        site.node.check()


def test_node_elsewhere_than_on_proxmox_is_refused(pve, tmp_path) -> None:
    site = Site(pve, tmp_path, config_dir=str(tmp_path))
    with pytest.raises(Unsupported, match="no node of Proxmox VE"):
        site.node.check()
    with pytest.raises(Unsupported, match=r"does not say which node .* pve.node"):
        assert site.node.name


def test_endpoint_id_is_made_once(site) -> None:
    made = site.node.endpoint_id
    assert len(made) == 16
    assert Site(site.pve, pathlib.Path(site.paths.state_dir).parent).node.endpoint_id == made
