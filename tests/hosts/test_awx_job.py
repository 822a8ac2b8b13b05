# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the job template of AWX against hosts, through ansible-runner in an isolated folder.

PVECRI_HOSTS_INVENTORY names an inventory as ``scripts/hosts inventory`` prints it, PVECRI_TARBALL the built
collection.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import typing as t

import pytest
import yaml

from ansible_collections.pvecri.runtime.tests.runner import test_job as runner

ROOT = pathlib.Path(__file__).resolve().parents[2]
AWX = ROOT / "extensions/awx"
TEMPLATES = {
    pathlib.Path(template["playbook"]).name: template
    for template in yaml.safe_load((AWX / "templates.yml").read_text())["awx_job_templates"]
}
LOOK = """\
- name: Look what the job made
  hosts: cri_nodes
  gather_facts: false
  tasks:
    - name: Look
      ansible.builtin.command:
        cmd: pvecri probe --json --pod
      changed_when: false
"""


def answers(playbook: str, **given: t.Any) -> dict[str, t.Any]:
    """Return what AWX passes on when the survey is answered: defaults but for what is given."""
    spec = TEMPLATES[playbook]["survey_spec"]["spec"]
    known = {question["variable"] for question in spec}
    assert known.issuperset(given)
    result: dict[str, t.Any] = {}
    for question in spec:
        value = question["default"]
        if question["type"] == "multiselect":
            value = [choice for choice in value.split("\n") if choice]
        result[question["variable"]] = value
    return {**result, **given}


@pytest.fixture
def job(tmp_path: pathlib.Path) -> runner.Job:
    inventory, tarball = os.environ.get("PVECRI_HOSTS_INVENTORY", ""), os.environ.get("PVECRI_TARBALL", "")
    assert inventory, "PVECRI_HOSTS_INVENTORY is not set: run scripts/test --only hosts"
    assert tarball, "PVECRI_TARBALL is not set: run scripts/test --only hosts"
    folder = tmp_path / "job"
    for name in ("env", "home", "inventory"):
        (folder / name).mkdir(parents=True)
    shutil.copytree(AWX / "project", folder / "project")
    (folder / "project/look.yml").write_text(LOOK)
    (folder / "env/settings").write_text(yaml.safe_dump({"idle_timeout": 1200, "job_timeout": 1800}))
    hosts = json.loads(pathlib.Path(inventory).read_text())["all"]["hosts"]
    groups = {"all": {"hosts": hosts, "children": {"cri_nodes": {"hosts": {name: {} for name in hosts}}}}}
    (folder / "inventory/hosts.json").write_text(json.dumps(groups))
    runner.install_collection(folder, tarball)
    return runner.Job(folder, {}, timeout_s=1800)


@pytest.mark.timeout(7200)
def test_survey_makes_nodes_and_takes_them_away(job: runner.Job) -> None:
    hosts = json.loads((job.folder / "inventory/hosts.json").read_text())["all"]["hosts"]
    # Test hosts have no controllers to give away.
    asked = {"cri_endpoint_preflight_ignore": ["controllers"]}

    job.variables = answers("site.yml", **asked)
    assert runner.changes(job.run("first", "site.yml")) > 0
    looked = [event for event in job.run("look", "look.yml") if event["event"] == "runner_on_ok"]
    assert {event["event_data"]["host"] for event in looked} == set(hosts)
    assert all(json.loads(event["event_data"]["res"]["stdout"])["pod"]["ok"] for event in looked)

    assert runner.changes(job.run("again", "site.yml")) == 0

    job.variables = answers("site.yml", **asked, cri_endpoint_state="absent", cri_endpoint_remove_data="true")
    assert runner.changes(job.run("away", "site.yml")) > 0
    assert runner.changes(job.run("away-again", "site.yml")) == 0
