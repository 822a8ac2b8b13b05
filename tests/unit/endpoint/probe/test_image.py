# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the probe's image."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import struct
import subprocess
import tarfile

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported
from pvecri.probe import image


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_program_is_a_whole_elf_file(machine: str, number: int) -> None:
    data = image.program(machine)
    assert data[:4] == b"\x7fELF"
    assert struct.unpack_from("<HH", data, 16) == (2, number)
    assert struct.unpack_from("<Q", data, 24) == (0x400000 + 120,)
    assert struct.unpack_from("<QQ", data, 64 + 32) == (len(data), len(data))
    assert data.endswith(b"pvecri-probe\n")
    assert len(data) < 256


def test_program_points_to_its_line() -> None:
    code = image.program("aarch64")[120:]
    adr = int.from_bytes(code[4:8], "little")
    assert code[4 + (adr >> 5 & 0x7FFFF) * 4 :] == b"pvecri-probe\n"
    branch = int.from_bytes(code[28:32], "little")
    # To «end», the third word before the line.
    assert 28 + (branch >> 5 & 0x7FFFF) * 4 == len(code) - len(b"pvecri-probe\n") - 12


def test_program_of_a_machine_that_nobody_knows() -> None:
    with pytest.raises(Unsupported, match=r"no program for riscv64\. Give an image"):
        image.program("riscv64")


def test_program_runs(tmp_path: pathlib.Path) -> None:
    machine = os.uname().machine
    path = tmp_path / "probe"
    path.write_bytes(image.program(machine))
    path.chmod(0o755)
    done = subprocess.run([path, "end"], stdout=subprocess.PIPE, timeout=20, check=True)
    assert done.stdout == b"pvecri-probe\n"
    with subprocess.Popen([path], stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"pvecri-probe\n"
        assert waiting.poll() is None
        waiting.terminate()


def test_layout_is_the_same_each_time(tmp_path: pathlib.Path) -> None:
    for name in ("a", "b"):
        image.write_layout(str(tmp_path / name), "x86_64")
    index = (tmp_path / "a" / "index.json").read_bytes()
    assert index == (tmp_path / "b" / "index.json").read_bytes()
    blobs = tmp_path / "a" / "blobs" / "sha256"
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in blobs.iterdir())
    manifest = json.loads((blobs / json.loads(index)["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    with tarfile.open(blobs / manifest["layers"][0]["digest"][7:]) as layer:
        assert [(member.name, member.mode) for member in layer] == [("probe", 0o755)]
