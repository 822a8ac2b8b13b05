# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the directories that a task may name."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.options.paths import paths_from_options


def options(tmp_path: pathlib.Path, **changes: str) -> dict[str, str]:
    return {"state_dir": f"{tmp_path}/s", "run_dir": f"{tmp_path}/r", **changes}


def test_paths_from_options_takes_what_is_there_and_what_is_not(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "s")
    paths = paths_from_options(
        options(tmp_path, state_dir=f"{tmp_path}/link/", run_dir=f"{tmp_path}/a/b/../c")
    )
    assert (paths.state_dir, paths.run_dir) == (f"{tmp_path}/link", f"{tmp_path}/a/c")


@pytest.mark.parametrize("option", ["state_dir", "run_dir"])
@pytest.mark.parametrize("path", ["relative", "/", "/srv/a b", "/srv/a:b", "/srv/a+b"])
def test_paths_from_options_refuses_what_skopeo_would_misread(tmp_path, option, path):
    with pytest.raises(InvalidSpec, match="absolute path") as caught:
        paths_from_options(options(tmp_path, **{option: path}))
    assert caught.value.field == option


@pytest.mark.parametrize("option", ["state_dir", "run_dir"])
@pytest.mark.parametrize("below", ["", "/one", "/one/two"])
def test_paths_from_options_refuses_what_lies_below_a_file(tmp_path, option, below):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "dangling"):
        with pytest.raises(InvalidSpec, match=f"{name}' is no directory") as caught:
            paths_from_options(options(tmp_path, **{option: f"{tmp_path}/{name}{below}"}))
        assert caught.value.field == option
