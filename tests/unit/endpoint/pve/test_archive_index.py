# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name archives and templates, and remember them."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from pvecri.pve import archive_index, native_index
from pvecri.pve.archive_index import Archive, file_name, file_names
from pvecri.pve.native_index import Record
from pvecri.pve.template_volume import stamp_of

LOG = logging.getLogger("test")
ID = "ab" * 32
ENDPOINT = "0123456789abcdef"


@pytest.mark.parametrize(
    ("names", "stem"),
    [
        ((), "image"),
        (("docker.io/library/nginx:1.27",), "nginx-1.27"),
        (("registry:5000/a/b_c:v1_2",), "b-c-v1-2"),
        ((f"quay.io/a/app@sha256:{ID}",), "app"),
        (("quay.io/a/" + "x" * 200 + ":1",), "x" * 64),
    ],
)
def test_file_name_is_known_again_as_ones_own(names, stem):
    name = file_name(Image(id=ID, digest="", names=names), ENDPOINT)
    assert name == f"pvecri_{stem}_{ID[:24]}_01234567.tar"
    whole, half = file_names(ENDPOINT)
    assert whole.fullmatch(name)
    assert half.fullmatch(f".{name}.4711.0123abcd")
    other, other_half = file_names("f" + ENDPOINT)
    assert not other.fullmatch(name)
    assert not other_half.fullmatch(f".{name}.4711.0123abcd")


def archive(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"1")
    return Archive(
        image_id=ID,
        storage="local",
        directory=str(tmp_path),
        file="x.tar",
        stamp=stamp_of(str(tmp_path / "x.tar")),
        used_at=1.5,
    )


def test_archives_are_remembered(tmp_path):
    made = archive(tmp_path)
    path = str(tmp_path / "lxc" / "archives.json")
    archive_index.save(path, [made])
    assert archive_index.load(path, LOG) == {ID: made}
    assert made.is_there
    assert (made.volid, made.size) == ("local:vztmpl/x.tar", 1)
    (tmp_path / "x.tar").write_bytes(b"22")
    assert not made.is_there


@pytest.mark.parametrize("text", ["", "{", "[]", '{"archives": [1]}', '{"archives": [{"image_id": "0"}]}'])
def test_damaged_list_of_archives_is_forgotten_and_one_of_templates_is_told(tmp_path, text):
    path = tmp_path / "list.json"
    path.write_text(text)
    assert archive_index.load(str(path), LOG) == {}
    path.write_text(text.replace("archives", "templates").replace("image_id", "id"))
    with pytest.raises(WrongState, match="is damaged"):
        native_index.load(str(path))


def test_templates_are_remembered_whatever_a_newer_version_adds(tmp_path):
    made = Record(
        id=ID,
        names=("lxc/a:1", "lxc/a:latest"),
        storage="local",
        directory=str(tmp_path),
        file="a.tar.zst",
        stamp=(1, 2, 3),
        architecture="amd64",
        is_own=True,
    )
    path = tmp_path / "lxc" / "native.json"
    listed = native_index.Listed({ID: made}, {"b.tar.zst"})
    native_index.save(str(path), listed)
    assert native_index.load(str(path)) == listed
    entry = {**dataclasses.asdict(made), "later": 1}
    path.write_text(json.dumps({"templates": [entry], "later": 2}))
    assert native_index.load(str(path)) == native_index.Listed({ID: made})
    assert native_index.load(str(tmp_path / "none")) == native_index.Listed()
    assert not made.is_there
    assert (made.volid, made.size) == ("local:vztmpl/a.tar.zst", 3)
