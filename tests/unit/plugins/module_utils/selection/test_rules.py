# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the reader of policies to its format."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import (
    DEFAULT_HANDLERS,
    Runtime,
    Subject,
    read_policy,
)


def rule(match, **more):
    return {"name": "r", "runtime": "crun", "match": match, **more}


def test_read_policy_fills_in_defaults():
    policy = read_policy({}, "policy")
    assert policy.default is Runtime.CRUN
    assert policy.handlers == DEFAULT_HANDLERS == {"crun": "crun", "pve-lxc": "pve-lxc"}
    assert policy.rules == ()


def test_read_policy_takes_none_as_left_out():
    match = {"tag": "1*", "registry": None, "labels": None, "digest": None, "runtime_handler": None}
    policy = read_policy({"default": None, "handlers": None, "rules": [rule(match)]}, "policy")
    assert list(policy.rules[0].conditions) == [Subject("tag")]
    assert read_policy({"rules": None}, "policy").rules == ()


def test_read_policy_reads_every_condition():
    policy = read_policy(
        {
            "default": "pve-lxc",
            "handlers": {"lxc": "pve-lxc", "runc": "crun", "crun": "crun"},
            "rules": [
                rule(
                    {
                        "registry": "docker.io",
                        "repository": ["a/*", {"regex": "b/.+"}, {"glob": "c"}],
                        "tag": {"exists": False},
                        "digest": True,
                        "namespace": ["n", {"exists": False}, {"exists": True}],
                        "labels": {"app": "x", "tier": {"exists": True}},
                        "annotations": {"example.org/a": {"regex": "y", "glob": None}},
                        "runtime_handler": ["*run*", "lxc"],
                    }
                )
            ],
        },
        "policy",
    )
    assert policy.default is Runtime.PVE_LXC
    read = policy.rules[0]
    assert (read.digest, read.handlers) == (True, {"crun", "runc", "lxc"})
    described = {
        str(subject): ([str(p) for p in condition.patterns], condition.absent)
        for subject, condition in read.conditions.items()
    }
    assert described == {
        "registry": (["glob 'docker.io'"], False),
        "repository": (["glob 'a/*'", "regex 'b/.+'", "glob 'c'"], False),
        "tag": ([], True),
        "namespace": (["glob 'n'", "glob '*'"], True),
        "label 'app'": (["glob 'x'"], False),
        "label 'tier'": (["glob '*'"], False),
        "annotation 'example.org/a'": (["regex 'y'"], False),
    }


@pytest.mark.parametrize(
    ("document", "field", "problem", "hint"),
    [
        ([], "policy", "must be a mapping, is a list", None),
        ("crun", "policy", "must be a mapping, is text", None),
        (None, "policy", "must be a mapping, is nothing", None),
        ({"rule": []}, "policy.rule", "is not part of a policy", "Did you mean 'rules'?"),
        ({"xyz": []}, "policy.xyz", "is not part of a policy", "Known are default, handlers, rules"),
        ({1: []}, "policy", "the key 1 is the number 1, not text", "quotes"),
        ({"default": "docker"}, "policy.default", "'docker' is no runtime", "crun, pve-lxc"),
        ({"default": True}, "policy.default", "'True' is no runtime", "crun, pve-lxc"),
        ({"default": ["crun"]}, "policy.default", "is no runtime", "crun, pve-lxc"),
        ({"handlers": ["crun"]}, "policy.handlers", "must be a mapping, is a list", None),
        ({"handlers": {"x": "y"}}, "policy.handlers.x", "'y' is no runtime", "crun, pve-lxc"),
        ({"handlers": {"X_y": "crun"}}, "policy.handlers", "'X_y' is no name", "Kubernetes"),
        ({"handlers": {"": "crun"}}, "policy.handlers", "'' is no name", "Kubernetes"),
        ({"handlers": {"a" * 64: "crun"}}, "policy.handlers", "is no name", "at most 63"),
        ({"rules": {}}, "policy.rules", "must be a list, is a mapping", None),
        ({"rules": [7]}, "policy.rules[0]", "must be a mapping, is the number 7", None),
        ({"rules": [rule({"tag": "x"})] * 1001}, "policy.rules", "1001 rules", "At most 1000"),
        (
            {"rules": [{"name": "r", "match": {"tag": "x"}}]},
            "policy.rules[0].runtime",
            "missing",
            "has a name",
        ),
        ({"rules": [{"runtime": "crun", "match": {}}]}, "policy.rules[0].name", "missing", "has a name"),
        ({"rules": [{"name": "r", "runtime": "crun"}]}, "policy.rules[0].match", "missing", "has a name"),
        ({"rules": [rule({}, name=5)]}, "policy.rules[0].name", "must be text, is the number 5", "quotes"),
        ({"rules": [rule({}, name=" ")]}, "policy.rules[0].name", "' ' is no name", "not blank"),
        ({"rules": [rule({}, name="n" * 201)]}, "policy.rules[0].name", "is no name", "200"),
        (
            {"rules": [rule({}, priority=1)]},
            "policy.rules[0].priority",
            "is not part",
            "name, match, runtime",
        ),
        ({"rules": [rule({})]}, "policy.rules[0].match", "rule 'r' has no condition", "'default'"),
        (
            {"rules": [rule({"labels": {}})]},
            "policy.rules[0].match",
            "rule 'r' has no condition",
            "'default'",
        ),
        (
            {"rules": [rule({"tag": "x"}, runtime="runc")]},
            "policy.rules[0].runtime",
            "'runc'",
            "crun, pve-lxc",
        ),
        (
            {"rules": [rule({"image": "x"})]},
            "policy.rules[0].match.image",
            "is not part",
            "Known are registry",
        ),
        ({"rules": [rule({"label": {}})]}, "policy.rules[0].match.label", "is not part", "'labels'"),
        (
            {"rules": [rule({"tag": 1})]},
            "policy.rules[0].match.tag",
            "must be text, is the number 1",
            "quotes",
        ),
        ({"rules": [rule({"tag": 1.5})]}, "policy.rules[0].match.tag", "is the number 1.5", "quotes"),
        (
            {"rules": [rule({"tag": ["a", True]})]},
            "policy.rules[0].match.tag[1]",
            "the boolean true",
            "quotes",
        ),
        ({"rules": [rule({"tag": []})]}, "policy.rules[0].match.tag", "a list of 0 patterns", "1 to 200"),
        ({"rules": [rule({"tag": ["a"] * 201})]}, "policy.rules[0].match.tag", "of 201 patterns", "1 to 200"),
        (
            {"rules": [rule({"tag": [["a"]]})]},
            "policy.rules[0].match.tag[0]",
            "must be text, is a list",
            "quotes",
        ),
        ({"rules": [rule({"tag": {}})]}, "policy.rules[0].match.tag", "exactly one of", "regex"),
        ({"rules": [rule({"tag": {"re": "x"}})]}, "policy.rules[0].match.tag", "not ['re']", "regex"),
        (
            {"rules": [rule({"tag": {"regex": "x", "glob": "y"}})]},
            "policy.rules[0].match.tag",
            "not ['glob', 'regex']",
            "regex",
        ),
        (
            {"rules": [rule({"tag": {"regex": 1}})]},
            "policy.rules[0].match.tag.regex",
            "must be text",
            "quotes",
        ),
        ({"rules": [rule({"tag": {"glob": "["}})]}, "policy.rules[0].match.tag.glob", "not closed", "[[]"),
        ({"rules": [rule({"tag": {"regex": "(a"}})]}, "policy.rules[0].match.tag.regex", "not closed", ")"),
        (
            {"rules": [rule({"tag": {"exists": 1}})]},
            "policy.rules[0].match.tag.exists",
            "not a boolean",
            "true",
        ),
        (
            {"rules": [rule({"registry": {"exists": True}})]},
            "policy.rules[0].match.registry",
            "every image has a registry",
            "patterns",
        ),
        (
            {"rules": [rule({"digest": "yes"})]},
            "policy.rules[0].match.digest",
            "'yes' is not a boolean",
            "true",
        ),
        ({"rules": [rule({"labels": ["a"]})]}, "policy.rules[0].match.labels", "is a list", None),
        (
            {"rules": [rule({"labels": {"a": True}})]},
            "policy.rules[0].match.labels.a",
            "boolean true",
            "quotes",
        ),
        ({"rules": [rule({"labels": {1: "x"}})]}, "policy.rules[0].match.labels", "the key 1", "quotes"),
        (
            {"rules": [rule({"runtime_handler": ["crun", "kata*"]})]},
            "policy.rules[0].match.runtime_handler[1]",
            "rule 'r' can never match: glob 'kata*' matches no runtime handler",
            "Known are crun, pve-lxc",
        ),
        (
            {"handlers": {}, "rules": [rule({"runtime_handler": "crun"})]},
            "policy.rules[0].match.runtime_handler",
            "rule 'r' can never match",
            "Known are none",
        ),
        (
            {"rules": [rule({"tag": "a"}), rule({"tag": "b"})]},
            "policy.rules[1].name",
            "rule 'r' has the same name as rule 1 of the list",
            "name of its own",
        ),
    ],
)
def test_read_policy_refuses_with_the_place(document, field, problem, hint):
    with pytest.raises(InvalidSpec) as caught:
        read_policy(document, "policy")
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert hint is None or hint in (caught.value.hint or "")


def test_read_policy_names_an_unforeseen_type():
    with pytest.raises(InvalidSpec, match="is a bytes"):
        read_policy(b"x", "policy")
