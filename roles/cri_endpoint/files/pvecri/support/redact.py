# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take secrets out of plain data before it leaves the host.

Secrets are the values of environment variables, whatever is called a password or the
like, and annotations, in which tools repeat whole manifests.  Names and lengths stay: they
tell what went wrong and give nothing away.
"""

from __future__ import annotations

import re
import typing as t

#: Keys whose value is a secret wherever they stand.
_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase)?|secret|token|auth|credential|private_?key|content|identity_?token|registry_?token",
    re.IGNORECASE,
)
#: Keys that only sound so.
_HARMLESS = frozenset({"authfile", "namespace_auth", "contentType"})
_ENVIRONMENT = frozenset({"env", "envs", "environment"})
_ANNOTATIONS = frozenset({"annotations"})
#: Annotations that kubelet and the endpoint themselves write.
_OWN_ANNOTATIONS = ("io.kubernetes.", "kubernetes.io/config.", "pvecri")
#: Variables of these names hold no secret and often the answer.
_OPEN_VARIABLES = frozenset({"PATH", "HOME", "HOSTNAME", "TERM", "LANG", "TZ", "USER", "SHELL"})


def redacted(value: t.Any) -> t.Any:
    """Return plain data with its secrets replaced."""
    if isinstance(value, dict):
        return {key: _member(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


def _member(key: str, value: t.Any) -> t.Any:
    if key in _ENVIRONMENT:
        return _environment(value)
    if key in _ANNOTATIONS and isinstance(value, dict):
        return {
            name: text if name.startswith(_OWN_ANNOTATIONS) else _hidden(text) for name, text in value.items()
        }
    if key not in _HARMLESS and _SECRET_KEY.search(key) and not isinstance(value, bool | dict | list):
        return _hidden(value)
    return redacted(value)


def _environment(value: t.Any) -> t.Any:
    """Hide values in ``["K=V"]``, ``[["K", "V"]]``, ``[{"key": "K", "value": "V"}]`` and ``{"K": "V"}``."""
    if isinstance(value, dict):
        return {name: _variable(name, text) for name, text in value.items()}
    if not isinstance(value, list | tuple):
        return _hidden(value)
    return [_entry(item) for item in value]


def _entry(item: t.Any) -> t.Any:
    match item:
        case str():
            name, has_value, text = item.partition("=")
            return f"{name}={_variable(name, text)}" if has_value else _hidden(item)
        case [str() as name, text]:
            return [name, _variable(name, text)]
        case {"key": str() as name, **rest}:
            return {"key": name, **{key: _variable(name, text) for key, text in rest.items()}}
    return _hidden(item)


def _variable(name: str, text: t.Any) -> t.Any:
    return text if name in _OPEN_VARIABLES else _hidden(text)


def _hidden(value: t.Any) -> t.Any:
    if value in (None, "", 0) or isinstance(value, bool):
        return value
    return f"(hidden, {len(str(value))} characters)"
