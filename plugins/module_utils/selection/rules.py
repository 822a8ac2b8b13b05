# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a policy from plain data and refuse what is malformed.

What single values can be is checked here; how rules relate is for `proofs`.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import quoted
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.automaton import ANY_TEXT, Bank
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.patterns import (
    Kind,
    Pattern,
    glob,
    regex,
)

MAX_RULES = 1_000
MAX_ALTERNATIVES = 200


class Runtime(enum.StrEnum):
    """What can run a container."""

    CRUN = "crun"
    PVE_LXC = "pve-lxc"


#: The runtime handlers of a policy that names none: each runtime by its own name.
DEFAULT_HANDLERS: t.Final[t.Mapping[str, Runtime]] = {runtime.value: runtime for runtime in Runtime}


class Subject(t.NamedTuple):
    """What a condition looks at: a field of the request, for labels and annotations with a key."""

    field: str
    key: str | None = None

    @property
    def is_optional(self) -> bool:
        """Whether a request may lack it: registry and repository are always there."""
        return self.field not in ("registry", "repository")

    def __str__(self) -> str:
        return self.field if self.key is None else f"{self.field.removesuffix('s')} {quoted(self.key)}"


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """Hold when the value matches any of ``patterns``, or is missing and ``absent`` is true."""

    patterns: tuple[Pattern, ...]
    absent: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """Choose ``runtime`` when all conditions hold.

    ``handlers`` None means requests that name no runtime handler; otherwise the rule
    is for requests that name one of them.  ``digest`` None means pinned or not.
    """

    name: str
    runtime: Runtime
    conditions: t.Mapping[Subject, Condition]
    digest: bool | None
    handlers: frozenset[str] | None


@dataclasses.dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A policy whose single values are sound."""

    default: Runtime
    handlers: t.Mapping[str, Runtime]
    rules: tuple[Rule, ...]


_HANDLER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SCALARS = ("registry", "repository", "tag", "namespace")
_MAPPINGS = ("labels", "annotations")
_ANY_VALUE = Pattern(Kind.GLOB, "*", ANY_TEXT)


def read_policy(document: t.Any, field: str) -> PolicyDocument:
    """Read a policy; ``field`` is what errors call it.

    A value of None counts as left out.  Raises InvalidSpec for anything that the
    format does not have.
    """
    data = _table(document, field, ("default", "handlers", "rules"))
    handlers = _read_handlers(data.get("handlers"), f"{field}.handlers")
    default = _runtime(data.get("default", Runtime.CRUN.value), f"{field}.default")
    entries = _sequence(data.get("rules", []), f"{field}.rules")
    if len(entries) > MAX_RULES:
        raise InvalidSpec(f"{field}.rules", f"{len(entries)} rules", hint=f"At most {MAX_RULES} are allowed")
    rules: list[Rule] = []
    places: dict[str, int] = {}
    for number, entry in enumerate(entries):
        rule = _read_rule(entry, f"{field}.rules[{number}]", handlers)
        if rule.name in places:
            raise InvalidSpec(
                f"{field}.rules[{number}].name",
                f"rule {quoted(rule.name)} has the same name as rule {places[rule.name] + 1} of the list",
                hint="Results name the rule that decided, so each needs a name of its own",
            )
        places[rule.name] = number
        rules.append(rule)
    return PolicyDocument(default, handlers, tuple(rules))


def _read_handlers(value: t.Any, field: str) -> t.Mapping[str, Runtime]:
    if value is None:
        return DEFAULT_HANDLERS
    handlers: dict[str, Runtime] = {}
    for name, runtime in _table(value, field).items():
        if not _HANDLER.fullmatch(name):
            raise InvalidSpec(
                field,
                f"{quoted(name)} is no name of a runtime handler",
                hint="Lower case letters, digits and inner dashes, at most 63, as Kubernetes wants them",
            )
        handlers[name] = _runtime(runtime, f"{field}.{name}")
    return handlers


def _read_rule(entry: t.Any, field: str, handlers: t.Mapping[str, Runtime]) -> Rule:
    data = _table(entry, field, ("name", "match", "runtime"))
    for key in ("name", "match", "runtime"):
        if key not in data:
            raise InvalidSpec(f"{field}.{key}", "is missing", hint="A rule has a name, a match and a runtime")
    name = _text(data["name"], f"{field}.name")
    if not name.strip() or len(name) > 200:
        raise InvalidSpec(
            f"{field}.name", f"{quoted(name)} is no name", hint="1 to 200 characters, not blank"
        )
    place = f"{field}.match"
    match = _table(data["match"], place, (*_SCALARS, "digest", *_MAPPINGS, "runtime_handler"))
    conditions: dict[Subject, Condition] = {}
    for key in _SCALARS:
        if key in match:
            conditions[Subject(key)] = _condition(match[key], f"{place}.{key}", Subject(key))
    for key in _MAPPINGS:
        for name_of, value in _table(match.get(key, {}), f"{place}.{key}").items():
            subject = Subject(key, name_of)
            conditions[subject] = _condition(value, f"{place}.{key}.{name_of}", subject)
    digest = match.get("digest")
    if digest is not None and not isinstance(digest, bool):
        raise InvalidSpec(
            f"{place}.digest", f"{quoted(str(digest))} is not a boolean", hint="Use true or false"
        )
    rule_handlers = None
    if "runtime_handler" in match:
        rule_handlers = _matching_handlers(
            match["runtime_handler"], f"{place}.runtime_handler", name, handlers
        )
    if not conditions and digest is None and rule_handlers is None:
        raise InvalidSpec(
            place,
            f"rule {quoted(name)} has no condition",
            hint="Use the policy's 'default' for what no rule matches",
        )
    return Rule(name, _runtime(data["runtime"], f"{field}.runtime"), conditions, digest, rule_handlers)


def _matching_handlers(
    value: t.Any, field: str, rule: str, handlers: t.Mapping[str, Runtime]
) -> frozenset[str]:
    found: set[str] = set()
    for place, item in _alternatives(value, field):
        pattern = _pattern(item, place, Subject("runtime_handler"))
        bank = Bank([pattern.node])
        matching = {name for name in handlers if bank.match(name)}
        if not matching:
            raise InvalidSpec(
                place,
                f"rule {quoted(rule)} can never match: {pattern} matches no runtime handler of the policy",
                hint=f"Known are {', '.join(sorted(handlers)) or 'none'}; add it to 'handlers'",
            )
        found |= matching
    return frozenset(found)


def _condition(value: t.Any, field: str, subject: Subject) -> Condition:
    patterns: list[Pattern] = []
    absent = False
    for place, item in _alternatives(value, field):
        if isinstance(item, t.Mapping) and set(item) == {"exists"}:
            if not subject.is_optional:
                raise InvalidSpec(place, f"every image has a {subject.field}", hint="Give patterns only")
            if not isinstance(item["exists"], bool):
                raise InvalidSpec(f"{place}.exists", "is not a boolean", hint="Use true or false")
            absent = absent or not item["exists"]
            patterns += [_ANY_VALUE] if item["exists"] else []
        else:
            patterns.append(_pattern(item, place, subject))
    return Condition(tuple(dict.fromkeys(patterns)), absent)


def _alternatives(value: t.Any, field: str) -> list[tuple[str, t.Any]]:
    if not isinstance(value, (list, tuple)):
        return [(field, value)]
    if not 1 <= len(value) <= MAX_ALTERNATIVES:
        raise InvalidSpec(
            field,
            f"a list of {len(value)} patterns",
            hint=f"Give 1 to {MAX_ALTERNATIVES}; any of them may match",
        )
    return [(f"{field}[{number}]", item) for number, item in enumerate(value)]


def _pattern(value: t.Any, field: str, subject: Subject) -> Pattern:
    if isinstance(value, t.Mapping):
        kinds = [key for key in value if value[key] is not None]
        if kinds not in (["glob"], ["regex"]):
            raise InvalidSpec(
                field,
                f"a pattern has exactly one of 'glob', 'regex' and 'exists', not {sorted(map(str, kinds))}",
                hint="For example {regex: 'v[0-9]+'}; 'exists' is for what a request may lack",
            )
        if kinds == ["regex"]:
            return regex(_text(value["regex"], f"{field}.regex"), f"{field}.regex")
        value, field = value["glob"], f"{field}.glob"
    return glob(_text(value, field), field, path=subject.field == "repository")


def _table(value: t.Any, field: str, known: t.Sequence[str] | None = None) -> dict[str, t.Any]:
    """Return a mapping without its None values, or refuse it."""
    if not isinstance(value, t.Mapping):
        raise InvalidSpec(field, f"must be a mapping, is {_kind(value)}")
    for key in value:
        if not isinstance(key, str):
            raise InvalidSpec(field, f"the key {key!r} is {_kind(key)}, not text", hint="Put it in quotes")
        if known is not None and key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"Did you mean '{close[0]}'?" if close else f"Known are {', '.join(known)}"
            raise InvalidSpec(f"{field}.{key}", "is not part of a policy", hint=hint)
    return {key: item for key, item in value.items() if item is not None}


def _sequence(value: t.Any, field: str) -> t.Sequence[t.Any]:
    if not isinstance(value, (list, tuple)):
        raise InvalidSpec(field, f"must be a list, is {_kind(value)}")
    return value


def _text(value: t.Any, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidSpec(field, f"must be text, is {_kind(value)}", hint="Put it in quotes")
    return value


def _runtime(value: t.Any, field: str) -> Runtime:
    try:
        return Runtime(value)
    except ValueError as exc:
        known = ", ".join(runtime.value for runtime in Runtime)
        raise InvalidSpec(field, f"{quoted(str(value))} is no runtime", hint=f"Known are {known}") from exc


def _kind(value: t.Any) -> str:
    """Call a value of a wrong type by the name it has in the policy, not in Python."""
    if value is None:
        return "nothing"
    if isinstance(value, (bool, int, float)):
        return f"{'the boolean' if isinstance(value, bool) else 'the number'} {str(value).lower()}"
    names = ((str, "text"), (list, "a list"), (tuple, "a list"), (dict, "a mapping"))
    return next((name for kind, name in names if isinstance(value, kind)), f"a {type(value).__name__}")
