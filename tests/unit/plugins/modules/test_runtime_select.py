# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run runtime_select as Ansible does: options in, result out."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.pvecri.runtime.plugins.modules import runtime_select

POLICY = {
    "default": "crun",
    "handlers": {"crun": "crun", "lxc": "pve-lxc"},
    "rules": [
        {"name": "databases", "match": {"repository": "**/db-*", "digest": None}, "runtime": "pve-lxc"},
        {"name": "batch", "match": {"namespace": ["batch", {"regex": "job-.+"}]}, "runtime": "pve-lxc"},
        {
            "name": "edge",
            "match": {"labels": {"tier": "edge"}, "annotations": {"x/y": "*"}},
            "runtime": "pve-lxc",
        },
    ],
}


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("diff", [False, True])
def test_runtime_select_answers_one_request_and_changes_nothing(run_module, check, diff):
    result = run_module("runtime_select", {"image": "quay.io/team/db-main"}, check=check, diff=diff)
    assert result["changed"] is False
    assert "diff" not in result
    assert "selections" not in result
    assert result["selection"] == {
        "runtime": "pve-lxc",
        "runtime_handler": None,
        "rule": "lxc-images",
        "reason": "repository 'team/db-main' matches glob '**/db-*'",
        "image": {
            "canonical": "quay.io/team/db-main:latest",
            "familiar": "quay.io/team/db-main:latest",
            "registry": "quay.io",
            "repository": "team/db-main",
            "tag": "latest",
            "digest": None,
        },
        "error": None,
    }


@pytest.mark.parametrize(
    ("request_", "runtime", "rule"),
    [
        ({"image": "nginx"}, "crun", None),
        ({"image": "db-1"}, "pve-lxc", "databases"),
        ({"image": "nginx", "namespace": "job-1"}, "pve-lxc", "batch"),
        ({"image": "nginx", "labels": {"tier": "edge"}, "annotations": {"x/y": ""}}, "pve-lxc", "edge"),
        ({"image": "nginx", "labels": {"tier": "edge"}}, "crun", None),
        ({"image": "db-1", "runtime_handler": "crun"}, "crun", None),
        ({"image": "nginx", "runtime_handler": "lxc"}, "pve-lxc", None),
    ],
)
def test_runtime_select_answers_the_same_alone_in_a_list_and_from_a_file(
    run_module, tmp_path, request_, runtime, rule
):
    inline = run_module("runtime_select", {"policy": POLICY, **request_})["selection"]
    assert (inline["runtime"], inline["rule"]) == (runtime, rule)
    for name, text in (("p.json", json.dumps(POLICY)), ("p.yaml", yaml.safe_dump(POLICY))):
        path = tmp_path / name
        path.write_text(text)
        listed = run_module("runtime_select", {"policy_file": str(path), "requests": [request_]})
        assert listed["selections"] == [inline]
        assert listed["refused"] == 0


def test_runtime_select_keeps_the_order_of_requests(run_module):
    images = ["nginx", "db-1", "redis", "vm-2", "nginx"]
    result = run_module("runtime_select", {"requests": [{"image": image} for image in images]})
    assert [item["image"]["familiar"] for item in result["selections"]] == [
        f"{image}:latest" for image in images
    ]
    assert [item["runtime"] for item in result["selections"]] == [
        "crun",
        "pve-lxc",
        "crun",
        "pve-lxc",
        "crun",
    ]
    assert "selection" not in result


def test_runtime_select_of_no_requests_is_an_empty_list(run_module):
    assert run_module("runtime_select", {"requests": []})["selections"] == []


@pytest.mark.parametrize(
    ("bad", "field", "text"),
    [
        ({"image": "Nginx"}, "requests[17].image", "lower case: 'nginx'"),
        ({"image": "nginx@sha256:12"}, "requests[17].image", "sha256 has 64"),
        ({"namespace": "x"}, "requests[17].image", "is needed"),
        (
            {"image": "nginx", "runtime_handler": "kata"},
            "requests[17].runtime_handler",
            "Known are crun, pve-lxc",
        ),
        ({"image": "nginx", "labels": {"tier": 1}}, "requests[17].labels.tier", "1 is not text"),
    ],
)
def test_runtime_select_names_the_bad_request(run_module, bad, field, text):
    requests = [{"image": "nginx"}] * 17 + [bad] + [{"image": "redis"}]
    failed = run_module("runtime_select", {"requests": requests})
    assert failed["failed"] is True
    assert failed["field"] == field
    assert failed["error"] == "invalid_spec"
    assert failed["msg"].startswith(f"{field}: ")
    assert text in failed["msg"]
    reported = run_module("runtime_select", {"requests": requests, "on_error": "report"})
    assert reported["refused"] == 1
    assert [item["error"] for item in reported["selections"]] == [None] * 17 + [failed["msg"], None]
    refused = reported["selections"][17]
    assert (refused["runtime"], refused["rule"], refused["image"]) == (None, None, None)
    assert refused["runtime_handler"] == bad.get("runtime_handler")
    assert set(refused) == set(reported["selections"][0])


@pytest.mark.parametrize(
    ("params", "field", "text"),
    [
        ({"image": "Nginx"}, "image", "lower case"),
        ({"image": "", "policy": {}}, "image", "is needed"),
        ({"image": "nginx", "runtime_handler": "kata"}, "runtime_handler", "Known are crun, pve-lxc"),
        ({"image": "a", "policy": {"default": "docker"}}, "policy.default", "Known are crun, pve-lxc"),
        (
            {"image": "a", "policy": {"rules": [*POLICY["rules"], {**POLICY["rules"][0], "name": "again"}]}},
            "policy.rules[3]",
            "rule 'again' can never match: rule 'databases'",
        ),
        (
            {"image": "a", "policy": {"rules": [{"name": "x", "runtime": "crun", "match": {"tag": "a b"}}]}},
            "policy.rules[0].match.tag",
            "rule 'x' can never match",
        ),
        (
            {"image": "a", "on_error": "report", "policy": {"handlers": {"x": "runc"}}},
            "policy.handlers.x",
            "'runc' is no runtime",
        ),
        ({"image": "a", "policy_file": "/nonexistent/p.toml"}, "policy_file", "No such file"),
    ],
)
def test_runtime_select_names_what_is_wrong(run_module, params, field, text):
    failed = run_module("runtime_select", params)
    assert failed["failed"] is True
    assert failed["field"] == field
    assert text in failed["msg"]


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, "one of the following is required: image, requests"),
        ({"image": "a", "requests": []}, "mutually exclusive: image|requests"),
        ({"labels": {"a": "b"}, "requests": []}, "mutually exclusive: labels|requests"),
        ({"image": "a", "policy": {}, "policy_file": "/p.toml"}, "mutually exclusive: policy|policy_file"),
        ({"image": "a", "on_error": "ignore"}, "must be one of: fail, report"),
        ({"image": "a", "policy": {"rules": [{"name": "x", "runtime": "crun"}]}}, "match"),
        ({"image": "a", "policy": {"rule": []}}, "policy.rule"),
    ],
)
def test_runtime_select_refuses_options_that_do_not_fit(run_module, params, text):
    failed = run_module("runtime_select", params)
    assert failed["failed"] is True
    assert text in failed["msg"]


def _documented(options):
    return {
        name: (spec["type"], spec.get("required", False), _documented(spec.get("suboptions", {})))
        for name, spec in options.items()
    }


def _specified(options):
    return {
        name: (spec["type"], spec.get("required", False), _specified(spec.get("options", {})))
        for name, spec in options.items()
    }


def test_runtime_select_documents_exactly_its_options():
    documentation = yaml.safe_load(runtime_select.DOCUMENTATION)
    assert _documented(documentation["options"]) == _specified(runtime_select.ARGUMENT_SPEC)


def test_runtime_select_documents_exactly_what_it_returns(run_module):
    documentation = yaml.safe_load(runtime_select.RETURN)
    single = run_module("runtime_select", {"image": "nginx"})["selection"]
    assert set(single) == set(documentation["selection"]["contains"])
    assert set(single["image"]) == set(documentation["selection"]["contains"]["image"]["contains"])
    several = run_module("runtime_select", {"requests": [{"image": "nginx"}]})
    assert set(documentation) == {"selection", "selections", "refused"}
    assert set(several) - {"changed", "failed", "invocation"} == {"selections", "refused"}


def test_runtime_select_examples_run(run_module):
    tasks = [
        task["pvecri.runtime.runtime_select"]
        for task in yaml.safe_load(runtime_select.EXAMPLES)
        if "pvecri.runtime.runtime_select" in task
    ]
    single, several, checked = (run_module("runtime_select", task) for task in tasks)
    assert single["selection"]["runtime"] == "pve-lxc"
    assert [item["rule"] for item in several["selections"]] == ["databases", "nightly", None]
    assert [item["runtime"] for item in several["selections"]] == ["pve-lxc"] * 3
    assert checked["refused"] == 1
