# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what tells one content of a path from another."""

from __future__ import annotations

import os

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.images.local import (
    file_state,
    local_state,
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
