# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the lists of a store that is written by hand."""

from __future__ import annotations

import json
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.images import store_edit
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store_files import StoreFiles

OLD, NEW = "2026-01-01T00:00:00.5Z", "2026-01-03T00:00:00.5Z"
BEFORE = "2026-01-02T00:00:00"


@pytest.fixture
def root(tmp_path):
    for kind in ("images", "layers", "containers"):
        (tmp_path / f"overlay-{kind}").mkdir()
    return tmp_path


def write(root: pathlib.Path, kind: str, items: list) -> None:
    (root / f"overlay-{kind}" / f"{kind}.json").write_text(json.dumps(items))


def read(root: pathlib.Path, kind: str) -> list:
    return json.loads((root / f"overlay-{kind}" / f"{kind}.json").read_text())


def layer(name, parent="", created=OLD, **more):
    return {"id": name, "parent": parent, "created": created, **more}


def test_condemned_image_is_not_found(root):
    write(root, "images", [{"id": "1", "names": ["a", "b"], "flags": {"x": 1}}, {"id": "2", "names": ["c"]}])
    mark = root / "overlay-images/images.lock"
    mark.write_text("m" * 64)
    files = StoreFiles(str(root))
    assert files.condemned_ids() == []
    files.condemn("1")
    assert mark.read_text() != "m" * 64
    assert read(root, "images")[0] == {"id": "1", "names": [], "flags": {"x": 1, store_edit.REMOVING: True}}
    assert files.condemned_ids() == ["1"]
    assert files.id_of("a") is None
    assert files.id_of("c") == "2"
    assert files.broken_ids() == ["2"]


def test_change_that_changes_nothing_writes_nothing(root):
    write(root, "images", [{"id": "1", "names": ["a"]}])
    path = root / "overlay-images/images.json"
    before = path.stat().st_ino
    store_edit.untag(str(root), "other")
    store_edit.condemn_image(str(root), "other")
    assert path.stat().st_ino == before


@pytest.mark.parametrize(
    ("layers", "images", "containers", "keep", "condemned"),
    [
        ([], [], [], (), []),
        ([layer("a"), layer("b", "a")], [{"id": "1", "layer": "b"}], [], (), []),
        ([layer("a"), layer("b", "a")], [{"id": "1", "layer": "a"}], [], (), ["b"]),
        ([layer("a"), layer("b", "a")], [], [{"id": "1", "layer": "b"}], (), []),
        ([layer("a"), layer("b", "a")], [], [], {"b"}, []),
        ([layer("a"), layer("b", "a")], [], [], {"a"}, ["b"]),
        ([layer("a"), layer("b", "a", NEW)], [], [], (), ["a"]),
        ([layer("a", flags={"incomplete": True})], [], [], (), []),
        ([layer("a"), layer("b")], [{"id": "1", "layer": "b", "mapped-layers": ["a"]}], [], (), []),
        ([layer("a")], [{"id": "1", "layer": "gone"}, {"id": "2"}], [], (), ["a"]),
    ],
)
def test_condemn_layers(root, layers, images, containers, keep, condemned):
    for kind, items in (("layers", layers), ("images", images), ("containers", containers)):
        write(root, kind, items)
    assert store_edit.condemn_layers(str(root), keep=keep, before=BEFORE) == condemned
    flagged = [raw["id"] for raw in read(root, "layers") if raw.get("flags", {}).get("incomplete")]
    assert set(condemned) <= set(flagged)
    assert store_edit.condemn_layers(str(root), keep=keep, before=BEFORE) == []


def test_condemn_layers_without_a_store(tmp_path):
    assert store_edit.condemn_layers(str(tmp_path), keep=(), before=BEFORE) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["[{", "5", '["a"]', '[{"names": []}]'])
@pytest.mark.parametrize("kind", ["images", "layers", "containers"])
def test_damaged_lists_are_named_and_left_alone(root, kind, text):
    write(root, "layers", [layer("a")])
    path = root / f"overlay-{kind}/{kind}.json"
    path.write_text(text)
    with pytest.raises(WrongState, match=rf"{kind}\.json is damaged"):
        store_edit.condemn_layers(str(root), keep=(), before=BEFORE)
    assert path.read_text() == text
    if kind == "images":
        with pytest.raises(WrongState, match=r"images\.json is damaged"):
            store_edit.untag(str(root), "a")
