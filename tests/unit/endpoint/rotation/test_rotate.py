# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what becomes of a log when its endpoint does or does not answer."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict
from ansible_collections.pvecri.runtime.tests.support.fake_endpoint import CLOSE, FakeEndpoint
from pvecri import cli
from pvecri.api import cri_pb2 as pb
from pvecri.client.client import Client
from pvecri.client.errors import NoEndpoint
from pvecri.rotation import rotate
from pvecri.rotation.files import LogFiles
from pvecri.rotation.rotate import Outcome, rotate_all
from pvecri.rpc.status import Code


class Node:
    """An endpoint with one container, whose log a test may hold open as conmon does."""

    def __init__(self, place: pathlib.Path) -> None:
        self.logs = place / "logs"
        self.logs.mkdir()
        self.log = self.logs / "app.log"
        self.log.write_text("x" * 100)
        self.state = pb.CONTAINER_RUNNING
        self.log_path = str(self.log)
        self.reopen: t.Any = self._reopen
        self.endpoint = FakeEndpoint(
            str(place / "s"),
            {
                "ListContainers": pb.ListContainersResponse(containers=[pb.Container(id="c" * 64)]),
                "ContainerStatus": lambda _request: pb.ContainerStatusResponse(
                    status=pb.ContainerStatus(state=self.state, log_path=self.log_path)
                ),
                "ReopenContainerLog": self._asked,
            },
        )

    def _asked(self, request: t.Any) -> t.Any:
        # Tests put another one in its place.
        return self.reopen(request)

    def _reopen(self, _request: t.Any) -> t.Any:
        self.log.write_text("new")
        return pb.ReopenContainerLogResponse()

    def rotate(self, max_bytes: int = 10) -> Outcome:
        with Client(self.endpoint.path) as client:
            return rotate_all(client, max_bytes=max_bytes, max_files=3)

    @property
    def names(self) -> list[str]:
        return sorted(os.listdir(self.logs))


@pytest.fixture
def node(tmp_path: pathlib.Path) -> t.Iterator[Node]:
    made = Node(tmp_path)
    with made.endpoint:
        yield made


def test_rotate_moves_and_reopens(node: Node) -> None:
    outcome = node.rotate()
    assert outcome.problems == []
    assert outcome.done[0].startswith(f"{node.log}: 100 bytes moved to app.log.2")
    assert (len(node.names), node.log.read_text()) == (2, "new")
    for number in range(3):
        node.log.write_text("y" * 100)
        outcome = node.rotate()
        assert ("1 older removed" in outcome.done[0]) is (number > 0)
    assert [name.endswith(".gz") for name in node.names] == [False, True, False]


@pytest.mark.parametrize(
    ("change", "value"),
    [("state", pb.CONTAINER_EXITED), ("log_path", ""), ("log_path", "/none/app.log")],
)
def test_logs_that_nobody_writes_stay(node: Node, change: str, value: t.Any) -> None:
    setattr(node, change, value)
    assert node.rotate() == Outcome()
    assert node.names == ["app.log"]


def test_small_logs_and_links_stay(node: Node) -> None:
    assert node.rotate(100) == Outcome()
    os.rename(node.log, node.logs / "other")
    os.symlink("other", node.log)
    assert node.rotate() == Outcome()


def test_container_that_went_meanwhile_is_no_problem(node: Node) -> None:
    node.endpoint.answers["ContainerStatus"] = (Code.NOT_FOUND, "it is gone")
    assert node.rotate() == Outcome()
    node.endpoint.answers["ContainerStatus"] = (Code.INTERNAL, "broken")
    assert node.rotate().problems == [
        "container " + "c" * 13 + ": ContainerStatus was answered INTERNAL: broken"
    ]


@pytest.mark.parametrize("has_conmon", [True, False])
@pytest.mark.parametrize(
    ("answer", "is_told"),
    [
        ((Code.UNAVAILABLE, "stopping"), False),
        ((Code.DEADLINE_EXCEEDED, "conmon did not reopen the log"), True),
        ((Code.FAILED_PRECONDITION, "it ended meanwhile"), True),
    ],
)
def test_log_goes_back_only_when_nobody_can_replace_it(
    node: Node, answer: t.Any, is_told: bool, has_conmon: bool
) -> None:
    node.reopen = lambda _request: answer
    with open(node.log, "a", encoding="ascii") if has_conmon else open(os.devnull, encoding="ascii"):
        outcome = node.rotate()
    assert len(outcome.problems) == 1
    assert (node.names == ["app.log"]) is not (is_told and has_conmon)


def test_endpoint_that_goes_meanwhile_ends_the_run(node: Node) -> None:
    node.reopen = lambda _request: CLOSE
    with open(node.log, "a", encoding="ascii"), pytest.raises(NoEndpoint):
        node.rotate()
    assert node.names[0].startswith("app.log.2")
    # It is back: the next run goes on.
    node.reopen = node._reopen
    assert node.rotate().done == [f"{node.log}: begun anew, its file was not there"]
    assert len(node.names) == 2


def test_log_of_one_that_ended_is_put_back(node: Node) -> None:
    moved = node.logs / "app.log.20260101-010101"
    node.state = pb.CONTAINER_EXITED
    os.rename(node.log, moved)
    with open(moved, "a", encoding="ascii"):
        assert node.rotate() == Outcome()
    assert node.rotate().done == [f"{node.log}: back in its place, its container has ended"]
    assert node.names == ["app.log"]
    os.rename(node.log, f"{moved}.gz")
    assert node.rotate() == Outcome()
    os.unlink(f"{moved}.gz")
    assert node.rotate() == Outcome()


def test_two_runs_do_not_meet(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotate, "_OTHERS_S", 0.05)
    reopen = node.reopen

    def rotate_again(request: t.Any) -> t.Any:
        with Client(node.endpoint.path) as client, pytest.raises(Conflict, match="the logs of containers"):
            rotate_all(client, max_bytes=10, max_files=3)
        return reopen(request)

    node.reopen = rotate_again
    assert node.rotate().problems == []


def test_who_may_look_into_a_log_directory_keeps_no_run_out(node: Node) -> None:
    with contextlib.ExitStack() as stack:
        for path in (node.logs, node.log):
            handle = os.open(path, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        assert len(node.rotate().done) == 1


def test_trouble_with_files_is_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: LogFiles, but: str) -> t.NoReturn:
        raise OSError(28, "No space left on device", "/x")

    monkeypatch.setattr(LogFiles, "pack", refuse)
    assert node.rotate().problems == ["container " + "c" * 13 + ": /x: No space left on device"]


def test_no_log_waits_for_what_is_packed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def pack(log: LogFiles, but: str) -> None:
        assert node.names == ["app.log", os.path.basename(but)]
        assert sum(name == "ReopenContainerLog" for name, _request in node.endpoint.calls) == 1
        packed.append(log.path)

    packed: list[str] = []
    monkeypatch.setattr(LogFiles, "pack", pack)
    assert node.rotate().problems == []
    assert packed == [str(node.log)]


def test_command(node: Node, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    command = ["logs", "rotate", "--max-size", "10B", "--socket", node.endpoint.path]
    assert cli.main(command) == 0
    assert " bytes moved to app.log.2" in capsys.readouterr().out
    node.endpoint.answers["ContainerStatus"] = (Code.INTERNAL, "broken")
    assert cli.main(command) == 1
    assert "INTERNAL: broken" in capsys.readouterr().err
    config = tmp_path / "c.toml"
    config.write_text(f'[server]\nsocket = "{tmp_path}/none"\n')
    assert cli.main(["logs", "rotate", "--config", str(config)]) == 3
    assert "there is no such socket" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "size"), [("10MiB", 10 << 20), ("1", 1), ("10Mi", 10 << 20), ("2k", 2048)])
def test_sizes(text: str, size: int) -> None:
    assert cli._size(text) == size


@pytest.mark.parametrize("text", ["", "0", "x", "-1", "10 parsecs", "0.1"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        cli._size(text)


def test_numbers_of_files() -> None:
    assert cli._files("2") == 2
    for text in ("1", "x", "-3", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="no number from 2 on"):
            cli._files(text)
