# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read single values of options: texts, pairs, argument vectors."""

from __future__ import annotations

import shlex
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

Params = t.Mapping[str, t.Any]


def text_of(value: t.Any, field: str) -> str:
    """Return a text or a whole number as text.

    YAML turns ``yes``, ``on`` and ``1.10`` into something else before anybody can
    see what was written, so such values are refused rather than guessed.
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    else:
        raise InvalidSpec(
            field, f"{value!r} is not a text", hint="Put the value in quotes, as YAML changed its spelling"
        )
    if "\0" in text:
        raise InvalidSpec(field, "holds a NUL character")
    return text


def pairs_of(values: Params | None, field: str) -> tuple[tuple[str, str], ...]:
    """Return names and values of a dictionary in its order."""
    pairs = []
    for key, value in (values or {}).items():
        name = text_of(key, field)
        if not name:
            raise InvalidSpec(field, "a name is empty")
        pairs.append((name, text_of(value, f"{field}.{name}")))
    return tuple(pairs)


def secret_pairs_of(values: Params | None, field: str) -> tuple[tuple[str, str], ...]:
    """Return names and values like `pairs_of`, with errors that do not show a value."""
    for key, value in (values or {}).items():
        if not isinstance(value, str) and (isinstance(value, bool) or not isinstance(value, int)):
            raise InvalidSpec(f"{field}.{key}", "is not a text", hint="Put the value in quotes")
    return pairs_of(values, field)


def argv_of(value: t.Any, field: str) -> tuple[str, ...] | None:
    """Return an argument vector from a list, or from a text split as a shell would; None for None."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as exc:
            raise InvalidSpec(field, f"cannot be split into words: {exc}", hint="Write a list") from exc
    if not isinstance(value, list):
        raise InvalidSpec(field, f"{value!r} is neither a list nor a text")
    return tuple(text_of(item, f"{field}[{i}]") for i, item in enumerate(value))


def texts_of(values: t.Sequence[t.Any] | None, field: str) -> tuple[str, ...]:
    """Return a list of texts."""
    return tuple(text_of(value, f"{field}[{i}]") for i, value in enumerate(values or ()))
