# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have ansible-builder read the execution environment, as far as that goes without a container engine."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILDER = pathlib.Path(sys.executable).parent / "ansible-builder"
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text())
TARBALL = f"pvecri-runtime-{GALAXY['version']}.tar.gz"


def run(*arguments: object, folder: pathlib.Path) -> str:
    done = subprocess.run(
        [BUILDER, *map(str, arguments)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_definition_makes_a_context_with_this_version(tmp_path: pathlib.Path) -> None:
    """`create` checks the definition against ansible-builder's schema."""
    shutil.copytree(ROOT / "extensions/awx", tmp_path / "extensions/awx")
    (tmp_path / TARBALL).write_bytes(b"as ansible-galaxy collection build makes it")
    run("create", "-f", "extensions/awx/execution-environment.yml", "-c", "context", folder=tmp_path)
    context = tmp_path / "context"
    assert (context / f"_build/collections/{TARBALL}").is_file()
    wanted = yaml.safe_load((context / "_build/requirements.yml").read_text())
    assert wanted == {"collections": [{"name": f"/build/collections/{TARBALL}", "type": "file"}]}
    recipe = (context / "Containerfile").read_text()
    assert "COPY _build /build" in recipe
    assert "ansible-core~=2.19.0 ansible-runner~=2.4" in recipe


def test_collection_tells_what_it_needs(tmp_path: pathlib.Path) -> None:
    """`introspect` reads what the image would install for the collection."""
    place = tmp_path / "ansible_collections/pvecri/runtime"
    place.parent.mkdir(parents=True)
    place.symlink_to(ROOT)
    needs = yaml.safe_load(run("introspect", tmp_path, folder=tmp_path).partition("---")[2])
    python = [line.partition(" ")[0] for line in needs["python"]]
    assert python == [
        line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"
    ]
    assert any(line.startswith("openssh-clients [platform:rpm]") for line in needs["system"])
