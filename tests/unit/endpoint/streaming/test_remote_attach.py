# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attach clients to containers: one end of a socket stands for conmon."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.tests.support.remote import LocalRuntime, Place, Session, serving
from pvecri.api import cri_pb2 as pb
from pvecri.state.records import ContainerRecord, Phase
from pvecri.streaming.backlog import BUFFER_MAX
from pvecri.streaming.work import AttachWork, attach_work

RunLoop = t.Callable[[t.Coroutine[t.Any, t.Any, None]], None]

OUT, ERR = b"\2", b"\3"


async def attached(
    place: Place, runtime: LocalRuntime, *, is_new: bool = True, **options: bool
) -> tuple[Session, socket.socket]:
    """Return a session with conmon's end of its socket."""
    before = len(runtime.conmons)
    session = place.attach(**options)
    while is_new and len(runtime.conmons) == before:
        await asyncio.sleep(0.005)
    conmon = runtime.conmons[-1]
    conmon.setblocking(False)
    return session, conmon


async def received(conmon: socket.socket, count: int) -> bytes:
    """Return as many bytes of input, or what comes until its end."""
    found = b""
    async with asyncio.timeout(20):
        while len(found) < count:
            data = await asyncio.get_running_loop().sock_recv(conmon, 65536)
            if not data:
                break
            found += data
    return found


async def put(conmon: socket.socket, packet: bytes) -> None:
    await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(conmon, packet), 20)


def test_output_is_parted_and_delivered_whole_when_the_container_ends(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime)
            reading = asyncio.create_task(session.result())
            for _number in range(100):
                await put(conmon, OUT + b"o" * 8192)
                await put(conmon, ERR + b"e" * 100)
            await put(conmon, b"\x09what is this")
            conmon.close()
            result = await reading
            assert (result.stdout, result.stderr) == (b"o" * 819200, b"e" * 10000)
            assert result.exit_code == 0

    run_loop(work())


def test_all_attached_clients_get_all_output(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            pairs = [await attached(place, runtime) for _number in range(5)]
            for _session, conmon in pairs:
                await put(conmon, OUT + b"to all")
                conmon.close()
            for session, _conmon in pairs:
                assert (await session.result()).stdout == b"to all"

    run_loop(work())


def test_output_is_whole_although_conmon_did_not_read_all_input(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime, stdin=True, has_stdin=True)
            await session.stdin.write(b"never read")
            await asyncio.sleep(0.05)
            await put(conmon, OUT + b"last words")
            conmon.close()
            assert (await session.result()).stdout == b"last words"

    run_loop(work())


def test_streams_that_nobody_wants_are_taken_all_the_same(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime, stdout=False)
            for _number in range(200):
                await put(conmon, OUT + b"o" * 8192)
            await put(conmon, ERR + b"err")
            conmon.close()
            assert (await session.result()).stderr == b"err"

    run_loop(work())


def test_a_client_that_ends_one_stream_still_gets_the_other(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime)
            session.stdout.reset()
            for _number in range(200):
                await put(conmon, OUT + b"o" * 8192)
            await put(conmon, ERR + b"err")
            conmon.close()
            assert session.client.stderr is not None
            assert await session.client.stderr.read_all() == b"err"
            await session.task

    run_loop(work())


# ---- input -------------------------------------------------------------------------------------------------


def test_input_arrives_in_order_and_its_end_detaches(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    data = bytes(range(256)) * 4000

    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime, stdin=True, has_stdin=True)
            _none, found = await asyncio.gather(session.send(data), received(conmon, len(data)))
            assert found == data
            # The answer to the last input is not lost.
            await put(conmon, OUT + b"answer")
            result = await session.result()
            assert (result.stdout, result.exit_code) == (b"answer", 0)
            assert await received(conmon, 1) == b""
            conmon.close()

    run_loop(work())


def test_end_of_input_for_stdin_once_closes_it_and_output_goes_on(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            options = {"stdin": True, "has_stdin": True, "stdin_once": True}
            session, conmon = await attached(place, runtime, **options)
            await session.send(b"all")
            assert await received(conmon, 100) == b"all"
            await asyncio.sleep(0.3)
            await put(conmon, OUT + b"much later")
            conmon.close()
            result = await session.result()
            assert (result.stdout, result.exit_code) == (b"much later", 0)

    run_loop(work())


def test_input_for_a_container_without_any_is_dropped(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime, stdin=True)
            await session.send(b"x" * (1 << 20))
            await put(conmon, OUT + b"goes on")
            await asyncio.sleep(0.3)
            assert not session.task.done()
            with pytest.raises(BlockingIOError):
                conmon.recv(10)
            conmon.close()
            assert (await session.result()).stdout == b"goes on"

    run_loop(work())


def test_input_after_the_container_has_closed_it_is_dropped(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime, stdin=True, has_stdin=True, stdin_once=True)
            conmon.shutdown(socket.SHUT_RD)
            await session.send(b"x" * (1 << 20))
            await put(conmon, OUT + b"out")
            conmon.close()
            assert (await session.result()).stdout == b"out"

    run_loop(work())


def test_a_container_that_does_not_read_makes_the_client_wait(
    run_loop: RunLoop, runtime: LocalRuntime
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime, stdin=True, has_stdin=True)
            sending = asyncio.create_task(session.send(b"x" * (4 << 20)))
            await asyncio.sleep(0.3)
            assert not sending.done()
            # Output is not held up by it.
            await put(conmon, OUT + b"out")
            assert await session.until(b"out")
            await session.lose()
            await sending
            conmon.close()

    run_loop(work())


# ---- clients that are slow, or vanish ----------------------------------------------------------------------


def test_a_client_that_does_not_read_is_detached(
    run_loop: RunLoop, runtime: LocalRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime)
            sent = 0

            async def write() -> None:
                nonlocal sent
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    while True:
                        await put(conmon, OUT + b"o" * 8192)
                        sent += 8192

            writing = asyncio.create_task(write())
            await asyncio.sleep(0.3)
            # The buffer, what channel and kernel hold, and a chunk on its way.
            assert BUFFER_MAX <= sent < 4 * BUFFER_MAX
            # It is let go in time, whether or not it reads.
            await asyncio.wait_for(writing, 10)
            conmon.close()
            result = await session.result()
            assert "took less than 128 KiB" in result.status["message"]

    with caplog.at_level(logging.WARNING):
        run_loop(work())
    assert "too slow" in caplog.text


def test_a_client_that_reads_slowly_stays(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime)

            async def write() -> None:
                for _number in range(256):
                    await put(conmon, OUT + b"o" * 8192)
                conmon.close()

            writing = asyncio.create_task(write())
            found = 0
            while data := await session.stdout.read():
                found += len(data)
                await asyncio.sleep(0.05)
            await writing
            assert found == 256 * 8192
            assert (await session.result()).exit_code == 0

    run_loop(work())


def test_a_client_that_vanishes_leaves_the_container_alone(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime)
            await session.lose()
            # The end of its input is seen before the end of the socket.
            assert await received(conmon, 1) == b""
            await put(conmon, OUT + b"still taken")
            await place.remote.close()
            with pytest.raises(BrokenPipeError):
                await put(conmon, OUT + b"gone")
            conmon.close()

    run_loop(work())


def test_a_client_may_vanish_before_it_is_attached(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    may_go_on = threading.Event()
    runtime.before = lambda: may_go_on.wait(20)

    async def work() -> None:
        async with serving(runtime) as place:
            session = place.attach()
            await asyncio.sleep(0.05)
            session.client.link.lose()
            may_go_on.set()
            await session.lose()
            runtime.conmons[0].close()

    run_loop(work())


@pytest.mark.parametrize("delay_s", [0, 0.05, 0.2])
def test_a_session_may_be_cancelled_at_any_time(
    run_loop: RunLoop, runtime: LocalRuntime, delay_s: float
) -> None:
    runtime.before = lambda: time.sleep(0.1)

    async def work() -> None:
        async with serving(runtime) as place:
            session = place.attach(stdin=True, has_stdin=True)
            await asyncio.sleep(delay_s)
            session.task.cancel()
            words = await session.client.error.read_all() if delay_s else b""
            assert not delay_s or b"the endpoint is stopping" in words
            with pytest.raises(asyncio.CancelledError):
                await session.task
            await place.remote.close()
            for conmon in runtime.conmons:
                conmon.close()

    run_loop(work())


def test_what_cannot_be_attached_to_is_told(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    runtime.error = WrongState("container 'c' is stopped")

    async def work() -> None:
        async with serving(runtime) as place:
            status = (await place.attach().result()).status
            assert status["message"] == "cannot attach: container 'c' is stopped"

    run_loop(work())


# ---- onlookers of containers with stdin_once ---------------------------------------------------------------


def test_onlookers_that_leave_do_not_close_the_input(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    once = {"has_stdin": True, "stdin_once": True}

    async def work() -> None:
        async with serving(runtime) as place:
            first, conmon = await attached(place, runtime, **once)
            await first.lose()
            # What is written while nobody looks on is taken.
            for _number in range(200):
                await put(conmon, OUT + b"o" * 8192)
            with pytest.raises(BlockingIOError):
                conmon.recv(10)
            second, _same = await attached(place, runtime, is_new=False, **once)
            third, other = await attached(place, runtime, **once)
            assert len(runtime.conmons) == 2
            await put(conmon, OUT + b"second")
            await second.until(b"second")
            await put(other, OUT + b"third")
            await third.until(b"third")
            await second.lose()
            await third.lose()
            # The container ends: nothing is kept any more, and another one is attached to anew.
            conmon.close()
            other.close()
            await asyncio.sleep(0.1)
            last, conmon = await attached(place, runtime, **once)
            assert len(runtime.conmons) == 3
            conmon.close()
            assert (await last.result()).exit_code == 0

    run_loop(work())


def test_kept_connections_are_closed_with_the_daemon(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime, has_stdin=True, stdin_once=True)
            await session.lose()
            await place.remote.close()
            assert conmon.recv(10) == b""
            conmon.close()
            # One whose container ends at that very moment.
            session, conmon = await attached(place, runtime, has_stdin=True, stdin_once=True)
            await session.lose()
            conmon.close()
            await place.remote.close()

    run_loop(work())


# ---- terminals ---------------------------------------------------------------------------------------------


def test_terminal_of_the_container_follows_the_client(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime, tty=True, has_tty=True)
            await session.resize.write(b'{"Width":0,"Height":10}{"Width":90,"Height":30}{"Width":91,')
            await session.resize.write(b'"Height":31}')
            while (91, 31) not in runtime.sizes:
                await asyncio.sleep(0.01)
            assert set(runtime.sizes) <= {(90, 30), (91, 31)}
            # One that has ended meanwhile is no fault of the session.
            runtime.error = WrongState("it has ended")
            await session.size(100, 40)
            await asyncio.sleep(0.1)
            await put(conmon, OUT + b"shown")
            conmon.close()
            assert (await session.result()).stdout == b"shown"

    run_loop(work())


def test_container_without_a_terminal_has_no_size(run_loop: RunLoop, runtime: LocalRuntime) -> None:
    async def work() -> None:
        async with serving(runtime) as place:
            session, conmon = await attached(place, runtime, tty=True)
            await session.size(100, 40)
            await asyncio.sleep(0.1)
            conmon.close()
            await session.result()
            assert runtime.sizes == []

    run_loop(work())


def test_work_is_what_request_and_container_say() -> None:
    config = pb.ContainerConfig(stdin=True, stdin_once=True, tty=True)
    record = ContainerRecord(
        id="abc",
        name="n",
        sandbox_id="s",
        config=config.SerializeToString(),
        created_at_ns=1,
        phase=Phase.RUNNING,
    )
    request = pb.AttachRequest(container_id="a", stdin=True, stdout=True, tty=True)
    work = attach_work(record, request)
    assert work == AttachWork(container_id="abc", stdin=True, has_stdin=True, stdin_once=True, has_tty=True)
    assert (work.feeds, work.must_stay) == (True, False)
