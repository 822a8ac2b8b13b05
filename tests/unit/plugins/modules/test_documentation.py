# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what is documented against what is accepted, for every module of the collection."""

from __future__ import annotations

import importlib
import pathlib
import re
import typing as t

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values

from ansible_collections.pvecri.runtime.plugins.module_utils import ansible_edge
from ansible_collections.pvecri.runtime.plugins.module_utils.options import argument_spec

COLLECTION = "ansible_collections.pvecri.runtime"
ROOT = pathlib.Path(__file__).parents[4]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("[a-z]*.py"))

#: Words in the name of an option that holds something secret, unless it says where such a thing lies.
SECRET_WORDS = {"password", "secret", "token", "totp", "passphrase", "key"}
NOT_SECRET = {"token_id", "api_token_id", "key_file", "ssh_public_keys"}

Json = dict[str, t.Any]


class Called(BaseException):
    """Carry what a module gave to AnsibleModule past every handler."""

    def __init__(self, values: Json) -> None:
        super().__init__()
        self.values = values


def fragment(name: str) -> Json:
    """Return the documentation of ``pvecri.runtime.file[.variable]``."""
    namespace, collection, file, *variable = name.split(".")
    assert (namespace, collection) == ("pvecri", "runtime"), name
    module = importlib.import_module(f"{COLLECTION}.plugins.doc_fragments.{file}")
    text = getattr(module.ModuleDocFragment, variable[0].upper() if variable else "DOCUMENTATION")
    return yaml.safe_load(text)


def documentation(module: t.Any) -> Json:
    """Return DOCUMENTATION with its fragments merged, as ansible-doc does."""
    document = yaml.safe_load(module.DOCUMENTATION)
    options: Json = {}
    for name in document.get("extends_documentation_fragment", []):
        options.update(fragment(name).get("options") or {})
    return {**document, "options": {**options, **(document.get("options") or {})}}


def given_to_ansible(name: str, monkeypatch: pytest.MonkeyPatch) -> Json:
    """Return the arguments of AnsibleModule."""

    def record(**values: t.Any) -> t.NoReturn:
        raise Called(values)

    monkeypatch.setattr(ansible_edge, "AnsibleModule", record)
    module = importlib.import_module(f"{COLLECTION}.plugins.modules.{name}")
    # One that has to run on old hosts does without the edge.
    if hasattr(module, "AnsibleModule"):
        monkeypatch.setattr(module, "AnsibleModule", record)
    with pytest.raises(Called) as called:
        module.main()
    return called.value.values


def differences(documented: Json, accepted: Json, path: str = "") -> t.Iterator[str]:
    """Yield where documentation and argument spec disagree."""
    for name in sorted(documented.keys() ^ accepted.keys()):
        yield f"{path}{name}: only in the {'documentation' if name in documented else 'argument spec'}"
    for name in sorted(documented.keys() & accepted.keys()):
        doc, spec, where = documented[name], accepted[name], f"{path}{name}"
        for key, usual in (
            ("type", "str"),
            ("elements", None),
            ("default", None),
            ("choices", None),
            ("required", False),
            ("aliases", []),
        ):
            if doc.get(key, usual) != spec.get(key, usual):
                yield f"{where}.{key}: documented {doc.get(key, usual)!r}, accepted {spec.get(key, usual)!r}"
        if not doc.get("description"):
            yield f"{where}: no description"
        words = set(name.split("_"))
        if words & SECRET_WORDS and name not in NOT_SECRET and "no_log" not in spec:
            yield f"{where}: sounds secret and says nothing of no_log"
        yield from differences(doc.get("suboptions") or {}, spec.get("options") or {}, f"{where}.")


def names_in(rules: t.Any) -> set[str]:
    """Return the options that rules such as ``mutually_exclusive`` name."""
    return {name for rule in rules or [] for name in rule}


#: How a description says in what a number is counted, or what it is the number of.
UNIT = re.compile(
    r"second|byte|[KMG]iB|CPU|cores|weight|number|port|\bids?\b|lines|how (many|often|likely)|mode|most",
    re.IGNORECASE,
)
#: How it says what holds when the option is not given.
WITHOUT = re.compile(
    r"default|not set|[Uu]nless|[Ww]ithout|[Oo]therwise|[Rr]equired|[Mm]utually exclusive|neither|[Oo]nly"
    r"|needed|empty|built-in"
)


def text_of(entry: Json) -> str:
    """Return a description as one text."""
    text = entry.get("description", "")
    return text if isinstance(text, str) else " ".join(text)


def unsaid(options: Json, said: str = "", path: str = "") -> t.Iterator[str]:
    """Yield options whose description leaves open the unit of a number, or what holds without a value.

    ``said`` is what was said of all of them above.
    """
    for name, entry in options.items():
        text, where = text_of(entry), f"{path}{name}"
        if entry.get("type") in ("int", "float") and not entry.get("choices") and not UNIT.search(text):
            yield f"{where}: no unit"
        parts = entry.get("suboptions") or {}
        is_answered = "default" in entry or entry.get("required") or bool(parts)
        if not is_answered and not WITHOUT.search(f"{text} {said}"):
            yield f"{where}: nothing is said of what holds without it"
        yield from unsaid(parts, f"{said} {text}", f"{where}.")


@pytest.mark.parametrize("name", MODULES)
class TestModule:
    def test_documentation_matches_argument_spec(self, name, monkeypatch):
        module = importlib.import_module(f"{COLLECTION}.plugins.modules.{name}")
        accepted = given_to_ansible(name, monkeypatch)["argument_spec"]
        assert list(differences(documentation(module)["options"], accepted)) == []

    def test_options_say_their_unit_and_default(self, name):
        document = documentation(importlib.import_module(f"{COLLECTION}.plugins.modules.{name}"))
        # Said once for all options where what is not named is not touched.
        kept = [line for line in document["description"] if line.startswith("Only options that are named")]
        assert list(unsaid(document["options"], " ".join(kept))) == []

    def test_rules_name_options_that_exist(self, name, monkeypatch):
        given = given_to_ansible(name, monkeypatch)
        options = given["argument_spec"].keys()
        for rule in ("mutually_exclusive", "required_together", "required_one_of"):
            assert names_in(given.get(rule)) <= options
        for option, value, needed, *_any in given.get("required_if") or []:
            assert {option, *needed} <= options
            assert value in given["argument_spec"][option].get("choices", [value])
        for option, needed in (given.get("required_by") or {}).items():
            assert {option, *([needed] if isinstance(needed, str) else needed)} <= options

    def test_examples_use_options_that_exist(self, name, monkeypatch):
        module = importlib.import_module(f"{COLLECTION}.plugins.modules.{name}")
        given = given_to_ansible(name, monkeypatch)
        tasks = yaml.safe_load(module.EXAMPLES)
        used = [task[f"pvecri.runtime.{name}"] or {} for task in tasks if f"pvecri.runtime.{name}" in task]
        assert used, "there is no example of the module itself"
        for parameters in used:
            templated = {key for key, value in parameters.items() if "{{" in str(value)}
            spec = {
                key: value if key not in templated else {"type": "raw", "no_log": value.get("no_log", False)}
                for key, value in given["argument_spec"].items()
            }
            result = ArgumentSpecValidator(spec, given.get("mutually_exclusive")).validate(dict(parameters))
            assert result.error_messages == []

    def test_header_and_returns_are_complete(self, name):
        module = importlib.import_module(f"{COLLECTION}.plugins.modules.{name}")
        document = yaml.safe_load(module.DOCUMENTATION)
        assert document["module"] == name
        assert document["version_added"] == "0.1.0"
        assert document["short_description"]
        assert not document["short_description"].endswith(".")
        for key, value in (yaml.safe_load(module.RETURN) or {}).items():
            assert {"description", "returned", "type"} <= value.keys(), key


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("container", argument_spec.container_argument_spec()),
        ("source", argument_spec.source_argument_spec()),
    ],
)
def test_fragment_matches_argument_spec(name, spec):
    assert list(differences(fragment(f"pvecri.runtime.{name}")["options"], spec)) == []


def test_differences_sees_every_kind():
    documented = {
        "a": {"type": "int", "description": "x"},
        "b": {"description": "x", "suboptions": {"c": {"description": "x", "default": 1}}},
        "gone": {"description": "x"},
        "api_secret": {"description": "x"},
        "mute": {},
    }
    accepted = {
        "a": {"type": "str"},
        "b": {"options": {"c": {"default": 2}}},
        "new": {},
        "api_secret": {"type": "str"},
        "mute": {},
    }
    found = "\n".join(differences(documented, accepted))
    for part in ("a.type", "b.c.default", "gone: only", "new: only", "api_secret: sounds", "mute: no desc"):
        assert part in found


def test_unsaid_sees_what_is_missing():
    options = {
        "size": {"type": "int", "description": "How large it is.", "default": 1},
        "limit": {"type": "int", "description": ["Most memory, in bytes.", "If not set, there is none."]},
        "word": {"description": "Something."},
        "parts": {"description": "Parts.", "suboptions": {"first": {"description": "One."}}},
        "more": {
            "description": "What is not set is not limited.",
            "suboptions": {"first": {"description": "x"}},
        },
    }
    assert list(unsaid(options)) == [
        "size: no unit",
        "word: nothing is said of what holds without it",
        "parts.first: nothing is said of what holds without it",
    ]


@pytest.mark.parametrize(
    ("spec", "secrets"),
    [
        (argument_spec.container_argument_spec(), {"hunter2", "hunter3"}),
        (argument_spec.source_argument_spec(), {"hunter4"}),
    ],
)
def test_shared_options_hide_secrets(spec, secrets):
    parameters = {
        "secret_env": {"A": "hunter2"},
        "mounts": [{"type": "secret", "destination": "/s", "secret": "hunter3"}],
        "image": "nginx",
        "pull": {"username": "me", "password": "hunter4"},
    }
    mine = {key: value for key, value in parameters.items() if key in spec}
    result = ArgumentSpecValidator(spec).validate(mine)
    assert result.error_messages == []
    shown = str(remove_values(result.validated_parameters, result._no_log_values))
    assert secrets <= result._no_log_values
    assert not any(secret in shown for secret in secrets)
