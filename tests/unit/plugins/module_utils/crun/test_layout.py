# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of files."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout, prepare
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths


@pytest.mark.parametrize("name", ["a", "Z9", "a.b_c-d", "x" * 128])
def test_layout_takes_names_that_can_be_files(name: str) -> None:
    assert Layout(Paths(), name).exit_file == f"/var/lib/pvecri/exits/play/{name}"


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "a/b", "a b", "x" * 129, "a\n", "ä"])
def test_layout_refuses_other_names(name: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        Layout(Paths(), name)
    assert caught.value.field == "name"
    assert caught.value.hint


def test_layout_paths() -> None:
    layout = Layout(Paths(owner=Owner.CRI), "web")
    assert layout.runtime_dir == "/run/pvecri/crun/cri/web"
    assert layout.record == "/var/lib/pvecri/records/cri/web.json"
    assert layout.default_log == "/var/lib/pvecri/logs/cri/web.log"
    assert layout.bundle == "/var/lib/pvecri/bundles/cri/web"
    assert layout.oom_file == "/run/pvecri/monitors/cri/web/oom"
    assert layout.control_fifo == "/run/pvecri/monitors/cri/web/ctl"


def test_socket_path_has_one_length_for_all_names() -> None:
    lengths = {len(Layout(Paths(), name).attach_socket) for name in ("a", "b" * 128)}
    assert len(lengths) == 1
    assert Layout(Paths(), "a").attach_socket != Layout(Paths(), "b").attach_socket


def test_prepare_makes_private_directories(tmp_path: pathlib.Path) -> None:
    paths = Paths(str(tmp_path / "s"), str(tmp_path / "r"))
    prepare(paths)
    prepare(paths)
    for directory in (paths.runtime_root, paths.exits, paths.logs):
        assert os.stat(directory).st_mode & 0o777 == 0o700


def test_prepare_refuses_a_directory_too_long_for_sockets(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidSpec, match="too long") as caught:
        prepare(Paths(str(tmp_path), "/r" * 60))
    assert caught.value.field == "run_dir"
    assert not os.listdir(tmp_path)
