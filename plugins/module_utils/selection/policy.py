# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which runtime a workload gets, by which rule, and why.

A request that names a runtime handler gets what the policy's ``handlers`` say,
unless a rule that asks for that handler decides otherwise; a request that names
none is decided by the rules that ask for none, the first that matches; what is
left gets the default.  So an explicit choice is never overruled by a rule that
does not speak of it.
"""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference, quoted
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.documents import load_document
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.index import SubjectIndex
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.proofs import check_rules
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import (
    PolicyDocument,
    Rule,
    Runtime,
    Subject,
    read_policy,
)

#: What decides without a policy.  The patterns stand for the end of the repository path:
#: ``lxc/debian`` and ``team/lxc/debian``, ``db-main`` and ``team/db-main``.
DEFAULT_POLICY: t.Final[t.Mapping[str, t.Any]] = {
    "default": "crun",
    "rules": [
        {
            "name": "lxc-images",
            "match": {"repository": ["**/lxc/*", "**/db-*", "**/vm-*"]},
            "runtime": "pve-lxc",
        },
    ],
}

#: Images whose rules are kept; a cluster runs the same images again and again.
_KEPT_IMAGES = 20_000

_NOTHING: t.Final[t.Mapping[str, str]] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What is known of a workload when its runtime is chosen; empty texts count as None."""

    image: str | ImageReference
    namespace: str | None = None
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    annotations: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    runtime_handler: str | None = None

    @classmethod
    def from_mapping(cls, data: t.Mapping[str, t.Any]) -> t.Self:
        """Read a request from plain data; raise InvalidSpec for what is missing or of a wrong type."""
        for key in ("image", "namespace", "runtime_handler"):
            value = data.get(key)
            if value is not None and not isinstance(value, str):
                raise InvalidSpec(key, f"{value!r} is not text", hint="Put it in quotes")
        if not data.get("image"):
            raise InvalidSpec(
                "image", "an image reference is needed", hint="For example 'docker.io/library/nginx:1'"
            )
        return cls(
            data["image"],
            data.get("namespace"),
            _texts(data.get("labels"), "labels"),
            _texts(data.get("annotations"), "annotations"),
            data.get("runtime_handler"),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """The answer; ``rule`` is None when the handler or the default decided, as ``reason`` says."""

    runtime: Runtime
    handler: str | None
    rule: str | None
    reason: str
    image: ImageReference

    def as_dict(self) -> dict[str, t.Any]:
        """Return plain data for a module's result."""
        return {
            "runtime": self.runtime.value,
            "runtime_handler": self.handler,
            "rule": self.rule,
            "reason": self.reason,
            "image": self.image.as_dict(),
        }


class Policy:
    """A compiled policy; threads may share it."""

    def __init__(self, document: PolicyDocument, *, field: str = "policy") -> None:
        self.default = document.default
        self.handlers = document.handlers
        self.rules = document.rules
        subjects = dict.fromkeys(subject for rule in self.rules for subject in rule.conditions)
        self._indexes = {subject: SubjectIndex(subject, self.rules) for subject in subjects}
        check_rules(self.rules, self._indexes, field=field)
        self._by_handler = {
            handler: _mask(_is_for(rule, handler) for rule in self.rules)
            for handler in (None, *self.handlers)
        }
        self._by_digest = {
            pinned: _mask(rule.digest in (None, pinned) for rule in self.rules) for pinned in (True, False)
        }
        self._namespace = self._indexes.get(Subject("namespace"))
        self._by_label = self._keyed("labels")
        self._by_annotation = self._keyed("annotations")
        self._images: dict[str, tuple[ImageReference, int]] = {}

    def select(self, request: Request) -> Selection:
        """Return the runtime of ``request``; raise InvalidSpec for a bad image or an unknown handler."""
        handler = request.runtime_handler or None
        self.check_handler(handler)
        image, rules = self._rules_for_image(request.image)
        rules &= self._by_handler[handler]
        if rules and self._namespace:
            rules &= self._namespace.rules_for(request.namespace or None)
        for key, index in self._by_label:
            rules &= index.rules_for(request.labels.get(key))
        for key, index in self._by_annotation:
            rules &= index.rules_for(request.annotations.get(key))
        if rules:
            rule = self.rules[(rules & -rules).bit_length() - 1]
            return Selection(rule.runtime, handler, rule.name, self._reason(rule, request, image), image)
        if handler:
            runtime = self.handlers[handler]
            return Selection(
                runtime, handler, None, f"runtime handler '{handler}' stands for {runtime}", image
            )
        return Selection(self.default, None, None, f"no rule matches, the default is {self.default}", image)

    def check_handler(self, handler: str | None) -> None:
        """Raise InvalidSpec unless ``handler`` is None or one that the policy knows."""
        if handler is not None and handler not in self.handlers:
            raise InvalidSpec(
                "runtime_handler",
                f"{quoted(handler)} is no runtime handler that is known here",
                hint=f"Known are {', '.join(sorted(self.handlers)) or 'none'}",
            )

    def _keyed(self, field: str) -> list[tuple[str, SubjectIndex]]:
        return [
            (subject.key, index)
            for subject, index in self._indexes.items()
            if subject.field == field and subject.key is not None
        ]

    def _rules_for_image(self, image: str | ImageReference) -> tuple[ImageReference, int]:
        text = image if isinstance(image, str) else image.canonical
        known = self._images.get(text)
        if known is None:
            reference = ImageReference.parse(text)
            rules = self._by_digest[reference.digest is not None]
            for field in ("registry", "repository", "tag"):
                index = self._indexes.get(Subject(field))
                if index is not None:
                    rules &= index.rules_for(getattr(reference, field))
            if len(self._images) >= _KEPT_IMAGES:
                self._images.clear()
            known = self._images[text] = (reference, rules)
        return known

    def _reason(self, rule: Rule, request: Request, image: ImageReference) -> str:
        """Say of each condition of ``rule`` how it was met."""
        reasons = [] if rule.handlers is None else [f"runtime handler is '{request.runtime_handler}'"]
        for subject, condition in rule.conditions.items():
            value = _value(subject, request, image)
            if value is None:
                reasons.append(f"there is no {subject}")
            else:
                pattern = self._indexes[subject].matching(condition, value)
                what = f"value {quoted(value)} of {subject}" if subject.key else f"{subject} {quoted(value)}"
                reasons.append(f"{what} matches {pattern}")
        if rule.digest is not None:
            reasons.append("image is pinned by digest" if rule.digest else "image is not pinned by digest")
        return " and ".join(reasons)


def compile_policy(document: t.Any = None, *, field: str = "policy") -> Policy:
    """Compile a policy given as plain data; without one, the collection's own defaults.

    Raises InvalidSpec that names the place in ``field`` and the rule.
    """
    if document is None:
        return _default_policy()
    return Policy(read_policy(document, field), field=field)


def load_policy(path: str, *, field: str = "policy_file") -> Policy:
    """Compile the policy in a TOML, JSON or YAML file; errors as of `compile_policy` and `load_document`."""
    document = load_document(path, field)
    if not document:
        # An interrupted copy must not silently send everything to the default.
        raise InvalidSpec(
            field, f"{quoted(path)} is empty", hint="A policy has 'default', 'handlers' or 'rules'"
        )
    return compile_policy(document, field=field)


@functools.cache
def _default_policy() -> Policy:
    return Policy(read_policy(DEFAULT_POLICY, "policy"))


def _texts(value: t.Any, field: str) -> t.Mapping[str, str]:
    """Return a mapping of text to text, or refuse it."""
    if not value:
        return _NOTHING
    if not isinstance(value, dict):
        raise InvalidSpec(field, f"{value!r} is not a mapping", hint="Give text for text")
    for name, text in value.items():
        if not isinstance(text, str):
            raise InvalidSpec(f"{field}.{name}", f"{text!r} is not text", hint="Put it in quotes")
    return value


def _mask(flags: t.Iterable[bool]) -> int:
    return sum(flag << number for number, flag in enumerate(flags))


def _is_for(rule: Rule, handler: str | None) -> bool:
    return handler is None if rule.handlers is None else handler in rule.handlers


def _value(subject: Subject, request: Request, image: ImageReference) -> str | None:
    match subject.field:
        case "namespace":
            return request.namespace or None
        case "labels":
            return request.labels.get(subject.key or "")
        case "annotations":
            return request.annotations.get(subject.key or "")
    return t.cast("str | None", getattr(image, subject.field))
