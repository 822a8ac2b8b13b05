# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the messages of the CRI to the file that they are made from."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[4]
API = ROOT / "roles/cri_endpoint/files/pvecri/api"


@pytest.mark.skipif(shutil.which("protoc") is None, reason="needs protoc (Debian's protobuf-compiler)")
def test_messages_are_what_the_protocol_makes_of_the_definition(tmp_path: pathlib.Path) -> None:
    subprocess.run([str(ROOT / "scripts/protocol"), str(tmp_path)], check=True, stdin=subprocess.DEVNULL)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["cri_pb2.py", "cri_pb2.pyi"]
    for name in made:
        text = (tmp_path / name).read_text()
        assert text == (API / name).read_text(), f"{name} is old: run scripts/protocol"
