# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The holder under a real conmon; the container is a PID namespace and no more."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import socket
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import conmon, procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import endings, monitord, peers
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.launcher import Stage
from ansible_collections.pvecri.runtime.tests.support import held
from ansible_collections.pvecri.runtime.tests.support.held import Held
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually


@pytest.fixture
def place() -> t.Iterator[Held]:
    """A holder's files; all that runs is ended."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with held.directory() as top:
        made = Held(top, "100001", str(top / "ct"))
        yield made
        made.end()


def _process(script: str, **fields: t.Any) -> dict[str, t.Any]:
    return {"args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "cwd": "/", **fields}


def test_holder_gives_streams_and_passes_the_exit_code_on(place: Held) -> None:
    answer = place.hold(_process("echo out; echo err >&2; exit 9"))
    assert answer.pid == place.holder_pid()
    assert place.told() is None
    with place.process() as process:
        told = place.answer()
        assert told.started_at is not None
        assert process.wait(held.DEADLINE_S) == 9
    assert place.exit_code() == 9
    assert place.log() == {"stdout": b"out\n", "stderr": b"err\n"}
    told = eventually(lambda: found if (found := place.told()) and found.exit_source else None)
    assert (told.exit_code, told.exit_source) == (9, "pidfd")
    assert told.ended_at is not None
    assert not os.path.exists(place.socket)


def test_holder_tells_a_signal_as_a_shell_would(place: Held) -> None:
    place.hold(_process("sleep 100"))
    with place.process():
        told = place.answer()
        assert procfs.is_same_process(told.pid, told.start_time)
        assert procfs.send_signal(told.pid, told.start_time, signal.SIGKILL)
        assert place.exit_code() == 137


def test_holder_says_why_nothing_was_started(place: Held) -> None:
    place.hold({**_process(""), "args": ["nope"]})
    with place.process() as process:
        told = place.answer()
        assert (told.stage, told.errno, told.started_at) == (Stage.PROGRAM, errno.ENOENT, None)
        assert process.wait(held.DEADLINE_S) == 127
    assert place.exit_code() == 127


def test_holder_serves_nobody_a_second_time(place: Held) -> None:
    place.hold(_process("sleep 100"))
    with place.process() as process:
        told = place.answer()
        with place.process() as again:
            assert again.wait(held.DEADLINE_S) == 127
        assert place.told() == told
        process.kill()
        assert place.exit_code() == 137


def test_holder_turns_away_who_is_not_a_first_process(place: Held) -> None:
    place.hold(_process("exit 3"))
    for _attempt in range(3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.connect(place.socket)
            assert stranger.recv(10) == b""
    assert place.told() is None
    with place.process():
        assert place.exit_code() == 3


def test_holder_turns_away_another_user(place: Held) -> None:
    place.uid = 4711
    place.hold(_process("true"))
    with place.process() as process:
        assert process.wait(held.DEADLINE_S) == 127
    assert place.told() is None
    assert procfs.read_stat(place.holder_pid()) is not None


def test_holder_ends_with_its_conmon_while_it_waits(place: Held) -> None:
    place.hold(_process("true"))
    number = place.holder_pid()
    os.kill(place.conmon_pid, signal.SIGKILL)
    eventually(lambda: (stat := procfs.read_stat(number)) is None or not stat.is_alive)
    assert not os.path.exists(place.socket)
    with place.process() as process:
        assert process.wait(held.DEADLINE_S) == 127


def test_holder_knows_the_exit_code_without_its_conmon(place: Held) -> None:
    place.hold(_process("read x; exit 7"), stdin=True)
    with place.process():
        place.answer()
        os.kill(place.conmon_pid, signal.SIGKILL)
        told = eventually(lambda: found if (found := place.told()) and found.exit_source else None)
    assert told.exit_code == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_container_does_not_start_when_its_holder_was_ended(place: Held, number: signal.Signals) -> None:
    place.hold(_process("true"))
    os.kill(place.holder_pid(), number)
    assert place.exit_code() == 128 + number
    with place.process() as process:
        assert process.wait(held.DEADLINE_S) == 127
    assert place.told() is None


def test_holder_that_is_ended_lets_the_container_go_on(place: Held) -> None:
    place.hold(_process("exec sleep 100"))
    with place.process():
        told = place.answer()
        os.kill(place.holder_pid(), signal.SIGTERM)
        assert place.exit_code() == 143
        # Whoever looks after it knows by this whom to end.
        assert procfs.is_same_process(told.pid, told.start_time)
        assert place.told() == told
        place.end()


#: Ends the holder at one of the lines that a process runs: the one that conmon starts, or the one that stays.
_TRACED = """
if __name__ == "__main__":
    import signal

    left = [int(open(PATH + ".line").read())]
    first, is_stayer = os.getpid(), os.path.exists(PATH + ".stayer")

    def trace(frame, event, _argument):
        if frame.f_code.co_filename != PATH:
            return None
        if event == "line" and (os.getpid() != first) == is_stayer:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    main()
"""


@pytest.mark.parametrize("who", ["starter", "stayer"])
def test_no_program_runs_unseen_when_the_holder_is_killed_at_any_line(
    place: Held, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    _changed(place, monkeypatch, {"holder": [('\nif __name__ == "__main__":\n    main()\n', _TRACED)]})
    path = pathlib.Path(held.holder.PATH)
    if who == "stayer":
        path.with_name("holder.py.stayer").touch()
    ran = place.top / "ran"
    line = 0
    late: list[int] = []
    while True:
        line += 1
        path.with_name("holder.py.line").write_text(str(line))
        try:
            answer = place.hold(_process(f"echo {line} >> {ran}; exit 6"), timeout_s=2.0)
        except CommandTimeout:
            # Killed when it had nothing left to do but to end: conmon is ended by who has waited for it.
            late.append(line)
            answer = conmon.Answer(None)
            os.kill(place.conmon_pid, signal.SIGKILL)
        with place.process() as process:
            code = place.exit_code() if answer.pid is not None else None
            assert process.wait(held.DEADLINE_S) in {6, 127}, line
        # Nobody is served a second time, whoever comes.
        with place.process() as process:
            assert process.wait(held.DEADLINE_S) == 127
        has_run = ran.exists()
        told = place.told()
        assert told is not None or not has_run, line
        assert has_run or told is None or told.started_at is None, line
        if answer.pid is None:
            assert not has_run
            eventually(
                lambda: not procfs.belonging_to(None, str(path)), what=f"the end of the holder, line {line}"
            )
        if code == 6:
            break
        assert code in {None, 137}, line
        place.end()
        place.empty()
        ran.unlink(missing_ok=True)
    assert line > {"starter": 20, "stayer": 40}[who]
    assert late == ([line - 1] if who == "starter" else [])


def test_holder_makes_a_terminal_that_the_container_controls(place: Held) -> None:
    place.uid = 0
    place.hold(_process("tty; stty -echo; read x; echo got $x; exit 4", terminal=True), stdin=True)
    number = (place.monitor_dir / "console").read_text()
    with place.process():
        place.answer()
        conmon.resize_terminal(str(place.monitor_dir / "ctl"), 100, 30)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as attached:
            attached.connect(str(place.top / "s" / "held" / "attach"))
            attached.send(b"word\n")
            assert place.exit_code() == 4
    text = (place.top / "log").read_bytes()
    assert f"/dev/pts/{number}".encode() in text
    assert b"got word" in text


def test_streams_belong_to_the_container_and_dev_null_does_not(place: Held) -> None:
    before = os.stat("/dev/null")
    place.uid = 100000
    place.hold(_process("true", user={"uid": 7, "gid": 8}))
    descriptors = pathlib.Path(f"/proc/{place.holder_pid()}/fd")
    owners = {number: (descriptors / str(number)).stat().st_uid for number in (0, 1, 2)}
    assert owners == {0: before.st_uid, 1: 100007, 2: 100007}
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            lambda made: (made.monitor_dir / "holder.json").unlink(), "holder.json", id="no-settings"
        ),
        pytest.param(lambda made: (made.monitor_dir / "block").unlink(), "block", id="no-block"),
        pytest.param(
            lambda made: (made.monitor_dir / "holder.json").write_text("{"), "holder: ", id="half-settings"
        ),
        pytest.param(
            lambda made: (made.monitor_dir / "holder.json").write_text("{}"), "holder: ", id="empty-settings"
        ),
    ],
)
def test_holder_says_what_it_lacks(place: Held, change: t.Callable[[Held], object], words: str) -> None:
    place.hold(_process("true"))
    place.end()
    change(place)
    answer = place.launch()
    assert answer.pid is None
    assert words in answer.message


class _Monitord:
    """Speaks lxc-monitord's part."""

    def __init__(self, lxc_path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(monitord.address(lxc_path))
        self._listener.listen(4)
        self._clients: list[socket.socket] = []
        self._server = threading.Thread(target=self._serve)
        self._server.start()

    def _serve(self) -> None:
        while True:
            try:
                self._clients.append(self._listener.accept()[0])
            except OSError:
                return

    def tell(self, kind: int, name: str, value: int) -> None:
        """Tell everyone."""
        eventually(lambda: self._clients)
        for client in self._clients:
            client.sendall(monitord._MESSAGE.pack(kind, name.encode(), value))

    def close(self) -> None:
        """Go away."""
        self._listener.shutdown(socket.SHUT_RDWR)
        # Its address is free when nobody waits on it any more.
        self._server.join()
        self._listener.close()
        for client in self._clients:
            client.close()


def _changed(place: Held, monkeypatch: pytest.MonkeyPatch, changes: dict[str, list[tuple[str, str]]]) -> None:
    """Let conmon start a copy of the holder in which words of its files are others."""
    program = pathlib.Path(endings.__file__).parent
    tree = place.top / "ansible_collections/pvecri/runtime/plugins/module_utils/lxc"
    tree.mkdir(parents=True)
    for name in ("__init__", "endings", "holder", "monitord", "peers"):
        text = (program / f"{name}.py").read_text()
        for before, after in changes.get(name, []):
            assert text.count(before) == 1
            text = text.replace(before, after)
        (tree / f"{name}.py").write_text(text)
    monkeypatch.setattr(held.holder, "PATH", str(tree / "holder.py"))


@pytest.fixture
def old_kernel(place: Held, monkeypatch: pytest.MonkeyPatch) -> Held:
    """A holder whose kernel tells nothing of processes that have ended."""
    changes = {
        "endings": [("_PIDFD_INFO_EXIT: t.Final = 8", "_PIDFD_INFO_EXIT: t.Final = 1 << 60")],
        "holder": [
            ("_REPORT_S: t.Final = 10.0", "_REPORT_S: t.Final = 1.0"),
            ("RECONNECT_S: t.Final = 10.0", "RECONNECT_S: t.Final = 0.05"),
        ],
    }
    _changed(place, monkeypatch, changes)
    return place


def test_exit_code_comes_from_lxc_monitord_when_the_kernel_does_not_tell(old_kernel: Held) -> None:
    daemon = _Monitord(old_kernel.lxc_path)
    old_kernel.hold(_process("exit 42"))
    with old_kernel.process():
        old_kernel.answer()
        daemon.tell(monitord.EXIT_CODE, "100002", 7 << 8)
        daemon.tell(monitord.STATE, "100002", monitord.STOPPED)
        daemon.tell(monitord.EXIT_CODE, old_kernel.name, 42 << 8)
        assert old_kernel.exit_code() == 42
    told = old_kernel.told()
    assert told is not None
    assert told.exit_source == "monitord"
    daemon.close()


def test_exit_code_is_heard_after_a_restart_of_lxc_monitord(old_kernel: Held) -> None:
    daemon = _Monitord(old_kernel.lxc_path)
    old_kernel.hold(_process("read x; exit 42"), stdin=True)
    with old_kernel.process() as process:
        told = old_kernel.answer()
        daemon.tell(monitord.STATE, old_kernel.name, monitord.RUNNING)
        daemon.close()
        daemon = _Monitord(old_kernel.lxc_path)
        daemon.tell(monitord.STATE, old_kernel.name, monitord.RUNNING)
        assert procfs.send_signal(told.pid, told.start_time, signal.SIGKILL)
        process.wait(held.DEADLINE_S)
        daemon.tell(monitord.EXIT_CODE, old_kernel.name, 9)
        assert old_kernel.exit_code() == 137
    daemon.close()


@pytest.mark.parametrize("tells", ["nobody", "stopped", "goes"])
def test_exit_code_is_unknown_when_nobody_tells_it(old_kernel: Held, tells: str) -> None:
    daemon = None if tells == "nobody" else _Monitord(old_kernel.lxc_path)
    old_kernel.hold(_process("exit 42"))
    with old_kernel.process():
        old_kernel.answer()
        if daemon is not None and tells == "stopped":
            daemon.tell(monitord.STATE, old_kernel.name, monitord.STOPPED)
        if daemon is not None:
            daemon.close()
        assert old_kernel.exit_code() == 255
    told = old_kernel.told()
    assert told is not None
    assert (told.exit_code, told.exit_source) == (None, "unknown")


def test_oom_mark_is_made_before_the_end_is_told(place: Held) -> None:
    events = place.top / "memory.events"
    events.write_text("low 0\nhigh 3\nmax 0\noom 2\noom_kill 1\noom_group_kill 0\n")
    place.oom = [str(place.top / "nowhere/memory.oom_control"), str(events)]
    place.hold(_process("exit 1"))
    with place.process():
        assert place.exit_code() == 1
    assert (place.monitor_dir / "oom").exists()


def test_oom_mark_is_not_made_without_a_kill(place: Held) -> None:
    control = place.top / "memory.oom_control"
    control.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    place.oom = [str(control)]
    place.hold(_process("exit 1"))
    with place.process():
        assert place.exit_code() == 1
    assert not (place.monitor_dir / "oom").exists()


def test_first_process_is_told_from_others() -> None:
    assert not peers.is_first_process(os.getpid())
    assert not peers.is_first_process(1)
    assert not peers.is_first_process(2**22 + 1)
