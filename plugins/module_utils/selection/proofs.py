# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse rules that can never match, and rules that contradict one another.

Only what is proven is refused.  Proven is

- that no registry, repository, tag or namespace there can be matches a pattern,
- that a condition on Docker Hub's repositories asks for one without a namespace,
- that a tag is forbidden and a digest too, though an image has one of them,
- that one earlier rule accepts every request that a later one accepts.

A rule that several earlier ones cover only together is not noticed, nor is one
whose proof would take too long.
"""

from __future__ import annotations

import functools
import math
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import (
    DEFAULT_REGISTRY,
    MAX_NAME,
    MAX_TAG,
    quoted,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.automaton import (
    ANY_CHAR,
    ANY_TEXT,
    Bank,
    Node,
    Repeat,
    SearchLimit,
    bits,
    literal,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.index import SubjectIndex
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.patterns import Kind, Pattern, regex
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import Condition, Rule, Subject

_HOST = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_PORT = r":[0-9]{1,5}"
_COMPONENT = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"


def _grammar(text: str) -> Node:
    return regex(text, "grammar").node


#: What the values of a request can be once its image is normalised; never less than that.
_POSSIBLE: t.Final[t.Mapping[str, Node]] = {
    "registry": _grammar(
        rf"(localhost|{_HOST}(\.{_HOST})+|\[[0-9a-f:.]+\])({_PORT})?|{_HOST}{_PORT}",
    ),
    "repository": _grammar(rf"{_COMPONENT}(/{_COMPONENT})*"),
    "tag": _grammar(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"),
    "namespace": Repeat(ANY_CHAR, 1, None),
    "labels": ANY_TEXT,
    "annotations": ANY_TEXT,
}
_ON_DOCKER_HUB = _grammar(rf"{_COMPONENT}(/{_COMPONENT})+")
_NEVER: t.Final[t.Mapping[str, Node]] = {"registry": literal("index.docker.io")}
_LONGEST: t.Final[t.Mapping[str, int]] = {"registry": MAX_NAME, "repository": MAX_NAME, "tag": MAX_TAG}

_ALLOWED: t.Final[t.Mapping[str, str]] = {
    "registry": (
        "A registry is a host in lower case with a dot or a port, or 'localhost'; "
        "Docker Hub is always 'docker.io'"
    ),
    "repository": (
        "A repository is a path of lower case components without registry and tag; "
        "'*' stays within one component, '**/' spans any number"
    ),
    "tag": f"A tag has 1 to {MAX_TAG} letters, digits, '_', '.' and '-', and starts with neither '.' nor '-'",
    "namespace": "A namespace is not empty; use {exists: false} for requests without one",
}

#: Possible values for a rule that has no condition, to see quickly that another one does not cover it.
_SAMPLES: t.Final[t.Mapping[str, tuple[str | None, ...]]] = {
    "registry": ("docker.io", "localhost:1"),
    "repository": ("library/a", "b"),
    "tag": (None, "latest"),
    "namespace": (None, "~"),
    "labels": (None, "~"),
    "annotations": (None, "~"),
}


def check_rules(rules: t.Sequence[Rule], indexes: t.Mapping[Subject, SubjectIndex], *, field: str) -> None:
    """Raise InvalidSpec, naming the rule, when one of ``rules`` provably never decides."""
    for number, rule in enumerate(rules):
        place = f"{field}.rules[{number}]"
        _check_values(rule, place)
        _check_docker_hub(rule, place)
        _check_tag_or_digest(rule, place)
        for earlier in bits(_candidates(rule, number, indexes)):
            if _covers(rules[earlier], rule):
                raise _shadowed(rule, rules[earlier], place)


def _check_values(rule: Rule, place: str) -> None:
    for subject, condition in rule.conditions.items():
        for pattern in condition.patterns:
            if _example(subject.field, pattern) is _IMPOSSIBLE:
                where = subject.field if subject.key is None else f"{subject.field}.{subject.key}"
                raise InvalidSpec(
                    f"{place}.match.{where}",
                    f"rule {quoted(rule.name)} can never match by {pattern}: there is no such {subject}",
                    hint=_ALLOWED.get(subject.field),
                )


def _check_docker_hub(rule: Rule, place: str) -> None:
    registry, repository = (
        rule.conditions.get(Subject("registry")),
        rule.conditions.get(Subject("repository")),
    )
    if registry is None or repository is None:
        return
    hub = Condition((Pattern(Kind.GLOB, DEFAULT_REGISTRY, literal(DEFAULT_REGISTRY)),))
    if not _implies("registry", registry, hub):
        return
    bank = Bank([_ON_DOCKER_HUB, *(pattern.node for pattern in repository.patterns)])
    try:
        found = bank.shortest(required=1, one_of=_mask(1, len(repository.patterns)))
    except SearchLimit:
        return
    if found is None:
        raise InvalidSpec(
            f"{place}.match.repository",
            f"rule {quoted(rule.name)} can never match: "
            f"no repository on {DEFAULT_REGISTRY} matches {' or '.join(map(str, repository.patterns))}",
            hint="Repositories there have a namespace; that of 'nginx' is 'library/nginx'",
        )


def _check_tag_or_digest(rule: Rule, place: str) -> None:
    tag = rule.conditions.get(Subject("tag"))
    if tag is not None and not tag.patterns and rule.digest is False:
        raise InvalidSpec(
            f"{place}.match.digest",
            f"rule {quoted(rule.name)} can never match: it wants an image without tag and without digest",
            hint="An image without both gets the tag 'latest'",
        )


def _shadowed(rule: Rule, earlier: Rule, place: str) -> InvalidSpec:
    names = f"rule {quoted(rule.name)}", f"rule {quoted(earlier.name)}"
    if _covers(rule, earlier) and rule.runtime != earlier.runtime:
        return InvalidSpec(
            place,
            f"{names[0]} contradicts {names[1]} before it: "
            f"both match the same requests, one for {rule.runtime}, the other for {earlier.runtime}",
            hint="Remove one of them, or change its match",
        )
    return InvalidSpec(
        place,
        f"{names[0]} can never match: {names[1]} before it matches every request that it matches",
        hint="Put it before the other, narrow the other's match, or remove it",
    )


def _candidates(rule: Rule, number: int, indexes: t.Mapping[Subject, SubjectIndex]) -> int:
    """Return the earlier rules that accept all examples of what ``rule`` accepts: few are left to prove."""
    candidates = _mask(0, number)
    for subject, index in indexes.items():
        condition = rule.conditions.get(subject)
        values: t.Iterable[str | None] = _SAMPLES[subject.field]
        if condition is not None:
            examples = (_example(subject.field, pattern) for pattern in condition.patterns)
            values = [example for example in examples if isinstance(example, str)]
            values += [None] if condition.absent else []
        for value in values:
            candidates &= index.rules_for(value)
        if not candidates:
            break
    return candidates


def _covers(general: Rule, special: Rule) -> bool:
    """Say whether ``general`` provably accepts every request that ``special`` accepts."""
    if general.digest not in (None, special.digest):
        return False
    if general.handlers is None or special.handlers is None:
        if general.handlers is not special.handlers:
            return False
    elif not special.handlers <= general.handlers:
        return False
    return all(
        _implies(subject.field, special.conditions.get(subject) or _anything(subject), condition)
        for subject, condition in general.conditions.items()
    )


def _anything(subject: Subject) -> Condition:
    return Condition((Pattern(Kind.GLOB, "*", ANY_TEXT),), absent=subject.is_optional)


def _implies(field: str, special: Condition, general: Condition) -> bool:
    if special.absent and not general.absent:
        return False
    if set(special.patterns) <= set(general.patterns):
        return True
    return _included(field, special.patterns, general.patterns)


@functools.lru_cache(maxsize=4096)
def _included(field: str, inner: tuple[Pattern, ...], outer: tuple[Pattern, ...]) -> bool:
    """Say whether every possible value that ``inner`` matches is matched by ``outer``."""
    if all(pattern.is_exact for pattern in inner):
        all_outer = Bank([pattern.node for pattern in outer])
        return all(all_outer.match(pattern.text) for pattern in inner)
    nodes = [_POSSIBLE[field], *(pattern.node for pattern in (*inner, *outer))]
    never = _NEVER.get(field)
    bank = Bank([*nodes, never] if never else nodes)
    first_outer = 1 + len(inner)
    last = len(nodes) + (never is not None)
    try:
        return (
            bank.shortest(
                required=1, one_of=_mask(1, len(inner)), forbidden=_mask(first_outer, last - first_outer)
            )
            is None
        )
    except SearchLimit:
        return False


class _Impossible:
    """The answer that no value matches."""


_IMPOSSIBLE: t.Final = _Impossible()


@functools.lru_cache(maxsize=4096)
def _example(field: str, pattern: Pattern) -> str | _Impossible | None:
    """Return a shortest possible value that ``pattern`` matches; None if none was found in time."""
    if pattern.is_exact:
        is_possible = _possible(field).match(pattern.text) == 1 and len(pattern.text) <= _longest(field)
        return pattern.text if is_possible else _IMPOSSIBLE
    never = _NEVER.get(field)
    nodes = [_POSSIBLE[field], pattern.node]
    bank = Bank([*nodes, never] if never else nodes)
    try:
        found = bank.shortest(required=0b11, forbidden=0b100 if never else 0)
    except SearchLimit:
        return None
    return _IMPOSSIBLE if found is None or len(found) > _longest(field) else found


@functools.cache
def _possible(field: str) -> Bank:
    """Return a bank whose first bit says that a value can be, and whose second that it can not after all."""
    never = _NEVER.get(field)
    return Bank([_POSSIBLE[field], never] if never else [_POSSIBLE[field]])


def _longest(field: str) -> float:
    return _LONGEST.get(field, math.inf)


def forget_proofs() -> None:
    """Drop what earlier policies left in the caches, to free memory or to take times."""
    _included.cache_clear()
    _example.cache_clear()


def _mask(start: int, count: int) -> int:
    return ((1 << count) - 1) << start
