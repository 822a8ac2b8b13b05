# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pull, list and remove templates of Proxmox LXC as images, from a fake node's list."""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, Namespaces
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import Selection
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import Runtime
from ansible_collections.pvecri.runtime.tests.support.image_service import images, spec
from ansible_collections.pvecri.runtime.tests.support.template_lab import (
    ALPINE,
    DEBIAN,
    NEW,
    OLD,
    lab,
    listed,
    serve,
    status,
)
from ansible_collections.pvecri.runtime.tests.support.templates import (
    TemplateNode,
    add_storage,
    packed_template,
)
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb
from pvecri.archives import command
from pvecri.config.model import PveConfig
from pvecri.images.errors import RegistryUnavailable
from pvecri.pve import native_index, presence, template_volume
from pvecri.pve.native import NativeTemplates
from pvecri.pve.native_image import is_native, refuse_elsewhere, source_of
from pvecri.pve.templates import Templates

# The fixtures of this file.
__all__ = ["images", "lab", "serve"]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


# ---- from Proxmox's own list ------------------------------------------------------------------------------


def test_pull_takes_the_newest_of_the_list_and_shows_it_as_an_image(lab):
    lab.storage.appliances[NEW] = packed_template(NEW)
    service = lab.service()
    content = lab.storage.appliances[NEW]
    found = service.pull(spec(DEBIAN))
    assert found == f"sha256:{sha256(content)}"
    assert lab.files() == [NEW]
    (shown,) = listed(service).values()
    assert shown.id == found
    assert sorted(shown.repo_tags) == [f"{DEBIAN}:12.11-1", f"{DEBIAN}:latest"]
    assert list(shown.repo_digests) == [f"{DEBIAN}@{found}"]
    assert shown.size == len(content)
    assert not shown.pinned
    for name in (DEBIAN, f"{DEBIAN}:12.11-1", f"{DEBIAN}@{found}", found, found[7:], found[7:20]):
        assert status(service, name).image == shown, name
        image = service.resolve(name)
        assert is_native(image)
        assert image.volid == f"local:vztmpl/{NEW}"
    told = json.loads(status(service, DEBIAN, is_verbose=True).info["info"])
    assert told["template"] == f"local:vztmpl/{NEW}"
    assert told["fetchedByEndpoint"] is True
    assert service.shown_reference(image) == f"{DEBIAN}@{found}"
    assert Templates(lab.node, lab.images.store, lab.images.paths, lab.images.log).place(image) == image.volid


def test_pull_of_a_version_fetches_that_and_not_twice(lab):
    lab.storage.appliances[NEW] = packed_template(NEW)
    service = lab.service()
    first = service.pull(spec(f"{DEBIAN}:12.2-1"))
    lab.cluster.forget_requests()
    assert service.pull(spec(f"{DEBIAN}:12.2-1")) == first
    assert lab.cluster.requests_seen() == []
    assert lab.files() == [OLD]


def test_pull_of_latest_follows_the_list_and_takes_the_name_from_the_older(lab):
    service = lab.service()
    old = service.pull(spec(DEBIAN))
    lab.storage.appliances[NEW] = packed_template(NEW)
    new = service.pull(spec(DEBIAN))
    assert new != old
    shown = listed(service)
    assert list(shown[old].repo_tags) == [f"{DEBIAN}:12.2-1"]
    assert f"{DEBIAN}:latest" in shown[new].repo_tags
    assert listed(lab.service()) == shown


def test_pull_of_what_is_not_there_names_what_is(lab):
    service = lab.service()
    with pytest.raises(NotFound, match=r"versions 12\.2-1"):
        service.pull(spec(f"{DEBIAN}:13.0-1"))
    with pytest.raises(NotFound, match=r"alpine-3\.20-default, debian-12-standard"):
        service.pull(spec("lxc/nothing"))
    with pytest.raises(NotFound, match="not fetched by digest"):
        service.pull(spec(f"{DEBIAN}@sha256:{'0' * 64}"))
    with pytest.raises(NotFound, match="Pull it first"):
        service.resolve(DEBIAN)
    assert status(service, DEBIAN) == pb.ImageStatusResponse()
    assert lab.files() == []


def test_pulls_of_two_names_of_one_file_fetch_it_once(lab):
    service = lab.service()
    names = [DEBIAN, f"{DEBIAN}:12.2-1"]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = set(pool.map(lambda name: service.pull(spec(name)), names * 3))
    assert len(found) == 1
    posted = [path for method, path in lab.cluster.requests_seen() if method == "POST"]
    assert posted == ["/nodes/pve1/aplinfo"]


def test_everything_but_a_pull_works_while_the_node_does_not_answer(lab, serve):
    service = lab.service()
    found = service.pull(spec(DEBIAN))
    lab.cluster.stop()
    with pytest.raises(RegistryUnavailable, match="RegistryUnavailable"):
        service.pull(spec(DEBIAN))
    # The version is here, and nobody need be asked.
    assert service.pull(spec(f"{DEBIAN}:12.2-1")) == found
    again = lab.service()
    assert list(listed(again)) == [found]
    assert again.resolve(DEBIAN).size_bytes
    registry = serve()
    again.pull(spec(f"{registry.address}/app:v1"))
    again.remove(spec(DEBIAN))
    assert found not in listed(again)
    assert lab.files() == []


# ---- whose file it is -------------------------------------------------------------------------------------


def test_template_of_the_administrator_is_used_where_it_lies_and_never_removed(lab):
    (lab.cache / ALPINE).write_bytes(lab.storage.appliances[ALPINE])
    service = lab.service()
    found = service.pull(spec("lxc/alpine-3.20-default"))
    assert not any(method == "POST" for method, _path in lab.cluster.requests_seen())
    service.remove(spec(found))
    assert listed(service) == {}
    assert lab.files() == [ALPINE]


def test_template_that_came_for_a_killed_daemon_is_its_own(lab):
    path = pathlib.Path(lab.images.paths.state_dir, "lxc", "native.json")
    native_index.save(str(path), native_index.Listed(fetching={OLD}))
    (lab.cache / OLD).write_bytes(lab.storage.appliances[OLD])
    service = lab.service()
    service.pull(spec(DEBIAN))
    assert native_index.load(str(path)).fetching == set()
    service.remove(spec(DEBIAN))
    assert lab.files() == []


def test_template_in_use_is_not_removed(lab, images):
    service = lab.service()
    service.pull(spec(DEBIAN))
    image = service.resolve(DEBIAN)
    made = images.core.manager
    made.create(ContainerSpec(name="one", namespaces=Namespaces(network="host")), source_of(image, DEBIAN))
    with pytest.raises(WrongState, match="in use by play/one"):
        service.remove(spec(DEBIAN))
    assert lab.files() == [OLD]
    assert listed(service)
    made.remove("one")
    service.remove(spec(DEBIAN))
    service.remove(spec(DEBIAN))
    assert lab.files() == []
    assert not os.listdir(os.path.join(images.paths.state_dir, "lxc", "native"))


def test_template_whose_file_went_is_not_shown_and_comes_back(lab, monkeypatch):
    monkeypatch.setattr(presence, "_EVERY_S", 0.05)
    service = lab.service()
    found = service.pull(spec(DEBIAN))
    (lab.cache / OLD).unlink()
    eventually(lambda: listed(service) == {}, what="the template to vanish")
    with pytest.raises(NotFound):
        service.resolve(found)
    assert service.pull(spec(DEBIAN)) == found
    assert list(listed(service)) == [found]
    (lab.cache / OLD).unlink()
    service.remove(spec(DEBIAN))
    assert not lab.natives.owns(found[7:])


def test_storage_that_hangs_holds_up_nobody_who_lists(lab, monkeypatch):
    service = lab.service()
    found = service.pull(spec(DEBIAN))
    monkeypatch.setattr(presence, "_EVERY_S", 0.0)
    over, asked = threading.Event(), threading.Event()

    def hang(_path):
        asked.set()
        over.wait(60)

    monkeypatch.setattr(template_volume, "stamp_of", hang)
    try:
        for _each in range(3):
            assert list(listed(service)) == [found]
            assert service.resolve(DEBIAN)
            assert service.fs_info_bytes()
        assert asked.wait(30)
        assert list(listed(service)) == [found]
    finally:
        over.set()


def test_damaged_list_hides_no_other_image(lab, serve):
    service = lab.service()
    registry = serve()
    service.pull(spec(f"{registry.address}/app:v1"))
    service.pull(spec(DEBIAN))
    pathlib.Path(lab.images.paths.state_dir, "lxc", "native.json").write_text("{")
    again = lab.service()
    assert len(listed(again)) == 1
    assert pathlib.Path(lab.images.paths.state_dir, "lxc", "native.json.damaged").exists()
    assert lab.files() == [OLD]
    again.pull(spec(DEBIAN))
    assert len(listed(again)) == 2


def test_bundle_of_a_template_knows_its_users(lab, images):
    service = lab.service()
    service.pull(spec(DEBIAN))
    image = service.resolve(DEBIAN)
    bundle = images.core.manager.create(
        ContainerSpec(
            name="one", user="mail", pod_groups=True, namespaces=Namespaces(network="host"), command=("ps",)
        ),
        source_of(image, DEBIAN),
    )
    process = bundle.config["process"]
    assert (process["user"]["uid"], process["user"]["gid"]) == (8, 8)
    assert 4 in process["user"]["additionalGids"]
    assert process["args"] == ["/sbin/init", "ps"]
    images.core.manager.remove("one")


def chosen(runtime):
    """Return a selection of a runtime."""
    return Selection(runtime, None, None, "the handler says so", ImageReference.parse("lxc/a"))


def test_template_is_refused_where_another_runtime_was_selected(lab):
    service = lab.service()
    service.pull(spec(DEBIAN))
    image = service.resolve(DEBIAN)
    refuse_elsewhere(image, chosen(Runtime.PVE_LXC))
    with pytest.raises(Unsupported, match="crun was selected because the handler says so"):
        refuse_elsewhere(image, chosen(Runtime.CRUN))


def test_image_of_a_registry_below_lxc_is_pulled_when_the_registry_is_named(lab, serve):
    registry = serve()
    service = lab.service()
    name = f"{registry.address}/lxc/debian-12-standard:v1"
    found = service.pull(spec(name))
    assert not is_native(service.resolve(name))
    other = service.pull(spec(DEBIAN))
    assert other != found
    assert is_native(service.resolve(DEBIAN))


def test_without_proxmox_a_name_below_lxc_is_of_the_default_registry(images):
    service = images.service()
    with pytest.raises(NotFound):
        service.resolve("lxc/debian-12-standard")
    assert status(service, "lxc/debian-12-standard") == pb.ImageStatusResponse()


def test_sizes_of_templates_count_as_those_of_images(lab):
    service = lab.service()
    service.usage.count()
    before = pb.ImageFsInfoResponse.FromString(service.fs_info_bytes()).image_filesystems[0]
    service.pull(spec(DEBIAN))
    size = (lab.cache / OLD).stat().st_size

    def counted():
        after = pb.ImageFsInfoResponse.FromString(service.fs_info_bytes()).image_filesystems[0]
        return after.used_bytes.value >= before.used_bytes.value + size

    eventually(counted, what="the size of the template")


def test_list_of_the_command_line_has_templates(lab, tmp_path, capsys):
    service = lab.service()
    found = service.pull(spec(DEBIAN))
    paths = lab.images.paths
    file = tmp_path / "config.toml"
    file.write_text(
        f'[paths]\nstate_dir = "{paths.state_dir}"\nrun_dir = "{paths.run_dir}"\n'
        f'[pve]\nenabled = "true"\nnode = "pve1"\naccess_file = "{tmp_path}/none"\n'
    )
    command.run_list(argparse.Namespace(config=str(file), json=True))
    (shown,) = json.loads(capsys.readouterr().out)["images"]
    assert shown["id"] == found
    assert f"{DEBIAN}:latest" in shown["names"]


def test_node_without_api_is_never_asked_for_what_is_known(images, tmp_path):
    made = TemplateNode(str(tmp_path / "pve"))
    add_storage(made.config_dir, "local", tmp_path / "vz")
    natives = NativeTemplates(made, images.paths, PveConfig(), images.log)
    assert natives.images() == []
    assert natives.stamp() == natives.stamp()
    natives.sweep()
