# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a store that is written by hand, whole and damaged in every way."""

from __future__ import annotations

import base64
import json
import pathlib
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.images import store_files
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store_files import (
    StoreFiles,
    find_in_host_store,
    host_store_root,
)

ID = "1" * 64
OTHER = "2" * 64
MANIFEST = "sha256:" + "a" * 64
INDEX = "sha256:" + "b" * 64
CONFIG = f"sha256:{ID}"


def big_data_name(key):
    return "=" + base64.b64encode(key.encode()).decode()


class Store:
    """Writes the files of a store, as containers/storage lays them out."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.images: list[dict] = []
        self.layers: list[dict] = []
        for folder in ("overlay", "overlay-images", "overlay-layers"):
            (root / folder).mkdir(parents=True)

    def layer(self, name, parent="", **more):
        raw = {"id": name * 64, "parent": parent * 64, "diff-size": 100, "diff-digest": f"sha256:{name * 64}"}
        self.layers.append({**raw, **more})
        (self.root / "overlay" / (name * 64) / "diff").mkdir(parents=True, exist_ok=True)
        return self.write()

    def image(self, image_id=ID, top="b", names=("quay.io/a/b:1",), config=None, **more):
        config_key = f"sha256:{image_id}"
        keys = [config_key, f"manifest-{INDEX}", f"manifest-{MANIFEST}", "manifest", f"signature-{'a' * 64}"]
        raw = {
            "id": image_id,
            "digest": INDEX,
            "names": list(names),
            "layer": top * 64,
            "big-data-names": keys,
            "big-data-digests": {"manifest": MANIFEST},
            "future": {"kept": True},
        }
        self.images.append({**raw, **more})
        folder = self.root / "overlay-images" / image_id
        folder.mkdir()
        document = config or {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"diff_ids": [f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"]},
        }
        (folder / big_data_name(config_key)).write_text(json.dumps(document))
        return self.write()

    def write(self):
        (self.root / "overlay-images/images.json").write_text(json.dumps(self.images))
        (self.root / "overlay-layers/layers.json").write_text(json.dumps(self.layers))
        return self


@pytest.fixture
def store(tmp_path):
    """One image of two layers."""
    return Store(tmp_path / "root").layer("a").layer("b", "a").image()


@pytest.fixture
def files(store):
    return StoreFiles(str(store.root))


def test_image_is_read_whole(store, files):
    image = files.by_id(ID)
    assert image.digest == MANIFEST
    assert image.digests == (MANIFEST, INDEX)
    assert image.names == ("quay.io/a/b:1",)
    assert image.layer_dirs == tuple(str(store.root / "overlay" / (n * 64) / "diff") for n in "ba")
    assert image.size_bytes == 200
    assert image.config.command == ("sh",)
    assert files.all() == [image]
    assert files.by_name("quay.io/a/b:1") == image


@pytest.mark.parametrize(
    ("repository", "digest", "is_found"),
    [
        ("quay.io/a/b", MANIFEST, True),
        ("quay.io/a/b", INDEX, True),
        ("quay.io/a/c", MANIFEST, False),
        ("quay.io/a/b", "sha256:" + "c" * 64, False),
    ],
)
def test_by_digest(files, repository, digest, is_found):
    assert (files.by_digest(repository, digest) is not None) is is_found


@pytest.mark.parametrize("name", ["localhost:5000/x", f"localhost:5000/x@{MANIFEST}", "localhost:5000/x:1"])
def test_by_digest_reads_the_repository_of_any_name(tmp_path, name):
    made = Store(tmp_path / "root").layer("a").layer("b", "a").image(names=[name])
    assert StoreFiles(str(made.root)).by_digest("localhost:5000/x", MANIFEST)


def test_nothing_there(tmp_path):
    files = StoreFiles(str(tmp_path))
    assert files.all() == []
    assert files.by_id(ID) is None
    assert files.by_name("x") is None
    assert files.broken_ids() == []


def test_changes_are_seen(store, files):
    assert files.by_name("new") is None
    first = files.by_id(ID)
    store.images[0]["names"].append("new")
    store.write()
    assert files.by_name("new").names == ("quay.io/a/b:1", "new")
    assert files.by_id(ID) == files.by_name("new")
    assert first.names == ("quay.io/a/b:1",)


def test_unchanged_files_are_not_read_again(files, monkeypatch):
    files.all()
    monkeypatch.setattr(store_files, "_read", lambda _path: pytest.fail("read again"))
    assert files.by_id(ID)


def test_many_threads_read_the_same(files):
    found = []
    threads = [threading.Thread(target=lambda: found.append(files.by_id(ID))) for _unused in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize("name", ["overlay-images/images.json", "overlay-layers/layers.json"])
@pytest.mark.parametrize("text", ["{", "3", '[{"no": "id"}]'])
def test_damaged_lists_are_named(store, files, name, text):
    (store.root / name).write_text(text)
    with pytest.raises(WrongState, match=name.split("/")[1]):
        files.all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s.layers.pop(0),
        lambda s: s.layers.pop(1),
        lambda s: s.layers[0].update(flags={"incomplete": True}),
        lambda s: s.layers[0].update(parent="b" * 64),
        lambda s: (s.root / "overlay" / ("a" * 64) / "diff").rmdir(),
        lambda s: (s.root / "overlay-images" / ID / big_data_name(CONFIG)).unlink(),
        lambda s: (s.root / "overlay-images" / ID / big_data_name(CONFIG)).write_text("{"),
        lambda s: s.images[0].update({"big-data-names": ["manifest"]}),
    ],
)
def test_image_that_is_not_whole_is_not_there(store, files, damage):
    damage(store)
    store.write()
    assert files.all() == []
    assert files.by_id(ID) is None
    assert files.broken_ids() == [ID]


def test_image_without_layers_is_whole(tmp_path):
    made = Store(tmp_path / "root").image(layer="")
    assert StoreFiles(str(made.root)).by_id(ID).layer_dirs == ()


def test_volatile_layers_count(store, files):
    moved = store.layers.pop(1)
    store.write()
    (store.root / "overlay-layers/volatile-layers.json").write_text(json.dumps([moved]))
    assert len(files.by_id(ID).layer_dirs) == 2


@pytest.mark.parametrize(
    ("diff_ids", "digests", "expected"),
    [
        (["a", "b"], ["a", "b"], False),
        (["a", "c"], ["a", "b"], True),
        (["b", "a"], ["a", "b"], True),
        (["a"], ["a", "b"], True),
        ([], ["a", "b"], True),
        (["a", "b"], ["a", None], False),
    ],
)
def test_has_other_content(tmp_path, diff_ids, digests, expected):
    made = Store(tmp_path / "root")
    made.layer("a", **{"diff-digest": digests[0]}).layer("b", "a", **{"diff-digest": digests[1]})
    made.image(config={"rootfs": {"diff_ids": diff_ids}})
    files = StoreFiles(str(made.root))
    assert files.has_other_content(files.by_id(ID)) is expected


def test_has_other_content_of_an_image_that_left(store, files):
    image = files.by_id(ID)
    store.images.clear()
    store.write()
    assert files.has_other_content(image) is True


def test_untag_keeps_everything_else(store, files):
    store.images[0]["names"].append("second")
    store.write()
    files.untag("quay.io/a/b:1")
    written = json.loads((store.root / "overlay-images/images.json").read_text())
    assert written == [{**store.images[0], "names": ["second"]}]
    assert files.by_name("quay.io/a/b:1") is None
    first = (store.root / "overlay-images/images.lock").read_bytes()
    assert len(first) == 64
    files.untag("second")
    assert (store.root / "overlay-images/images.lock").read_bytes() != first
    assert files.by_id(ID).names == ()


# ---- the host's own store --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[storage]\ndriver = "overlay"\ngraphroot = "/somewhere"\n', "/somewhere"),
        ('[storage]\ndriver = "overlay"\n', store_files.DEFAULT_HOST_ROOT),
        ("", store_files.DEFAULT_HOST_ROOT),
        (None, store_files.DEFAULT_HOST_ROOT),
    ],
)
def test_host_store_root(tmp_path, text, expected):
    path = tmp_path / "storage.conf"
    if text is not None:
        path.write_text(text)
    assert host_store_root([str(tmp_path / "none"), str(path)]) == expected


def test_host_store_root_damaged(tmp_path):
    (tmp_path / "storage.conf").write_text("[storage")
    with pytest.raises(WrongState, match="no TOML"):
        host_store_root([str(tmp_path / "storage.conf")])


@pytest.mark.parametrize(
    "prefix", ["[{root}]", "[overlay@{root}]", "[overlay@{root}+/run/x]", "[overlay@{root}+/r:o=1]"]
)
@pytest.mark.parametrize("name", ["quay.io/a/b:1", f"@{ID}", f"@sha256:{ID}"])
def test_find_in_host_store(store, prefix, name):
    found = find_in_host_store(prefix.format(root=store.root) + name)
    assert found.id == ID


def test_find_in_host_store_by_default(store, monkeypatch):
    monkeypatch.setattr(store_files, "host_store_root", lambda: str(store.root))
    assert find_in_host_store("quay.io/a/b:1").id == ID
    for name in ("quay.io/a/b:2", f"@{OTHER}"):
        with pytest.raises(NotFound, match="holds no image"):
            find_in_host_store(name)


@pytest.mark.parametrize(
    "text",
    ['{"config": {"Healthcheck": {"Test": ["CMD", "x"], "Retries": -1}}}', "[" * 100_000 + "]" * 100_000],
)
def test_an_image_that_makes_no_sense_stands_in_nobodys_way(tmp_path, text):
    store = Store(tmp_path)
    store.layer("b")
    store.image()
    (tmp_path / "overlay-images" / ID / big_data_name(CONFIG)).write_text(text)
    files = StoreFiles(str(tmp_path))
    assert files.all() == []
    # Nothing of it is missing: to fetch it again would not help.
    assert files.broken_ids() == []
    with pytest.raises(InvalidSpec):
        files.by_name("quay.io/a/b:1")
    assert files.id_of("quay.io/a/b:1") == ID
    assert files.id_of("quay.io/a/b:2") is None


# ---- what a long-lived reader asks for ---------------------------------------------------------------------


def test_an_image_that_stays_is_not_built_again_when_others_come(store, files, monkeypatch):
    first = files.by_id(ID)
    store.image(OTHER, names=["quay.io/c/d:1"])
    built = []
    build = StoreFiles._build
    monkeypatch.setattr(StoreFiles, "_build", lambda self, raw: built.append(raw["id"]) or build(self, raw))
    assert [image.id for image in files.all()] == [ID, OTHER]
    assert built == [OTHER]
    assert files.by_id(ID) is first
    store.images[0]["names"] = ["quay.io/a/b:2"]
    store.write()
    assert files.by_id(ID).names == ("quay.io/a/b:2",)
    assert built == [OTHER, ID]


def test_images_that_left_are_forgotten(store, files):
    files.all()
    store.images.clear()
    store.write()
    assert files.all() == []
    assert files._images == {}


def test_stamp_changes_with_either_list(store, files, tmp_path):
    before = files.stamp()
    assert files.stamp() == before
    store.image(OTHER)
    changed = files.stamp()
    assert changed[0] != before[0]
    store.layer("c", "b")
    assert files.stamp()[1] != changed[1]
    assert StoreFiles(str(tmp_path / "none")).stamp() == (None, None)


def test_documents(store, files):
    image = files.by_id(ID)
    assert json.loads(files.config_document(image))["config"] == {"Cmd": ["sh"]}
    folder = store.root / "overlay-images" / ID
    (folder / big_data_name(f"manifest-{INDEX}")).write_bytes(b"index")
    (folder / "manifest").write_bytes(b"own")
    assert files.manifest_document(image, INDEX) == b"index"
    assert files.manifest_document(image, "sha256:" + "c" * 64) == b"own"
    (folder / "manifest").unlink()
    with pytest.raises(NotFound, match="has lost its manifest"):
        files.manifest_document(image, "sha256:" + "c" * 64)
    store.images.clear()
    store.write()
    with pytest.raises(NotFound, match="no longer in the image store"):
        files.config_document(image)


def test_layers_and_sizes(tmp_path):
    made = Store(tmp_path / "root").layer(
        "a", **{"compressed-size": 40, "compressed-diff-digest": "sha256:z"}
    )
    made.layer("b", "a", **{"diff-size": -1}).image(**{"big-data-sizes": {"manifest": 5, "x": 7, "y": -1}})
    files = StoreFiles(str(made.root))
    image = files.by_id(ID)
    lowest, topmost = files.layers_of(image)
    assert (lowest.id, lowest.digest, lowest.size_bytes, lowest.compressed_bytes) == (
        "a" * 64,
        "sha256:z",
        100,
        40,
    )
    assert (topmost.digest, topmost.size_bytes, topmost.compressed_bytes) == (f"sha256:{'b' * 64}", 0, 0)
    made.layer("c", flags={"incomplete": True})
    assert files.layers() == {"a" * 64: 100, "b" * 64: 0}
    assert files.extra_bytes(image) == 12
