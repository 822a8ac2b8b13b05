# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serving the launcher: whom, how long, and what is said when it fails.  Threads play the launcher."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    CoreError,
    InvalidSpec,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import memory_file
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import block, handover, peers
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.launcher import Stage

_LONG_S = 20.0


@pytest.fixture
def path() -> t.Iterator[str]:
    """The path of a socket."""
    with tempfile.TemporaryDirectory(prefix="pvecri-") as directory:
        yield f"{directory}/s"


@pytest.fixture
def handles() -> t.Iterator[list[int]]:
    """Three streams and a block."""
    made = [*os.pipe(), os.open(os.devnull, os.O_RDWR), memory_file("block", block.encode({"args": ["/p"]}))]
    yield made
    for handle in made:
        os.close(handle)


class _Guest:
    """Connects as a launcher would, after ``first``, and does what ``then`` does."""

    def __init__(
        self, path: str, then: t.Callable[[socket.socket], object], first: t.Callable[[], object] = int
    ) -> None:
        self._path = path
        self._first = first
        self._then = then
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._first()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(self._path)
            with contextlib.suppress(OSError):
                self._then(connection)

    def __enter__(self) -> _Guest:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._thread.join()


def _take(connection: socket.socket) -> list[int]:
    data, received, _flags, _address = socket.recv_fds(connection, 16, 8)
    assert data == b"\0"
    for handle in received:
        os.close(handle)
    return received


def _fail(stage: int, number: int) -> t.Callable[[socket.socket], object]:
    def fail(connection: socket.socket) -> None:
        _take(connection)
        connection.send(struct.pack("<II", stage, number))

    return fail


def _listen(path: str) -> handover.Listener:
    return handover.listen(path, os.geteuid(), os.getegid())


def _give(listener: handover.Listener, handles: list[int], **options: t.Any) -> handover.Started:
    timeout_s = options.pop("timeout_s", _LONG_S)
    return listener.give(handles[:3], handles[3], timeout_s, lambda pid: pid == os.getpid(), **options)


def test_give_hands_over_four_descriptors_and_sees_the_start(path: str, handles: list[int]) -> None:
    received: list[int] = []
    with _listen(path) as listener:
        assert os.stat(path).st_mode & 0o777 == 0o600
        with _Guest(path, lambda connection: received.extend(_take(connection))):
            started = _give(listener, handles)
        assert started.pid == os.getpid()
        assert not peers.is_over(started.pidfd)
        os.close(started.pidfd)
    assert len(received) == 4
    assert not os.path.exists(path)


def test_give_says_where_the_launcher_failed(path: str, handles: list[int]) -> None:
    with (
        _listen(path) as listener,
        _Guest(path, _fail(Stage.PROGRAM, errno.ENOENT)),
        pytest.raises(handover.StartFailed) as caught,
    ):
        _give(listener, handles)
    assert (caught.value.stage, caught.value.errno) == (10, errno.ENOENT)
    assert "No such file" in str(caught.value)


def test_give_turns_others_away_and_serves_the_one_awaited(path: str, handles: list[int]) -> None:
    with _listen(path) as listener:
        script = (
            "import socket, sys\n"
            "for _attempt in range(3):\n"
            "    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            "    peer.connect(sys.argv[1])\n"
            "    peer.setblocking(_attempt < 2)\n"
            "    try: data, handles, _, _ = socket.recv_fds(peer, 16, 8)\n"
            "    except OSError: continue\n"
            "    assert (data, handles) == (b'', [])\n"
        )
        with subprocess.Popen([sys.executable, "-c", script, path]) as stranger:
            with _Guest(path, _take, first=stranger.wait):
                started = _give(listener, handles)
            os.close(started.pidfd)
            assert stranger.wait(_LONG_S) == 0


def test_give_serves_nobody_of_another_user(path: str, handles: list[int]) -> None:
    with handover.listen(path, os.geteuid(), os.getegid()) as listener:
        listener._uid += 1
        with (
            _Guest(path, lambda connection: connection.recv(1)),
            pytest.raises(CommandTimeout, match=r"within 0.2 s"),
        ):
            _give(listener, handles[2:3] * 3 + handles[3:], timeout_s=0.2)


def test_give_gives_up_in_time(path: str, handles: list[int]) -> None:
    with _listen(path) as listener, pytest.raises(CommandTimeout):
        _give(listener, handles, timeout_s=0.05)
    with _listen(path) as listener:
        done = threading.Event()
        with _Guest(path, lambda connection: (_take(connection), done.wait(_LONG_S))):
            with pytest.raises(CommandTimeout):
                _give(listener, handles, timeout_s=0.2)
            done.set()


def test_give_gives_up_when_who_starts_the_launcher_has_ended(path: str, handles: list[int]) -> None:
    with subprocess.Popen(["true"]) as child:
        pidfd = os.pidfd_open(child.pid)
        with _listen(path) as listener, pytest.raises(WrongState, match="did not let the command in"):
            _give(listener, handles, child=pidfd)
        os.close(pidfd)


def test_give_is_for_one(path: str, handles: list[int]) -> None:
    with _listen(path) as listener:
        with _Guest(path, _take):
            os.close(_give(listener, handles).pidfd)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as late,
            pytest.raises(FileNotFoundError),
        ):
            late.connect(path)


def test_give_closes_all_when_the_peer_is_gone(path: str, handles: list[int]) -> None:
    gone = threading.Event()

    def expect(_pid: int) -> bool:
        # It has connected; now it goes.
        assert gone.wait(_LONG_S)
        return True

    with _listen(path) as listener:
        guest = _Guest(path, lambda connection: (connection.close(), gone.set()))
        with guest, pytest.raises(WrongState, match="ended before"):
            listener.give(handles[:3], handles[3], _LONG_S, expect)


def test_give_raises_what_expect_does(path: str, handles: list[int]) -> None:
    def expect(_pid: int) -> bool:
        raise CoreError("no limits")

    with (
        _listen(path) as listener,
        _Guest(path, lambda connection: connection.recv(1)),
        pytest.raises(CoreError, match="no limits"),
    ):
        listener.give(handles[:3], handles[3], _LONG_S, expect)


def test_listen_replaces_what_is_left_of_another(path: str) -> None:
    _listen(path)._listener.close()
    assert os.path.exists(path)
    with _listen(path):
        assert os.path.exists(path)


def test_listen_refuses_what_is_no_path_of_a_socket() -> None:
    with pytest.raises(InvalidSpec):
        handover.listen("/" + "x" * 107, 0, 0)


def test_streams_of_the_host_stay_its_own(handles: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[tuple[int, int, int]] = []
    modes: list[tuple[int, int]] = []
    monkeypatch.setattr(peers.os, "fchown", lambda *args: changed.append(args))
    monkeypatch.setattr(peers.os, "fchmod", lambda *args: modes.append(args))
    memory = memory_file("block", block.encode({"args": ["/p"], "user": {"uid": 7, "gid": 8}}))
    controller, terminal = os.openpty()
    peers.give_streams([*handles[:3], terminal, handles[0]], memory, 100000, 200000)
    assert sorted(changed) == sorted(
        [(handles[0], 100007, 200008), (handles[1], 100007, 200008), (terminal, 100007, 200005)]
    )
    assert modes == [(terminal, 0o620)]
    for handle in (memory, controller, terminal):
        os.close(handle)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        pytest.param('{"pid": 7, "start_time": 9}', handover.Answer(pid=7, start_time=9), id="begun"),
        pytest.param(
            '{"pid": 7, "start_time": 9, "started_at": 1.5, "new": 1}',
            handover.Answer(pid=7, start_time=9, started_at=1.5),
            id="of-a-later-version",
        ),
        pytest.param("{", None, id="half"),
        pytest.param("[]", None, id="list"),
        pytest.param("{}", None, id="empty"),
    ],
)
def test_read_answer(tmp_path: pathlib.Path, content: str, answer: handover.Answer | None) -> None:
    path = tmp_path / "answer"
    assert handover.read_answer(str(path)) is None
    path.write_text(content)
    assert handover.read_answer(str(path)) == answer


@pytest.mark.parametrize(
    ("facts", "is_final"),
    [({}, False), ({"started_at": 0.0}, True), ({"stage": 0, "errno": 13}, True), ({"refused": "x"}, True)],
    ids=["begun", "started", "failed", "refused"],
)
def test_answer_is_final(tmp_path: pathlib.Path, facts: dict[str, t.Any], is_final: bool) -> None:
    path = tmp_path / "answer"
    path.write_text(json.dumps({"pid": 7, "start_time": 9, **facts}))
    answer = handover.read_answer(str(path))
    assert answer is not None
    assert answer.is_final is is_final


_PROCESS = {"args": ["prog"], "cwd": "/work", "user": {"uid": 70000, "gid": 8, "additionalGids": [5, 6]}}


@pytest.mark.parametrize(
    ("stage", "number", "field", "words"),
    [
        (Stage.PROGRAM, errno.ENOENT, "process.args", "'prog' is not in the container"),
        (Stage.PROGRAM, errno.ENOTDIR, "process.args", "'prog' is not in the container"),
        (Stage.PROGRAM, errno.EACCES, "process.args", "'prog' cannot be executed"),
        (Stage.PROGRAM, errno.EPERM, "process.args", "'prog' may not be executed"),
        (Stage.PROGRAM, errno.ENOEXEC, "process.args", "no program for this host"),
        (Stage.PROGRAM, errno.E2BIG, "process.args", "longer than the kernel takes"),
        (Stage.PROGRAM, errno.ELOOP, "process.args", "Too many levels of symbolic links"),
        (Stage.DIRECTORY, errno.ENOENT, "process.cwd", "'/work' is no directory of the container"),
        (Stage.DIRECTORY, errno.ENOTDIR, "process.cwd", "'/work' is no directory"),
        (Stage.DIRECTORY, errno.EACCES, "process.cwd", "may not be entered by user 70000"),
        (Stage.DIRECTORY, errno.ESTALE, "process.cwd", "cannot be the working directory: Stale"),
        (Stage.USER, errno.EINVAL, "process.user.uid", "user 70000 could not be taken on: Invalid"),
        (Stage.GROUP, errno.EINVAL, "process.user.gid", "group 8 could not be taken on"),
        (Stage.GROUPS, errno.EINVAL, "process.user.additionalGids", "groups 5, 6 could not"),
        (Stage.CAPABILITIES, errno.EPERM, "process.capabilities", "Operation not permitted"),
        (Stage.NO_NEW_PRIVILEGES, errno.EINVAL, "process.noNewPrivileges", "ruled out"),
        (Stage.READ_ONLY_ROOT, errno.EPERM, "root.readonly", "read-only"),
    ],
)
def test_explained_names_the_field(stage: Stage, number: int, field: str, words: str) -> None:
    error = handover.explained(stage, number, _PROCESS)
    assert isinstance(error, InvalidSpec)
    assert error.field == field
    assert words in str(error)
    assert error.hint


@pytest.mark.parametrize(
    ("stage", "number", "kind", "words"),
    [
        (Stage.STREAMS, errno.EACCES, Unsupported, "AppArmor"),
        (Stage.BLOCK, errno.ENOMEM, CommandError, "what to run: Cannot allocate"),
        (Stage.TERMINAL, errno.ENOTTY, CommandError, "terminal"),
        (4711, 1 << 31, CommandError, "stage 4711: error 2147483648"),
    ],
)
def test_explained_tells_what_no_field_is_to_blame_for(
    stage: int, number: int, kind: type[CoreError], words: str
) -> None:
    error = handover.explained(stage, number, {})
    assert isinstance(error, kind)
    assert words in str(error)


def test_explained_takes_any_stage_without_a_process() -> None:
    for stage in range(12):
        assert str(handover.explained(stage, errno.EINVAL, {}))


@pytest.mark.parametrize(
    ("stage", "number", "code"),
    [
        (Stage.PROGRAM, errno.ENOENT, 127),
        (Stage.PROGRAM, errno.ENOTDIR, 127),
        (Stage.PROGRAM, errno.EACCES, 126),
        (Stage.PROGRAM, errno.ENOEXEC, 126),
        (Stage.DIRECTORY, errno.ENOENT, None),
    ],
)
def test_shell_code(stage: Stage, number: int, code: int | None) -> None:
    assert handover.shell_code(stage, number) == code
