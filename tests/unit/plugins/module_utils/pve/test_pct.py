# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the command lines for pct, and the way of an exit code through ssh."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import pct

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (
            pct.Container(201),
            [
                "pct",
                "exec",
                "201",
                "--",
                "env",
                "-i",
                PATH,
                "LANG=C.UTF-8",
                "HOME=/root",
                "/bin/sh",
                "-c",
                "a 'b'",
            ],
        ),
        (
            pct.Container(201, "web", ("sudo", "-n", "pct")),
            [*f"sudo -n pct exec 201 -- env -i {PATH} LANG=C.UTF-8 su -s /bin/sh -c".split(), "a 'b'", "web"],
        ),
    ],
)
def test_exec_argv(container, expected):
    assert container.exec_argv("a 'b'") == expected


def test_status_argv():
    assert pct.Container(201).status_argv() == ["pct", "status", "201"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"vmid": 99}, "vmid"),
        ({"vmid": 201, "user": ""}, "remote_user"),
        ({"vmid": 201, "user": "-c"}, "remote_user"),
        ({"vmid": 201, "pct": ()}, "pct_command"),
    ],
)
def test_container_refuses(fields, field):
    with pytest.raises(InvalidSpec) as caught:
        pct.Container(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize("rc", [0, 1, 254, 255])
def test_exit_code_survives_the_detour(rc):
    command = pct.node_command(["/bin/sh", "-c", f"echo out; echo err >&2; exit {rc}"], "mark-1")
    done = subprocess.run(command, shell=True, capture_output=True, check=False, executable="/bin/sh")
    assert done.returncode == (254 if rc == 255 else rc), "255 must not be seen by ssh"
    assert pct.real_exit(done.returncode, done.stdout, done.stderr, "mark-1") == (rc, b"out\n", b"err\n")


def test_marker_is_found_where_a_terminal_mixes_the_outputs():
    assert pct.real_exit(254, b"out\r\nmark-1\r\n", b"", "mark-1") == (255, b"out\r\n", b"")


@pytest.mark.parametrize(
    ("path", "options", "expected"),
    [
        ("/a b", {"append": False}, "cat > '/a b'"),
        ("/a", {"append": True}, "cat >> /a"),
        ("/a", {"append": False, "is_empty": True}, ": > /a"),
    ],
)
def test_write_command(path, options, expected):
    assert pct.write_command(path, **options) == expected


def test_read_command():
    assert pct.read_command("/it's", 2) == "dd if='/it'\"'\"'s' bs=65536 count=256 skip=512"
