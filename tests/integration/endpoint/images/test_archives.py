# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put images of a real store onto a storage of templates, and take them away again."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import random
import subprocess
import sys
import textwrap
import time

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, Unsupported, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource, StoredSource
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, Namespaces
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.oci_archive import inspect_archive
from ansible_collections.pvecri.runtime.tests.support.image_service import spec
from ansible_collections.pvecri.runtime.tests.support.images import File, OciLayout, tar_layer
from ansible_collections.pvecri.runtime.tests.support.templates import TemplateNode, add_storage
from pvecri.api import cri_pb2 as pb
from pvecri.pve import templates as templates_module
from pvecri.pve.templates import Templates
from pvecri.rpc.errors import status_of
from pvecri.rpc.status import Code

OTHERS = ("debian-12-standard_12.7-1_amd64.tar.zst", "pvecri_app_0123.tar", "app_0123456789abcdef.tar")


@pytest.fixture
def node(tmp_path):
    """A node with an empty storage ``local``, on which others have files."""
    made = TemplateNode(str(tmp_path / "pve"))
    made.cache = add_storage(made.config_dir, "local", tmp_path / "vz")
    for name in OTHERS:
        (made.cache / name).write_bytes(b"theirs")
    return made


@pytest.fixture
def fresh(images, node):
    """Return a function that does what a daemon does when it starts."""

    def make(where=node):
        return Templates(where, images.store, images.paths, images.log)

    return make


@pytest.fixture
def pull(images, tmp_path):
    """Return a function that brings an image with a number into the store."""
    layout = OciLayout(tmp_path / "small")

    def bring(number=1, size=100, **more):
        layer = tar_layer([File("etc/number", str(number).encode()), File("noise", os.urandom(size))])
        layout.add_image(f"v{number}", [layer], {"Cmd": ["sh"]}, **more)
        source = ImageSource(reference=f"oci:{layout.path}:v{number}")
        return images.store.ensure(source)[0]

    return bring


def own(node):
    """Return the names of what the endpoint has on the storage."""
    return sorted({path.name for path in node.cache.iterdir()} - set(OTHERS))


def bundle_of(images, image, name="one"):
    """Make a bundle, as the creation of a container does before its image is placed."""
    made = images.core.manager
    return made.create(
        ContainerSpec(name=name, namespaces=Namespaces(network="host")), StoredSource(image_id=image.id)
    )


def test_place_writes_once_and_says_the_volume(images, node, fresh, pull):
    image, templates = pull(), fresh()
    volid = templates.place(image)
    (file,) = own(node)
    assert volid == f"local:vztmpl/{file}"
    assert file.endswith(f"_{image.id[:24]}_01234567.tar")
    assert inspect_archive(str(node.cache / file)).architecture == "amd64"
    inode = (node.cache / file).stat().st_ino
    assert templates.place(image) == volid
    assert fresh().place(image) == volid
    assert (node.cache / file).stat().st_ino == inode
    assert len(images.logged.of("archive written")) == 1
    assert templates.usage() == ((node.cache / file).stat().st_size, 1)


def test_place_at_once_by_many_is_one_write(images, node, fresh, pull):
    image, templates = pull(size=2 << 20), fresh()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _each: templates.place(image), range(16)))
    assert len(found) == 1
    assert len(images.logged.of("archive written")) == 1
    assert len(own(node)) == 1


def test_place_by_two_endpoints_at_once_gives_each_its_own(node, fresh, pull):
    image = pull(size=2 << 20)
    other = dataclasses.replace(node, endpoint_id="fedcba9876543210")
    mine, theirs = fresh(), fresh(other)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        volumes = list(pool.map(lambda each: each.place(image), (mine, theirs)))
    assert len(set(volumes)) == 2
    assert len(own(node)) == 2
    (node.cache / f".{own(node)[0]}.1.0123abcd").touch()
    mine.sweep()
    assert len([name for name in own(node) if name.endswith("_fedcba98.tar")]) == 1


def test_place_failed_for_one_fails_for_all_and_is_tried_again(node, fresh, pull, monkeypatch):
    image, templates = pull(), fresh()
    whole = templates_module.write_archive

    def fail(*_unused):
        raise WrongState("the layer is damaged")

    monkeypatch.setattr(templates_module, "write_archive", fail)
    with pytest.raises(WrongState):
        templates.place(image)
    assert own(node) == []
    monkeypatch.setattr(templates_module, "write_archive", whole)
    assert templates.place(image)


def test_place_does_not_take_another_file_for_the_archive(images, node, fresh, pull):
    image, templates = pull(), fresh()
    templates.place(image)
    (file,) = own(node)
    (node.cache / file).write_bytes(b"another")
    fresh().place(image)
    assert inspect_archive(str(node.cache / file)).os == "linux"
    assert len(images.logged.of("archive written")) == 2


def test_place_on_another_storage_takes_the_old_archive_away(node, fresh, pull, tmp_path):
    image, templates = pull(), fresh()
    templates.place(image)
    node.template_storage = "tank"
    cache = add_storage(node.config_dir, "tank", tmp_path / "tank")
    assert templates.place(image).startswith("tank:vztmpl/")
    assert own(node) == []
    assert len(list(cache.iterdir())) == 1


def test_place_refuses_an_image_for_another_architecture(node, fresh, pull):
    with pytest.raises(Unsupported, match=r"config\.image\.image: .*arm64") as caught:
        fresh().place(pull(architecture="arm64"))
    assert status_of(caught.value) is Code.FAILED_PRECONDITION
    assert own(node) == []


def test_place_without_list_of_storages_says_what_is_wrong(node, fresh, pull):
    os.unlink(f"{node.config_dir}/storage.cfg")
    with pytest.raises(WrongState, match="pve-cluster"):
        fresh().place(pull())


def test_sweep_removes_what_a_killed_daemon_left_and_nothing_else(node, fresh, pull):
    kept, gone = pull(1), pull(2)
    templates = fresh()
    templates.place(kept)
    templates.place(gone)
    half = f".pvecri_app_{'0' * 24}_01234567.tar.4711.0123abcd"
    unknown = f"pvecri_app_{'0' * 24}_01234567.tar"
    foreign = f".pvecri_app_{'0' * 24}_89abcdef.tar.4711.0123abcd"
    for name in (half, unknown, foreign):
        (node.cache / name).touch()
    fresh().sweep()
    left = own(node)
    assert foreign in left
    assert not {half, unknown} & set(left)
    assert len(left) == 3
    assert all((node.cache / name).read_bytes() == b"theirs" for name in OTHERS)


def test_sweep_before_anything_was_written_asks_nobody(fresh, node):
    os.unlink(f"{node.config_dir}/storage.cfg")
    fresh().sweep()


def test_collect_takes_archives_of_removed_images_and_keeps_those_of_bundles(images, node, fresh, pull):
    templates = fresh()
    used, idle = pull(1), pull(2)
    bundle_of(images, used)
    templates.place(used)
    templates.place(idle)
    images.store.remove(idle.id)
    assert templates.collect() == 1
    (left,) = own(node)
    assert used.id[:24] in left
    assert templates.collect() == 0


def test_collect_keeps_a_few_of_those_that_no_container_has(monkeypatch, images, node, fresh, pull):
    monkeypatch.setattr(templates_module, "IDLE_MAX", 2)
    templates = fresh()
    found = [pull(number) for number in range(4)]
    bundle_of(images, found[0])
    for image in found:
        templates.place(image)
    templates.collect()
    left = own(node)
    assert len(left) == 3
    assert not any(found[1].id[:24] in name for name in left)


def test_remove_image_takes_its_archive_along(images, node, fresh, pull, serve):
    registry = serve()
    images.trust(registry.address)
    templates = fresh()
    service = images.service(archives=templates)
    name = f"{registry.address}/app:v1"
    service.pull(spec(name))
    image = service.resolve(name)
    templates.place(image)
    assert own(node)[0].startswith("pvecri_app-v1_")
    before = pb.ImageFsInfoResponse.FromString(_counted(service)).image_filesystems[0].used_bytes.value
    assert before > os.path.getsize(node.cache / own(node)[0])
    bundle_of(images, image)
    with pytest.raises(WrongState):
        service.remove(spec(name))
    assert len(own(node)) == 1
    images.core.manager.remove("one")
    service.remove(spec(name))
    assert own(node) == []


PLACER = textwrap.dedent(
    """
    import json, logging, sys
    from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
    from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
    from ansible_collections.pvecri.runtime.tests.support.templates import TemplateNode
    from pvecri.pve.templates import Templates

    state, run, config_dir = sys.argv[1:]
    paths, runner = Paths(state, run, owner=Owner.CRI), SubprocessRunner()
    store = ImageStore(paths, runner)
    made = Templates(TemplateNode(config_dir), store, paths, logging.getLogger("test"))
    made.sweep()
    print("ready", flush=True)
    for image in store.list():
        made.place(image)
    """
)


def test_killed_at_any_point_leaves_whole_archives_only(images, node, fresh, pull):
    found = [pull(number, 3 << 20) for number in range(4)]
    choose = random.Random(4)
    argv = [sys.executable, "-c", PLACER, images.paths.state_dir, images.paths.run_dir, node.config_dir]
    for _round in range(6):
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.stdout.read(5) == b"ready"
            time.sleep(choose.uniform(0, 0.08))
            child.kill()
            assert child.stderr.read() == b""
        for name in own(node):
            if not name.startswith("."):
                assert inspect_archive(str(node.cache / name)).digest
    templates = fresh()
    templates.sweep()
    assert not [name for name in own(node) if name.startswith(".")]
    assert len({templates.place(image) for image in found}) == len(own(node)) == 4


def _counted(service):
    service.usage.count()
    return service.fs_info_bytes()


@pytest.fixture
def small(tmp_path):
    """A storage of 4 MiB."""
    place = tmp_path / "small-disk"
    place.mkdir()
    with contextlib.ExitStack() as held:
        syscalls.mount("tmpfs", str(place), "tmpfs", 0, "size=4m")
        held.callback(syscalls.umount2, str(place), syscalls.MNT_DETACH)
        made = TemplateNode(str(tmp_path / "small-pve"))
        made.cache = add_storage(made.config_dir, "local", place)
        yield made


def test_place_on_a_full_disk_makes_room_of_idle_archives(images, small, fresh, pull):
    templates = fresh(small)
    first, second, used = pull(1, 1 << 20), pull(2, 2 << 20), pull(3, 1 << 20)
    bundle_of(images, used)
    templates.place(used)
    templates.place(first)
    templates.place(second)
    left = own(small)
    assert len(left) == 2
    assert not any(first.id[:24] in name for name in left)


@pytest.mark.parametrize("is_told", [True, False])
def test_place_on_a_disk_that_is_too_small_says_so_and_leaves_nothing(small, fresh, pull, is_told):
    image = pull(1, 6 << 20)
    if not is_told:
        # A quota is found only when it is reached.
        image = dataclasses.replace(image, size_bytes=0)
    with pytest.raises(CoreError) as caught:
        fresh(small).place(image)
    assert status_of(caught.value) is Code.RESOURCE_EXHAUSTED
    assert own(small) == []
