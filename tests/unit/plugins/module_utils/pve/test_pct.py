# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the command lines for pct."""

from __future__ import annotations

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


@pytest.mark.parametrize(("said", "expected"), [(b"status: running\n", True), (b"status: stopped\n", False)])
def test_is_running(said, expected):
    assert pct.Container(201).is_running(said) is expected
