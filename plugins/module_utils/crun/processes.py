# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the OCI ``process`` that ``crun exec`` runs in a container; pure."""

from __future__ import annotations

import copy
import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import ResolvedUser


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """A command to run in a container; None leaves a value as the container has it."""

    args: t.Sequence[str]
    #: Added to the container's environment, or replacing what is there.
    env: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    cwd: str | None = None
    #: ``user[:group]``, names or numbers, looked up in the container.
    user: str | None = None
    terminal: bool = False
    #: Columns and lines that the terminal has before the command starts.
    terminal_size: tuple[int, int] | None = None
    #: Variables for a container that does not have them itself.
    env_defaults: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


def exec_process(
    config: t.Mapping[str, t.Any], request: ExecRequest, user: ResolvedUser | None = None
) -> dict[str, t.Any]:
    """Return the ``process`` object for a command in the container of ``config``.

    What confines the container's own process confines this one too; ``user`` is
    the request's, or None for the container's (OCI runtime specification,
    config.md, "Process").
    """
    if not request.args or not request.args[0]:
        raise InvalidSpec("command", "there is no program to run", hint="Give at least one word")
    process = copy.deepcopy(dict(config.get("process") or {}))
    process.pop("consoleSize", None)
    process["args"] = list(request.args)
    process["terminal"] = request.terminal
    if request.terminal and request.terminal_size is not None:
        width, height = request.terminal_size
        process["consoleSize"] = {"height": height, "width": width}
    process["cwd"] = request.cwd or process.get("cwd") or "/"
    env = dict(request.env)
    if user is not None:
        env.setdefault("HOME", user.home)
        _become(process, user)
    process.setdefault("user", {"uid": 0, "gid": 0})
    process["env"] = _environment(process.get("env") or [], env, request.env_defaults)
    return process


def _environment(
    base: t.Sequence[str], added: t.Mapping[str, str], defaults: t.Mapping[str, str]
) -> list[str]:
    for name, value in (*defaults.items(), *added.items()):
        if not name or "=" in name or "\0" in name + value:
            raise InvalidSpec("env", f"'{name}' and its value are no variable")
    values = {**defaults, **dict(entry.partition("=")[::2] for entry in base)}
    values.update(added)
    return [f"{name}={value}" for name, value in values.items()]


def _become(process: dict[str, t.Any], user: ResolvedUser) -> None:
    """Set user and groups, and the capabilities that execve(2) would leave such a user."""
    before = process.get("user") or {}
    process["user"] = {
        "uid": user.uid,
        "gid": user.gid,
        **({"umask": before["umask"]} if "umask" in before else {}),
        **({"additionalGids": list(user.additional_gids)} if user.additional_gids else {}),
    }
    capabilities = process.get("capabilities")
    if not capabilities or user.uid == before.get("uid", 0):
        return
    bounding = capabilities.get("bounding", [])
    process["capabilities"] = {"bounding": bounding}
    if user.uid == 0:
        process["capabilities"].update(effective=bounding, permitted=bounding)
