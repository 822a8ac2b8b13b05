# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the record of a bundle: what it keeps, what it refuses, who needs an image."""

from __future__ import annotations

import dataclasses
import json
import os
import stat

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import (
    SCHEMA,
    BundleRecord,
    HostMount,
    image_users,
    read_record,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths

RECORD = BundleRecord(
    name="web",
    instance="i1",
    created=1.5,
    spec_hash="h",
    request={"name": "web"},
    source={"kind": "image", "reference": "r"},
    identity={"image": "1"},
    layers=("/l/2", "/l/1"),
    mounts=(
        HostMount(target="mounts/0", layers=("/l/1",), sub_path="etc", field="mounts[0]"),
        HostMount(target="mounts/1", source="/v", sub_path="a"),
    ),
    volatile=("/run/s/0",),
    volumes=("v",),
    images=("1", "2"),
    network_namespace="/run/netns/a",
    extra={"k": [1, None, {"x": True}]},
)


def test_record_comes_back_as_it_went(tmp_path):
    RECORD.write(str(tmp_path))
    assert read_record(str(tmp_path)) == RECORD
    assert stat.S_IMODE(os.stat(tmp_path / "pvecri.json").st_mode) == 0o600
    assert os.listdir(tmp_path) == ["pvecri.json"]


def test_record_with_defaults(tmp_path):
    small = BundleRecord(name="a", instance="i", created=0, spec_hash="h", request={}, source={}, identity={})
    small.write(str(tmp_path))
    assert read_record(str(tmp_path)) == small


def test_record_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_record(str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: "",
        lambda raw: "[]",
        lambda raw: "{}",
        lambda raw: json.dumps({**raw, "unknown": 1}),
        lambda raw: json.dumps({**raw, "mounts": [{"x": 1}]}),
        lambda raw: json.dumps({**raw, "mounts": 1}),
        lambda raw: json.dumps({**raw, "schema": "x"}),
        lambda raw: json.dumps({key: value for key, value in raw.items() if key != "instance"}),
    ],
)
def test_record_damaged(tmp_path, change):
    (tmp_path / "pvecri.json").write_text(change(json.loads(json.dumps(dataclasses.asdict(RECORD)))))
    with pytest.raises(WrongState, match=r"pvecri\.json is damaged"):
        read_record(str(tmp_path))


def test_record_of_a_newer_version(tmp_path):
    raw = {**dataclasses.asdict(RECORD), "schema": SCHEMA + 1, "news": 1}
    (tmp_path / "pvecri.json").write_text(json.dumps(raw))
    with pytest.raises(WrongState, match="newer version") as caught:
        read_record(str(tmp_path))
    assert "Update the collection" in caught.value.hint


def test_image_users(tmp_path):
    paths = Paths(state_dir=str(tmp_path), run_dir=str(tmp_path / "run"))
    assert image_users(paths, "1") == []
    for owner, name, images in (
        (Owner.PLAY, "b", ("1",)),
        (Owner.PLAY, "a", ("2", "1")),
        (Owner.PLAY, "c", ("2",)),
        (Owner.PLAY, ".new.d", ("1",)),
        (Owner.CRI, "k", ("1",)),
    ):
        folder = tmp_path / "bundles" / owner / name
        folder.mkdir(parents=True)
        dataclasses.replace(RECORD, name=name.removeprefix(".new."), images=images).write(str(folder))
    (tmp_path / "bundles/play/file").touch()
    (tmp_path / "bundles/play/empty").mkdir()
    assert image_users(paths, "1") == ["play/d", "play/a", "play/b", "cri/k"]
    assert image_users(paths, "2") == ["play/a", "play/c"]
    (tmp_path / "bundles/play/c/pvecri.json").write_text("")
    assert image_users(paths, "9") == ["play/c (damaged)"]
