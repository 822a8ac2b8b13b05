# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of machine code."""

from __future__ import annotations

import os
import pathlib
import struct
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import elf


@pytest.mark.parametrize("machine", sorted(elf.MACHINES))
def test_static_program_has_one_segment_that_begins_with_its_code(machine: str) -> None:
    content = elf.static_program(machine, b"code")
    assert content.startswith(b"\x7fELF\x02\x01\x01")
    assert content.endswith(b"code")
    entry, at_segments = struct.unpack_from("<QQ", content, 24)
    kind, rights, offset, address, _physical, in_file, in_memory, _align = struct.unpack_from(
        "<IIQQQQQQ", content, at_segments
    )
    assert (kind, rights, offset) == (1, 5, 0)
    assert in_file == in_memory == len(content)
    assert entry == elf.CODE_ADDRESS
    assert content[entry - address :] == b"code"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the code is that of x86-64")
def test_static_program_runs(tmp_path: pathlib.Path) -> None:
    # exit_group(42)
    path = tmp_path / "program"
    path.write_bytes(elf.static_program("x86_64", bytes.fromhex("bf2a000000b8e70000000f05")))
    path.chmod(0o755)
    assert subprocess.run([str(path)], check=False).returncode == 42
