# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the command lines that work inside a container through ``crun exec`` on its host."""

from __future__ import annotations

import dataclasses
import json
import re

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import check_container_name

_NUMBERS = re.compile(r"[0-9]+(:[0-9]+)?")


@dataclasses.dataclass(frozen=True, slots=True)
class Container:
    """A container as seen from its host."""

    name: str
    #: crun's state directory.
    root: str
    #: User inside the container: a name, or ``uid[:gid]``.
    user: str = "root"
    #: The program, with what has to stand before it, such as ``sudo -n``.
    crun: tuple[str, ...] = ("crun",)

    def __post_init__(self) -> None:
        """Refuse what would become another argument."""
        check_container_name(self.name, "container")
        if not self.root.startswith("/"):
            raise InvalidSpec("runtime_root", f"'{self.root}' is no absolute path")
        if not self.user or self.user.startswith("-"):
            raise InvalidSpec("remote_user", f"'{self.user}' cannot be a user's name")
        if not self.crun:
            raise InvalidSpec("crun_command", "is empty")

    def exec_argv(self, command: str) -> list[str]:
        """Return the argument list that runs the shell command ``command`` inside.

        Its environment is the container's own.  crun knows users by number only, so a
        name is left to the container's ``su``.
        """
        argv = [*self.crun, "--root", self.root, "exec"]
        if self.user == "root" or _NUMBERS.fullmatch(self.user):
            number = "0" if self.user == "root" else self.user
            # Without a group crun 1.21 (Debian 13) would run it as root.
            number += "" if ":" in number else ":0"
            return [*argv, "--user", number, self.name, "/bin/sh", "-c", command]
        return [*argv, "--user", "0:0", self.name, "su", "-s", "/bin/sh", "-c", command, self.user]

    def status_argv(self) -> list[str]:
        """Return the argument list that prints the container's OCI state."""
        return [*self.crun, "--root", self.root, "state", self.name]

    def is_running(self, status: bytes) -> bool:
        """Say whether what `status_argv` printed means that it runs."""
        try:
            state = json.loads(status)
        except ValueError:
            return False
        return isinstance(state, dict) and state.get("status") == "running"
