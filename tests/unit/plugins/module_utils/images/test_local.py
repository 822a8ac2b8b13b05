# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what tells one content of a path from another."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CoreError,
    InvalidSpec,
    MissingDependency,
    NotFound,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.local import (
    file_state,
    local_state,
    readable_tarball,
    tarball_state,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import parse_location


def test_file_state_changes_with_the_file(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    seen = {file_state(str(path), "a")}
    assert file_state(str(path), "a") in seen
    path.write_text("22")
    seen.add(file_state(str(path), "a"))
    os.utime(path, ns=(1, 1))
    seen.add(tarball_state(str(path)))
    path.unlink()
    path.write_text("22")
    os.utime(path, ns=(1, 1))
    seen.add(file_state(str(path), "a"))
    assert len(seen) == 4


def test_file_state_of_none(tmp_path):
    with pytest.raises(NotFound, match="does not exist"):
        file_state(str(tmp_path / "none"), "x")
    (tmp_path / "f").touch()
    with pytest.raises(NotFound):
        file_state(str(tmp_path / "f" / "g"), "x")
    with pytest.raises(InvalidSpec, match="no regular file"):
        file_state(str(tmp_path), "x")


@pytest.mark.parametrize(("kind", "file"), [("oci", "index.json"), ("dir", "manifest.json")])
def test_local_state_of_a_directory_is_its_index(tmp_path, kind, file):
    (tmp_path / file).write_text("1")
    location = parse_location(f"{kind}:{tmp_path}")
    first = local_state(location)
    os.utime(tmp_path / file, ns=(1, 1))
    (tmp_path / "blob").touch()
    assert local_state(location) == first
    (tmp_path / file).write_text("2")
    assert local_state(location) != first
    (tmp_path / file).unlink()
    with pytest.raises(NotFound, match=file):
        local_state(location)


def test_local_state_of_an_archive_is_the_files(tmp_path):
    path = tmp_path / "a.tar"
    path.touch()
    assert local_state(parse_location(f"oci-archive:{path}:x")) == file_state(str(path), "")


# ---- packed archives -------------------------------------------------------------------------------------


class NoRunner:
    def run(self, argv, **_options):
        raise MissingDependency(f"program '{argv[0]}' was not found")


def test_readable_tarball_as_it_is(tmp_path):
    for content in (b"", b"plain", gzip.compress(b"x")):
        (tmp_path / "a").write_bytes(content)
        assert readable_tarball(str(tmp_path / "a"), str(tmp_path), NoRunner()) == str(tmp_path / "a")


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_readable_tarball_unpacks(tmp_path, pack):
    content = os.urandom(3 << 20)
    (tmp_path / "a").write_bytes(pack(content))
    (tmp_path / "t").mkdir()
    unpacked = readable_tarball(str(tmp_path / "a"), str(tmp_path / "t"), NoRunner())
    assert unpacked == str(tmp_path / "t/rootfs.tar")
    with open(unpacked, "rb") as stream:
        assert stream.read() == content


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_readable_tarball_damaged(tmp_path, pack):
    whole = pack(os.urandom(10_000))
    for damaged in (whole[:5000], whole[:100] + b"x" * 5000):
        (tmp_path / "a").write_bytes(damaged)
        with pytest.raises(InvalidSpec, match="is damaged") as caught:
            readable_tarball(str(tmp_path / "a"), str(tmp_path), NoRunner())
        assert caught.value.field == "tarball"


def test_readable_tarball_without_room(tmp_path):
    (tmp_path / "a").write_bytes(bz2.compress(b"x"))
    with pytest.raises(CoreError, match="cannot be unpacked") as caught:
        readable_tarball(str(tmp_path / "a"), str(tmp_path / "none"), NoRunner())
    assert "Make room" in caught.value.hint


def test_readable_tarball_zstd(tmp_path):
    (tmp_path / "a").write_bytes(b"\x28\xb5\x2f\xfdxxxx")
    with pytest.raises(MissingDependency, match="zstd"):
        readable_tarball(str(tmp_path / "a"), str(tmp_path), NoRunner())

    class Fails:
        def run(self, argv, **_options):
            return Completed(list(argv), 1, "", "a : Decoding error\n")

    with pytest.raises(CommandError, match="cannot be unpacked: a : Decoding error"):
        readable_tarball(str(tmp_path / "a"), str(tmp_path), Fails())
