# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a configuration as TOML that reads back as the same, with where each value is from."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from pvecri.config.load import Loaded
from pvecri.config.model import Config

#: Characters that a basic string writes otherwise (TOML 1.0.0, "String").
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


def show(loaded: Loaded, *, with_docs: bool = False) -> str:
    """Return the effective configuration; ``with_docs`` adds what each key means."""
    lines = [f"# effective configuration; file: {loaded.path or 'none, all of it is defaults'}"]
    for section in dataclasses.fields(Config):
        table = getattr(loaded.config, section.name)
        lines += ["", f"[{section.name}]"]
        for key in dataclasses.fields(table):
            value = to_toml(getattr(table, key.name), octal=key.metadata["octal"])
            line = loaded.lines.get((section.name, key.name))
            if with_docs:
                lines += ["", f"# {key.metadata['doc']}"]
            lines.append(f"{key.name} = {value}  # {f'line {line}' if line else 'default'}")
    return "\n".join(lines) + "\n"


def to_toml(value: t.Any, *, octal: bool = False) -> str:
    """Return a value as TOML on one line; raises TypeError for what the format has not."""
    match value:
        case bool():
            text = "true" if value else "false"
        case int():
            text = f"0o{value:03o}" if octal else str(value)
        case float():
            text = repr(value)
        case str():
            text = _string(value)
        case list() | tuple():
            text = f"[{', '.join(map(to_toml, value))}]"
        case dict():
            text = f"{{{', '.join(f'{_string(key)} = {to_toml(item)}' for key, item in value.items())}}}"
        case datetime.date() | datetime.time():
            text = value.isoformat()
        case _unused:
            raise TypeError(f"TOML has no {type(value).__name__}")
    return text


def _string(text: str) -> str:
    return '"' + "".join(map(_character, text)) + '"'


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return f"\\u{ord(char):04x}" if ord(char) < ord(" ") or ord(char) == _DELETE else char
