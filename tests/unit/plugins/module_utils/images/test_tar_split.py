# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put archives of layers together from the lists that a store keeps."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import socket
import stat
import tarfile

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.images.layer_tar import pack_layer
from ansible_collections.pvecri.runtime.plugins.module_utils.images.tar_split import (
    NoArchive,
    copy_layer,
    tar_split_of,
)


def raw(data):
    return {"type": 2, "payload": base64.b64encode(data).decode()}


def file(name, size):
    return {"type": 1, "name": name, "size": size}


@pytest.fixture
def layer(tmp_path):
    """Return a function that makes a layer with a list, and returns its directory."""
    place = tmp_path / "overlay" / "abc" / "diff"
    place.mkdir(parents=True)
    (tmp_path / "overlay-layers").mkdir()

    def make(entries, files=()):
        for name, content in dict(files).items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        with gzip.open(tar_split_of(str(place)), "wb") as stream:
            stream.writelines(json.dumps(entry).encode() + b"\n" for entry in entries)
        return str(place)

    return make


def copied(place):
    out = io.BytesIO()
    assert copy_layer(place, out.write) == len(out.getvalue())
    return out.getvalue()


def test_copy_layer_joins_headers_and_files(layer):
    big = os.urandom((2 << 20) + 7)
    entries = [
        raw(b"head"),
        file("./a/b", 3),
        raw(b"pad"),
        file("/a/c", len(big)),
        file("empty", 0),
        {"type": 1, "name": "link"},
        {"type": 1, "name_raw": base64.b64encode(b"\xff").decode(), "size": 1},
        raw(b"x" * (3 << 20)),
    ]
    place = layer(entries, {"a/b": b"abc", "a/c": big, "\udcff": b"!"})
    assert copied(place) == b"head" + b"abc" + b"pad" + big + b"!" + b"x" * (3 << 20)


def test_copy_layer_of_nothing_is_empty(layer):
    assert copied(layer([])) == b""


def test_copy_layer_without_list_or_with_holes_has_no_archive(layer):
    place = layer([raw(b"path=x\n23 GNU.sparse.major=1\n"), file("a", 1)], {"a": b"1"})
    with pytest.raises(NoArchive, match="holes"):
        copied(place)
    os.unlink(tar_split_of(place))
    with pytest.raises(NoArchive, match="tar-split"):
        copied(place)


@pytest.mark.parametrize(
    "entry",
    [
        {"type": 3},
        {"payload": ""},
        {"type": 2, "payload": "*"},
        {"type": 2},
        {"type": 1, "size": 1},
        {"type": 1, "name_raw": "*", "size": 1},
        file("gone", 1),
        file("short", 9),
        file("folder", 1),
        file("folder/none/x", 1),
        file("pipe", 1),
        file("out/passwd", 1),
        file("../../../etc/passwd", 1),
        [],
    ],
)
def test_copy_layer_refuses_a_list_that_does_not_fit(layer, entry):
    place = layer([entry], {"short": b"1", "folder/x": b""})
    os.mkfifo(f"{place}/pipe")
    os.symlink("/etc", f"{place}/out")
    with pytest.raises(WrongState, match="pull it again"):
        copied(place)


def test_copy_layer_refuses_a_list_that_is_cut_off(layer):
    place = layer([raw(os.urandom(4096))])
    with open(tar_split_of(place), "r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(WrongState):
        copied(place)


def test_pack_layer_says_by_files_what_overlay_says_by_attributes(tmp_path):
    (tmp_path / "opaque").mkdir()
    os.setxattr(tmp_path / "opaque", "trusted.overlay.opaque", b"y")
    os.setxattr(tmp_path / "opaque", "user.note", b"\xff")
    (tmp_path / "opaque" / "in").write_bytes(b"in")
    os.mknod(tmp_path / "gone", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    out = io.BytesIO()
    assert pack_layer(str(tmp_path), out.write) == len(out.getvalue())
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        found = {member.name: member for member in archive}
    assert list(found) == [".wh.gone", "null", "opaque", "opaque/.wh..wh..opq", "opaque/in"]
    assert found["null"].ischr()
    kept = [key for key in found["opaque"].pax_headers if key.startswith("SCHILY")]
    assert kept == ["SCHILY.xattr.user.note"]
    assert found["opaque"].pax_headers[kept[0]] == "\udcff"
