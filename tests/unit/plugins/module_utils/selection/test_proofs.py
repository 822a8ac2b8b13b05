# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse rules that can never match, and no others: tables, and brute force over small worlds."""

from __future__ import annotations

import fnmatch
import itertools
import re

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.selection import automaton
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import Request, compile_policy
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.proofs import forget_proofs

CRUN, LXC = "crun", "pve-lxc"


def policy_of(*matches, runtimes=(CRUN, CRUN, CRUN, CRUN)):
    return {
        "rules": [
            {"name": f"r{number}", "match": match, "runtime": runtime}
            for number, (match, runtime) in enumerate(zip(matches, runtimes, strict=False))
        ]
    }


def refused(document):
    with pytest.raises(InvalidSpec) as caught:
        compile_policy(document)
    return caught.value


@pytest.mark.parametrize(
    ("match", "where"),
    [
        ({"registry": "Quay.io"}, "registry"),
        ({"registry": "quay"}, "registry"),
        ({"registry": "index.docker.io"}, "registry"),
        ({"registry": {"regex": "index\\.docker\\.io"}}, "registry"),
        ({"registry": "https://quay.io"}, "registry"),
        ({"registry": "quay.io/team"}, "registry"),
        ({"registry": "quay.io:port"}, "registry"),
        ({"registry": ["quay.io", "docker"]}, "registry"),
        ({"registry": "a." + "b" * 254}, "registry"),
        ({"repository": "nginx:1"}, "repository"),
        ({"repository": "Team/*"}, "repository"),
        ({"repository": "/nginx"}, "repository"),
        ({"repository": "team/"}, "repository"),
        ({"repository": ""}, "repository"),
        ({"repository": "*@*"}, "repository"),
        ({"repository": {"regex": "team__.+/-x"}}, "repository"),
        ({"tag": ":1"}, "tag"),
        ({"tag": "-*"}, "tag"),
        ({"tag": ".hidden"}, "tag"),
        ({"tag": "v1/*"}, "tag"),
        ({"tag": ""}, "tag"),
        ({"tag": {"regex": "[^\\w]+"}}, "tag"),
        ({"tag": {"regex": "a{129,}"}}, "tag"),
        ({"namespace": ""}, "namespace"),
        ({"namespace": {"regex": "[^\\s\\S]"}}, "namespace"),
        ({"labels": {"app": {"regex": "a[^\\d\\D]b"}}}, "labels.app"),
        ({"annotations": {"x/y": {"regex": "[^\\w\\W]+"}}}, "annotations.x/y"),
    ],
)
def test_check_refuses_a_pattern_that_nothing_can_match(match, where):
    error = refused(policy_of({"tag": "zzz"}, match))
    assert error.field == f"policy.rules[1].match.{where}"
    assert "rule 'r1' can never match by " in error.problem


@pytest.mark.parametrize(
    "match",
    [
        {"registry": "docker.io"},
        {"registry": "*docker.io"},
        {"registry": "localhost"},
        {"registry": "[[]*"},
        {"registry": "reg:5000"},
        {"registry": "?" * 255},
        {"repository": "?" * 200},
        {"repository": "nginx"},
        {"repository": "nginx", "registry": ["docker.io", "quay.io"]},
        {"repository": ["nginx", "library/nginx"], "registry": "docker.io"},
        {"repository": "library/*", "registry": "docker.io"},
        {"tag": {"regex": "a{128}"}},
        {"tag": "*-"},
        {"tag": {"exists": False}, "digest": True},
        {"digest": False},
        {"labels": {"app": ""}},
        {"namespace": "?"},
    ],
)
def test_check_accepts_a_pattern_that_something_can_match(match):
    assert len(compile_policy(policy_of(match)).rules) == 1


@pytest.mark.parametrize(
    ("match", "field", "hint"),
    [
        ({"registry": "docker.io", "repository": "nginx"}, "repository", "'library/nginx'"),
        (
            {"registry": {"regex": "docker[.]io"}, "repository": ["nginx", "redis*"]},
            "repository",
            "'library/nginx'",
        ),
        ({"registry": "*ocker.i[o]", "repository": "*"}, None, None),
        ({"tag": {"exists": False}, "digest": False}, "digest", "'latest'"),
    ],
)
def test_check_refuses_a_combination_that_no_image_has(match, field, hint):
    if field is None:
        assert compile_policy(policy_of(match))
        return
    error = refused(policy_of(match))
    assert error.field == f"policy.rules[0].match.{field}"
    assert "rule 'r0' can never match" in error.problem
    assert hint in error.hint


SHADOWED = [
    ({"tag": "1*"}, {"tag": "1.2*"}),
    ({"tag": "*"}, {"tag": "1", "namespace": "n"}),
    ({"tag": ["2", "1"]}, {"tag": "1"}),
    ({"tag": {"regex": "v[0-9]+"}}, {"tag": "v1"}),
    ({"tag": {"regex": "v[0-9]+"}}, {"tag": {"regex": "v[1-3]+"}}),
    ({"tag": {"regex": "(a|b)*"}}, {"tag": {"regex": "a*b+"}}),
    ({"tag": "[a-z]*"}, {"tag": {"regex": "[a-f][0-9]{3}"}}),
    ({"tag": ["a*", "b*"]}, {"tag": {"regex": "[ab][0-9]+"}}),
    ({"tag": {"exists": True}}, {"tag": "x"}),
    ({"tag": [{"exists": False}, "*"]}, {"namespace": "n"}),
    ({"registry": "*"}, {"namespace": "n"}),
    ({"registry": "*"}, {"registry": "quay.io"}),
    ({"registry": "*.example.com"}, {"registry": "a.example.com", "tag": "1"}),
    ({"registry": {"regex": "[^A-Z]+"}}, {"registry": "*.io"}),
    ({"registry": ["docker.io", "quay.io"]}, {"registry": ["quay.io"], "repository": "a"}),
    ({"repository": "**"}, {"repository": "*"}),
    ({"repository": "**/db-*"}, {"repository": "team/db-*"}),
    ({"repository": "lxc/**"}, {"repository": "lxc/*/x"}),
    ({"repository": {"regex": "[a-z0-9/._-]+"}}, {"repository": "a/**"}),
    ({"repository": "a/**/b"}, {"repository": "a/b"}),
    ({"namespace": "n*"}, {"namespace": ["n1", "n2"]}),
    ({"namespace": ["?*", {"exists": False}]}, {"tag": "x"}),
    ({"namespace": {"exists": True}}, {"namespace": "x"}),
    ({"namespace": {"exists": False}}, {"namespace": {"exists": False}, "tag": "x"}),
    ({"labels": {"a": "*"}}, {"labels": {"a": "x", "b": "y"}}),
    ({"labels": {"a": {"exists": False}}}, {"labels": {"a": {"exists": False}, "b": "x"}}),
    ({"annotations": {"a": "x*"}}, {"annotations": {"a": "xy"}}),
    ({"digest": True}, {"digest": True, "tag": "x"}),
    ({"runtime_handler": "*"}, {"runtime_handler": "crun"}),
    ({"runtime_handler": ["crun", "pve-lxc"]}, {"runtime_handler": "pve-lxc", "tag": "x"}),
]


@pytest.mark.parametrize(("general", "special"), SHADOWED)
def test_check_refuses_what_an_earlier_rule_covers(general, special):
    error = refused(policy_of({"labels": {"other": "rule"}}, general, special))
    assert error.field == "policy.rules[2]"
    assert error.problem == (
        "rule 'r2' can never match: rule 'r1' before it matches every request that it matches"
    )
    assert "Put it before" in error.hint


@pytest.mark.parametrize(("general", "special"), SHADOWED)
def test_check_accepts_the_special_rule_before_the_general_one(general, special):
    assert len(compile_policy(policy_of(special, general, runtimes=(LXC, CRUN))).rules) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"tag": "1"}, {"tag": "1"}),
        ({"tag": ["1", "2"]}, {"tag": ["2", "1"]}),
        ({"tag": "v[12]"}, {"tag": {"regex": "v(1|2)"}}),
        ({"registry": "*"}, {"repository": "**"}),
        ({"repository": {"regex": "[a-z0-9/._-]+"}}, {"repository": "**"}),
        ({"runtime_handler": "crun"}, {"runtime_handler": ["crun"]}),
        ({"labels": {"a": "x"}, "digest": False}, {"digest": False, "labels": {"a": "[x]"}}),
    ],
)
def test_check_calls_it_a_contradiction_when_the_runtimes_differ(first, second):
    error = refused(policy_of(first, second, runtimes=(CRUN, LXC)))
    assert error.field == "policy.rules[1]"
    assert error.problem == (
        "rule 'r1' contradicts rule 'r0' before it: "
        "both match the same requests, one for pve-lxc, the other for crun"
    )
    assert "can never match" in refused(policy_of(first, second)).problem


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"tag": "1.2*"}, {"tag": "1*"}),
        ({"tag": "1"}, {"tag": "1", "runtime_handler": "crun"}),
        ({"tag": "1", "runtime_handler": "crun"}, {"tag": "1", "runtime_handler": "*"}),
        ({"tag": "*"}, {"digest": True}),
        ({"tag": "*"}, {"tag": {"exists": False}}),
        ({"namespace": "*"}, {"tag": "x"}),
        ({"labels": {"a": "*"}}, {"labels": {"b": "*"}}),
        ({"digest": True}, {"tag": "x"}),
        ({"digest": True}, {"digest": False}),
        ({"tag": {"regex": "(a|b)*a"}}, {"tag": {"regex": "(a|b)*"}}),
        ({"repository": "*"}, {"repository": "**"}),
        ({"repository": "**/db-*"}, {"repository": "**/db*"}),
    ],
)
def test_check_accepts_rules_that_still_get_requests(first, second):
    assert len(compile_policy(policy_of(first, second, runtimes=(CRUN, LXC))).rules) == 2


def test_check_gives_up_rather_than_guess(monkeypatch):
    monkeypatch.setattr(automaton, "_SEARCH_LIMIT", 3)
    forget_proofs()
    hard = {"tag": {"regex": "[a-z]{3,60}x"}}
    try:
        assert len(compile_policy(policy_of(hard, {"tag": {"regex": "[a-y]{3,60}x"}})).rules) == 2
        assert compile_policy(policy_of({"registry": "docker.io", "repository": {"regex": "a{9}b{9}c{9}"}}))
    finally:
        forget_proofs()


# A small world for brute force: every request that can be made of these values.
WORLD = {
    "registry": ["docker.io", "localhost", "a.b", "q:1"],
    "repository": ["a", "b", "a/b", "library/a", "db-1", "a/db-1", "a/b/c", "lxc/a"],
    "tag": [None, "1", "1.2", "v1", "v22", "a", "ab"],
    "digest": [True, False],
    "namespace": [None, "n", "nn", "m"],
    "label": [None, "", "x", "xy"],
    "runtime_handler": [None, "crun", "pve-lxc"],
}
GLOBS = {
    "registry": ["*", "docker.io", "*.b", "[!d]*", "?.b", "localhost", "index.docker.io", "A*", "*:1", "?"],
    "repository": ["*", "**", "a", "a/*", "**/a", "a/**", "**/db-*", "library/*", "*/*", "[ab]", "A", "**/*"],
    "tag": ["*", "1*", "v?", "v*", "?", "??", "[a1]*", "-*", "a*b", "1"],
    "namespace": ["*", "n*", "n", "?", "??", "[!n]"],
    "label": ["*", "", "x*", "x", "?", "??", "y*"],
}
REGEXES = {
    "registry": ["[a-z.]+", "[^:]+", "(a|docker)\\..+", "\\d+"],
    "repository": ["[^/]+", "[a-z]+(/[a-z]+)*", ".*a.*", "(a|b)(/.*)?", "[^a-z]"],
    "tag": ["[0-9.]+", "v\\d+", "v\\d", "(a|b)*", ".{2}", "\\W"],
    "namespace": ["n+", "n{2}", "[^n]+", ""],
    "label": ["x?", "x?y?", ".+", "[^\\s\\S]"],
}


def pattern_for(name):
    return st.sampled_from(GLOBS[name]) | st.sampled_from(REGEXES[name]).map(lambda text: {"regex": text})


def alternatives_for(name):
    return st.lists(pattern_for(name), min_size=1, max_size=2) | pattern_for(name)


OPTIONAL = {"exists": st.booleans().map(lambda flag: {"exists": flag})}
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "registry": alternatives_for("registry"),
        "repository": alternatives_for("repository"),
        "tag": alternatives_for("tag") | OPTIONAL["exists"],
        "digest": st.booleans(),
        "namespace": alternatives_for("namespace") | OPTIONAL["exists"],
        "labels": (alternatives_for("label") | OPTIONAL["exists"]).map(lambda value: {"app": value}),
        "runtime_handler": st.sampled_from(["crun", "*", ["crun", "pve-lxc"], "pve*"]),
    },
).filter(bool)
FEW_MATCHES = MATCHES.map(lambda match: dict(itertools.islice(match.items(), 2)))


def path_glob(pattern, parts):
    if not pattern:
        return not parts
    if pattern == ["**"]:
        return bool(parts)
    if pattern[0] == "**":
        return any(path_glob(pattern[1:], parts[skip:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and path_glob(pattern[1:], parts[1:])


def holds(field, value, pattern):
    """Match by the standard library, apart from the code under test."""
    if isinstance(pattern, list):
        return any(holds(field, value, item) for item in pattern)
    if isinstance(pattern, dict) and "exists" in pattern:
        return pattern["exists"] == (value is not None)
    if value is None:
        return False
    if isinstance(pattern, dict):
        return re.fullmatch(pattern["regex"], value, re.ASCII | re.DOTALL) is not None
    if field == "repository":
        return path_glob(pattern.split("/"), value.split("/"))
    return fnmatch.fnmatchcase(value, pattern)


def accepts(match, request):
    if (match.get("runtime_handler") is None) != (request["runtime_handler"] is None):
        return False
    wanted = dict(match)
    if "labels" in wanted:
        wanted["label"] = wanted.pop("labels")["app"]
    if "digest" in wanted and wanted.pop("digest") != request["digest"]:
        return False
    return all(holds(field, request[field], pattern) for field, pattern in wanted.items())


def possible_requests(fields):
    """Yield each request of the world that differs in ``fields``; the others stay as they are."""
    values = [options if name in fields else options[:1] for name, options in WORLD.items()]
    for combination in itertools.product(*values):
        request = dict(zip(WORLD, combination, strict=True))
        has_slash = "/" in request["repository"]
        if (request["tag"] or request["digest"]) and (request["registry"] != "docker.io" or has_slash):
            yield request


def fields_of(document):
    names = set()
    for rule in document["rules"]:
        names |= {"label" if name == "labels" else name for name in rule["match"]}
    return (
        names | {"registry", "tag", "digest"}
        if names & {"registry", "repository", "tag", "digest"}
        else names
    )


def as_request(values):
    digest = "@sha256:" + "0" * 64 if values["digest"] else ""
    tag = f":{values['tag']}" if values["tag"] else ""
    return Request(
        f"{values['registry']}/{values['repository']}{tag}{digest}",
        namespace=values["namespace"],
        labels={} if values["label"] is None else {"app": values["label"]},
        runtime_handler=values["runtime_handler"],
    )


@settings(max_examples=300, deadline=None)
@given(
    st.lists(FEW_MATCHES, min_size=1, max_size=3),
    st.lists(st.sampled_from([CRUN, LXC]), min_size=3, max_size=3),
)
def test_policy_agrees_with_brute_force(matches, runtimes):
    document = policy_of(*matches, runtimes=runtimes)
    rules = document["rules"]
    requests = list(possible_requests(fields_of(document) | {"runtime_handler"}))

    def deciding(request):
        return next((number for number, rule in enumerate(rules) if accepts(rule["match"], request)), None)

    policy, error = None, None
    try:
        policy = compile_policy(document)
    except InvalidSpec as exc:
        error = exc
    if policy is None:
        event("refused: " + ("pattern" if " by " in error.problem else "rule"))
        number = int(re.match(r"policy\.rules\[(\d+)\]", error.field).group(1))
        pattern = re.search(r"can never match by (glob|regex) '(.*)': there", error.problem)
        if pattern:
            wanted = pattern.group(2).replace("\\\\", "\\")
            wanted = {"regex": wanted} if pattern.group(1) == "regex" else wanted
            field = error.field.removesuffix(".app").rpartition(".")[2].replace("labels", "label")
            offending = [request for request in requests if holds(field, request[field], wanted)]
        else:
            offending = [request for request in requests if deciding(request) == number]
        assert offending == [], str(error)
        return
    event("accepted")
    for values in requests:
        number = deciding(values)
        selection = policy.select(as_request(values))
        if number is None:
            assert (selection.rule, selection.runtime) == (None, values["runtime_handler"] or CRUN)
        else:
            assert (selection.rule, selection.runtime) == (rules[number]["name"], runtimes[number])
