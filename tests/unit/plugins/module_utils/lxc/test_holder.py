# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The holder within the process of the test; a process that is in no container asks it what to run."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.files import memory_file
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import (
    block,
    endings,
    holder,
    monitord,
    peers,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.monitord import Message

_PEER = """
import socket, struct, sys
path, stage, code = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
peer.connect(path)
data, handles, _flags, _address = socket.recv_fds(peer, 16, 8)
if stage:
    peer.send(struct.pack("<II", stage, 2))
assert len(handles) == 4
peer.close()
sys.exit(code)
"""


class Place:
    """A holder's files and streams."""

    def __init__(self, top: pathlib.Path) -> None:
        self.top = top
        self.settings: dict[str, t.Any] = {
            "block": str(top / "block"),
            "owner_uid": os.geteuid(),
            "owner_gid": os.getegid(),
            "socket": str(top / "init"),
            "lxc_path": str(top / "ct"),
            "name": "100001",
            # Any group will do.
            "cgroup": "",
            "oom": [],
            "answer": str(top / "answer"),
            "oom_file": str(top / "oom"),
            "console": str(top / "console"),
        }
        (top / "block").write_bytes(block.encode({"args": ["/p"]}))

    def write(self) -> None:
        """Write the settings."""
        (self.top / "holder.json").write_text(json.dumps(self.settings))

    def run(self, *, stage: int = 0, code: int = 0, conmon: int | None = None) -> int:
        """Let the holder serve a peer that fails at a stage or ends with a code."""
        listener = peers.listen(self.settings["socket"], os.geteuid(), os.getegid())
        argv = [sys.executable, "-I", "-S", "-c", _PEER, self.settings["socket"], str(stage), str(code)]
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as peer:
            waiter = threading.Thread(target=peer.wait)
            waiter.start()
            pidfd = os.pidfd_open(os.getpid() if conmon is None else conmon)
            null = os.open(os.devnull, os.O_RDWR)
            memory = memory_file("block", block.encode({"args": ["/p"]}))
            made = holder._Holder(self.settings, [null] * 3, memory, pidfd)
            ended = made.run(listener)
            waiter.join()
            os.close(pidfd)
            return ended

    def told(self) -> dict[str, t.Any]:
        """Return the answer."""
        return t.cast("dict[str, t.Any]", json.loads((self.top / "answer").read_text()))


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Place]:
    """A place in which every process counts as a container's first, and the test keeps its streams."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="pvecri-"))
    monkeypatch.setattr(peers, "is_first_process", lambda _pid: True)
    monkeypatch.setattr(holder.os, "dup2", lambda *_handles: None)
    yield Place(top)
    shutil.rmtree(top)


def _reaped(monkeypatch: pytest.MonkeyPatch, status: int | None) -> None:
    """Let the kernel tell this of processes that have ended."""
    monkeypatch.setattr(endings, "exit_status", lambda _pidfd: status)


def test_holder_ends_with_the_exit_code(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _reaped(monkeypatch, 7 << 8)
    assert place.run(code=7) == 7
    told = place.told()
    assert (told["exit_code"], told["exit_source"]) == (7, "pidfd")
    assert told["pid"] > 1
    assert told["start_time"] > 0
    assert told["started_at"] <= told["ended_at"]
    assert not os.path.exists(place.settings["socket"])
    assert not (place.top / "oom").exists()


def test_holder_marks_want_of_memory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _reaped(monkeypatch, 9)
    (place.top / "memory.events").write_text("oom_kill 1\n")
    place.settings["oom"] = [str(place.top / "memory.events")]
    assert place.run(code=1) == 137
    assert (place.top / "oom").exists()


def test_holder_takes_back_a_mark_that_is_not_the_containers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _reaped(monkeypatch, 9)
    (place.top / "memory.events").write_text("oom_kill 0\n")
    place.settings["oom"] = [str(place.top / "memory.events")]
    (place.top / "oom").touch()
    assert place.run(code=1) == 137
    assert not (place.top / "oom").exists()


def test_holder_tells_where_the_launcher_failed(place: Place) -> None:
    assert place.run(stage=10, code=127) == holder.NEVER_STARTED
    told = place.told()
    assert (told["stage"], told["errno"]) == (10, 2)
    assert "started_at" not in told


def test_holder_tells_that_nobody_could_be_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def pass_on(*_args: object, **_options: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(peers, "pass_on", pass_on)
    assert place.run() == holder.NEVER_STARTED
    assert "Broken pipe" in place.told()["refused"]


def test_holder_goes_when_conmon_is_gone(place: Place) -> None:
    with subprocess.Popen(["true"]) as gone:
        pidfd = os.pidfd_open(gone.pid)
    listener = peers.listen(place.settings["socket"], os.geteuid(), os.getegid())
    made = holder._Holder(place.settings, [], -1, pidfd)
    assert made.run(listener) == holder.NEVER_STARTED
    assert not os.path.exists(place.settings["socket"])
    os.close(pidfd)


@pytest.mark.parametrize(
    ("messages", "code", "source"),
    [
        pytest.param([Message(2, "100002", 0), Message(2, "100001", 5 << 8)], 5, "monitord", id="told"),
        pytest.param([Message(0, "100002", 0), Message(0, "100001", 0)], 255, "unknown", id="stopped"),
        pytest.param([Message(0, "100001", 3)], 255, "unknown", id="late"),
    ],
)
def test_holder_asks_lxc_monitord(
    place: Place, monkeypatch: pytest.MonkeyPatch, messages: list[Message], code: int, source: str
) -> None:
    _reaped(monkeypatch, None)
    monkeypatch.setattr(holder, "_REPORT_S", 0.2)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(monitord.address(place.settings["lxc_path"]))
        listener.listen(1)

        def serve() -> None:
            connection, _address = listener.accept()
            with connection:
                for message in messages:
                    connection.sendall(
                        monitord._MESSAGE.pack(message.kind, message.name.encode(), message.value)
                    )

        server = threading.Thread(target=serve)
        server.start()
        assert place.run() == code
        server.join()
    told = place.told()
    assert told["exit_source"] == source
    assert told["exit_code"] == (None if source == "unknown" else code)


def test_holder_hears_what_is_told_while_the_container_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _reaped(monkeypatch, None)
    reader, writer = os.pipe()
    monkeypatch.setattr(monitord.Reports, "connect", lambda _self: True)
    monkeypatch.setattr(monitord.Reports, "fileno", lambda _self: reader)
    os.write(writer, b"x")

    def read(_self: object) -> list[Message]:
        return [Message(monitord.EXIT_CODE, "100001", 3 << 8)]

    monkeypatch.setattr(monitord.Reports, "read", read)
    assert place.run() == 3
    os.close(reader)
    os.close(writer)


class _Ended(Exception):
    """The end of a process that goes on."""


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> t.Callable[[int, bytes], None]:
    """Choose which of both processes the test is, and what the other one has said."""

    def leave(code: int) -> t.NoReturn:
        raise _Ended(code)

    def choose(pid: int, said: bytes) -> None:
        def pipe() -> tuple[int, int]:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.write(writer, said)
            return reader, writer

        monkeypatch.setattr(holder.os, "pipe", pipe)
        monkeypatch.setattr(holder.os, "fork", lambda: pid)
        monkeypatch.setattr(holder.os, "_exit", leave)
        monkeypatch.setattr(holder.os, "setsid", lambda: None)
        monkeypatch.setattr(holder.os, "chdir", lambda _path: None)
        monkeypatch.setattr(peers, "give_streams", lambda *_args: None)
        monkeypatch.setattr(holder, "_NAME", os.devnull)

    return choose


def _main(place: Place, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    argv = ["holder.py", "create", "--bundle", "/nowhere", "--bundle", str(place.top)]
    monkeypatch.setattr(sys, "argv", [*argv, "--pid-file", str(place.top / "pid"), *more, "ID"])
    holder.main()


def test_create_leaves_the_process_id(
    place: Place, forked: t.Callable[[int, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write()
    forked(4711, b"")
    with pytest.raises(_Ended, match="0"):
        _main(place, monkeypatch)
    assert (place.top / "pid").read_text() == "4711"


def test_create_stays_when_its_starter_is_done(
    place: Place, forked: t.Callable[[int, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write()
    forked(0, b"\0")
    monkeypatch.setattr(holder._Holder, "run", lambda _self, _listener: 42)
    with pytest.raises(_Ended, match="42"):
        _main(place, monkeypatch)


def test_create_goes_when_its_starter_was_killed(
    place: Place, forked: t.Callable[[int, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write()
    forked(0, b"")
    monkeypatch.setattr(holder._Holder, "run", lambda _self, _listener: 42)
    with pytest.raises(_Ended, match="127"):
        _main(place, monkeypatch)


def test_create_sends_the_terminal_and_tells_its_number(
    place: Place, forked: t.Callable[[int, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write()
    forked(4711, b"")
    with socket.socket(socket.AF_UNIX) as console:
        console.bind(str(place.top / "console.sock"))
        console.listen(1)
        with pytest.raises(_Ended):
            _main(place, monkeypatch, "--console-socket", str(place.top / "console.sock"))
        connection, _address = console.accept()
        with connection:
            name, handles, _flags, _from = socket.recv_fds(connection, 100, 2)
    (controller,) = handles
    assert os.isatty(controller)
    assert name.decode() == f"/dev/pts/{(place.top / 'console').read_text()}"
    os.close(controller)


@pytest.mark.parametrize(
    ("settings", "words"), [(None, "holder.json"), ("{", "holder: "), ("{}", "owner_uid")]
)
def test_create_says_what_it_lacks(
    place: Place, monkeypatch: pytest.MonkeyPatch, settings: str | None, words: str
) -> None:
    if settings is not None:
        (place.top / "holder.json").write_text(settings)
    with pytest.raises(SystemExit, match=words):
        _main(place, monkeypatch)


@pytest.mark.parametrize("argv", [[], ["delete", "ID"], ["kill", "ID", "9"], ["state", "ID"]])
def test_other_commands_have_nothing_to_do(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["holder.py", *argv])
    holder.main()


def test_create_needs_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["holder.py", "create", "--bundle"])
    with pytest.raises(SystemExit, match="--pid-file"):
        holder.main()


def test_holder_needs_no_site_packages() -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", holder.PATH, "state"], check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_holder_writes_files_of_the_cgroup_before_the_program_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _reaped(monkeypatch, 0)
    wanted = [[str(place.top / "nowhere" / "memory.max"), "1"], [str(place.top / "memory.max"), "64"]]
    (place.top / "writes").write_text(json.dumps(wanted))
    place.settings["writes"] = str(place.top / "writes")
    assert place.run() == 0
    assert (place.top / "memory.max").read_text() == "64"


def _full(monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Let no file be written any more after so many."""
    replace, written = holder._replace, []

    def refuse(path: str, text: str) -> None:
        if len(written) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        replace(path, text)

    monkeypatch.setattr(holder, "_replace", refuse)


@pytest.mark.parametrize("after", [1, 2])
def test_holder_ends_with_the_exit_code_on_a_full_disk(
    place: Place, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    _reaped(monkeypatch, 7 << 8)
    _full(monkeypatch, after=after)
    (place.top / "memory.events").write_text("oom_kill 1\n")
    place.settings["oom"] = [str(place.top / "memory.events")]
    place.settings["oom_file"] = str(place.top / "nowhere" / "oom")
    assert place.run(code=7) == 7
    told = place.told()
    assert (told["exit_code"], told["exit_source"]) == (7, "pidfd")
    assert told["started_at"] <= told["ended_at"]


def test_holder_starts_nothing_that_it_cannot_tell_of(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _full(monkeypatch, after=0)
    assert place.run() == holder.NEVER_STARTED
    assert not (place.top / "answer").exists()


def test_holder_tells_of_nobody_whose_id_may_be_anothers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "_start_time", lambda _pid: 0)
    assert place.run() == holder.NEVER_STARTED
    assert not (place.top / "answer").exists()


def test_holder_keeps_lxc_monitord_waiting_for_no_first_process(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _reaped(monkeypatch, 0)
    connected = []
    monkeypatch.setattr(monitord.Reports, "connect", lambda _self: connected.append(True))
    accept = peers.accept

    def accepted(*args: t.Any, **options: t.Any) -> peers.Peer | None:
        assert not connected
        return accept(*args, **options)

    monkeypatch.setattr(peers, "accept", accepted)
    assert place.run() == 0
    assert connected
