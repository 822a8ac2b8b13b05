# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn the options ``state_dir`` and ``run_dir`` into `Paths`, and see to it that they can be used."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, MissingDependency
from ansible_collections.pvecri.runtime.plugins.module_utils.model import RUN_DIR, STATE_DIR, Owner, Paths

#: What skopeo would read as syntax in the name of a store.
_SYNTAX: t.Final = re.compile(r"[\[\]@+:,\s]")


def paths_argument_spec() -> dict[str, dict[str, t.Any]]:
    """Return the options that `paths_from_options` reads."""
    return {
        "state_dir": {"type": "path", "default": STATE_DIR},
        "run_dir": {"type": "path", "default": RUN_DIR},
    }


def require_root() -> None:
    """Raise MissingDependency unless this process is root's: it mounts, and gives files away."""
    if os.geteuid() != 0:
        raise MissingDependency("this needs root", hint="Set 'become: true' for the task")


def paths_from_options(params: t.Mapping[str, t.Any]) -> Paths:
    """Return where a play's objects are kept; raises InvalidSpec for a path that cannot be used."""
    for option in ("state_dir", "run_dir"):
        path = params[option]
        if not path.startswith("/") or os.path.normpath(path) == "/" or _SYNTAX.search(path):
            raise InvalidSpec(
                option,
                f"'{path}' cannot be used",
                hint="Use an absolute path without blanks and without any of []@+:,",
            )
        _refuse_file(option, os.path.normpath(path))
    return Paths(os.path.normpath(params["state_dir"]), os.path.normpath(params["run_dir"]), Owner.PLAY)


def _refuse_file(option: str, path: str) -> None:
    """Raise InvalidSpec when there is something at or above ``path`` that is no directory."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise InvalidSpec(
            option, f"'{path}' is no directory", hint="Use the path of a directory, or of one to be made"
        )
