# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every failure of Proxmox VE has the status that tells a client what to do, and says why."""

from __future__ import annotations

import errno
import json
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    ApiTimeout,
    Conflict,
    CoreError,
    InvalidSpec,
    LoginFailed,
    MissingPrivilege,
    NotFound,
    TaskFailed,
    TaskTimeout,
)
from pvecri.errors import Unavailable
from pvecri.pve import failures
from pvecri.pve.failures import Facts, Space
from pvecri.rpc.errors import status_of
from pvecri.rpc.status import Code

UPID = "UPID:pve1:00001F2A:00ABCDEF:6500A0B1:vzcreate:900001:root@pam!cri:"
FAILED = TaskFailed(
    "task vzcreate of 900001 on node 'pve1' failed: unable to create CT 900001",
    upid=UPID,
    exitstatus="unable to create CT 900001",
    log_tail=["extracting archive", "no space on device", "TASK ERROR: unable to create CT 900001"],
)
REFUSED = ApiError("POST /nodes/pve1/lxc failed with status 500: boom", status=500, reason="boom")
FULL = Facts(free_bytes=10, space=Space("local-lvm", 100))

TABLE: list[tuple[str, Exception, Facts, Code, str]] = [
    (
        "no connection",
        ApiError("no connection to localhost:8006: refused"),
        Facts(),
        Code.UNAVAILABLE,
        "refused",
    ),
    ("no answer", ApiTimeout("was not answered"), Facts(), Code.UNAVAILABLE, "was not answered"),
    (
        "node offline",
        ApiError("node 'pve1' could not be reached", status=595),
        Facts(),
        Code.UNAVAILABLE,
        "pve1",
    ),
    ("pveproxy restarts", ApiError("bad gateway", status=502), Facts(), Code.UNAVAILABLE, "bad gateway"),
    ("no quorum", REFUSED, Facts(has_quorum=False), Code.UNAVAILABLE, "no quorum"),
    ("task without quorum", FAILED, Facts(has_quorum=False), Code.UNAVAILABLE, "no quorum"),
    (
        "read-only config",
        PermissionError(errno.EACCES, "denied"),
        Facts(has_quorum=False),
        Code.UNAVAILABLE,
        "quorum",
    ),
    ("config held", Conflict("the config is locked"), Facts(), Code.UNAVAILABLE, "the config is locked"),
    ("storage full", FAILED, FULL, Code.RESOURCE_EXHAUSTED, "'local-lvm' has 10 bytes left of the 100"),
    (
        "locked with task",
        REFUSED,
        Facts(lock="backup", holder=UPID),
        Code.FAILED_PRECONDITION,
        f"(backup), task {UPID}",
    ),
    ("locked without", FAILED, Facts(lock="snapshot"), Code.FAILED_PRECONDITION, "pct unlock"),
    (
        "token refused",
        LoginFailed("refused the login", status=401),
        Facts(),
        Code.FAILED_PRECONDITION,
        "refused the login",
    ),
    (
        "privilege missing",
        MissingPrivilege("lacks the privilege VM.Allocate on /vms", privilege="VM.Allocate", path="/vms"),
        Facts(),
        Code.FAILED_PRECONDITION,
        "VM.Allocate",
    ),
    (
        "parameter refused",
        InvalidSpec("memory", "too small"),
        Facts(),
        Code.FAILED_PRECONDITION,
        "refuses memory: too small",
    ),
    ("task failed", FAILED, Facts(), Code.INTERNAL, "extracting archive | no space on device"),
    (
        "task goes on",
        TaskTimeout("has not ended, goes on as " + UPID, upid=UPID),
        Facts(),
        Code.DEADLINE_EXCEEDED,
        UPID,
    ),
    ("request refused", REFUSED, Facts(), Code.INTERNAL, "boom"),
    (
        "enough room",
        FAILED,
        Facts(free_bytes=100, space=Space("local-lvm", 100)),
        Code.INTERNAL,
        "its log ends",
    ),
]


@pytest.mark.parametrize(
    ("exc", "facts", "code", "said"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_failures_table(exc: Exception, facts: Facts, code: Code, said: str) -> None:
    error = failures.explained("container web cannot be created", exc, facts)
    if isinstance(error, failures.StorageFull):
        error.__cause__ = failures._no_space(exc)
    assert status_of(error) is code
    assert said in str(error)
    if isinstance(error, CoreError):
        assert str(error).startswith("container web cannot be created: ")


def test_failures_task_names_its_upid_once_and_not_its_end_again() -> None:
    error = failures.explained("x", FAILED, Facts())
    assert str(error).count(UPID) == 1
    assert "TASK ERROR" not in str(error)
    assert isinstance(error, TaskFailed)
    assert error.upid == UPID


def test_failures_keep_the_kind_of_an_os_error() -> None:
    exc = OSError(errno.ENOSPC, "full")
    assert failures.explained("x", exc, Facts(has_quorum=True)) is exc


def test_failures_tail_is_bounded() -> None:
    exc = TaskFailed("x", upid=UPID, exitstatus="bad", log_tail=[f"{n} " + "y" * 400 for n in range(20)])
    tail = failures.log_tail(exc)
    assert len(tail) <= 1201
    assert tail.startswith("…")
    assert "19 yyy" in tail


class _Client:
    """Answers what a test says; the rest is refused."""

    def __init__(self, answers: dict[str, t.Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def get(self, path: str | t.Sequence[str | int], **params: t.Any) -> t.Any:
        key = path if isinstance(path, str) else "/" + "/".join(map(str, path))
        self.asked.append(key)
        answer = self.answers.get(key)
        if answer is None:
            raise ApiError(f"GET {key} is refused", status=500)
        return answer


class _Node:
    name = "pve1"

    def __init__(self, config_dir: pathlib.Path, **answers: t.Any) -> None:
        self.client = _Client({path.replace("__", "/"): answer for path, answer in answers.items()})
        self.config_dir = str(config_dir)


def _raised(node: t.Any, exc: Exception, **asked: t.Any) -> Exception:
    with pytest.raises((CoreError, OSError)) as caught, failures.named(node, "it cannot be done", **asked):
        raise exc
    return caught.value


def test_named_asks_nobody_when_nobody_answers(tmp_path: pathlib.Path) -> None:
    node = _Node(tmp_path)
    error = _raised(node, ApiError("gone", status=595), vmid=100, space=Space("s", 1))
    assert isinstance(error, Unavailable)
    assert node.client.asked == []


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"nodename": "pve1", "cluster": {"quorate": 0}}, Code.UNAVAILABLE),
        ({"nodename": "pve1", "cluster": {"quorate": 1}}, Code.INTERNAL),
        ({"nodename": "pve1", "version": 4}, Code.INTERNAL),
    ],
    ids=["lost", "quorate", "single"],
)
def test_named_reads_the_quorum_from_the_cluster_file_system(
    tmp_path: pathlib.Path, members: dict[str, t.Any], code: Code
) -> None:
    (tmp_path / ".members").write_text(json.dumps(members))
    node = _Node(tmp_path)
    assert status_of(_raised(node, REFUSED)) is code
    assert "/cluster/status" not in node.client.asked


def test_named_asks_for_the_quorum_where_no_file_tells(tmp_path: pathlib.Path) -> None:
    node = _Node(tmp_path, __cluster__status=[{"type": "node"}, {"type": "cluster", "quorate": 0}])
    assert status_of(_raised(node, REFUSED)) is Code.UNAVAILABLE


def test_named_believes_the_text_when_nothing_else_tells(tmp_path: pathlib.Path) -> None:
    exc = ApiError("POST failed: cluster not ready - no quorum?", status=500)
    assert isinstance(_raised(_Node(tmp_path), exc), Unavailable)


def test_named_finds_lock_and_task(tmp_path: pathlib.Path) -> None:
    node = _Node(
        tmp_path,
        __cluster__status=[{"type": "cluster", "quorate": 1}],
        __nodes__pve1__lxc__100__status__current={"lock": "backup"},
        __nodes__pve1__tasks=[{"upid": UPID}],
    )
    error = _raised(node, FAILED, vmid=100)
    assert status_of(error) is Code.FAILED_PRECONDITION
    assert "(backup)" in str(error)
    assert UPID in str(error)


def test_named_looks_at_the_room_of_the_storage(tmp_path: pathlib.Path) -> None:
    node = _Node(tmp_path, **{"__nodes__pve1__storage__local-lvm__status": {"avail": 10}})
    error = _raised(node, FAILED, space=Space("local-lvm", 4096))
    assert status_of(error) is Code.RESOURCE_EXHAUSTED
    # What Proxmox VE said stays at the end of the chain.
    assert error.__cause__ is not None
    assert error.__cause__.__cause__ is FAILED


def test_named_lets_other_errors_pass(tmp_path: pathlib.Path) -> None:
    exc = NotFound("gone")
    assert _raised(_Node(tmp_path), exc, vmid=100) is exc
