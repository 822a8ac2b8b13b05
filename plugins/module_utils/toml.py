# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write TOML 1.0.0; pure.  Python reads it (tomllib) and has nothing to write it with."""

from __future__ import annotations

import collections.abc as c
import datetime
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

#: Characters that a basic string writes otherwise (section "String").
_ESCAPES: t.Final = {
    "\\": "\\\\",
    '"': '\\"',
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
}
_DELETE = 0x7F
_MOST = 1 << 63


def document(content: c.Mapping[t.Any, t.Any]) -> str:
    """Return a document: dictionaries at its top become sections, those below them inline tables.

    Raises InvalidSpec, with the place, for what TOML has not.
    """
    plain = [(key, item) for key, item in content.items() if not isinstance(item, c.Mapping)]
    tables = [(key, item) for key, item in content.items() if isinstance(item, c.Mapping)]
    lines = [f"{_key(key, key)} = {value(item, str(key))}" for key, item in plain]
    for name, table in tables:
        lines += [*([""] if lines else []), f"[{_key(name, name)}]"]
        for key, item in table.items():
            place = f"{name}.{key}"
            lines.append(f"{_key(key, place)} = {value(item, place)}")
    return "\n".join(lines) + "\n" if lines else ""


def value(item: t.Any, place: str = "value") -> str:
    """Return a value on one line; raises InvalidSpec, whose field begins with ``place``."""
    match item:
        case bool():
            text = "true" if item else "false"
        case int():
            if not -_MOST <= item < _MOST:
                raise InvalidSpec(place, f"{item} has more than 64 bits")
            text = int.__repr__(item)
        case float():
            # inf and nan are TOML's own words; numbers have a dot or an exponent.
            text = float.__repr__(item)
        case str():
            text = _string(item, place)
        case datetime.datetime() | datetime.date() | datetime.time():
            text = item.isoformat()
        case c.Mapping():
            pairs = (f"{_key(key, place)} = {value(each, f'{place}.{key}')}" for key, each in item.items())
            text = f"{{{', '.join(pairs)}}}"
        case c.Sequence():
            items = (value(each, f"{place}[{number}]") for number, each in enumerate(item))
            text = f"[{', '.join(items)}]"
        case _unused:
            kind = "null" if item is None else type(item).__name__
            raise InvalidSpec(place, f"TOML has no {kind}")
    return text


def _key(key: t.Any, place: t.Any) -> str:
    if not isinstance(key, str):
        raise InvalidSpec(str(place), f"keys are texts, not {type(key).__name__}")
    bare = key.isascii() and key.replace("-", "a").replace("_", "a").isalnum()
    return str(key) if bare else _string(key, str(place))


def _string(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidSpec(place, "it is not Unicode text") from exc
    return '"' + "".join(map(_character, text)) + '"'


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return f"\\u{ord(char):04x}" if ord(char) < ord(" ") or ord(char) == _DELETE else char
