# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the way of a command, an exit code and a file through shells and ssh."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import remote_shell


@pytest.mark.parametrize("rc", [0, 1, 254, 255])
def test_exit_code_survives_the_detour(rc):
    command = remote_shell.node_command(["/bin/sh", "-c", f"echo out; echo err >&2; exit {rc}"], "mark-1")
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False)
    assert done.returncode == (254 if rc == 255 else rc), "255 must not be seen by ssh"
    assert remote_shell.real_exit(done.returncode, done.stdout, done.stderr, "mark-1") == (
        rc,
        b"out\n",
        b"err\n",
    )


def test_marker_is_found_where_a_terminal_mixes_the_outputs():
    assert remote_shell.real_exit(254, b"out\r\nmark-1\r\n", b"", "mark-1") == (255, b"out\r\n", b"")


@pytest.mark.parametrize(
    ("path", "options", "expected"),
    [
        ("/a b", {"append": False}, "cat > '/a b'"),
        ("/a", {"append": True}, "cat >> /a"),
        ("/a", {"append": False, "is_empty": True}, ": > /a"),
    ],
)
def test_write_command(path, options, expected):
    assert remote_shell.write_command(path, **options) == expected


def test_read_command():
    assert remote_shell.read_command("/it's", 2) == "dd if='/it'\"'\"'s' bs=65536 count=256 skip=512"
