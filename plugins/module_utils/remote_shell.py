# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry a command, its exit code and files through the shells between us and a container.

The way is Ansible's connection to a host, the host's shell, a program that enters
the container, and the container's shell.  Pure: only texts are built and read here.
"""

from __future__ import annotations

import shlex

#: The exit code that ssh reserves for its own failures.
SSH_FAILED = 255
#: What stands in for it on its way through ssh, announced by a marker.
_REPLACEMENT = 254

#: Bytes per command when a file is copied: bounds the memory, not the size of the file.
CHUNK_BYTES = 16 * 1024 * 1024
_DD_BLOCK = 64 * 1024


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
