# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the command lines that work inside a container through ``pct exec`` on its node."""

from __future__ import annotations

import dataclasses

from ansible_collections.pvecri.runtime.plugins.module_utils.command import DEFAULT_PATH
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Container:
    """A container as seen from its node."""

    vmid: int
    #: User inside the container.
    user: str = "root"
    #: The program, with what has to stand before it, such as ``sudo -n``.
    pct: tuple[str, ...] = ("pct",)

    def __post_init__(self) -> None:
        """Refuse what would become another argument."""
        if self.vmid < 100:
            raise InvalidSpec("vmid", f"{self.vmid} is not the number of a container")
        if not self.user or self.user.startswith("-"):
            raise InvalidSpec("remote_user", f"'{self.user}' cannot be a user's name")
        if not self.pct:
            raise InvalidSpec("pct_command", "is empty")

    def exec_argv(self, command: str) -> list[str]:
        """Return the argument list that runs the shell command ``command`` inside.

        The node's environment stays outside: pct would pass it on.
        """
        argv = [*self.pct, "exec", str(self.vmid), "--", "env", "-i", f"PATH={DEFAULT_PATH}", "LANG=C.UTF-8"]
        if self.user == "root":
            return [*argv, "HOME=/root", "/bin/sh", "-c", command]
        return [*argv, "su", "-s", "/bin/sh", "-c", command, self.user]

    def status_argv(self) -> list[str]:
        """Return the argument list that prints ``status: running`` or another state."""
        return [*self.pct, "status", str(self.vmid)]

    def is_running(self, status: bytes) -> bool:
        """Say whether what `status_argv` printed means that it runs."""
        return status.strip() == b"status: running"
