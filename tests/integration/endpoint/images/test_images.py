# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List, describe and remove images of a real store."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.images import store_files
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource, StoredSource
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Mount,
    MountKind,
)
from ansible_collections.pvecri.runtime.tests.support.image_service import listed, spec, status
from ansible_collections.pvecri.runtime.tests.support.images import File, directory, symlink, tar_layer
from pvecri.api import cri_pb2 as pb
from pvecri.images import fs_info


def put(images, layout, ref, *names):
    """Copy an image into the store under names, as if it had been pulled by them."""
    store = f"containers-storage:[overlay@{images.paths.storage}+{images.paths.storage_run}]"
    for name in names:
        argv = ["skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{layout.path}:{ref}", store + name]
        subprocess.run(argv, check=True, timeout=60)


def ids(service):
    return {image.id for image in listed(service)}


# ---- looking ---------------------------------------------------------------------------------------------


def test_empty_store(images):
    service = images.service()
    assert listed(service) == []
    assert service.list_bytes() == b""
    assert status(service, "quay.io/a/b:1") == pb.ImageStatusResponse()
    assert status(service, "sha256:" + "0" * 64, is_verbose=True) == pb.ImageStatusResponse()
    assert not status(service, "abcdef").HasField("image")


def test_names_of_one_image(images, layout):
    put(images, layout, "v1", "quay.io/a/b:1", "quay.io/a/b:2", "docker.io/library/c:latest")
    service = images.service()
    (image,) = listed(service)
    assert sorted(image.repo_tags) == ["docker.io/library/c:latest", "quay.io/a/b:1", "quay.io/a/b:2"]
    (digest,) = {text.partition("@")[2] for text in image.repo_digests}
    assert sorted(image.repo_digests) == [f"docker.io/library/c@{digest}", f"quay.io/a/b@{digest}"]
    for text in (*image.repo_tags, *image.repo_digests, "c", image.id, image.id.removeprefix("sha256:")):
        assert status(service, text).image == image
        assert listed(service, text) == [image]
    assert listed(service, "quay.io/a/b:3") == []


def test_begin_of_an_id(images, layout):
    put(images, layout, "v1", "quay.io/a/b:1")
    service = images.service()
    (image,) = listed(service)
    short = image.id.removeprefix("sha256:")[:12]
    assert status(service, short).image == image
    assert status(service, f"sha256:{short}").image == image
    assert service.resolve(short).id == image.id.removeprefix("sha256:")
    assert not status(service, short[:2]).HasField("image"), "two digits are a name"
    put(images, layout, "v2", f"docker.io/library/{short}:latest")
    assert status(service, short).image != image, "a name goes first"


def test_begin_of_several_ids(images, layout, monkeypatch):
    number = 0
    while len({config_id(layout, f"n{count}")[:3] for count in range(number)}) == number:
        layout.add_image(f"n{number}", [], {"Labels": {"number": str(number)}})
        number += 1
    begins = [config_id(layout, f"n{count}")[:3] for count in range(number)]
    twice = next(text for text in begins if begins.count(text) > 1)
    for count, text in enumerate(begins):
        if text == twice:
            put(images, layout, f"n{count}", f"quay.io/a/b:{count}")
    service = images.service()
    for call in (
        lambda: status(service, twice),
        lambda: service.remove(spec(twice)),
        lambda: service.resolve(twice),
    ):
        with pytest.raises(InvalidSpec, match="begins the ids of 2 images"):
            call()
    assert len(listed(service)) == 2


def config_id(layout, ref):
    index = json.loads(pathlib.Path(layout.path, "index.json").read_bytes())
    by_ref = {e["annotations"]["org.opencontainers.image.ref.name"]: e["digest"] for e in index["manifests"]}
    manifest = json.loads(layout.blob_path(by_ref[ref]).read_bytes())
    return manifest["config"]["digest"].removeprefix("sha256:")


@pytest.mark.parametrize(
    ("user", "uid", "username"),
    [
        ("", None, ""),
        ("0", 0, ""),
        ("1002", 1002, ""),
        ("1003:1004", 1003, ""),
        ("www-data", None, "www-data"),
        ("www-data:1004", None, "www-data"),
        ("99999999999999999999", None, "99999999999999999999"),
        ("-1", None, "-1"),
        ("١", None, "١"),
    ],
)
def test_user(images, layout, user, uid, username):
    layout.add_image("user", [], {"User": user})
    put(images, layout, "user", "quay.io/a/b:1")
    (image,) = listed(images.service())
    assert (image.uid.value if image.HasField("uid") else None) == uid
    assert image.username == username


def test_annotations_and_size(images, layout):
    digest = layout.add_image("v1", [tar_layer([File("a", b"x" * 5000)])], {"Cmd": ["sh"]})
    manifest = json.loads(layout.blob_path(digest).read_bytes())
    manifest["annotations"] = {"org.example": "yes", "org.other": ""}
    layout._list("v1", layout.add_blob(json.dumps(manifest).encode(), manifest["mediaType"]))
    put(images, layout, "v1", "quay.io/a/b:1")
    (image,) = listed(images.service())
    assert dict(image.spec.annotations) == {"org.example": "yes", "org.other": ""}
    assert 5000 < image.size < 20000


def test_an_image_cannot_fill_the_answer(images, layout):
    digest = layout.add_image("v1", [], {"User": "x" * 100_000})
    manifest = json.loads(layout.blob_path(digest).read_bytes())
    manifest["annotations"] = {"big": "x" * 1_000_000, "org.example": "kept"}
    layout._list("v1", layout.add_blob(json.dumps(manifest).encode(), manifest["mediaType"]))
    put(images, layout, "v1", "quay.io/a/b:1")
    (image,) = listed(images.service())
    assert dict(image.spec.annotations) == {"org.example": "kept"}
    assert image.username == "x" * 256


def test_image_without_layers(images, layout):
    layout.add_image("none", [], {})
    put(images, layout, "none", "quay.io/a/b:1")
    (image,) = listed(images.service())
    assert 0 < image.size < 5000


def test_verbose_status(images, layout):
    put(images, layout, "v1", "quay.io/a/b:1")
    service = images.service()
    images.core.manager.create(ContainerSpec(name="user"), ImageSource(reference="quay.io/a/b:1"))
    answer = status(service, "quay.io/a/b:1", is_verbose=True)
    assert answer.image == status(service, "quay.io/a/b:1").image
    info = json.loads(answer.info["info"])
    assert info["imageSpec"]["config"]["Cmd"] == ["sh"]
    (diff_id,) = info["imageSpec"]["rootfs"]["diff_ids"]
    assert info["chainID"] == diff_id
    assert info["size"] == answer.image.size
    assert answer.image.repo_digests == [f"quay.io/a/b@{info['manifestDigest']}"]
    (layer,) = info["layers"]
    assert layer["size"] >= layer["compressedSize"] > 0
    assert info["usedBy"] == ["play/user"]


def test_verbose_status_of_what_was_removed_just_now(images, layout, monkeypatch):
    put(images, layout, "v1", "quay.io/a/b:1")
    service = images.service()
    snapshot = service.catalogue.snapshot()
    images.store.remove("quay.io/a/b:1")
    monkeypatch.setattr(service.catalogue, "snapshot", lambda: snapshot)
    assert status(service, "quay.io/a/b:1", is_verbose=True) == pb.ImageStatusResponse()


def test_many_images_are_read_once(images, layout, monkeypatch):
    for number in range(30):
        layout.add_image(f"n{number}", [], {"Labels": {"number": str(number)}})
        put(images, layout, f"n{number}", f"quay.io/a/b:{number}")
    service = images.service()
    assert len(listed(service)) == 30
    reads = []
    read = store_files._read
    monkeypatch.setattr(store_files, "_read", lambda path: reads.append(path) or read(path))
    assert len(listed(service)) == 30
    for number in range(30):
        assert status(service, f"quay.io/a/b:{number}").image.repo_tags == [f"quay.io/a/b:{number}"]
    assert reads == []
    assert service.list_bytes_now() is service.list_bytes_now() is not None
    layout.add_image("more", [], {"Labels": {"number": "more"}})
    put(images, layout, "more", "quay.io/a/b:more")
    assert service.list_bytes_now() is None
    assert service.status_bytes_now(spec("quay.io/a/b:1")) is None
    assert len(listed(service)) == 31
    assert service.status_bytes_now(spec("quay.io/a/b:1"))
    assert service.status_bytes_now(spec("quay.io/a/b:none")) == b""
    lists = [path for path in reads if path.endswith("s.json")]
    # The list, and configuration and manifests of the new one.
    assert len(lists) == 1
    assert len(reads) - len(lists) <= 4


@pytest.mark.parametrize("name", ["", "UPPER", "a b", "../etc/passwd", "dir:/etc", "x@sha256:zz", "a/../b"])
def test_hostile_names(images, layout, name):
    service = images.service()
    for call in (
        lambda: service.status_bytes(spec(name)),
        lambda: service.status_bytes_now(spec(name)) or pytest.fail("nothing is known yet"),
        lambda: service.remove(spec(name)),
        lambda: service.resolve(name),
    ):
        service.list_bytes()
        with pytest.raises(InvalidSpec) as caught:
            call()
        assert caught.value.field == "image.image"
    if name:
        with pytest.raises(InvalidSpec) as caught:
            listed(service, name)
        assert caught.value.field == "filter.image.image"
    assert images.runner.calls == []


# ---- what plays made -------------------------------------------------------------------------------------


def test_what_a_play_read_from_a_file_is_not_shown(images, layout):
    image, _unused = images.store.ensure(ImageSource(reference=f"oci:{layout.path}:v1"))
    service = images.service()
    assert listed(service) == []
    (name,) = image.names
    for text in (name, image.id, f"sha256:{image.id}", image.id[:12]):
        assert not status(service, text).HasField("image")
        with pytest.raises(NotFound):
            service.resolve(text)
        service.remove(spec(text))
    assert images.store.find(image.id) is not None, "and it is not removed"


def test_what_a_play_has_too_stays_for_it(images, layout):
    image, _unused = images.store.ensure(ImageSource(reference=f"oci:{layout.path}:v1"))
    put(images, layout, "v1", "quay.io/a/b:1", "quay.io/a/b:2")
    service = images.service()
    (shown,) = listed(service)
    assert sorted(shown.repo_tags) == ["quay.io/a/b:1", "quay.io/a/b:2"]
    service.remove(spec("quay.io/a/b:1"))
    assert listed(service) == []
    assert images.store.find(image.id).names == image.names


def test_additional_store(images, layout):
    root = f"{images.core.top}/host"
    target = f"containers-storage:[overlay@{root}+{images.core.top}/hostrun]quay.io/org/app:1"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout.path}:v1", target], check=True, timeout=60)
    images.store = ImageStore(images.paths, images.runner, additional=[root])
    service = images.service()
    (image,) = listed(service)
    assert image.pinned
    assert service.resolve("quay.io/org/app:1").layer_dirs[0].startswith(root)
    assert json.loads(status(service, image.id, is_verbose=True).info["info"])["storage"] == root
    with pytest.raises(WrongState, match="pinned"):
        service.remove(spec("quay.io/org/app:1"))


# ---- removing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["tag", "other tag", "digest", "id", "bare id", "prefix"])
def test_remove(images, layout, by):
    put(images, layout, "v1", "quay.io/a/b:1", "quay.io/c/d:2")
    put(images, layout, "v2", "quay.io/a/b:other")
    service = images.service()
    image = status(service, "quay.io/a/b:1").image
    text = {
        "tag": "quay.io/a/b:1",
        "other tag": "quay.io/c/d:2",
        "digest": image.repo_digests[0],
        "id": image.id,
        "bare id": image.id.removeprefix("sha256:"),
        "prefix": image.id.removeprefix("sha256:")[:13],
    }[by]
    layers = images.store.find("quay.io/a/b:1").layer_dirs
    service.remove(spec(text))
    assert [list(left.repo_tags) for left in listed(service)] == [["quay.io/a/b:other"]]
    assert not any(map(os.path.exists, layers))
    service.remove(spec(text))
    assert len(images.logged.of("image removed")) == 1


def test_remove_what_another_removed_just_now(images, layout, monkeypatch):
    put(images, layout, "v1", "quay.io/a/b:1")
    service = images.service()
    assert len(listed(service)) == 1
    snapshot = service.catalogue.snapshot()
    images.store.remove("quay.io/a/b:1")
    monkeypatch.setattr(service.catalogue, "snapshot", lambda: snapshot)
    service.remove(spec("quay.io/a/b:1"))
    assert images.logged.of("image removed") == []
    monkeypatch.undo()
    assert listed(service) == []


def test_image_that_cannot_be_shown_is_left_out_and_said(images, layout, monkeypatch):
    put(images, layout, "v1", "quay.io/a/b:1")
    put(images, layout, "v2", "quay.io/a/b:2")
    extra_bytes = store_files.StoreFiles.extra_bytes

    def failing(files, image):
        if "quay.io/a/b:1" in image.names:
            raise NotFound("gone")
        return extra_bytes(files, image)

    monkeypatch.setattr(store_files.StoreFiles, "extra_bytes", failing)
    service = images.service()
    assert [list(image.repo_tags) for image in listed(service)] == [["quay.io/a/b:2"]]
    (said,) = images.logged.of("image cannot be shown")
    assert said["error"] == "gone"
    service.remove(spec("quay.io/a/b:1"))
    assert images.store.find("quay.io/a/b:1") is None


def test_remove_unknown(images):
    service = images.service()
    for text in ("quay.io/a/b:1", "quay.io/a/b@sha256:" + "0" * 64, "sha256:" + "0" * 64, "0" * 12):
        service.remove(spec(text))
    assert images.runner.programs().count("skopeo") == 0


def test_remove_pinned(images, layout):
    put(images, layout, "v1", "registry.k8s.io/pause:3.10")
    put(images, layout, "v2", "docker.io/library/tool:latest")
    put(images, layout, "v3", "quay.io/a/b:1")
    service = images.service(pinned=("tool",))
    pinned = {tag: image.pinned for image in listed(service) for tag in image.repo_tags}
    assert pinned == {
        "registry.k8s.io/pause:3.10": True,
        "docker.io/library/tool:latest": True,
        "quay.io/a/b:1": False,
    }
    for image in listed(service):
        if image.pinned:
            with pytest.raises(WrongState, match="is pinned"):
                service.remove(spec(image.id))
    service.remove(spec("quay.io/a/b:1"))
    assert len(listed(service)) == 2


def test_pinned_by_digest(images, layout):
    put(images, layout, "v1", "quay.io/a/b:1")
    (image,) = listed(images.service())
    (again,) = listed(images.service(pinned=(image.repo_digests[0],)))
    assert again.pinned


@pytest.mark.parametrize("owner", ["play", "cri"])
def test_remove_in_use(images, layout, owner):
    put(images, layout, "v1", "quay.io/a/b:1", "quay.io/a/b:2")
    put(images, layout, "v2", "quay.io/a/volume:1")
    service = images.service()
    paths = images.core.paths if owner == "play" else images.paths
    manager = BundleManager(paths, images.store, images.runner)
    image = service.resolve("quay.io/a/b:1")
    volume = Mount(kind=MountKind.IMAGE, destination="/volume", source="quay.io/a/volume:1")
    manager.create(ContainerSpec(name="one", mounts=(volume,)), StoredSource(image_id=image.id))
    for text in ("quay.io/a/b:1", "quay.io/a/b:2", image.id, "quay.io/a/volume:1"):
        with pytest.raises(WrongState, match=f"in use by {owner}/one") as caught:
            service.remove(spec(text))
        assert "Remove the containers" in caught.value.hint
    assert len(listed(service)) == 2
    manager.remove("one")
    service.remove(spec("quay.io/a/b:1"))
    service.remove(spec("quay.io/a/volume:1"))
    assert listed(service) == []


# ---- image volumes ---------------------------------------------------------------------------------------


def test_image_volume_with_a_path_below(images, layout):
    content = [directory("data"), File("data/file", b"inside"), symlink("data/out", "/etc")]
    layout.add_image("volume", [tar_layer(content)], {})
    put(images, layout, "v1", "quay.io/a/b:1")
    put(images, layout, "volume", "quay.io/a/volume:1")
    service = images.service()
    image, volume = service.resolve("quay.io/a/b:1"), service.resolve("quay.io/a/volume:1")
    manager = BundleManager(images.paths, images.store, images.runner)

    def create(name, path):
        mount = Mount(kind=MountKind.IMAGE, destination="/v", source=f"sha256:{volume.id}", sub_path=path)
        return manager.create(ContainerSpec(name=name, mounts=(mount,)), StoredSource(image_id=image.id))

    bundle = create("good", "data")
    (source,) = [m["source"] for m in bundle.config["mounts"] if m["destination"] == "/v"]
    assert pathlib.Path(source, "file").read_text() == "inside"
    assert bundle.record.images == (image.id, volume.id)
    for path in ("data/file/x", "../x", "data/out"):
        with pytest.raises((InvalidSpec, WrongState, NotFound)):
            create("bad", path)


# ---- damage ----------------------------------------------------------------------------------------------


def test_layer_gone_is_seen_when_used_and_pulled_again(images, layout, make_registry):
    registry = make_registry()
    images.trust(registry.address)
    registry.push(f"oci:{layout.path}:v1", "app:1")
    put(images, layout, "v2", "quay.io/a/b:1")
    service = images.service()
    name = f"{registry.address}/app:1"
    image_ref = service.pull(spec(name))
    shutil.rmtree(os.path.dirname(images.store.find(name).layer_dirs[0]))
    with pytest.raises(NotFound):
        service.resolve(name)
    assert not status(service, name).HasField("image"), "so that kubelet pulls it"
    assert [list(image.repo_tags) for image in listed(service)] == [["quay.io/a/b:1"]]
    assert service.pull(spec(name)) == image_ref
    assert os.path.isdir(service.resolve(name).layer_dirs[0])


def test_damaged_image_can_be_removed(images, layout):
    put(images, layout, "v1", "quay.io/a/b:1")
    put(images, layout, "v2", "quay.io/a/b:2")
    image = images.store.find("quay.io/a/b:1")
    shutil.rmtree(os.path.dirname(image.layer_dirs[0]))
    service = images.service()
    assert len(listed(service)) == 1
    service.remove(spec("quay.io/a/b:1"))
    assert images.logged.of("damaged image removed") == [{"image": "quay.io/a/b:1"}]
    raw = json.loads(pathlib.Path(images.paths.storage, "overlay-images/images.json").read_text())
    assert [entry["names"] for entry in raw] == [["quay.io/a/b:2"]]


@pytest.mark.parametrize("damage", ["config", "manifest", "config is nonsense"])
def test_damaged_files_of_one_image(images, layout, damage):
    put(images, layout, "v1", "quay.io/a/b:1")
    put(images, layout, "v2", "quay.io/a/b:2")
    image = images.store.find("quay.io/a/b:1")
    folder = pathlib.Path(images.paths.storage, "overlay-images", image.id)
    for path in folder.iterdir():
        is_manifest = path.name == "manifest" or "manifest" in _decoded(path.name)
        if is_manifest == (damage == "manifest"):
            path.write_text('{"config": 5}' if "nonsense" in damage else "{")
    images.store = images.core.fresh().store
    service = images.service()
    tags = sorted(tag for found in listed(service) for tag in found.repo_tags)
    expected = ["quay.io/a/b:1", "quay.io/a/b:2"] if damage == "manifest" else ["quay.io/a/b:2"]
    assert tags == expected
    assert status(service, "quay.io/a/b:2").HasField("image")
    service.remove(spec("quay.io/a/b:1"))
    raw = json.loads(pathlib.Path(images.paths.storage, "overlay-images/images.json").read_text())
    assert [entry["names"] for entry in raw] == [["quay.io/a/b:2"]]


def _decoded(name):
    import base64

    return base64.b64decode(name[1:]).decode() if name.startswith("=") else name


def test_damaged_list_is_an_error_that_names_it(images, layout):
    put(images, layout, "v1", "quay.io/a/b:1")
    service = images.service()
    assert len(listed(service)) == 1
    path = pathlib.Path(images.paths.storage, "overlay-images/images.json")
    content = path.read_text()
    path.write_text("[{")
    with pytest.raises(WrongState, match=r"images\.json is damaged"):
        listed(service)
    path.write_text(content)
    assert len(listed(service)) == 1


def test_shown_reference(images, layout):
    put(images, layout, "v1", "quay.io/a/b:1")
    service = images.service()
    image = service.resolve("quay.io/a/b:1")
    assert service.shown_reference(image) == f"quay.io/a/b@{image.digest}"
    images.store.untag(image, image.names)
    assert service.shown_reference(image) == f"sha256:{image.id}"


# ---- disk usage ------------------------------------------------------------------------------------------


def usage(service):
    return pb.ImageFsInfoResponse.FromString(service.fs_info_bytes())


def test_fs_info(images, layout, monkeypatch):
    service = images.service()
    put(images, layout, "v1", "quay.io/a/b:1")
    service.usage.count()
    answer = usage(service)
    (shown,) = answer.image_filesystems
    assert shown.fs_id.mountpoint == images.paths.storage
    assert 1 << 20 < shown.used_bytes.value < 3 << 20
    assert shown.inodes_used.value > 5
    (containers,) = answer.container_filesystems
    assert containers.fs_id.mountpoint == images.paths.storage, "one file system has one name"
    assert containers.timestamp >= shown.timestamp > 10**18

    manager = BundleManager(images.paths, images.store, images.runner)
    bundle = manager.create(
        ContainerSpec(name="a"), StoredSource(image_id=service.resolve("quay.io/a/b:1").id)
    )
    pathlib.Path(bundle.rootfs_path, "big").write_bytes(b"x" * 300_000)
    put(images, layout, "v2", "quay.io/a/b:2")
    images.runner.calls.clear()
    service.usage.count()
    later = usage(service)
    assert later.image_filesystems[0].used_bytes.value > shown.used_bytes.value + (1 << 20)
    grown = later.container_filesystems[0].used_bytes.value - containers.used_bytes.value
    assert 300_000 <= grown < 600_000, "without what the mounted layers hold"

    # A layer is counted once, also by the next daemon.
    fresh = images.service()
    images.runner.calls.clear()
    counted = []
    count = fs_info.count
    monkeypatch.setattr(fs_info, "count", lambda runner, paths: counted.extend(paths) or count(runner, paths))
    fresh.usage.count()
    assert not [path for path in counted if "/storage/overlay/" in path]
    assert usage(fresh).image_filesystems[0].used_bytes == later.image_filesystems[0].used_bytes

    service.remove(spec("quay.io/a/b:2"))
    fresh.usage.count()
    assert usage(fresh).image_filesystems[0].used_bytes.value < later.image_filesystems[0].used_bytes.value


def test_fs_info_asks_nobody_twice(images, layout):
    put(images, layout, "v1", "quay.io/a/b:1")
    service = images.service()
    first = usage(service)
    assert first.image_filesystems[0].used_bytes.value > 1 << 20, (
        "the very first answer waits for the figures"
    )
    images.runner.calls.clear()
    for _unused in range(50):
        assert usage(service) == first
    assert images.runner.calls == []


def test_fs_info_without_a_store(images):
    answer = usage(images.service())
    assert answer.image_filesystems[0].used_bytes.value == 0
    assert answer.image_filesystems[0].timestamp > 0


def test_fs_info_of_two_file_systems(images):
    bundles = os.path.join(images.paths.state_dir, "bundles")
    os.makedirs(bundles)
    subprocess.run(["mount", "-t", "tmpfs", "none", bundles], check=True)
    try:
        answer = usage(images.service())
    finally:
        subprocess.run(["umount", bundles], check=True)
    assert answer.container_filesystems[0].fs_id.mountpoint == bundles
    assert answer.image_filesystems[0].fs_id.mountpoint == images.paths.storage


def test_fs_info_when_counting_fails(images, layout, monkeypatch):
    put(images, layout, "v1", "quay.io/a/b:1")
    service = images.service()
    pathlib.Path(images.paths.storage, "overlay-layers/layers.json").write_text("{")
    answer = usage(service)
    assert answer.image_filesystems[0].used_bytes.value == 0
    assert images.logged.of("image usage not counted")


# ---- the start -------------------------------------------------------------------------------------------


def test_start_finishes_what_was_cut_short(images, layout):
    put(images, layout, "v1", "quay.io/a/b:1")
    put(images, layout, "v2", "quay.io/a/b:2")
    left = pathlib.Path(images.paths.state_dir, "tmp", "fetch-0123")
    left.mkdir(parents=True)
    images.store._own.condemn(images.store.find("quay.io/a/b:1").id)
    service = images.service()
    service.start()
    images.close()
    assert not left.exists()
    raw = json.loads(pathlib.Path(images.paths.storage, "overlay-images/images.json").read_text())
    assert [entry["names"] for entry in raw] == [["quay.io/a/b:2"]]
    assert service.list_bytes_now(), "and everything is known"


def test_start_with_a_damaged_store_is_said(images, layout):
    put(images, layout, "v1", "quay.io/a/b:1")
    pathlib.Path(images.paths.storage, "overlay-images/images.json").write_text("[{")
    images.service().start()
    images.close()
    (said,) = images.logged.of("image store not swept")
    assert "images.json is damaged" in said["error"]
