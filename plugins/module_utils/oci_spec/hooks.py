# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build ``hooks``."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Hook
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import HOOK_STAGES, near_matches
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.paths import check_absolute, check_text

#: crun up to here fails when a hook ends before it has read its standard input, the container's
#: state; that is a race which short hooks lose now and then.
_CRUN_WITHOUT_RACE: t.Final = (1, 17)

#: Reads all of it first, then becomes the hook, with the same on its standard input.
_PATIENT: t.Final = 's=$(/bin/cat)\nexec "$0" "$@" <<EOF\n$s\nEOF\n'

#: Runs in the container, which need not have a shell.
_INSIDE: t.Final = "startContainer"


def build_hooks(hooks: t.Sequence[Hook], host: HostFacts) -> dict[str, list[dict[str, t.Any]]]:
    """Return ``hooks``, each stage's in the order given.

    ``args`` of a request do not hold the name of the program; the specification's do
    (config.md, «POSIX-platform Hooks», as execve(2)), so it is put before them.
    """
    is_patient = not host.crun_version or host.crun_version >= _CRUN_WITHOUT_RACE
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
        if not is_patient and hook.stage != _INSIDE:
            entry = {"path": "/bin/sh", "args": ["sh", "-c", _PATIENT, path, *args]}
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
