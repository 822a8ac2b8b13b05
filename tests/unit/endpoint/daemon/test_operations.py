# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
import contextlib
import threading
import typing as t

import pytest

from pvecri.daemon.operations import Operations, Pool
from pvecri.errors import TooBusy

LIMIT_S = 20


class Step:
    """An action that waits to be let on."""

    def __init__(self, value: str = "done") -> None:
        self.value = value
        self.calls = 0
        self.entered = threading.Event()
        self.leave = threading.Event()

    def __call__(self) -> str:
        self.calls += 1
        self.entered.set()
        assert self.leave.wait(LIMIT_S)
        return self.value

    async def begun(self) -> None:
        while not self.entered.is_set():
            await asyncio.sleep(0.001)


def run(scenario: t.Callable[[Operations], t.Coroutine[t.Any, t.Any, None]], **options: t.Any) -> None:
    async def main() -> None:
        operations = Operations(**options)
        try:
            await asyncio.wait_for(scenario(operations), LIMIT_S)
        finally:
            operations.close()

    asyncio.run(main())


def test_run_returns_and_raises_what_the_action_does() -> None:
    async def scenario(operations: Operations) -> None:
        assert await operations.run("k", lambda: 5) == 5
        with pytest.raises(ZeroDivisionError):
            await operations.run("k", lambda: 1 // 0, lock="x")
        assert await operations.call(threading.current_thread) is not threading.main_thread()
        assert await operations.drain(0) == 0

    run(scenario)


def test_a_second_call_of_the_same_key_joins() -> None:
    async def scenario(operations: Operations) -> None:
        step, other = Step(), Step("other")
        one = asyncio.create_task(operations.run("k", step, lock="x"))
        await step.begun()
        two = asyncio.create_task(operations.run("k", other, lock="x"))
        await asyncio.sleep(0.01)
        step.leave.set()
        assert await asyncio.gather(one, two) == ["done", "done"]
        assert (step.calls, other.calls) == (1, 0)

    run(scenario)


def test_a_client_that_goes_away_stops_nothing_and_a_repeat_joins() -> None:
    async def scenario(operations: Operations) -> None:
        step = Step()
        client = asyncio.create_task(operations.run("k", step, lock="x"))
        await step.begun()
        client.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client
        repeat = asyncio.create_task(operations.run("k", step, lock="x"))
        await asyncio.sleep(0.01)
        step.leave.set()
        assert await repeat == "done"
        assert step.calls == 1

    run(scenario)


def test_a_failure_that_nobody_waits_for_is_no_complaint() -> None:
    complaints: list[t.Any] = []

    async def scenario(operations: Operations) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        entered, leave = threading.Event(), threading.Event()

        def fail() -> None:
            entered.set()
            assert leave.wait(LIMIT_S)
            raise ValueError

        client = asyncio.create_task(operations.run("k", fail))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        client.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await client
        leave.set()
        assert await operations.drain(LIMIT_S) == 0

    run(scenario)
    assert complaints == []


def test_a_lock_is_held_until_the_thread_ends_and_given_on_in_order() -> None:
    async def scenario(operations: Operations) -> None:
        steps = [Step(str(number)) for number in range(4)]
        tasks = [
            asyncio.create_task(operations.run(number, step, lock="x")) for number, step in enumerate(steps)
        ]
        for number, step in enumerate(steps):
            await step.begun()
            assert [other.calls for other in steps] == [1] * (number + 1) + [0] * (3 - number)
            tasks[number].cancel()
            await asyncio.sleep(0.005)
            step.leave.set()
        assert await operations.drain(LIMIT_S) == 0

    run(scenario)


def test_a_waiter_that_goes_away_still_has_its_turn() -> None:
    async def scenario(operations: Operations) -> None:
        first, second = Step(), Step()
        second.leave.set()
        one = asyncio.create_task(operations.run(1, first, lock="x"))
        await first.begun()
        two = asyncio.create_task(operations.run(2, second, lock="x"))
        await asyncio.sleep(0.005)
        two.cancel()
        first.leave.set()
        await one
        assert await operations.drain(LIMIT_S) == 0
        assert second.calls == 1

    run(scenario)


def test_objects_do_not_wait_for_each_other() -> None:
    async def scenario(operations: Operations) -> None:
        hanging = Step()
        task = asyncio.create_task(operations.run(1, hanging, lock="x"))
        await hanging.begun()
        assert await operations.run(2, lambda: "y", lock="y") == "y"
        assert await operations.call(lambda: "z") == "z"
        hanging.leave.set()
        await task

    run(scenario)


def test_a_pool_that_is_full_holds_up_no_other_kind_of_work() -> None:
    async def scenario(operations: Operations) -> None:
        hanging = [Step(), Step()]
        tasks = [
            asyncio.create_task(operations.run(number, step, pool=Pool.SANDBOX))
            for number, step in enumerate(hanging)
        ]
        await hanging[0].begun()
        waiting = asyncio.create_task(operations.run("third", lambda: 3, pool=Pool.SANDBOX))
        assert await operations.run("q", lambda: 4, pool=Pool.CONTAINER) == 4
        assert not waiting.done()
        for step in hanging:
            step.leave.set()
        assert await waiting == 3
        await asyncio.gather(*tasks)

    run(scenario, sizes=dict.fromkeys(Pool, 1))


def test_the_guard_is_held_within_the_thread() -> None:
    held: list[str] = []

    @contextlib.contextmanager
    def guard(object_id: str) -> t.Iterator[None]:
        held.append(object_id)
        yield
        held.remove(object_id)

    async def scenario(operations: Operations) -> None:
        assert await operations.run("k", lambda: list(held), lock="x") == ["x"]
        assert await operations.run("k", lambda: list(held)) == []
        assert held == []

    run(scenario, guard=guard)


def test_drain_waits_for_what_is_in_flight_and_lets_nothing_in() -> None:
    async def scenario(operations: Operations) -> None:
        step = Step()
        task = asyncio.create_task(operations.run("k", step))
        await step.begun()
        assert await operations.drain(0.01) == 1
        with pytest.raises(asyncio.CancelledError):
            await operations.run("new", lambda: 1)
        joined = asyncio.create_task(operations.run("k", step))
        await asyncio.sleep(0)
        step.leave.set()
        assert await operations.drain(LIMIT_S) == 0
        assert await asyncio.gather(task, joined) == ["done", "done"]

    run(scenario)


def test_drain_counts_threads_that_nobody_waits_for() -> None:
    async def scenario(operations: Operations) -> None:
        step = Step()
        client = asyncio.create_task(operations.call(step))
        await step.begun()
        client.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await client
        assert await operations.drain(0.01) == 1
        step.leave.set()
        assert await operations.drain(LIMIT_S) == 0

    run(scenario)


def test_every_pool_has_a_size() -> None:
    operations = Operations()
    assert set(operations._pools) == set(Pool)
    operations.close()


def test_operations_that_clients_left_behind_have_a_bound() -> None:
    async def run() -> None:
        release = threading.Event()
        operations = Operations(sizes=dict.fromkeys(Pool, 1), most=3)
        try:
            for number in range(3):
                left = asyncio.ensure_future(operations.run(number, release.wait, lock="x"))
                other = asyncio.ensure_future(operations.call(release.wait))
                await asyncio.sleep(0)
                left.cancel()
                other.cancel()
            await asyncio.sleep(0.05)
            with pytest.raises(TooBusy, match="3 operations are in flight"):
                await operations.run(4, release.wait)
            with pytest.raises(TooBusy, match="are in flight"):
                await operations.call(release.wait)
            joined = asyncio.ensure_future(operations.run(0, release.wait))
            own = asyncio.ensure_future(operations.call(lambda: 5, pool=Pool.HOUSE))
            assert await own == 5
            release.set()
            assert await joined
            assert await operations.drain(30) == 0
        finally:
            release.set()
            operations.close()

    asyncio.run(run())


def test_calls_that_clients_left_behind_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        operations = Operations()
        release = threading.Event()

        def fail() -> None:
            release.wait()
            raise ValueError

        left = asyncio.ensure_future(operations.call(fail))
        await asyncio.sleep(0)
        left.cancel()
        release.set()
        await operations.drain(30)
        operations.close()

    asyncio.run(run())
    assert not caplog.records


def test_what_was_refused_for_want_of_a_thread_is_not_done_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done: list[int] = []

    async def run() -> None:
        operations = Operations()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(TooBusy, match="no thread can be started"):
                await operations.run(1, lambda: done.append(1), lock="one")
            with pytest.raises(TooBusy):
                await operations.call(lambda: done.append(2), pool=Pool.CONTAINER)
        await operations.run(1, lambda: done.append(3), lock="one")
        assert await operations.drain(30) == 0
        operations.close()

    asyncio.run(run())
    assert done == [3]
