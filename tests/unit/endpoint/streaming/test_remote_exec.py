# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run commands for clients: processes of this host stand for those of a container."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import hashlib
import logging
import os
import pathlib
import signal
import threading
import time
import typing as t
from unittest import mock

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.tests.support.remote import (
    QUICK,
    LocalRuntime,
    end_naps,
    naps,
    serving,
)
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb
from pvecri.streaming import command
from pvecri.streaming.pumps import Output
from pvecri.streaming.work import ExecWork, exec_work

RunLoop = t.Callable[[t.Coroutine[t.Any, t.Any, None]], None]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 127", 127),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill $$", 143),
    ],
)
def test_exit_code_comes_after_both_outputs(
    run_loop: RunLoop, runtime: LocalRuntime, script: str, code: int
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            result = await place.run(["sh", "-c", f"echo out; echo err >&2; {script}"])
            assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", code)
            assert runtime.anticipated == 1

    run_loop(work())


@pytest.mark.parametrize("protocol", ["v1", "v2", "v3"])
def test_older_protocols_tell_failures_as_text(
    run_loop: RunLoop, runtime: LocalRuntime, protocol: str
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            assert (await place.run(["true"], protocol=protocol)).error == b""
            failed = await place.run(["sh", "-c", "exit 3"], protocol=protocol)
            assert failed.error == b"command terminated with non-zero exit code: 3"

    run_loop(work())


def test_input_comes_out_whole_in_both_directions(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    data = os.urandom(1 << 20) * 8

    async def work() -> None:
        async with serving(runtime) as place:
            result = await place.run(["cat"], data=data)
            assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()
            assert result.exit_code == 0

    run_loop(work())


def test_end_of_input_is_the_end_of_the_commands_input(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            result = await place.run(["sh", "-c", "cat >/dev/null; echo seen"])
            assert (result.stdout, result.exit_code) == (b"seen\n", 0)

    run_loop(work())


def test_a_command_that_does_not_read_or_ends_early_does_not_hang(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            # More than pipe and channel hold.
            result = await place.run(["sh", "-c", "exec <&-; sleep 0.2; echo done"], data=b"x" * (1 << 20))
            assert (result.stdout, result.exit_code) == (b"done\n", 0)
            result = await place.run(["true"], data=b"x" * (1 << 20))
            assert result.exit_code == 0

    run_loop(work())


def test_streams_that_are_not_asked_for_go_nowhere(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    script = "cat; head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 4"

    async def work() -> None:
        async with serving(runtime) as place:
            for wanted in ({"stdin": False}, {"stdout": False}, {"stderr": False}):
                result = await place.run(["sh", "-c", script], **wanted)
                assert result.exit_code == 4
            assert await place.run(["sh", "-c", "echo hidden; exit 6"], tty=True, stdout=False)

    run_loop(work())


def test_a_background_process_that_holds_the_output_keeps_nobody(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            begun = time.monotonic()
            result = await place.run(["sh", "-c", "NAP & echo own; sleep 0.05; exit 2"])
            assert (result.stdout, result.exit_code) == (b"own\n", 2)
            assert time.monotonic() - begun < 20
            # What it writes soon after is delivered, and it goes on.
            result = await place.run(["sh", "-c", "(sleep 0.1; echo late; exec NAP) & echo own"])
            assert (result.stdout, result.exit_code) == (b"own\nlate\n", 0)
            assert naps()
            # One that never stops writing keeps nobody either.
            result = await place.run(["sh", "-c", "NAP | yes & sleep 0.05"])
            assert result.exit_code == 0
            end_naps()

    run_loop(work())


def test_what_waits_at_the_end_is_delivered_however_slow_the_client_is(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    # The channel's 256 KiB, a chunk on its way and the pipe's 64 KiB.
    count = 300_000

    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", f"NAP & head -c {count} /dev/zero; exit 9"], stdin=False)
            await asyncio.sleep(1.0)
            result = await session.result()
            assert (len(result.stdout), result.exit_code) == (count, 9)
            end_naps()

    run_loop(work())


def test_a_slow_client_makes_the_command_wait(
    run_loop: RunLoop, runtime: LocalRuntime, tmp_path: pathlib.Path
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(
                ["sh", "-c", f"head -c 3000000 /dev/zero; touch {tmp_path}/through"], stdin=False
            )
            await asyncio.sleep(0.5)
            assert not os.path.exists(tmp_path / "through")
            result = await session.result()
            assert (len(result.stdout), result.exit_code) == (3_000_000, 0)

    run_loop(work())


def test_a_client_that_ends_one_stream_still_gets_the_others(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", "sleep 0.2; head -c 500000 /dev/zero; echo err >&2; cat"])
            session.stdout.reset()
            session.stdin.reset()
            assert session.client.stderr is not None
            assert await session.client.stderr.read_all() == b"err\n"
            assert b"Success" in await session.client.error.read_all()
            await session.task

    run_loop(work())


# ---- terminals ---------------------------------------------------------------------------------------------


def test_terminal_has_its_size_before_the_command_starts(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime, times=dataclasses.replace(QUICK, size_s=5)) as place:
            session = place.begin(["sh", "-c", "stty size; echo $TERM"], tty=True)
            await session.size(101, 37)
            result = await session.result()
            assert (result.stdout, result.exit_code) == (b"37 101\r\nxterm\r\n", 0)

    run_loop(work())


def test_terminal_follows_the_last_size_of_a_burst(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", "echo ready; read line; stty size"], tty=True)
            await session.until(b"ready")
            for size in ((0, 0), (10, 0), (70000, 3), *((80 + n, 20 + n) for n in range(200))):
                await session.size(*size)
            await session.resize.write(b'{"Width": "x"} {"Width": 1')
            await asyncio.sleep(0.1)
            await session.stdin.write(b"go\r")
            assert b"219 279" in await session.until(b"279")
            assert (await session.result()).exit_code == 0

    run_loop(work())


def test_terminal_echoes_and_the_end_of_input_changes_nothing(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(
                ["sh", "-c", "sleep 0.1; read line; sleep 0.2; echo got $line; exit 5"], tty=True
            )
            await session.send(b"words\r")
            result = await session.result()
            assert result.stdout == b"words\r\ngot words\r\n"
            assert result.exit_code == 5

    run_loop(work())


def test_terminal_may_be_closed_and_opened_again(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    script = "echo one; exec >/dev/null 2>&1 </dev/null; sleep 0.4; echo two >/dev/tty; sleep 0.1"

    async def work() -> None:
        async with serving(runtime) as place:
            result = await place.run(["sh", "-c", script], tty=True)
            assert result.stdout == b"one\r\ntwo\r\n"

    run_loop(work())


# ---- failures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (NotFound("there is no container 'c'"), "NotFound", 404),
        (WrongState("container 'c' is stopped, not running"), "Conflict", 409),
        (InvalidSpec("user", "there is none"), "Invalid", 422),
        (CommandTimeout("crun sent no terminal"), "Timeout", 504),
        (OSError(24, "Too many open files"), "InternalError", 500),
        (RuntimeError("a secret"), "InternalError", 500),
    ],
)
def test_what_cannot_be_begun_is_told(
    run_loop: RunLoop, runtime: LocalRuntime, error: Exception, reason: str, code: int
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            runtime.error = error
            result = await place.run(["true"])
            assert (result.status["reason"], result.status["code"]) == (reason, code)
            assert result.status["message"].startswith("the command cannot be run: ")
            assert (str(error) in result.status["message"]) is not isinstance(error, RuntimeError)

    run_loop(work())


@pytest.mark.parametrize(
    ("complaint", "code"),
    [
        ("executable file `nosuch` not found in $PATH: No such file or directory", 127),
        ("open executable: Permission denied", 126),
    ],
)
def test_program_that_cannot_be_run_ends_as_in_a_shell(
    run_loop: RunLoop, runtime: LocalRuntime, complaint: str, code: int
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            runtime.complaint = complaint.encode()
            result = await place.run(["sh", "-c", f"echo '{complaint}' >&2; exit 255"])
            assert result.exit_code == code
            assert result.stderr.decode() == complaint + "\n"
            assert not result.status["message"].startswith("process.args")
            # A complaint of a command that did run is none.
            assert (await place.run(["true"])).exit_code == 0

    run_loop(work())


def test_failure_of_crun_is_told(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            runtime.complaint = b"the moon is full"
            status = (await place.run(["false"])).status
            assert (status["code"], status["reason"]) == (500, "InternalError")
            assert "the moon is full" in status["message"]

    run_loop(work())


def test_fault_of_a_pump_ends_the_session_and_the_command(
    run_loop: RunLoop,
    runtime: LocalRuntime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def crash(_self: Output) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(command.Output, "run", crash)

    async def work() -> None:
        async with serving(runtime) as place:
            result = await place.run(["sh", "-c", "exec NAP"])
            assert "ZeroDivisionError" in result.status["message"]
            await asyncio.to_thread(eventually, lambda: not naps(), timeout_s=5)

    with caplog.at_level(logging.ERROR):
        run_loop(work())
    assert "a stream crashed" in caplog.text


def test_want_of_descriptors_ends_the_command(
    run_loop: RunLoop, runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            with monkeypatch.context() as patch:
                patch.setattr(
                    command.Command, "__init__", mock.Mock(side_effect=OSError(errno.EMFILE, "many"))
                )
                result = await place.run(["sh", "-c", "exec NAP"])
            assert result.status["reason"] == "InternalError"
            await asyncio.to_thread(eventually, lambda: not naps(), timeout_s=5)

    run_loop(work())


# ---- clients that vanish -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize(
    "script",
    [
        "cat",
        "NAP; NAP",
        "while :; do echo more; done",
        "NAP",
        "trap '' HUP; NAP",
        "trap '' HUP; (trap '' HUP; NAP; NAP) & NAP; NAP",
    ],
)
def test_a_command_whose_client_vanished_ends(
    run_loop: RunLoop, runtime: LocalRuntime, script: str, tty: bool
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", f"echo begun; {script}"], tty=tty)
            await session.until(b"begun")
            await session.lose()
            await asyncio.to_thread(eventually, lambda: not naps(), timeout_s=5)
            assert runtime.sessions[0].child.returncode is not None

    run_loop(work())


def test_a_command_whose_client_vanished_ends_however_busy_the_daemon_is(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", "echo begun; trap '' HUP; NAP"])
            await session.until(b"begun")
            place.remote._operations._most = 0
            await session.lose()
            await asyncio.to_thread(eventually, lambda: not naps(), timeout_s=5)

    run_loop(work())


def test_background_processes_of_a_command_that_ends_in_time_are_left_alone(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", "nohup NAP & echo begun; cat"])
            await session.until(b"begun")
            # The shell does not wait for it.
            await asyncio.to_thread(eventually, naps, timeout_s=5)
            await session.lose()
            assert naps()
            end_naps()
            # Only a hang-up ends this one; nohup lets the other outlive it.
            session = place.begin(["sh", "-c", "nohup NAP 2>/dev/null & echo begun; sleep 999"])
            await session.until(b"begun")
            await asyncio.to_thread(eventually, naps, timeout_s=5)
            await session.lose()
            assert naps()
            end_naps()

    run_loop(work())


def test_a_client_may_vanish_before_the_command_has_begun(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    may_go_on = threading.Event()
    runtime.before = lambda: may_go_on.wait(20)

    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", "exec NAP"])
            await asyncio.sleep(0.1)
            session.client.link.lose()
            may_go_on.set()
            await session.lose()
            await asyncio.to_thread(eventually, lambda: not naps(), timeout_s=5)

    run_loop(work())


def test_a_client_may_vanish_while_output_is_drained(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", "NAP & head -c 300000 /dev/zero"])
            await asyncio.sleep(0.2)
            await session.lose()
            end_naps()

    run_loop(work())


def test_a_process_that_nobody_can_end_keeps_no_session(
    run_loop: RunLoop, runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", "trap '' HUP; echo begun; while :; do sleep 0.1; done"])
            await session.until(b"begun")
            monkeypatch.setattr(runtime.sessions[0], "kill", lambda: None)
            await session.lose()
            assert runtime.sessions[0].child.returncode == -signal.SIGKILL

    run_loop(work())


# ---- the daemon stops --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tty", [False, True])
def test_cancelled_session_says_so_and_ends_its_command(
    run_loop: RunLoop, runtime: LocalRuntime, tty: bool
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", "trap '' HUP; echo begun; NAP; NAP"], tty=tty)
            await session.until(b"begun")
            session.task.cancel()
            words = await session.client.error.read_all()
            assert b"the endpoint is stopping" in words
            with pytest.raises(asyncio.CancelledError):
                await session.task
            await asyncio.to_thread(eventually, lambda: not naps(), timeout_s=5)

    run_loop(work())


def test_session_that_is_cancelled_twice_leaves_nothing(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", "trap '' HUP; echo begun; NAP; NAP"])
            await session.until(b"begun")
            session.task.cancel()
            await asyncio.sleep(0.05)
            session.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await session.task
            await place.remote.close()
            await asyncio.to_thread(eventually, lambda: not naps(), timeout_s=5)

    run_loop(work())


@pytest.mark.parametrize("delay_s", [0, 0.02, 0.06, 0.15, 0.3])
def test_session_may_be_cancelled_at_any_time(
    run_loop: RunLoop, runtime: LocalRuntime, delay_s: float
) -> None:
    runtime.before = lambda: time.sleep(0.1)

    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["sh", "-c", "NAP"], tty=True)
            await asyncio.sleep(delay_s)
            session.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await session.task
            await place.remote.close()
            await asyncio.to_thread(eventually, lambda: not naps(), timeout_s=5)

    run_loop(work())


def test_session_cancelled_before_a_failure_to_begin_is_quiet(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    runtime.before = lambda: time.sleep(0.1)
    runtime.error = NotFound("there is no container")

    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["true"])
            await asyncio.sleep(0.03)
            session.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await session.task

    run_loop(work())


def test_client_that_does_not_listen_does_not_hold_up_the_end(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session = place.begin(["yes"], stdin=False)
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            session.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await session.task
            assert time.monotonic() - begun < 10

    run_loop(work())


# ---- many --------------------------------------------------------------------------------------------------


def test_two_hundred_at_once(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            results = await asyncio.gather(
                *(place.run(["sh", "-c", f"cat; exit {n}"], data=f"{n}".encode() * 1000) for n in range(200))
            )
            for number, result in enumerate(results):
                assert result.stdout == f"{number}".encode() * 1000
                assert result.exit_code == number

    run_loop(work())


def test_work_is_what_the_request_says() -> None:
    request = pb.ExecRequest(container_id="ab", cmd=["a", "b"], stdin=True, stdout=True, tty=True)
    assert exec_work("abc", request) == ExecWork(container_id="abc", command=("a", "b"), tty=True)
