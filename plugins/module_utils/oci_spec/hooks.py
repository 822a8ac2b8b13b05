# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build ``hooks``."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Hook
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import HOOK_STAGES, near_matches
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.paths import check_absolute, check_text


def build_hooks(hooks: t.Sequence[Hook]) -> dict[str, list[dict[str, t.Any]]]:
    """Return ``hooks``, each stage's in the order given.

    ``args`` of a request do not hold the name of the program; the specification's do
    (config.md, «POSIX-platform Hooks», as execve(2)), so it is put before them.
    """
    result: dict[str, list[dict[str, t.Any]]] = {}
    for i, hook in enumerate(hooks):
        field = f"hooks[{i}]"
        if hook.stage not in HOOK_STAGES:
            raise InvalidSpec(
                f"{field}.stage", f"unknown stage '{hook.stage}'", hint=near_matches(hook.stage, HOOK_STAGES)
            )
        path = check_absolute(hook.path, f"{field}.path")
        args = [check_text(arg, f"{field}.args[{n}]") for n, arg in enumerate(hook.args)]
        entry: dict[str, t.Any] = {"path": path, "args": [path, *args]}
        if hook.env:
            entry["env"] = [_variable(text, f"{field}.env[{n}]") for n, text in enumerate(hook.env)]
        if hook.timeout_s is not None:
            if hook.timeout_s < 1:
                raise InvalidSpec(f"{field}.timeout", "must be at least 1 second")
            entry["timeout"] = hook.timeout_s
        result.setdefault(hook.stage, []).append(entry)
    return result


def _variable(text: str, field: str) -> str:
    name, equals, _value = check_text(text, field).partition("=")
    if not name or not equals:
        raise InvalidSpec(field, f"'{text}' is not NAME=value")
    return text
