# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.container import compare as compares
from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import Rule
from ansible_collections.pvecri.runtime.plugins.module_utils.diff import HIDDEN, DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

KNOWN = ("command", "env", "image", "labels")
COLLECTIONS = ("command", "env", "labels")


def compared(actual, desired, rules=None):
    tracker = DifferenceTracker()
    keys = compares.compare(compares.shape(actual), compares.shape(desired), rules or {}, tracker)
    return keys, tracker


@pytest.mark.parametrize(
    ("actual", "desired", "keys", "paths"),
    [
        ({}, {}, [], []),
        ({"cwd": "/"}, {"cwd": "/"}, [], []),
        ({"cwd": "/"}, {"cwd": "/a"}, ["cwd"], ["cwd"]),
        ({"cwd": "/"}, {}, ["cwd"], ["cwd"]),
        ({}, {"cwd": "/a"}, ["cwd"], ["cwd"]),
        ({"env": [["A", "1"], ["B", "2"]]}, {"env": [["B", "2"], ["A", "1"]]}, [], []),
        ({"env": [["A", "1"]]}, {"env": [["A", "2"], ["B", "3"]]}, ["env"], ["env.A", "env.B"]),
        ({"env": [["A", "1"], ["B", "2"]]}, {"env": [["B", "2"]]}, ["env"], ["env.A"]),
        ({"env": [["A", "1"]]}, {}, ["env"], ["env.A"]),
        ({"command": ["a", "b"]}, {"command": ["b", "a"]}, ["command"], ["command"]),
        (
            {"mounts": [{"kind": "bind", "destination": "/a", "source": "/x"}]},
            {"mounts": [{"kind": "bind", "destination": "/a", "source": "/y"}]},
            ["mounts"],
            ["mounts./a"],
        ),
        (
            {"mounts": [{"kind": "tmpfs", "destination": "/a"}, {"kind": "tmpfs", "destination": "/b"}]},
            {"mounts": [{"kind": "tmpfs", "destination": "/b"}, {"kind": "tmpfs", "destination": "/a"}]},
            [],
            [],
        ),
        (
            {"resources": {"memory_bytes": 1, "unified": [["a.b", "1"]]}},
            {"resources": {"memory_bytes": 2, "unified": [["a.b", "2"]]}},
            ["resources"],
            ["resources.memory_bytes", "resources.unified"],
        ),
        (
            {"resources": {"io_limits": [{"device": "/dev/a"}, {"device": "/dev/b"}]}},
            {"resources": {"io_limits": [{"device": "/dev/b"}, {"device": "/dev/a"}]}},
            [],
            [],
        ),
        ({"security": {"privileged": True}}, {}, ["security"], ["security.privileged"]),
        ({"published_ports": [{"key": "k", "p": 1}]}, {}, ["published_ports"], ["published_ports.k"]),
        # A value that changes its kind is one difference.
        ({"odd": {"a": 1}}, {"odd": "text"}, ["odd"], ["odd"]),
    ],
)
def test_compare(actual, desired, keys, paths):
    found, tracker = compared(actual, desired)
    assert found == keys
    assert tracker.keys() == paths


@pytest.mark.parametrize(
    ("actual", "desired", "differs"),
    [
        ({"env": [["A", "1"], ["B", "2"]]}, {"env": [["A", "1"]]}, False),
        ({"env": [["A", "1"]]}, {"env": [["A", "2"]]}, True),
        ({"env": [["A", "1"]]}, {}, False),
        ({}, {"env": [["A", "1"]]}, True),
        ({"command": ["a", "b"]}, {"command": ["b"]}, False),
        ({"command": ["a", "b"]}, {"command": ["c"]}, True),
        ({"command": ["a"]}, {}, False),
        ({}, {"command": ["c"]}, True),
    ],
)
def test_compare_allow_more_present(actual, desired, differs):
    rules = {"env": Rule.ALLOW_MORE_PRESENT, "command": Rule.ALLOW_MORE_PRESENT}
    keys, tracker = compared(actual, desired, rules)
    assert bool(keys) is differs
    assert bool(tracker) is differs


def test_compare_wildcard_is_for_keys_without_a_rule():
    rules = {"*": Rule.IGNORE, "cwd": Rule.STRICT}
    keys, _tracker = compared({"cwd": "/", "user": "a"}, {"cwd": "/b", "user": "b"}, rules)
    assert keys == ["cwd"]


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        (
            {"secret_env": [["T", {"sha256": "a1"}]]},
            {"secret_env": [["T", {"sha256": "b2"}]]},
            ["secret_env.T"],
        ),
        ({"secret_env": [["T", {"sha256": "a1"}]]}, {}, ["secret_env.T"]),
        ({}, {"secret_env": [["T", {"sha256": "b2"}]]}, ["secret_env.T"]),
        ({"env": [["T", "open"]]}, {"secret_env": [["T", {"sha256": "b2"}]]}, ["secret_env.T", "env.T"]),
    ],
)
def test_compare_shows_no_secret(before, after, paths):
    _keys, tracker = compared(before, after)
    assert tracker.keys() == paths
    text = str(tracker.as_diff())
    assert "sha256" not in text
    assert HIDDEN in text


def test_compare_shows_no_secret_mount():
    def mount(digest):
        return {"mounts": [{"kind": "secret", "destination": "/s", "content": {"sha256": digest}}]}

    keys, tracker = compared(mount("a1"), mount("b2"))
    assert keys == ["mounts"]
    assert tracker.as_diff() == {
        "before": {"mounts./s": HIDDEN},
        "after": {"mounts./s": HIDDEN + " (changed)"},
    }


@pytest.mark.parametrize(
    ("comparisons", "rules"),
    [
        (None, {}),
        ({"env": "allow_more_present"}, {"env": Rule.ALLOW_MORE_PRESENT}),
        ({"*": "ignore", "image": "strict"}, {"*": Rule.IGNORE, "image": Rule.STRICT}),
    ],
)
def test_parse_rules(comparisons, rules):
    assert compares.parse_rules(comparisons, KNOWN, COLLECTIONS) == rules


@pytest.mark.parametrize(
    ("comparisons", "field", "hint"),
    [
        ({"envv": "strict"}, "comparisons.envv", "command, env, image, labels"),
        ({"env": "loose"}, "comparisons.env", "strict, ignore, allow_more_present"),
        ({"image": "allow_more_present"}, "comparisons.image", "command, env, labels"),
        ({"*": "allow_more_present"}, "comparisons.*", "command, env, labels"),
    ],
)
def test_parse_rules_refused(comparisons, field, hint):
    with pytest.raises(InvalidSpec) as caught:
        compares.parse_rules(comparisons, KNOWN, COLLECTIONS)
    assert caught.value.field == field
    assert hint in str(caught.value)
