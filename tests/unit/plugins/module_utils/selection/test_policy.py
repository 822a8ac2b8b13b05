# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide by policies: precedence, defaults, reasons."""

from __future__ import annotations

import concurrent.futures
import pathlib
import re
import tomllib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference
from ansible_collections.pvecri.runtime.plugins.module_utils.selection import index, policy
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import (
    DEFAULT_POLICY,
    Request,
    compile_policy,
    load_policy,
)

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("image", "handler", "runtime", "rule"),
    [
        ("nginx", None, "crun", None),
        ("lxc/debian-12:bookworm", None, "pve-lxc", "lxc-images"),
        ("quay.io/lxc/debian", None, "pve-lxc", "lxc-images"),
        ("quay.io/team/lxc/debian", None, "pve-lxc", "lxc-images"),
        ("quay.io/lxc/debian/web", None, "crun", None),
        ("quay.io/lxc", None, "crun", None),
        ("lxc", None, "crun", None),
        ("mylxc/debian", None, "crun", None),
        ("db-main", None, "pve-lxc", "lxc-images"),
        ("quay.io/db-main", None, "pve-lxc", "lxc-images"),
        ("quay.io/team/db-main:1", None, "pve-lxc", "lxc-images"),
        ("team/vm-x@" + DIGEST, None, "pve-lxc", "lxc-images"),
        ("db-main/web", None, "crun", None),
        ("adb-main", None, "crun", None),
        ("app:db-1", None, "crun", None),
        ("nginx", "", "crun", None),
        ("nginx", "pve-lxc", "pve-lxc", None),
        ("lxc/debian", "crun", "crun", None),
        ("lxc/debian", "", "pve-lxc", "lxc-images"),
    ],
)
def test_select_without_a_policy(image, handler, runtime, rule):
    selection = compile_policy().select(Request(image, runtime_handler=handler))
    assert (selection.runtime, selection.rule) == (runtime, rule)
    assert selection.handler == (handler or None)
    assert selection.image == ImageReference.parse(image)


def test_compile_policy_without_a_policy_compiles_once():
    assert compile_policy() is compile_policy(None)
    assert len(compile_policy(DEFAULT_POLICY).rules) == 1


RULES = {
    "default": "pve-lxc",
    "handlers": {"crun": "crun", "lxc": "pve-lxc"},
    "rules": [
        {"name": "sandboxed", "match": {"runtime_handler": "lxc", "namespace": "sandbox"}, "runtime": "crun"},
        {
            "name": "any-handler",
            "match": {"runtime_handler": "*", "labels": {"force": "lxc"}},
            "runtime": "pve-lxc",
        },
        {"name": "pinned", "match": {"digest": True, "registry": ["quay.io", "*:5000"]}, "runtime": "crun"},
        {"name": "no-tag", "match": {"tag": {"exists": False}}, "runtime": "crun"},
        {"name": "not-pinned", "match": {"digest": False, "tag": "dev*"}, "runtime": "pve-lxc"},
        {
            "name": "labelled",
            "match": {
                "labels": {"a": ["x", "y*"], "b": {"exists": False}},
                "annotations": {"n": {"exists": True}},
            },
            "runtime": "crun",
        },
        {"name": "no-namespace", "match": {"namespace": {"exists": False}, "tag": "v*"}, "runtime": "crun"},
        {"name": "spaces", "match": {"namespace": {"regex": "(dev|test)-\\d+"}}, "runtime": "crun"},
        {"name": "late", "match": {"tag": "v1*"}, "runtime": "crun"},
    ],
}


@pytest.mark.parametrize(
    ("image", "more", "runtime", "rule", "reason"),
    [
        (
            "nginx",
            {"runtime_handler": "lxc", "namespace": "sandbox"},
            "crun",
            "sandboxed",
            "runtime handler is 'lxc' and namespace 'sandbox' matches glob 'sandbox'",
        ),
        (
            "nginx",
            {"runtime_handler": "crun", "labels": {"force": "lxc"}},
            "pve-lxc",
            "any-handler",
            "runtime handler is 'crun' and value 'lxc' of label 'force' matches glob 'lxc'",
        ),
        ("nginx", {"runtime_handler": "lxc"}, "pve-lxc", None, "runtime handler 'lxc' stands for pve-lxc"),
        ("nginx:v1", {"runtime_handler": "crun"}, "crun", None, "runtime handler 'crun' stands for crun"),
        (
            f"reg:5000/a:v1@{DIGEST}",
            {},
            "crun",
            "pinned",
            "registry 'reg:5000' matches glob '*:5000' and image is pinned by digest",
        ),
        (f"nginx@{DIGEST}", {}, "crun", "no-tag", "there is no tag"),
        (
            "nginx:dev1",
            {},
            "pve-lxc",
            "not-pinned",
            "tag 'dev1' matches glob 'dev*' and image is not pinned by digest",
        ),
        (f"nginx:dev1@{DIGEST}", {}, "pve-lxc", None, "no rule matches, the default is pve-lxc"),
        (
            "nginx:1",
            {"labels": {"a": "yes"}, "annotations": {"n": ""}},
            "crun",
            "labelled",
            "value 'yes' of label 'a' matches glob 'y*' and there is no label 'b' "
            "and value '' of annotation 'n' matches glob '*'",
        ),
        ("nginx:1", {"labels": {"a": "yes", "b": ""}, "annotations": {"n": ""}}, "pve-lxc", None, "no rule"),
        ("nginx:1", {"labels": {"a": "yes"}}, "pve-lxc", None, "no rule"),
        ("nginx:1", {"labels": {"a": "no"}, "annotations": {"n": ""}}, "pve-lxc", None, "no rule"),
        ("nginx:v1", {}, "crun", "no-namespace", "tag 'v1' matches glob 'v*' and there is no namespace"),
        ("nginx:v1", {"namespace": ""}, "crun", "no-namespace", "tag 'v1'"),
        (
            "nginx:v1",
            {"namespace": "dev-7"},
            "crun",
            "spaces",
            r"namespace 'dev-7' matches regex '(dev|test)-\\d+'",
        ),
        ("nginx:v1", {"namespace": "prod"}, "crun", "late", "tag 'v1' matches glob 'v1*'"),
        ("nginx", {"namespace": "prod"}, "pve-lxc", None, "no rule matches, the default is pve-lxc"),
    ],
)
def test_select_by_the_first_rule_that_matches(image, more, runtime, rule, reason):
    selection = compile_policy(RULES).select(Request(image, **more))
    assert (selection.runtime, selection.rule) == (runtime, rule)
    assert selection.reason.startswith(reason)


def test_select_takes_a_parsed_reference():
    reference = ImageReference.parse("lxc/debian")
    assert compile_policy().select(Request(reference)).runtime == "pve-lxc"


def test_select_refuses_an_unknown_handler_and_lists_the_known():
    with pytest.raises(InvalidSpec, match=r"'kata' is no runtime handler.*Known are crun, lxc") as caught:
        compile_policy(RULES).select(Request("nginx", runtime_handler="kata"))
    assert caught.value.field == "runtime_handler"
    with pytest.raises(InvalidSpec, match="Known are none"):
        compile_policy({"handlers": {}}).check_handler("crun")


def test_select_refuses_a_malformed_image():
    with pytest.raises(InvalidSpec) as caught:
        compile_policy().select(Request("Nginx"))
    assert caught.value.field == "image"


def test_selection_as_dict():
    assert compile_policy().select(Request("db-x:1", runtime_handler="crun")).as_dict() == {
        "runtime": "crun",
        "runtime_handler": "crun",
        "rule": None,
        "reason": "runtime handler 'crun' stands for crun",
        "image": ImageReference.parse("db-x:1").as_dict(),
    }


def test_request_from_mapping_reads_what_there_is():
    assert Request.from_mapping({"image": "a", "labels": None}) == Request("a")
    data = {
        "image": "a",
        "namespace": "n",
        "labels": {"l": "1"},
        "annotations": {"x": ""},
        "runtime_handler": "h",
    }
    assert Request.from_mapping(data) == Request("a", "n", {"l": "1"}, {"x": ""}, "h")


@pytest.mark.parametrize(
    ("data", "field", "problem"),
    [
        ({}, "image", "is needed"),
        ({"image": ""}, "image", "is needed"),
        ({"image": None}, "image", "is needed"),
        ({"image": 5}, "image", "5 is not text"),
        ({"image": "a", "namespace": True}, "namespace", "True is not text"),
        ({"image": "a", "runtime_handler": ["x"]}, "runtime_handler", "['x'] is not text"),
        ({"image": "a", "labels": {"tier": 1}}, "labels.tier", "1 is not text"),
        ({"image": "a", "annotations": {"x/y": None}}, "annotations.x/y", "None is not text"),
        ({"image": "a", "labels": ["x"]}, "labels", "['x'] is not a mapping"),
    ],
)
def test_request_from_mapping_refuses_other_types(data, field, problem):
    with pytest.raises(InvalidSpec) as caught:
        Request.from_mapping(data)
    assert caught.value.field == field
    assert problem in caught.value.problem


def test_load_policy_compiles_a_file_and_names_it(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text('[[rules]]\nname = "a"\nruntime = "pve-lxc"\nmatch.tag = "a*"\n')
    assert load_policy(str(path)).select(Request("x:ab")).rule == "a"
    path.write_text('[[rules]]\nname = "a"\nruntime = "pve-lxc"\nmatch.tag = "/"\n')
    with pytest.raises(InvalidSpec) as caught:
        load_policy(str(path), field="selection.file")
    assert caught.value.field == "selection.file.rules[0].match.tag"


@pytest.mark.parametrize(
    ("name", "text"), [("p.yaml", ""), ("p.toml", "# a\n"), ("p.json", "{}"), ("p.json", "[]")]
)
def test_load_policy_refuses_an_empty_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidSpec, match="is empty"):
        load_policy(str(tmp_path / name))


def test_select_forgets_old_values_and_still_answers(monkeypatch):
    monkeypatch.setattr(policy, "_KEPT_IMAGES", 3)
    monkeypatch.setattr(index, "_KEPT_VALUES", 3)
    compiled = compile_policy(RULES)
    for number in range(20):
        selection = compiled.select(Request(f"nginx:v1.{number}", namespace=f"dev-{number}"))
        assert selection.rule == "spaces"
        assert selection.image.tag == f"v1.{number}"
    assert len(compiled._images) <= 3


def test_select_by_more_patterns_than_one_bank_holds(monkeypatch):
    monkeypatch.setattr(index, "_BANK_SIZE", 50)
    patterns = [
        [f"exact-{number}", f"glob-{number}-*", {"regex": f"re-{number}-\\d+"}] for number in range(40)
    ]
    rules = [
        {"name": f"r{number}", "match": {"namespace": items}, "runtime": "pve-lxc"}
        for number, items in enumerate(patterns)
    ]
    compiled = compile_policy({"rules": rules})
    assert len(compiled._namespace._banks) > 5
    for number in range(40):
        for namespace in (f"exact-{number}", f"glob-{number}-x", f"re-{number}-7"):
            assert compiled.select(Request("a", namespace=namespace)).rule == f"r{number}"
        assert compiled.select(Request("a", namespace=f"exact-{number}-x")).rule is None


def test_compile_a_long_policy_of_names_in_little_memory():
    names = [f"namespace-number-{number}-of-a-large-cluster" for number in range(3_000)]
    rules = [
        {"name": f"r{start}", "match": {"namespace": names[start : start + 100]}, "runtime": "pve-lxc"}
        for start in range(0, len(names), 100)
    ]
    compiled = compile_policy({"rules": rules})
    assert compiled.select(Request("a", namespace=names[1234])).rule == "r1200"


def test_select_from_many_threads():
    compiled = compile_policy(RULES)

    def work(start):
        return [
            compiled.select(Request(f"quay.io/a/b:v{number}", namespace=f"test-{number}")).rule
            for number in range(start, start + 200)
        ]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert {rule for rules in pool.map(work, range(0, 800, 50)) for rule in rules} == {"spaces"}


def test_select_answers_ten_thousand_requests_like_one_by_one():
    rules = [
        {"name": f"r{number}", "match": {"repository": f"team-{number}/**"}, "runtime": "pve-lxc"}
        for number in range(100)
    ]
    compiled = compile_policy({"rules": rules})
    for number in range(10_000):
        selection = compiled.select(Request(f"quay.io/team-{number % 150}/app-{number}"))
        assert selection.rule == (f"r{number % 150}" if number % 150 < 100 else None)


def test_the_example_of_the_guide_compiles_and_decides():
    guide = pathlib.Path(__file__).parents[5] / "docs/selection.md"
    example = re.search(r"```toml\n(.*?)```", guide.read_text(), re.DOTALL)
    compiled = compile_policy(tomllib.loads(example[1]))
    assert compiled.select(Request("registry.example.org/team/db-main")).rule == "databases"
    assert compiled.select(Request("nginx", runtime_handler="lxc")).runtime == "pve-lxc"
    sandboxed = compiled.select(Request("nginx", runtime_handler="lxc", namespace="sandbox"))
    assert (sandboxed.runtime, sandboxed.rule) == ("crun", "no LXC in the sandbox")
