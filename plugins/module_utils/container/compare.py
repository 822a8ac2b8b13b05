# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the request that made a container with the request of now, key by key.

Both sides are plain data as `model.to_plain` gives it.  Nothing that the runtime
fills in takes part, so a difference always comes from what somebody wrote.
"""

from __future__ import annotations

import enum
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

Plain = dict[str, t.Any]


class Rule(enum.StrEnum):
    """How one key is compared."""

    STRICT = "strict"
    IGNORE = "ignore"
    ALLOW_MORE_PRESENT = "allow_more_present"


#: Applies to every key that has no rule of its own.
WILDCARD = "*"

#: Keys held as lists of pairs in a request; the order of pairs means nothing.
_PAIRS = frozenset({"env", "secret_env", "labels", "annotations", "sysctls", "etc_hosts"})
#: Keys held as lists of objects, with the field that identifies one.
_KEYED = {"mounts": "destination", "devices": "destination", "rlimits": "kind", "published_ports": "key"}


def shape(request: Plain) -> Plain:
    """Return ``request`` with its lists of pairs and of identified objects as dictionaries.

    That makes order meaningless where it is, and names one entry in a difference:
    ``env.TZ``, ``mounts./data``.
    """
    return {key: _shaped(key, value) for key, value in request.items()}


def _shaped(key: str, value: t.Any) -> t.Any:
    if key in _PAIRS:
        return dict(value)
    if key in _KEYED:
        return {item[_KEYED[key]]: item for item in value}
    if key == "resources":
        shaped = dict(value)
        for name in ("unified", "hugepages"):
            if name in shaped:
                shaped[name] = dict(shaped[name])
        if "io_limits" in shaped:
            shaped["io_limits"] = {item["device"]: item for item in shaped["io_limits"]}
        return shaped
    return value


def parse_rules(
    comparisons: t.Mapping[str, str] | None,
    known: t.Collection[str],
    collections: t.Collection[str],
) -> dict[str, Rule]:
    """Return the rule of each key named in ``comparisons``.

    ``known`` are the keys that may be named and ``collections`` those of them whose
    value is a list or dictionary.  Raises InvalidSpec for any other key, for an
    unknown rule, and for ``allow_more_present`` of a key that holds one value.
    """
    rules: dict[str, Rule] = {}
    for key, text in (comparisons or {}).items():
        field = f"comparisons.{key}"
        if key != WILDCARD and key not in known:
            raise InvalidSpec(
                field,
                "there is no such key to compare",
                hint=f"Use {WILDCARD!r} or one of: {', '.join(sorted(known))}",
            )
        try:
            rule = Rule(text)
        except ValueError as exc:
            raise InvalidSpec(
                field, f"{text!r} is not a comparison", hint=f"Use one of: {', '.join(Rule)}"
            ) from exc
        if rule is Rule.ALLOW_MORE_PRESENT and key not in collections:
            what = "all keys at once" if key == WILDCARD else "a key that holds a single value"
            raise InvalidSpec(
                field,
                f"allow_more_present means nothing for {what}",
                hint=f"It can be used for: {', '.join(sorted(collections))}",
            )
        rules[key] = rule
    return rules


def rule_of(key: str, rules: t.Mapping[str, Rule]) -> Rule:
    """Return the rule for ``key``: its own, else the wildcard's, else strict."""
    return rules.get(key) or rules.get(WILDCARD) or Rule.STRICT


def compare(
    actual: Plain,
    desired: Plain,
    rules: t.Mapping[str, Rule],
    tracker: DifferenceTracker,
) -> list[str]:
    """Record every difference in ``tracker`` and return the top-level keys that differ.

    Both requests are shaped (see `shape`).  Keys come in a stable order: those of
    ``desired`` first.
    """
    secrets = secret_keys(actual) | secret_keys(desired)
    differing = []
    for key in [*desired, *(key for key in actual if key not in desired)]:
        rule = rule_of(key, rules)
        if rule is Rule.IGNORE:
            continue
        allow_more = rule is Rule.ALLOW_MORE_PRESENT
        if _compare_key(
            key, actual.get(key), desired.get(key), allow_more=allow_more, tracker=tracker, secrets=secrets
        ):
            differing.append(key)
    return differing


def _compare_key(
    key: str,
    actual: t.Any,
    desired: t.Any,
    *,
    allow_more: bool,
    tracker: DifferenceTracker,
    secrets: t.Collection[str],
) -> bool:
    if isinstance(actual, dict) or isinstance(desired, dict):
        return _compare_entries(
            key, actual or {}, desired or {}, allow_more=allow_more, tracker=tracker, secrets=secrets
        )
    if allow_more and all(item in (actual or []) for item in desired or []):
        return False
    return tracker.add(key, actual, desired, secret=key in secrets)


def _compare_entries(
    key: str,
    actual: t.Any,
    desired: t.Any,
    *,
    allow_more: bool,
    tracker: DifferenceTracker,
    secrets: t.Collection[str],
) -> bool:
    if not (isinstance(actual, dict) and isinstance(desired, dict)):
        return tracker.add(key, actual, desired, secret=key in secrets)
    names = list(desired)
    if not allow_more:
        names += [name for name in actual if name not in desired]
    differs = False
    for name in names:
        path = f"{key}.{name}"
        differs |= tracker.add(path, actual.get(name), desired.get(name), secret=path in secrets)
    return differs


def secret_keys(shaped: Plain) -> set[str]:
    """Return the paths in a shaped request whose values are secret or derived from a secret.

    The digest of a short secret can be searched for, so it is not shown either.
    """
    found = {f"secret_env.{name}" for name in shaped.get("secret_env", ())}
    for path, mount in shaped.get("mounts", {}).items():
        if mount.get("kind") == "secret":
            found.add(f"mounts.{path}")
    return found
