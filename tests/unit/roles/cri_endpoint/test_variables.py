# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the role's variables together: defaults, argument specs, and where they are used."""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest
import yaml

ROLE = pathlib.Path(__file__).parents[4] / "roles/cri_endpoint"
DEFAULTS_TEXT = (ROLE / "defaults/main.yml").read_text()
SPECS_TEXT = (ROLE / "meta/argument_specs.yml").read_text()
DEFAULTS: dict[str, t.Any] = yaml.safe_load(DEFAULTS_TEXT)
OPTIONS: dict[str, t.Any] = yaml.safe_load(SPECS_TEXT)["argument_specs"]["main"]["options"]
TYPES = {"str": str, "path": str, "bool": bool, "int": int, "float": float, "dict": dict, "list": list}
USERS = [
    path
    for folder in ("tasks", "templates", "vars", "handlers")
    for path in sorted((ROLE / folder).rglob("*"))
    if path.is_file()
]


def sections(text: str) -> list[tuple[str, str]]:
    """Return the variables of a file in their order, each with the comment that it stands under."""
    found, section = [], ""
    for line in text.splitlines():
        if heading := re.fullmatch(r" *# ([A-Z][\w -]+)", line):
            section = heading[1]
        elif name := re.match(r"(?: {6})?(cri_endpoint_\w+):", line):
            found.append((section, name[1]))
    return found


def test_specs_and_defaults_have_the_same_variables():
    assert set(OPTIONS) == set(DEFAULTS)
    assert all(name.startswith("cri_endpoint_") for name in DEFAULTS)


def test_sections_are_the_same_in_both_files():
    without_header = DEFAULTS_TEXT[DEFAULTS_TEXT.index("cri_endpoint_state:") :]
    assert sorted(sections(without_header)) == sorted(
        (section, name) for section, name in sections(SPECS_TEXT[SPECS_TEXT.index("options:") :])
    )


def is_of(value, kind):
    # To Python true and false are numbers, to Ansible they are not.
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_default_is_what_the_specs_say(name):
    option, value = OPTIONS[name], DEFAULTS[name]
    kind = TYPES[option["type"]]
    assert is_of(value, kind), f"{name} is {type(value).__name__}, the specs say {option['type']}"
    assert option.get("required") is not True
    assert option.get("default") == value
    if "choices" in option:
        assert value in option["choices"]
    if kind is list and value and "elements" in option:
        assert all(is_of(item, TYPES[option["elements"]]) for item in value)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_option_is_described(name):
    description = OPTIONS[name]["description"]
    text = description if isinstance(description, str) else " ".join(description)
    assert text.strip().endswith((".", ")."))
    for suffix, unit in (("_s", "second"), ("_mib", "MiB")):
        if name.endswith(suffix) and OPTIONS[name]["type"] == "int":
            assert unit in text


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_variable_is_used(name):
    used = re.compile(rf"\b(?<!_){name}\b")
    assert any(used.search(path.read_text()) for path in USERS)


def test_no_variable_is_used_that_nobody_sets():
    known = set(DEFAULTS)
    for path in USERS:
        known |= set(re.findall(r"^ *(_{0,2}cri_endpoint_\w+):", path.read_text(), re.MULTILINE))
        known |= set(re.findall(r"register: (__cri_endpoint_\w+)", path.read_text()))
        known |= set(re.findall(r"loop_var: (__cri_endpoint_\w+)", path.read_text()))
    for path in USERS:
        text = re.sub(r"^ *#.*$", "", path.read_text(), flags=re.MULTILINE)
        # Hooks that callers may set have a default where they are used.
        text = re.sub(r"\(?\b__cri_endpoint_\w+\)? *\| default", "", text)
        used = set(re.findall(r"\b_{0,2}cri_endpoint_\w+", text))
        stages = set(
            re.findall(
                r"\bcri_endpoint_(?:preflight|install|configure|pve|kubelet|run|images|absent)\b", text
            )
        )
        assert used - known - stages == set(), path


def test_names_of_the_state_that_others_rely_on():
    values = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    assert values["__cri_endpoint_socket"] == "/run/pvecri/pvecri.sock"
    assert values["__cri_endpoint_lib_dir"] == "/usr/lib/pvecri"
