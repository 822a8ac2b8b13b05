# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each stage of the role has a tag of its own, and nothing runs untagged or under another one's."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[4]
STAGES = {
    "preflight": "Refuse a host that cannot be a node",
    "install": "Have this release of the endpoint",
    "configure": "Write the configuration",
    "run": "Wait until the endpoint answers",
    "absent": "Take it away",
}


@pytest.fixture(scope="module")
def listing() -> dict[str, set[str]]:
    """Return the tags of each task of playbooks/site.yml, by name."""
    program = pathlib.Path(sys.executable).parent / "ansible-playbook"
    done = subprocess.run(
        [
            program,
            "-i",
            "localhost,",
            "-e",
            "cri_hosts=localhost",
            "--list-tasks",
            ROOT / "playbooks/site.yml",
        ],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, set[str]] = {}
    for name, tags in re.findall(
        r"^ *pvecri\.runtime\.cri_endpoint : (.*?)\tTAGS: \[(.*)\]$", done.stdout, re.M
    ):
        found.setdefault(name, set()).update(tag.strip() for tag in tags.split(",") if tag.strip())
    assert found
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_stage_has_its_tag(listing, stage):
    assert listing[STAGES[stage]] == {f"cri_endpoint_{stage}"}


def test_no_task_is_without_tag(listing):
    # The check of arguments is Ansible's own, which has the tag always.
    assert [name for name, tags in listing.items() if not tags] == []
    assert listing["Look at the host"] >= {f"cri_endpoint_{stage}" for stage in STAGES} - {
        "cri_endpoint_absent"
    }
    # Packages and configuration depend on it.
    assert listing["Look at Proxmox VE"] >= {
        f"cri_endpoint_{stage}" for stage in ("preflight", "install", "configure", "pve")
    }
    assert listing["Leave it at that"] == {"always"}


def test_removal_is_not_listed_to_who_installs(listing):
    assert "Remove the endpoint itself" not in listing
    tasks = yaml.safe_load((ROOT / "roles/cri_endpoint/tasks/main.yml").read_text())
    [included] = [task["ansible.builtin.include_tasks"] for task in tasks if task["name"] == "Take it away"]
    assert included == {"file": "absent.yml", "apply": {"tags": ["cri_endpoint_absent"]}}
