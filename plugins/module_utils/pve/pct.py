# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the command lines that work inside a container through ``pct exec`` on its node."""

from __future__ import annotations

import dataclasses
import shlex

from ansible_collections.pvecri.runtime.plugins.module_utils.command import DEFAULT_PATH
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

#: The exit code that ssh reserves for its own failures.
SSH_FAILED = 255
#: What stands in for it on its way through ssh, announced by a marker.
_REPLACEMENT = 254

#: Bytes per command when a file is copied: bounds the memory, not the size of the file.
CHUNK_BYTES = 16 * 1024 * 1024
_DD_BLOCK = 64 * 1024


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


def node_command(argv: list[str], marker: str) -> str:
    """Return ``argv`` as one command for the node's shell that never ends with 255.

    ssh could not tell that from a failure of its own.  `real_exit` turns it back.
    """
    script = (
        f"{shlex.join(argv)}; rc=$?; "
        f"if [ $rc -eq {SSH_FAILED} ]; then echo {marker} >&2; exit {_REPLACEMENT}; fi; exit $rc"
    )
    return shlex.join(["/bin/sh", "-c", script])


def real_exit(rc: int, stdout: bytes, stderr: bytes, marker: str) -> tuple[int, bytes, bytes]:
    """Return exit code and output as the command in the container left them.

    On a terminal both outputs are one, so the marker is looked for in both.
    """
    line = marker.encode()
    if rc != _REPLACEMENT or (line not in stdout and line not in stderr):
        return rc, stdout, stderr
    return SSH_FAILED, _without(stdout, line), _without(stderr, line)


def write_command(path: str, *, append: bool, is_empty: bool = False) -> str:
    """Return the shell command that writes its input to ``path``; ``is_empty`` reads none."""
    quoted = shlex.quote(path)
    if is_empty:
        return f": > {quoted}"
    return f"cat {'>>' if append else '>'} {quoted}"


def read_command(path: str, chunk: int) -> str:
    """Return the shell command that prints chunk number ``chunk`` of ``path``."""
    blocks = CHUNK_BYTES // _DD_BLOCK
    return f"dd if={shlex.quote(path)} bs={_DD_BLOCK} count={blocks} skip={chunk * blocks}"


def _without(output: bytes, line: bytes) -> bytes:
    return b"".join(part for part in output.splitlines(keepends=True) if part.strip() != line)
