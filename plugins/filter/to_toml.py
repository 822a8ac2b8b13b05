# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: to_toml
short_description: Write a dictionary as TOML
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Writes a dictionary as a TOML document (version 1.0) that reads back as the same. Dictionaries at its top
    become sections, those below them inline tables.
positional: _input
options:
  _input:
    description:
      - The dictionary. Values are texts, whole numbers, numbers, booleans, lists and dictionaries; C(null) is
        something that TOML has not, and is refused.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Write a configuration
  ansible.builtin.copy:
    dest: /etc/pvecri/config.toml
    content: "{{ {'log': {'level': 'debug'}} | pvecri.runtime.to_toml }}"
    mode: "0600"
"""

RETURN = r"""
_value:
  description: The document.
  type: str
  sample: |
    [log]
    level = "debug"
"""

import collections.abc as c
import datetime
import typing as t

from ansible.errors import AnsibleFilterError

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
_MOST = 1 << 63


def to_toml(document: t.Any) -> str:
    """Return a document; raises AnsibleFilterError for what TOML has not, with the place."""
    if not isinstance(document, c.Mapping):
        raise AnsibleFilterError(f"to_toml: a dictionary is wanted, not {type(document).__name__}")
    plain = [(key, value) for key, value in document.items() if not isinstance(value, c.Mapping)]
    tables = [(key, value) for key, value in document.items() if isinstance(value, c.Mapping)]
    lines = [f"{_key(key, key)} = {_value(value, str(key))}" for key, value in plain]
    for name, table in tables:
        lines += [*([""] if lines else []), f"[{_key(name, name)}]"]
        for key, item in table.items():
            place = f"{name}.{key}"
            lines.append(f"{_key(key, place)} = {_value(item, place)}")
    return "\n".join(lines) + "\n" if lines else ""


def _value(value: t.Any, place: str) -> str:
    match value:
        case bool():
            text = "true" if value else "false"
        case int():
            if not -_MOST <= value < _MOST:
                raise AnsibleFilterError(f"to_toml: {place}: {value} has more than 64 bits")
            text = int.__repr__(value)
        case float():
            # inf and nan are TOML's own words; numbers have a dot or an exponent.
            text = float.__repr__(value)
        case str():
            text = _string(value, place)
        case datetime.datetime() | datetime.date() | datetime.time():
            text = value.isoformat()
        case c.Mapping():
            items = (f"{_key(key, place)} = {_value(item, f'{place}.{key}')}" for key, item in value.items())
            text = f"{{{', '.join(items)}}}"
        case c.Sequence():
            items = (_value(item, f"{place}[{number}]") for number, item in enumerate(value))
            text = f"[{', '.join(items)}]"
        case _unused:
            kind = "null" if value is None else type(value).__name__
            raise AnsibleFilterError(f"to_toml: {place}: TOML has no {kind}")
    return text


def _key(key: t.Any, place: t.Any) -> str:
    if not isinstance(key, str):
        raise AnsibleFilterError(f"to_toml: {place}: keys are texts, not {type(key).__name__}")
    bare = key.isascii() and key.replace("-", "a").replace("_", "a").isalnum()
    return str(key) if bare else _string(key, str(place))


def _string(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise AnsibleFilterError(f"to_toml: {place}: it is not Unicode text") from exc
    return '"' + "".join(map(_character, text)) + '"'


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return f"\\u{ord(char):04x}" if ord(char) < ord(" ") or ord(char) == _DELETE else char


class FilterModule:
    """Give Ansible the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return filters by name."""
        return {"to_toml": to_toml}
