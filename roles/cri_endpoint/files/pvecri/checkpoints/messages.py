# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write CRI messages as the JSON that Go programs make of them, and read them back; pure.

Names are those of the definition, 64-bit numbers are numbers and enums their numbers:
protobuf's own JSON differs in all three.
"""

from __future__ import annotations

import base64
import typing as t

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.checkpoints import layout

M = t.TypeVar("M", bound=Message)


def plain(message: Message) -> dict[str, t.Any]:
    """Return a message as plain data; what is not set is left out."""
    return {field.name: _field(field, value) for field, value in message.ListFields()}


def _field(field: FieldDescriptor, value: t.Any) -> t.Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return {str(key): _value(item) for key, item in sorted(value.items())}
    if field.label == FieldDescriptor.LABEL_REPEATED:
        return [_value(item) for item in value]
    return _value(value)


def _value(value: t.Any) -> t.Any:
    if isinstance(value, Message):
        return plain(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def read(kind: type[M], text: bytes, name: str, what: str) -> M:
    """Return the message that a document holds, without fields of later versions; raises InvalidSpec."""
    value = layout.parsed(text, name, what)
    if not isinstance(value, dict):
        raise InvalidSpec("", f"{what}: {name} is no JSON object")
    try:
        return json_format.ParseDict(value, kind(), ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, TypeError, AttributeError) as exc:
        raise InvalidSpec("", f"{what}: {name} is no {kind.DESCRIPTOR.name}: {exc}") from exc
