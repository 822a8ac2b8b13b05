# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn records into JSON data and back, keeping what a newer version has added."""

from __future__ import annotations

import base64
import dataclasses
import json
import typing as t

from pvecri.state.records import ContainerRecord, Phase, SandboxRecord

Record = SandboxRecord | ContainerRecord
R = t.TypeVar("R", bound=SandboxRecord | ContainerRecord)

#: Fields of protobuf bytes, which JSON cannot hold as they are.
_BYTES = frozenset({"config", "resources"})
_BYTES_LISTS = frozenset({"mounts"})
#: Lists of plain values, with the type of each value.
_TUPLES: dict[str, str] = {"ips": "str", "groups": "int"}

#: An answer's fields have so many bits, and cannot hold more.
_BITS = {"exit_code": 32}
_BITS_OF_OTHERS = 64

#: Type of each field that is plain JSON data; bool before int, which it is one of.
_PLAIN: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "int | None": (int, type(None)),
    "bool": (bool,),
    "dict[str, t.Any]": (dict,),
}


def to_plain(record: Record, *, without: t.Container[str] = ()) -> dict[str, t.Any]:
    """Return a record as JSON data, but for the fields in ``without``."""
    plain: dict[str, t.Any] = {}
    for field in dataclasses.fields(record):
        name = field.name
        if name in without:
            continue
        value = getattr(record, name)
        if name in _BYTES:
            value = base64.b64encode(value).decode()
        elif name in _BYTES_LISTS:
            value = [base64.b64encode(item).decode() for item in value]
        elif name in _TUPLES:
            value = list(value)
        plain[name] = value
    return plain


def from_plain(kind: type[R], plain: t.Mapping[str, t.Any], **more: t.Any) -> tuple[R, dict[str, t.Any]]:
    """Return the record of JSON data, and the keys of it that this version does not know.

    ``more`` are fields that are kept elsewhere.  Raises ValueError when it is no such record.
    """
    if not isinstance(plain, dict):
        raise ValueError("it is no JSON object")
    values = dict(more)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name, field in fields.items():
        if name in plain and name not in more:
            values[name] = _value(name, str(field.type), plain[name])
    missing = [
        name
        for name, field in fields.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return kind(**values), {name: value for name, value in plain.items() if name not in fields}


def _value(name: str, kind: str, value: t.Any) -> t.Any:
    if name in _BYTES:
        return _bytes(name, value)
    if name in _BYTES_LISTS and isinstance(value, list):
        return tuple(_bytes(name, item) for item in value)
    if name in _TUPLES and isinstance(value, list):
        return tuple(plain_value(name, _TUPLES[name], item) for item in value)
    if kind == "Phase":
        return Phase(value)
    return plain_value(name, kind, value)


def plain_value(name: str, kind: str, value: t.Any) -> t.Any:
    """Return the value of a field; raises ValueError for what no answer to a client could hold."""
    if not isinstance(value, _PLAIN.get(kind, ())) or (isinstance(value, bool) and kind != "bool"):
        raise ValueError(f"{name} is {value!r}")
    if isinstance(value, int) and value.bit_length() >= _BITS.get(name, _BITS_OF_OTHERS):
        raise ValueError(f"{name} is {value}")
    if isinstance(value, str | dict):
        # Half a surrogate pair is valid in JSON, and no text.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _bytes(name: str, value: t.Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}")
    return base64.b64decode(value, validate=True)
