# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands in running containers."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import streams
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import console, procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.leftovers import left_commands
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

pytestmark = pytest.mark.host

Bundle = t.Callable[..., str]


@pytest.fixture
def box(runtime: CrunRuntime, bundle: Bundle) -> str:
    """A running container; returns its name."""
    runtime.create(bundle(), "box")
    runtime.start("box")
    return "box"


def test_exec_returns_streams_and_code(runtime: CrunRuntime, box: str) -> None:
    result = runtime.exec(box, ["sh", "-c", "echo out; echo err >&2; exit 42"])
    assert (result.rc, result.stdout, result.stderr) == (42, "out\n", "err\n")
    assert runtime.exec(box, ["true"]).rc == 0


def test_exec_of_a_command_that_a_signal_ends(runtime: CrunRuntime, box: str) -> None:
    assert runtime.exec(box, ["sh", "-c", "kill -9 $$"]).rc == 137


def test_exec_environment_directory_and_user(runtime: CrunRuntime, box: str) -> None:
    script = "id -u; id -g; id -G; pwd; echo $BASE $EXTRA $HOME"
    own = runtime.exec(box, ["sh", "-c", script])
    assert own.stdout.splitlines() == ["0", "0", "0", "/", "1 /root"]
    other = runtime.exec(
        box, ["sh", "-c", script], env={"EXTRA": "a b", "BASE": "2"}, cwd="/tmp", user="alice"
    )
    assert other.stdout.splitlines() == ["1000", "1001", "1001 10", "/tmp", "2 a b /tmp"]
    numbers = runtime.exec(box, ["sh", "-c", script], user="1234:1235")
    assert numbers.stdout.splitlines()[:3] == ["1234", "1235", "1235"]


def test_exec_of_another_user_has_no_capabilities(runtime: CrunRuntime, box: str) -> None:
    command = ["sh", "-c", "grep -E 'Cap(Eff|Bnd)' /proc/self/status"]
    as_root = dict(line.split() for line in runtime.exec(box, command).stdout.splitlines())
    as_alice = dict(line.split() for line in runtime.exec(box, command, user="alice").stdout.splitlines())
    assert int(as_root["CapEff:"], 16) == 1 << 5 | 1 << 6 | 1 << 7
    assert int(as_alice["CapEff:"], 16) == 0
    assert as_alice["CapBnd:"] == as_root["CapBnd:"]


def test_exec_user_that_the_container_does_not_know(runtime: CrunRuntime, box: str) -> None:
    with pytest.raises(InvalidSpec, match="no user 'bob'"):
        runtime.exec(box, ["true"], user="bob")


def test_exec_user_file_cannot_lead_out_of_the_container(
    runtime: CrunRuntime, box: str, tmp_path: t.Any
) -> None:
    outside = tmp_path / "passwd"
    outside.write_text("mallory:x:0:0::/:/bin/sh\n")
    runtime.exec(box, ["sh", "-c", f"cp /etc/passwd /etc/kept; ln -sf {outside} /etc/passwd"])
    try:
        with pytest.raises(InvalidSpec, match="no user 'mallory'"):
            runtime.exec(box, ["true"], user="mallory")
    finally:
        runtime.exec(box, ["mv", "/etc/kept", "/etc/passwd"])


def test_exec_feeds_bytes_and_returns_them(runtime: CrunRuntime, box: str) -> None:
    data = bytes(range(256)) * 4096
    result = runtime.exec(box, ["cat"], stdin=data)
    assert result.stdout_bytes == data


def test_exec_of_a_command_that_does_not_read_its_input(runtime: CrunRuntime, box: str) -> None:
    assert runtime.exec(box, ["true"], stdin=b"x" * (1 << 20)).rc == 0


def test_exec_without_such_a_program(runtime: CrunRuntime, box: str) -> None:
    with pytest.raises(InvalidSpec, match="no-such-thing") as caught:
        runtime.exec(box, ["no-such-thing"])
    assert caught.value.field == "process.args"


def test_exec_of_a_command_that_talks_like_crun(runtime: CrunRuntime, box: str) -> None:
    text = "executable file `x` not found in $PATH: No such file or directory"
    result = runtime.exec(box, ["sh", "-c", 'echo "$1" >&2; exit 1', "sh", text])
    assert (result.rc, result.stderr) == (1, text + "\n")


def test_exec_in_what_does_not_run(runtime: CrunRuntime, bundle: Bundle) -> None:
    with pytest.raises(NotFound):
        runtime.exec("nobody", ["true"])
    runtime.create(bundle(), "one")
    with pytest.raises(WrongState, match="created, not running"):
        runtime.exec("one", ["true"])


def test_exec_output_is_cut_at_the_limit(runtime: CrunRuntime, box: str) -> None:
    result = runtime.exec(box, ["sh", "-c", "yes | head -c 300000; echo e >&2"], limit_bytes=1000)
    assert (len(result.stdout), result.is_truncated, result.stderr) == (1000, True, "e\n")


def test_exec_time_limit_kills_the_whole_family(runtime: CrunRuntime, paths: Paths, box: str) -> None:
    # One child in the same session, one that left it but descends from it.
    script = "trap '' TERM; echo begun; sleep 3001 & setsid sleep 3002 & sleep 3003"
    with pytest.raises(CommandTimeout) as caught:
        runtime.exec(box, ["sh", "-c", script], timeout_s=1.0)
    assert caught.value.stdout == "begun\n"
    listing = runtime.exec(box, ["ps", "-o", "args"]).stdout
    assert "300" not in listing
    assert "sleep 1000" in listing, "the container itself goes on"
    assert [
        name for name in os.listdir(f"{paths.run_dir}/monitors/play/box") if name.startswith("exec")
    ] == []


def test_exec_does_not_wait_for_a_daemon_that_holds_the_pipe(runtime: CrunRuntime, box: str) -> None:
    result = runtime.exec(box, ["sh", "-c", "sleep 3000 & echo done"], timeout_s=20)
    assert (result.rc, result.stdout) == (0, "done\n")


def test_exec_with_a_terminal(runtime: CrunRuntime, box: str) -> None:
    result = runtime.exec(box, ["sh", "-c", "tty; test -t 1 && echo yes; exit 3"], terminal=True)
    assert (result.rc, result.stdout.split()) == (3, ["/dev/pts/0", "yes"])


def test_exec_with_a_terminal_and_input(runtime: CrunRuntime, box: str) -> None:
    result = runtime.exec(box, ["sh", "-c", "stty -echo; cat"], terminal=True, stdin=b"typed\n", timeout_s=20)
    assert result.rc == 0
    assert "typed" in result.stdout


def test_exec_with_a_terminal_has_limits(runtime: CrunRuntime, box: str) -> None:
    result = runtime.exec(box, ["sh", "-c", "yes | head -c 100000"], terminal=True, limit_bytes=500)
    assert (len(result.stdout), result.is_truncated) == (500, True)
    with pytest.raises(CommandTimeout):
        runtime.exec(box, ["sleep", "3000"], terminal=True, timeout_s=0.5)


@pytest.mark.parametrize("terminal", [False, True])
def test_exec_ends_in_time_whatever_is_written(runtime: CrunRuntime, box: str, terminal: bool) -> None:
    with pytest.raises(CommandTimeout):
        runtime.exec(box, ["yes"], terminal=terminal, timeout_s=0.5, limit_bytes=100)
    # In brackets as long as nobody has reaped it.
    assert " yes" not in runtime.exec(box, ["ps"]).stdout


@pytest.mark.parametrize("terminal", [False, True])
def test_exec_can_be_called_off(runtime: CrunRuntime, box: str, terminal: bool) -> None:
    stop = os.eventfd(0)
    timer = threading.Timer(0.5, os.eventfd_write, (stop, 1))
    timer.start()
    try:
        with pytest.raises(WrongState, match="called off"):
            runtime.exec(box, ["sh", "-c", "sleep 3131 & sleep 3131"], terminal=terminal, stop=stop)
    finally:
        timer.join()
        os.close(stop)
    assert "3131" not in runtime.exec(box, ["ps"]).stdout


def test_exec_has_a_time_limit_in_a_process_with_many_files(runtime: CrunRuntime, box: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    stop, high = os.eventfd(0), 2000
    try:
        os.dup2(stop, high, inheritable=False)
        with pytest.raises(CommandTimeout, match="did not end"):
            runtime.exec(box, ["sleep", "3131"], timeout_s=0.3, stop=high)
    finally:
        os.close(stop)
        os.close(high)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_exec_with_a_terminal_without_such_a_program(runtime: CrunRuntime, box: str) -> None:
    with pytest.raises(InvalidSpec, match="no-such-thing"):
        runtime.exec(box, ["no-such-thing"], terminal=True)


def test_exec_session_whose_terminal_never_comes(
    runtime: CrunRuntime, box: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_args: t.Any) -> t.NoReturn:
        raise CommandTimeout("late")

    monkeypatch.setattr(console.Receiver, "accept", late)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CommandTimeout):
        runtime.exec(box, ["sleep", "3006"], terminal=True)
    assert len(os.listdir("/proc/self/fd")) == before


def test_exec_session_resize_and_kill(runtime: CrunRuntime, box: str) -> None:
    session = runtime.exec_session(box, ExecRequest(args=("sh", "-c", "read x; stty size"), terminal=True))
    try:
        assert session.terminal is not None
        console.resize(session.terminal, 101, 37)
        os.write(session.terminal, b"\n")
        session.child.wait(20)
        shown = b""
        # The line feed may come alone; after the last byte reading fails.
        with contextlib.suppress(OSError):
            while more := os.read(session.terminal, 4096):
                shown += more
        assert b"37 101" in shown
    finally:
        assert session.close() == 0


def test_exec_session_streams(runtime: CrunRuntime, box: str) -> None:
    session = runtime.exec_session(box, ExecRequest(args=("cat",)), stderr=subprocess.DEVNULL)
    try:
        assert session.child.stdin is not None
        assert session.child.stdout is not None
        session.child.stdin.write(b"hello\n")
        session.child.stdin.flush()
        assert session.child.stdout.readline() == b"hello\n"
        deadline = time.monotonic() + 20
        while (pid := session.inner_pid()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        session.kill()
        session.child.wait(20)
        stat = procfs.read_stat(pid)
        assert stat is None or not stat.is_alive
    finally:
        assert session.close() == 137


@pytest.mark.parametrize("terminal", [False, True])
def test_exec_session_whose_user_goes_away(runtime: CrunRuntime, box: str, terminal: bool) -> None:
    def naps() -> set[str]:
        lines = runtime.exec(box, ["ps", "-o", "args"]).stdout.splitlines()
        return {line.split()[1] for line in lines if line.startswith("sleep 31")}

    script = "sleep 3148 & trap '' HUP; sleep 3149; sleep 3149"
    session = runtime.exec_session(box, ExecRequest(args=("sh", "-c", script), terminal=terminal))
    try:
        eventually(lambda: naps() == {"3148", "3149"})
        session.hang_up()
        assert session.terminal is None
        eventually(session.inner_pid)
        # Only who does not ignore it ends.
        session.signal(signal.SIGHUP)
        eventually(lambda: naps() == {"3149"})
        assert session.child.poll() is None
        session.kill()
        session.child.wait(20)
        eventually(lambda: naps() == set())
        session.signal(signal.SIGHUP)
    finally:
        assert session.close() == 137


def test_exec_session_kills_nobody_but_its_command(runtime: CrunRuntime, box: str) -> None:
    session = runtime.exec_session(box, ExecRequest(args=("sleep", "3150")))
    with subprocess.Popen(["sleep", "3151"], start_new_session=True) as stranger:
        command = eventually(session.inner_pid)
        try:
            # The command has ended, crun not yet, and its id is another's by now.
            with open(session._pid_file, "w", encoding="ascii") as stream:
                stream.write(str(stranger.pid))
            session.signal(signal.SIGTERM)
            session.kill()
            assert stranger.poll() is None
        finally:
            stranger.kill()
            procfs.kill_family(command)
            session.close()


def test_exec_session_whose_crun_is_killed(runtime: CrunRuntime, box: str) -> None:
    session = runtime.exec_session(box, ExecRequest(args=("sleep", "3152")))
    command = eventually(session.inner_pid)
    session.child.kill()
    assert session.close() == 137
    eventually(lambda: (stat := procfs.read_stat(command)) is None or not stat.is_alive)


def test_exec_session_without_its_terminal_leaves_nothing(
    runtime: CrunRuntime, box: str, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_receiver: console.Receiver, _child: subprocess.Popen[bytes], _timeout_s: float) -> None:
        eventually(lambda: "sleep 3153" in runtime.exec(box, ["ps", "-o", "args"]).stdout)
        raise CommandTimeout("crun sent no terminal")

    with monkeypatch.context() as patch:
        patch.setattr(console.Receiver, "accept", never)
        with pytest.raises(CommandTimeout):
            runtime.exec_session(box, ExecRequest(args=("sleep", "3153"), terminal=True))
    eventually(lambda: "sleep 3153" not in runtime.exec(box, ["ps", "-o", "args"]).stdout)
    assert left_commands(paths) == []


def test_exec_session_is_on_disk_before_crun_is_there(
    runtime: CrunRuntime, box: str, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def fail(*_arguments: object, **_options: object) -> t.NoReturn:
        found.extend(left_commands(paths))
        raise BlockingIOError

    monkeypatch.setattr(streams, "spawn", fail)
    with pytest.raises(BlockingIOError):
        runtime.exec_session(box, ExecRequest(args=("true",)))
    assert len(found) == 1
    assert left_commands(paths) == []


@pytest.mark.parametrize(
    ("argv", "rc", "problem"),
    [
        (("true",), 0, None),
        (("sh", "-c", "exit 3"), 3, None),
        (("no-such-program",), 255, "is not in the container"),
    ],
)
def test_exec_session_tells_crun_s_failures_from_the_command_s(
    runtime: CrunRuntime, box: str, argv: tuple[str, ...], rc: int, problem: str | None
) -> None:
    session = runtime.exec_session(box, ExecRequest(args=argv))
    try:
        code = session.child.wait(20)
        failure = session.failure(code)
        assert code == rc or problem
        assert (failure is None) if problem is None else problem in str(failure)
    finally:
        session.close()


def test_exec_session_that_is_killed_at_once(runtime: CrunRuntime, box: str) -> None:
    """Before crun has told which process it is: nothing of it may go on in the container."""
    for _attempt in range(5):
        session = runtime.exec_session(box, ExecRequest(args=("sleep", "3147")))
        session.kill()
        assert session.close() == 137
    assert "3147" not in runtime.exec(box, ["ps"]).stdout


def test_exec_hides_its_process_object(runtime: CrunRuntime, box: str) -> None:
    session = runtime.exec_session(box, ExecRequest(args=("cat",), env={"PASSWORD": "hunter2"}))
    try:
        with open(f"/proc/{session.child.pid}/cmdline", "rb") as stream:
            assert b"hunter2" not in stream.read()
    finally:
        session.kill()
        session.close()
