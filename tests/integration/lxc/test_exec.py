# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that are run in LXC containers, to their end and by sessions."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import console, leftovers, procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import execution
from ansible_collections.pvecri.runtime.tests.support.lxc_world import Ct, Json, World
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually


@pytest.fixture
def ct(world: World) -> Ct:
    """A container that sleeps."""
    made = world.ct("sleep", "1000")
    made.start()
    return made


def test_exec_returns_output_and_exit_code(world: World, ct: Ct) -> None:
    done = world.driver.exec(ct.name, ["sh", "-c", "cat; echo err >&2; exit 5"], stdin=b"in\0put")
    assert (done.rc, done.stdout_bytes, done.stderr_bytes) == (5, b"in\0put", b"err\n")
    assert not done.is_truncated
    assert os.listdir(ct.guest.io) == ["run"]


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 255", 255), ("kill -9 $$", 137)])
def test_exec_has_the_commands_exit_code(world: World, ct: Ct, script: str, code: int) -> None:
    assert world.driver.exec(ct.name, ["sh", "-c", script]).rc == code


def test_exec_has_the_containers_environment_and_what_is_asked(world: World, ct: Ct) -> None:
    value = "two\nlines 'and' \"quotes\""
    done = world.driver.exec(
        ct.name, ["sh", "-c", 'printf "%s|%s|%s" "$BASE" "$V" "$PWD"'], env={"V": value}, cwd="/tmp"
    )
    assert done.stdout == f"1|{value}|/tmp"


def test_exec_runs_as_the_user_asked_for(world: World, ct: Ct) -> None:
    done = world.driver.exec(ct.name, ["sh", "-c", "id; echo $HOME; echo x >/dev/stderr"], user="alice")
    assert done.rc == 0
    assert done.stdout == "uid=1000(alice) gid=1001(users) groups=10(wheel)\n/tmp\n"
    assert done.stderr == "x\n"
    with pytest.raises(InvalidSpec):
        world.driver.exec(ct.name, ["id"], user="nobody-here")


def test_exec_is_confined_as_the_container_is(world: World) -> None:
    def change(config: Json) -> None:
        config["process"]["capabilities"] = {
            kind: ["CAP_CHOWN"] for kind in ("bounding", "effective", "permitted")
        }
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
        config["process"]["oomScoreAdj"] = 444
        config["process"]["user"]["additionalGids"] = [5]

    ct = world.ct("sleep", "1000", change=change)
    pid = ct.start()
    script = (
        "grep -E 'Cap(Bnd|Eff)|Seccomp:' /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj; id -G"
    )
    done = world.driver.exec(ct.name, ["sh", "-c", script])
    own = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    for line in done.stdout.splitlines()[:3]:
        assert line in own
    assert "CapBnd:\t0000000000000001" in done.stdout
    assert done.stdout.splitlines()[-3:] == ["100", "444", "0 5"]
    assert pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text() == "444\n"
    assert f"{'100':<21}200" in pathlib.Path(f"/proc/{pid}/limits").read_text()


@pytest.mark.parametrize(
    ("args", "field", "code"),
    [(["nope"], "process.args", 127), (["/etc/passwd"], "process.args", 126)],
    ids=["missing", "no-program"],
)
def test_exec_of_what_cannot_be_run_says_so(
    world: World, ct: Ct, args: list[str], field: str, code: int
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        world.driver.exec(ct.name, args)
    assert caught.value.field == field
    session = world.driver.exec_session(ct.name, ExecRequest(args=args))
    assert session.child.stdout is not None
    assert session.child.stderr is not None
    assert session.child.stdout.read() == b""
    assert args[0] in session.child.stderr.read().decode()
    assert session.child.wait() == 127
    assert session.shell_code() == code
    assert session.close() == 127


def test_exec_in_a_missing_directory_says_so(world: World, ct: Ct) -> None:
    with pytest.raises(InvalidSpec, match=r"process\.cwd"):
        world.driver.exec(ct.name, ["true"], cwd="/none")


def test_exec_keeps_no_more_output_than_asked_for(world: World, ct: Ct) -> None:
    done = world.driver.exec(ct.name, ["sh", "-c", "yes | head -c 3000000"], limit_bytes=1000)
    assert (done.rc, len(done.stdout_bytes), done.is_truncated) == (0, 1000, True)


def test_exec_that_takes_too_long_is_killed_with_its_descendants(world: World, ct: Ct) -> None:
    script = "(setsid sleep 4711; true) & echo begun; sleep 4712"
    with pytest.raises(CommandTimeout) as caught:
        world.driver.exec(ct.name, ["sh", "-c", script], timeout_s=1.0)
    assert caught.value.stdout == "begun\n"
    eventually(lambda: not _sleepers(world, ct))
    assert ct.state.is_alive


def test_exec_that_is_called_off_is_killed(world: World, ct: Ct) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"x")
    with pytest.raises(WrongState, match="called off"):
        world.driver.exec(ct.name, ["sleep", "4711"], stop=reader)
    os.close(reader)
    os.close(writer)
    eventually(lambda: not _sleepers(world, ct))


def _sleepers(world: World, ct: Ct) -> str:
    return "".join(line for line in world.driver.exec(ct.name, ["ps"]).stdout.splitlines() if "471" in line)


def test_exec_does_not_wait_for_what_is_left_in_the_background(world: World, ct: Ct) -> None:
    before = time.monotonic()
    assert world.driver.exec(ct.name, ["sh", "-c", "sleep 4711 & echo done"]).stdout == "done\n"
    assert time.monotonic() - before < 20
    assert _sleepers(world, ct)


def test_exec_with_a_terminal_has_one_of_the_container(world: World, ct: Ct) -> None:
    script = "tty; test -t 2 && ls -l $(tty) | cut -d' ' -f1; read x; echo got $x; echo err >&2; exit 3"
    done = world.driver.exec(ct.name, ["sh", "-c", script], terminal=True, stdin=b"typed\n", user="alice")
    # What was typed is echoed when it comes, mostly before the program runs.
    lines = done.stdout.split()
    assert done.rc == 3
    assert lines.count("typed") == 2
    assert any(line.startswith("/dev/pts/") for line in lines)
    assert "crw--w----" in lines
    assert lines[-3:] == ["got", "typed", "err"]


def test_exec_session_has_a_terminal_of_the_size_asked_for(world: World, ct: Ct) -> None:
    request = ExecRequest(
        args=["sh", "-c", "stty size; read x; stty size"], terminal=True, terminal_size=(97, 31)
    )
    session = world.driver.exec_session(ct.name, request)
    assert session.terminal is not None
    seen = b""
    while b"31 97" not in seen:
        seen += os.read(session.terminal, 4096)
    console.resize(session.terminal, 120, 40)
    os.write(session.terminal, b"\n")
    while b"40 120" not in seen:
        seen += os.read(session.terminal, 4096)
    assert session.child.wait(20) == 0
    assert session.close() == 0


def test_exec_session_streams_and_hears_signals(world: World, ct: Ct) -> None:
    request = ExecRequest(args=["sh", "-c", "trap 'echo hup; exit 4' HUP; cat; echo eof; sleep 1000 & wait"])
    session = world.driver.exec_session(ct.name, request, stderr=subprocess.DEVNULL)
    child = session.child
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is None
    child.stdin.write(b"ping\n")
    assert child.stdout.read(5) == b"ping\n"
    child.stdin.close()
    assert child.stdout.read(4) == b"eof\n"
    session.signal(signal.SIGHUP)
    assert child.wait(20) == 4
    assert child.stdout.read(4) == b"hup\n"
    assert session.failure(4) is None
    assert session.shell_code() is None
    assert session.close() == 4


def test_exec_session_that_is_killed_leaves_nothing(world: World, ct: Ct) -> None:
    session = world.driver.exec_session(ct.name, ExecRequest(args=["sh", "-c", "sleep 4711 & sleep 4712"]))
    pid = session.inner_pid()
    assert pid is not None
    session.kill()
    assert session.close() == 137
    eventually(lambda: not procfs.is_same_process(pid, 0))
    eventually(lambda: not _sleepers(world, ct))
    assert leftovers.left_commands(world.paths) == []


def test_command_whose_caller_was_killed_is_ended(world: World, ct: Ct) -> None:
    child = os.fork()
    if not child:
        world.driver.exec_session(ct.name, ExecRequest(args=["sleep", "4711"]))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert _sleepers(world, ct)
    left = leftovers.left_commands(world.paths)
    assert len(left) == 1
    leftovers.end_commands(left)
    eventually(lambda: not _sleepers(world, ct))
    assert leftovers.left_commands(world.paths) == []


def test_exec_needs_a_container_that_runs(world: World) -> None:
    ct = world.ct("true").prepare()
    with pytest.raises(WrongState):
        world.driver.exec(ct.name, ["true"])
    with pytest.raises(NotFound):
        world.driver.exec("nobody", ["true"])


def test_exec_in_a_container_that_is_ending_does_not_hang(world: World, ct: Ct) -> None:
    pid = ct.state.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    before = time.monotonic()
    with pytest.raises(WrongState):
        _until_refused(world, ct)
    assert time.monotonic() - before < 20


def _until_refused(world: World, ct: Ct) -> None:
    while True:
        assert world.driver.exec(ct.name, ["true"]).rc in {0, 1, 137}


def test_exec_that_ends_before_it_has_its_limits_is_refused(
    world: World, ct: Ct, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = execution._limit

    def late(pid: int, process: Json) -> None:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: procfs.read_stat(pid) is None)
        limit(pid, {**process, "oomScoreAdj": 5})

    monkeypatch.setattr(execution, "_limit", late)
    with pytest.raises(WrongState, match="did not let the command in"):
        world.driver.exec(ct.name, ["true"])


def test_exec_in_a_privileged_container(world: World) -> None:
    ct = world.ct("sleep", "1000", unprivileged=False)
    ct.start()
    done = world.driver.exec(ct.name, ["sh", "-c", "id -u; tty"], terminal=True)
    assert done.stdout.split()[0] == "0"
    assert done.stdout.split()[1].startswith("/dev/pts/")


def test_many_commands_at_once_do_not_meet(world: World, ct: Ct) -> None:
    sessions: list[t.Any] = [
        world.driver.exec_session(ct.name, ExecRequest(args=["sh", "-c", f"cat; exit {number}"]))
        for number in range(8)
    ]
    for number, session in enumerate(sessions):
        session.child.stdin.write(f"{number}".encode())
        session.child.stdin.close()
    for number, session in enumerate(sessions):
        assert session.child.stdout.read() == f"{number}".encode()
        assert session.child.wait(20) == number
        session.close()
