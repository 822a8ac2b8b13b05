# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a document against a JSON schema that uses the keywords of ``schema.py``.

The package jsonschema takes a tenth of a second to load, longer than building and
mounting a whole bundle, so the few keywords that are needed are checked here; tests
hold the verdict against jsonschema's.
"""

from __future__ import annotations

import functools
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.problem import Problem, json_path
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.schema_types import Schema

Path = tuple["str | int", ...]

_SHOWN_VALUE: t.Final = 80

_TYPES: t.Final[dict[str, type]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
}


def check_schema(value: t.Any, schema: Schema, path: Path = ()) -> t.Iterator[Problem]:
    """Yield what is wrong with a value, in the order of the document (JSON schema, draft 4)."""
    kind = schema["type"]
    if not _has_type(value, kind):
        yield _problem(path, "type", f"{_shown(value)} is not of type {kind}")
    elif kind == "object":
        yield from _check_object(value, schema, path)
    elif kind == "array":
        if len(value) < schema.get("minItems", 0):
            yield _problem(path, "minItems", f"needs at least {schema['minItems']} elements")
        items = schema["items"]
        for i, item in enumerate(value):
            yield from check_schema(item, items, (*path, i))
    elif kind == "integer":
        if value < schema.get("minimum", value):
            yield _problem(path, "minimum", f"{value} is below {schema['minimum']}")
        if value > schema.get("maximum", value):
            yield _problem(path, "maximum", f"{value} is above {schema['maximum']}")
    elif kind == "string":
        if "enum" in schema and value not in schema["enum"]:
            yield _problem(path, "enum", f"{_shown(value)} is none of {', '.join(schema['enum'])}")
        if "pattern" in schema and not _compiled(schema["pattern"]).search(value):
            yield _problem(path, "pattern", f"{_shown(value)} does not match {schema['pattern']}")


def _has_type(value: t.Any, kind: str) -> bool:
    # Python's True is an int; JSON's true is none.
    return isinstance(value, _TYPES[kind]) and not (kind == "integer" and isinstance(value, bool))


def _check_object(value: dict[str, t.Any], schema: Schema, path: Path) -> t.Iterator[Problem]:
    for name in schema.get("required", ()):
        if name not in value:
            yield _problem(path, "required", f"'{name}' is missing")
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, item in value.items():
        rule = properties.get(name, others)
        if rule is not None:
            yield from check_schema(item, rule, (*path, name))


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _problem(path: Path, keyword: str, message: str) -> Problem:
    return Problem(json_path(path), f"schema/{keyword}", message)


def _shown(value: t.Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_VALUE else text[:_SHOWN_VALUE] + "…"
