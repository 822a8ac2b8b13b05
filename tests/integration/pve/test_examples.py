# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the examples of the documentation as playbooks against a fake cluster."""

from __future__ import annotations

import importlib
import os
import pathlib
import subprocess
import sys

import pytest

MODULES = ("pve_lxc_snapshot", "pve_lxc_backup", "pve_lxc_container_info")
BIN = pathlib.Path(sys.executable).parent


@pytest.fixture
def cluster(pve_cluster):
    """Fill the cluster with what the examples speak of."""
    pve = pve_cluster.pve
    pve.storages["backups"] = {
        "type": "nfs",
        "active": 1,
        "content": "backup",
        "files": set(),
        "shared": 1,
        "volumes": {},
    }
    pve.add_ct(201, "db-1", node="pve1", status="running", config={"tags": "pvecri"})
    pve.add_ct(202, "web-1", node="pve2", status="running", config={"tags": "production"})
    pve_cluster.backups.add("backups", 201, age_s=100)
    return pve_cluster


def run_playbook(text: str, folder: pathlib.Path, environment: dict[str, str]) -> str:
    """Run a playbook on localhost and return what it printed; fails the test if the run fails."""
    (folder / "play.yml").write_text(text)
    collections = next(p for p in sys.path if os.path.isdir(os.path.join(p, "ansible_collections", "pvecri")))
    done = subprocess.run(
        [BIN / "ansible-playbook", "-v", "--diff", "play.yml"],
        cwd=folder,
        env={
            "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": collections,
            "ANSIBLE_NOCOLOR": "1",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(cluster, tmp_path, module):
    examples = importlib.import_module(
        f"ansible_collections.pvecri.runtime.plugins.modules.{module}"
    ).EXAMPLES
    tasks = "\n".join(f"    {line}" if line.strip() else "" for line in examples.strip().splitlines())
    interpreter = f"ansible_python_interpreter: {sys.executable}"
    play = f"- hosts: localhost\n  gather_facts: false\n  vars:\n    {interpreter}\n  tasks:\n{tasks}\n"
    environment = cluster.environment()
    printed = run_playbook(play, tmp_path, environment)
    assert environment["PVE_TOKEN_SECRET"] not in printed
    assert "failed=0" in printed


def test_connection_options_come_from_the_action_group(cluster, tmp_path):
    options = "\n".join(f"        {name}: {value}" for name, value in cluster.options().items())
    play = f"""
- hosts: localhost
  gather_facts: false
  vars:
    ansible_python_interpreter: {sys.executable}
  module_defaults:
    group/pvecri.runtime.pve:
{options}
  tasks:
    - pvecri.runtime.pve_lxc_snapshot:
        vmid: 201
        snapname: first
    - pvecri.runtime.pve_lxc_container_info:
      register: listed
    - ansible.builtin.assert:
        that: listed.containers | map(attribute='name') | list == ['db-1', 'web-1']
"""
    printed = run_playbook(play, tmp_path, {})
    assert list(cluster.pve.ct(201).snapshots) == ["first"]
    assert cluster.options()["api_token_secret"] not in printed
