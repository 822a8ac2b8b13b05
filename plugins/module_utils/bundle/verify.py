# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say whether a bundle directory can be run, whatever made it.

The document is held against the OCI runtime specification first; what it refers to
on this host is looked for when the document itself is right.
"""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import CONFIG_FILE
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import open_regular
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.problem import Problem
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.validate import validate

#: A config.json of a container with everything is far below this.
_CONFIG_MAX = 32 << 20


def verify_bundle(path: str) -> list[Problem]:
    """Return what is wrong with the bundle at ``path``; nothing when it is valid.

    Checks bundle.md and config.md of the OCI runtime specification: the files that
    must exist, the schema, the rules between fields, and the host's side of root,
    bind mounts, hooks and joined namespaces.
    """
    if not os.path.isdir(path):
        return [Problem("$", "bundle/directory", f"{path} is no directory")]
    config_path = os.path.join(path, CONFIG_FILE)
    try:
        with open_regular(config_path) as stream:
            data = stream.read(_CONFIG_MAX + 1)
    except OSError as exc:
        return [Problem("$", "bundle/config", f"{config_path} cannot be read: {exc.strerror}")]
    if len(data) > _CONFIG_MAX:
        return [Problem("$", "bundle/config", f"{config_path} is larger than {_CONFIG_MAX >> 20} MiB")]
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as exc:
        return [Problem("$", "bundle/config", f"{config_path} is no JSON: {exc}")]
    return validate(config) or list(_host_side(path, config))


class InvalidBundle(InvalidSpec):
    """Report a bundle that is not valid, with all that is wrong with it."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(first.path, f"{first.message} [{first.rule}]{more}", hint=f"Bundle: {path}")
        self.problems = problems

    def details(self) -> dict[str, t.Any]:
        """Return ``error``, ``field`` and ``problems`` as plain data."""
        return {**super().details(), "problems": [dataclasses.asdict(item) for item in self.problems]}


def require_valid(path: str) -> None:
    """Raise InvalidBundle unless the bundle at ``path`` is valid."""
    problems = verify_bundle(path)
    if problems:
        raise InvalidBundle(path, problems)


def _host_side(path: str, config: dict[str, t.Any]) -> t.Iterator[Problem]:
    yield from _check_root(path, config.get("root") or {})
    for number, mount in enumerate(config.get("mounts") or ()):
        options = mount.get("options") or ()
        is_bind = mount.get("type") == "bind" or "bind" in options or "rbind" in options
        source = mount.get("source") or ""
        # A relative source is relative to the bundle (config.md, «Mounts»).
        if is_bind and not os.path.exists(os.path.join(path, source)):
            yield Problem(f"$.mounts[{number}].source", "bundle/mount-source", f"{source} does not exist")
    for stage, hooks in (config.get("hooks") or {}).items():
        for number, hook in enumerate(hooks):
            # Only a hook of the container's own stages runs from its own root file system.
            if stage != "startContainer" and not _is_program(hook["path"]):
                yield Problem(
                    f"$.hooks.{stage}[{number}].path", "bundle/hook", f"{hook['path']} cannot be run"
                )
    for number, namespace in enumerate((config.get("linux") or {}).get("namespaces") or ()):
        joined = namespace.get("path")
        if joined and not os.path.exists(joined):
            yield Problem(
                f"$.linux.namespaces[{number}].path", "bundle/namespace", f"{joined} does not exist"
            )


def _is_program(path: str) -> bool:
    try:
        return os.access(path, os.X_OK)
    except ValueError:
        # A null character, or half a surrogate pair: no file has such a name.
        return False


def _check_root(path: str, root: dict[str, t.Any]) -> t.Iterator[Problem]:
    directory = os.path.join(path, root.get("path") or "")
    if not root.get("path"):
        yield Problem("$.root.path", "bundle/root", "a container on Linux needs a root file system")
    elif not os.path.isdir(directory):
        yield Problem("$.root.path", "bundle/root", f"{directory} is no directory")
    elif not os.listdir(directory):
        yield Problem("$.root.path", "bundle/root-empty", f"{directory} is empty; it may not be mounted")
