# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the building blocks of the schema: numbers of a width, lists, objects."""

from __future__ import annotations

import typing as t

Schema = dict[str, t.Any]


def structure(required: t.Sequence[str] = (), **properties: Schema) -> Schema:
    """Return the schema of an object with these properties and any others."""
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema


def array_of(items: Schema, **more: t.Any) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **more}


def map_of(values: Schema) -> Schema:
    """Return the schema of an object whose property names are free."""
    return {"type": "object", "additionalProperties": values}


def one_of(*words: str) -> Schema:
    """Return the schema of a text out of a fixed set."""
    return {"type": "string", "enum": list(words)}


def _integer(bits: int, *, signed: bool) -> Schema:
    low = -(1 << (bits - 1)) if signed else 0
    high = (1 << (bits - 1 if signed else bits)) - 1
    return {"type": "integer", "minimum": low, "maximum": high}


STRING: t.Final[Schema] = {"type": "string"}
FILE_PATH: t.Final = STRING
STRINGS: t.Final = array_of(STRING)
STRING_MAP: t.Final = map_of(STRING)

INT32: t.Final = _integer(32, signed=True)
INT64: t.Final = _integer(64, signed=True)
UINT16: t.Final = _integer(16, signed=False)
UINT32: t.Final = _integer(32, signed=False)
UINT64: t.Final = _integer(64, signed=False)

ID_MAPPINGS: t.Final = array_of(
    structure(required=("containerID", "hostID", "size"), containerID=UINT32, hostID=UINT32, size=UINT32)
)
