# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load policy files in all three formats, good and bad."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, MissingDependency
from ansible_collections.pvecri.runtime.plugins.module_utils.selection import yaml_documents
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.documents import load_document

TOML = """
default = "crun"
[handlers]
lxc = "pve-lxc"
[[rules]]
name = "databases"
runtime = "pve-lxc"
match.repository = ["**/db-*", { regex = "sql/.+" }]
"""
JSON = """
{"default": "crun", "handlers": {"lxc": "pve-lxc"}, "rules": [{"name": "databases", "runtime": "pve-lxc",
 "match": {"repository": ["**/db-*", {"regex": "sql/.+"}]}}]}
"""
YAML = """
default: crun
handlers: {lxc: pve-lxc}
rules:
  - name: databases
    runtime: pve-lxc
    match:
      repository: ["**/db-*", {regex: sql/.+}]
"""
DATA = {
    "default": "crun",
    "handlers": {"lxc": "pve-lxc"},
    "rules": [
        {
            "name": "databases",
            "runtime": "pve-lxc",
            "match": {"repository": ["**/db-*", {"regex": "sql/.+"}]},
        }
    ],
}


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    ("name", "text"), [("p.toml", TOML), ("p.json", JSON), ("p.yaml", YAML), ("p.yml", YAML), ("P.YML", YAML)]
)
def test_load_document_reads_the_same_from_every_format(tmp_path, name, text):
    assert load_document(written(tmp_path, name, text), "policy_file") == DATA


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("p.conf", "", "does not say its format"),
        ("policy", "", "does not say its format"),
        ("p.toml", "a = ", "is malformed: Invalid value"),
        ("p.toml", "a = 1\na = 2", "is malformed: Cannot overwrite a value"),
        ("p.json", "{", "is malformed: Expecting property name"),
        ("p.json", '{"a": {"x": 1, "x": 2}}', "the key 'x' stands twice"),
        ("p.json", "[" * 200_000, "is malformed"),
        ("p.yaml", "a: [", "is malformed: while parsing"),
        ("p.yaml", "a: 1\n---\nb: 2", "expected a single document"),
        ("p.yaml", "!!python/object:os.system x", "could not determine a constructor"),
        (
            "p.yaml",
            "handlers:\n  lxc: pve-lxc\n  lxc: crun\n",
            "the key 'lxc' stands twice in one mapping (line 3)",
        ),
        ("p.yaml", "- {a: 1, a: 2}", "the key 'a' stands twice"),
        ("p.yaml", "? [x]\n: 1\n", "unhashable"),
        ("p.json", b'{"a": "\xff"}', "is not UTF-8"),
        ("p.json", b" " * ((1 << 20) + 1), "larger than 1048576 bytes"),
    ],
)
def test_load_document_refuses_with_the_reason(tmp_path, name, text, problem):
    with pytest.raises(InvalidSpec) as caught:
        load_document(written(tmp_path, name, text), "policy_file")
    assert caught.value.field == "policy_file"
    assert problem in caught.value.problem


def test_load_document_follows_anchors_once(tmp_path):
    text = "a: &a {x: 1}\nb: [*a, *a]\n"
    assert load_document(written(tmp_path, "p.yml", text), "f") == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1}]}


@pytest.mark.parametrize("name", ["p.yaml", "p.yml"])
def test_load_document_of_an_empty_yaml_file_is_nothing(tmp_path, name):
    assert load_document(written(tmp_path, name, "# nothing\n"), "f") is None


def test_load_document_says_why_a_file_cannot_be_read(tmp_path):
    with pytest.raises(InvalidSpec, match=r"policy_file: .*cannot be read: No such file"):
        load_document(str(tmp_path / "p.toml"), "policy_file")
    (tmp_path / "d.toml").mkdir()
    with pytest.raises(InvalidSpec, match="cannot be read: Is a directory"):
        load_document(str(tmp_path / "d.toml"), "policy_file")


def test_load_document_without_pyyaml_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(yaml_documents, "yaml", None)
    with pytest.raises(MissingDependency, match=r"python3-yaml.*TOML or JSON"):
        load_document(written(tmp_path, "p.yaml", YAML), "policy_file")
    assert load_document(written(tmp_path, "p.json", JSON), "policy_file") == DATA
