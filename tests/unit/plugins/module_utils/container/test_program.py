# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile

from ansible_collections.pvecri.runtime.plugins.module_utils.container import program
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

CORE = program.PACKAGE.replace(".", "/")


def test_build_holds_the_core_without_ansible():
    names = zipfile.ZipFile(io.BytesIO(program.build())).namelist()
    assert {"__main__.py", f"{CORE}/__init__.py", f"{CORE}/model.py", f"{CORE}/crun/driver.py"} <= set(names)
    assert not [name for name in names if "ansible_edge" in name or "__pycache__" in name]
    assert len(names) == len(set(names))


def test_build_is_the_same_every_time():
    assert program.build() == program.build()


def test_build_from_a_zip_file_as_ansible_has_it(tmp_path):
    """What is built from a zip file, where a playbook's task runs from, is what a checkout gives."""
    source = tmp_path / "payload.zip"
    source.write_bytes(program.build())
    code = f"import sys, hashlib; sys.path.insert(0, {str(source)!r})\n"
    code += f"from {program.PACKAGE}.container import program\n"
    code += "sys.stdout.buffer.write(program.build())"
    built = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)
    assert built.stdout == source.read_bytes()


def test_install_writes_once(tmp_path):
    paths = Paths(state_dir=str(tmp_path))
    assert program.install(paths) is True
    before = os.stat(program.program_path(paths)).st_mtime_ns
    assert program.install(paths) is False
    assert os.stat(program.program_path(paths)).st_mtime_ns == before
    with open(program.program_path(paths), "ab") as stream:
        stream.write(b"changed")
    assert program.install(paths) is True
    assert program.program_command(paths) == [sys.executable, program.program_path(paths)]
