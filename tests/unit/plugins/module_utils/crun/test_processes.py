# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process object of a command, from the container's own and what is asked for."""

from __future__ import annotations

import copy
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest, exec_process
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import ResolvedUser

CAPS = {
    "bounding": ["CAP_KILL"],
    "effective": ["CAP_KILL"],
    "permitted": ["CAP_KILL"],
    "ambient": ["CAP_KILL"],
}
CONFIG: dict[str, t.Any] = {
    "process": {
        "args": ["server"],
        "terminal": True,
        "consoleSize": {"width": 1, "height": 1},
        "user": {"uid": 7, "gid": 8, "additionalGids": [9], "umask": 18},
        "env": ["PATH=/bin", "A=1", "B=x=y"],
        "cwd": "/srv",
        "capabilities": CAPS,
        "noNewPrivileges": True,
        "apparmorProfile": "p",
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}],
    }
}


def test_process_inherits_all_that_confines() -> None:
    before = copy.deepcopy(CONFIG)
    process = exec_process(CONFIG, ExecRequest(args=("id", "-u")))
    assert before == CONFIG, "the container's configuration is not touched"
    expected = {**CONFIG["process"], "args": ["id", "-u"], "terminal": False}
    del expected["consoleSize"]
    assert process == expected


def test_process_takes_what_is_asked_for() -> None:
    request = ExecRequest(args=("sh",), env={"A": "2", "C": ""}, cwd="/tmp", terminal=True)
    process = exec_process(CONFIG, request)
    assert process["env"] == ["PATH=/bin", "A=2", "B=x=y", "C="]
    assert (process["cwd"], process["terminal"]) == ("/tmp", True)


def test_terminal_has_its_size_and_type_from_the_start() -> None:
    request = ExecRequest(
        args=("sh",), terminal=True, terminal_size=(80, 24), env_defaults={"T": "x", "A": "9"}
    )
    process = exec_process(CONFIG, request)
    assert process["consoleSize"] == {"width": 80, "height": 24}
    assert process["env"] == ["T=x", "A=1", "PATH=/bin", "B=x=y"]
    without = exec_process(CONFIG, ExecRequest(args=("sh",), terminal_size=(80, 24), env_defaults={"T": ""}))
    assert "consoleSize" not in without
    with pytest.raises(InvalidSpec, match="no variable"):
        exec_process(CONFIG, ExecRequest(args=("sh",), env_defaults={"": "x"}))


@pytest.mark.parametrize(
    ("user", "expected_user", "capabilities"),
    [
        (
            ResolvedUser(uid=0, gid=0, home="/root"),
            {"uid": 0, "gid": 0, "umask": 18},
            {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        ),
        (
            ResolvedUser(uid=5, gid=6, additional_gids=(1, 2), home="/root"),
            {"uid": 5, "gid": 6, "umask": 18, "additionalGids": [1, 2]},
            {"bounding": ["CAP_KILL"]},
        ),
        (ResolvedUser(uid=7, gid=8, home="/root"), {"uid": 7, "gid": 8, "umask": 18}, CAPS),
    ],
)
def test_process_of_another_user(
    user: ResolvedUser, expected_user: dict[str, t.Any], capabilities: dict[str, list[str]]
) -> None:
    process = exec_process(CONFIG, ExecRequest(args=("sh",), user="x"), user)
    assert process["user"] == expected_user
    assert process["capabilities"] == capabilities
    assert "HOME=/root" in process["env"]


def test_home_that_is_asked_for_counts() -> None:
    user = ResolvedUser(uid=5, home="/home/five")
    process = exec_process(CONFIG, ExecRequest(args=("sh",), env={"HOME": "/h"}, user="5"), user)
    assert [entry for entry in process["env"] if entry.startswith("HOME")] == ["HOME=/h"]


def test_process_of_a_bare_configuration() -> None:
    assert exec_process({}, ExecRequest(args=("sh",)), None) == {
        "args": ["sh"],
        "terminal": False,
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "env": [],
    }


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ExecRequest(args=()), "command"),
        (ExecRequest(args=("",)), "command"),
        (ExecRequest(args=("x",), env={"": "1"}), "env"),
        (ExecRequest(args=("x",), env={"A=B": "1"}), "env"),
        (ExecRequest(args=("x",), env={"A": "1\0"}), "env"),
    ],
)
def test_process_refuses(request_: ExecRequest, field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        exec_process(CONFIG, request_)
    assert caught.value.field == field
