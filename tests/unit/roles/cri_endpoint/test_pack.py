# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack a release: the same bytes for the same content, and what the host runs."""

from __future__ import annotations

import importlib.util
import io
import json
import pathlib
import shutil
import subprocess
import tarfile

import pytest
import yaml

import pvecri
from ansible_collections.pvecri.runtime.plugins.module_utils.host import releases

FILES = pathlib.Path(__file__).parents[4] / "roles/cri_endpoint/files"
CORE = "ansible_collections/pvecri/runtime/plugins/module_utils"


def load(name):
    spec = importlib.util.spec_from_file_location(f"role_{name}", FILES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_endpoint_has_the_version_of_its_collection():
    # Upgrades tell releases apart by the one, users install the other.
    assert yaml.safe_load((FILES.parents[2] / "galaxy.yml").read_text())["version"] == pvecri.__version__


pack = load("pack")


@pytest.fixture
def checkout(tmp_path):
    """Return the role's folder for files in a small checkout."""
    files = tmp_path / "collection/roles/cri_endpoint/files"
    for path, text in {
        files / "pvecri/__init__.py": '__version__ = "1.2.3"\n',
        files / "pvecri/sub/a.py": "A = 1\n",
        files / "pvecri/api/cri.proto": "no code",
        files / "bin/pvecri.py": "print()\n",
        files / "bin/pvecri-network.sh": "#!/bin/sh\n",
        tmp_path / "collection/plugins/module_utils/errors.py": "E = 1\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return files


def test_release_has_programs_package_and_core(checkout):
    packed = pack.collect(checkout)
    assert packed.version == "1.2.3"
    assert {path: mode for path, (mode, _data) in packed.files.items()} == {
        "bin/pvecri": 0o755,
        "bin/pvecri-network": 0o755,
        "pvecri/__init__.py": 0o644,
        "pvecri/sub/a.py": 0o644,
        f"{CORE}/errors.py": 0o644,
    }
    assert packed.files["bin/pvecri"][1].startswith(b"#!/usr/bin/python3 -I\n")


def test_name_depends_on_content_alone(checkout):
    first = pack.collect(checkout)
    assert first.release.startswith("1.2.3-")
    for path in checkout.rglob("*.py"):
        path.touch()
        path.chmod(0o600)
    (checkout / "pvecri/sub/__pycache__").mkdir()
    (checkout / "pvecri/sub/__pycache__/a.cpython-311.pyc").write_bytes(b"x")
    again = pack.collect(checkout)
    assert again == first
    assert pack.archive(again) == pack.archive(first)
    (checkout / "pvecri/sub/a.py").write_text("A = 2\n")
    assert pack.collect(checkout).release != first.release
    (checkout / "pvecri/sub/a.py").rename(checkout / "pvecri/sub/b.py")
    (checkout / "pvecri/sub/b.py").write_text("A = 1\n")
    assert pack.collect(checkout).release != first.release


def test_archive_says_nothing_of_who_packed_it(checkout):
    with tarfile.open(fileobj=io.BytesIO(pack.archive(pack.collect(checkout)))) as tar:
        members = tar.getmembers()
    assert {(entry.uid, entry.gid, entry.mtime, entry.uname) for entry in members} == {(0, 0, 0, "")}
    names = [entry.name for entry in members]
    assert names.index("pvecri") < names.index("pvecri/sub") < names.index("pvecri/sub/a.py")


def test_version_must_be_said(checkout):
    (checkout / "pvecri/__init__.py").write_text("")
    with pytest.raises(ValueError, match="does not say its version"):
        pack.collect(checkout)


def test_command_prints_what_it_packs(tmp_path, capsys):
    assert pack.main(["--output", str(tmp_path / "r.tar.gz")]) == 0
    said = json.loads(capsys.readouterr().out)
    packed = pack.collect()
    assert (said["version"], said["release"]) == (pvecri.__version__, packed.release)
    assert (tmp_path / "r.tar.gz").read_bytes() == pack.archive(packed)


def test_installed_program_runs_its_own_release_alone(tmp_path):
    (tmp_path / "r.tar.gz").write_bytes(pack.archive(pack.collect()))
    name = pack.collect().release
    base = tmp_path / "lib/releases"
    releases.unpack(str(tmp_path / "r.tar.gz"), str(base), name)
    (tmp_path / "pvecri").symlink_to(base / name / "bin/pvecri")
    # What lies in the working directory or in the environment is no module of its own.
    (tmp_path / "pvecri.py").write_text("raise SystemExit('mine')\n")
    (tmp_path / "json.py").write_text("raise SystemExit('mine')\n")
    done = subprocess.run(
        [tmp_path / "pvecri", "--version"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"pvecri {pvecri.__version__}\n"
    shutil.rmtree(base / name / "pvecri/config")
    assert subprocess.run([tmp_path / "pvecri"], capture_output=True, check=False).returncode == 1
