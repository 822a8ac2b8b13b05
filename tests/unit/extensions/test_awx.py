# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what AWX is given against the role, and bring it to a stand-in for AWX."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

import pytest
import yaml

from ansible_collections.pvecri.runtime.plugins.module_utils.host import preflight
from ansible_collections.pvecri.runtime.tests.support import fake_awx

ROOT = pathlib.Path(__file__).resolve().parents[3]
AWX = ROOT / "extensions/awx"
ROLE = ROOT / "roles/cri_endpoint"
BIN = pathlib.Path(sys.executable).parent

TEMPLATES = yaml.safe_load((AWX / "templates.yml").read_text())["awx_job_templates"]
OPTIONS = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
QUESTIONS = [
    pytest.param(question, id=question["variable"])
    for template in TEMPLATES
    for question in template["survey_spec"]["spec"]
]
#: How each type of a role variable can be asked for (AWX: survey_spec, field "type").
KINDS = {
    "str": {"text", "multiplechoice"},
    "path": {"text"},
    "int": {"integer"},
    "bool": {"multiplechoice"},
    "list": {"multiselect"},
}


def code_of_the_role() -> t.Iterator[tuple[str, str]]:
    """Yield every line of the role that Ansible evaluates."""
    for folder in ("tasks", "vars", "handlers", "templates"):
        for path in sorted((ROLE / folder).iterdir()):
            for line in path.read_text().splitlines():
                if not line.lstrip().startswith("#"):
                    yield path.name, line


def is_tag(line: str, name: str) -> bool:
    """Say whether a line has the name as one of its tags."""
    return line in {f"- {name}", f"tags: [{name}]"}


@pytest.mark.parametrize("question", QUESTIONS)
def test_question_is_about_a_variable_of_the_role(question: dict[str, t.Any]) -> None:
    option = OPTIONS[question["variable"]]
    assert question["type"] in KINDS[option["type"]]
    assert set(question) >= {"question_name", "question_description", "required", "default"}


@pytest.mark.parametrize("question", QUESTIONS)
def test_question_has_the_default_of_its_variable(question: dict[str, t.Any]) -> None:
    default = OPTIONS[question["variable"]]["default"]
    if isinstance(default, bool):
        default = str(default).lower()
    elif isinstance(default, list):
        default = "\n".join(default)
    assert question["default"] == default


@pytest.mark.parametrize("question", QUESTIONS)
def test_question_has_the_choices_of_its_variable(question: dict[str, t.Any]) -> None:
    option = OPTIONS[question["variable"]]
    if option["type"] == "bool":
        assert sorted(question["choices"]) == ["false", "true"]
    elif question["variable"] == "cri_endpoint_preflight_ignore":
        assert set(question["choices"]) < set(preflight.CHECKS)
    else:
        assert question.get("choices") == option.get("choices")


@pytest.mark.parametrize("question", [q for q in QUESTIONS if OPTIONS[q.id]["type"] == "bool"])
def test_answer_to_yes_or_no_is_a_text_that_the_role_turns_into_one(question: dict[str, t.Any]) -> None:
    name = question["variable"]
    used = [
        (path, line.strip())
        for path, line in code_of_the_role()
        if re.search(rf"(?<![\w.]){name}\b(?!:)", line)
        and re.search(r"\{[{%]|^\s*(- |when:|or |and |not )", line)
    ]
    wrong = [use for use in used if not re.search(rf"{name} \| bool", use[1]) and not is_tag(use[1], name)]
    assert used
    assert wrong == []


def test_templates_name_playbooks_that_are_there() -> None:
    for template in TEMPLATES:
        (play,) = yaml.safe_load((ROOT / template["playbook"]).read_text())
        namespace, name, playbook = play["ansible.builtin.import_playbook"].split(".")
        assert (namespace, name) == ("pvecri", "runtime")
        assert (ROOT / f"playbooks/{playbook}.yml").is_file()


@pytest.fixture
def awx() -> t.Iterator[fake_awx.FakeAwx]:
    with fake_awx.running() as awx:
        awx.add("organizations", name="Default")
        awx.add("inventories", name="CRI nodes")
        awx.add("credentials", name="ssh of the nodes")
        yield awx


def load(awx: fake_awx.FakeAwx, folder: pathlib.Path, **variables: t.Any) -> str:
    """Run the playbook against the stand-in; returns what it printed, with its exit code first."""
    given = {"awx_credentials": ["ssh of the nodes"], **variables}
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", "localhost,", AWX / "load.yml", "-e", json.dumps(given)],
        env={
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "AWX_URL": awx.url,
            "AWX_TOKEN": os.environ.get("AWX_TOKEN", fake_awx.TOKEN),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


def test_load_makes_all_once_and_then_only_what_differs(
    awx: fake_awx.FakeAwx, tmp_path: pathlib.Path
) -> None:
    printed = load(awx, tmp_path)
    assert printed.startswith("0\n"), printed
    template = awx.named("job_templates", "CRI nodes")
    assert template["project"] == awx.named("projects", "pvecri.runtime")["id"]
    assert template["inventory"] == awx.named("inventories", "CRI nodes")["id"]
    assert awx.credentials[template["id"]] == [awx.named("credentials", "ssh of the nodes")["id"]]
    assert awx.surveys[template["id"]] == TEMPLATES[0]["survey_spec"]
    assert awx.named("execution_environments", "pvecri")["image"] == "pvecri-ee:0.1.0"

    awx.changes.clear()
    printed = load(awx, tmp_path)
    assert printed.startswith("0\n"), printed
    assert awx.changes == []

    awx.surveys[template["id"]] = {"spec": []}
    printed = load(awx, tmp_path, awx_image="registry.example.org/ee:2")
    assert printed.startswith("0\n"), printed
    environment = awx.named("execution_environments", "pvecri")
    assert environment["image"] == "registry.example.org/ee:2"
    assert awx.changes == [
        ("PATCH", f"/api/v2/execution_environments/{environment['id']}/"),
        ("POST", f"/api/v2/job_templates/{template['id']}/survey_spec/"),
    ]


def test_load_says_which_name_awx_lacks(awx: fake_awx.FakeAwx, tmp_path: pathlib.Path) -> None:
    printed = load(awx, tmp_path, awx_inventory="nowhere")
    assert not printed.startswith("0\n")
    assert "AWX has no inventory called 'nowhere'" in printed
