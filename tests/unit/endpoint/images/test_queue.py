# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue of pulls: sharing, order, limits, hanging ones, and the end."""

from __future__ import annotations

import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from pvecri.images import queue
from pvecri.images.queue import PullQueue, QueueState

LONG_S = 30


class Work:
    """Actions that wait for the test."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.jobs: dict[str, queue.Job] = {}
        self._may_end = {}
        self._has_begun = {}

    def action(self, name):
        self._may_end[name] = threading.Event()
        self._has_begun[name] = threading.Event()

        def run(job):
            self.jobs[name] = job
            self.begun.append(name)
            self._has_begun[name].set()
            assert self._may_end[name].wait(LONG_S)
            if name.startswith("bad"):
                raise KeyError(name)
            return f"result of {name}"

        return run

    def wait(self, name):
        assert self._has_begun[name].wait(LONG_S)

    def end(self, *names):
        for name in names:
            self._may_end[name].set()


@pytest.fixture
def work():
    return Work()


def test_same_key_shares(work):
    pulls = PullQueue(2)
    first = pulls.submit("a", "a", "r", work.action("a"))
    assert pulls.submit("a", "a", "r", lambda _job: pytest.fail("not called")) is first
    assert not first.cancel()
    work.end("a")
    assert first.result(LONG_S) == "result of a"


def test_want_of_threads_is_an_error_and_holds_up_nothing(work, monkeypatch):
    pulls = PullQueue(1)
    pulls.submit("a", "a", "r", work.action("a"))
    work.wait("a")
    waits = pulls.submit("b", "b", "r", work.action("b"))

    def none_left(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        work.end("a")
        with pytest.raises(WrongState, match="can't start"):
            waits.result(LONG_S)
        with pytest.raises(WrongState, match="can't start"):
            pulls.submit("b", "b", "r", work.action("b")).result(LONG_S)
    again = pulls.submit("b", "b", "r", work.action("b"))
    work.end("b")
    assert again.result(LONG_S) == "result of b"


def test_error_is_shared_and_forgotten(work):
    pulls = PullQueue(2)
    first = pulls.submit("a", "a", "r", work.action("bad"))
    second = pulls.submit("a", "a", "r", work.action("unused"))
    work.end("bad")
    assert first.exception(LONG_S) is second.exception(LONG_S)
    assert isinstance(first.exception(), KeyError)
    again = pulls.submit("a", "a", "r", work.action("good"))
    work.end("good")
    assert again.result(LONG_S) == "result of good"


def test_limit_and_order(work):
    pulls = PullQueue(2)
    futures = [pulls.submit(name, name, name, work.action(name)) for name in "abcd"]
    work.wait("a")
    work.wait("b")
    assert pulls.state() == QueueState(waiting=2, running=2, idle=0)
    work.end("b")
    work.wait("c")
    assert work.begun.count("d") == 0
    work.end("a", "c", "d")
    assert [future.result(LONG_S) for future in futures] == [f"result of {name}" for name in "abcd"]
    assert pulls.state() == QueueState(0, 0, 0)


def test_hanging_pull_gives_its_place_away(work):
    pulls = PullQueue(1)
    pulls.submit("a", "a", "r", work.action("a"))
    future = pulls.submit("b", "b", "s", work.action("b"))
    work.wait("a")
    work.jobs["a"].set_idle(True)
    work.wait("b")
    assert pulls.state() == QueueState(waiting=0, running=2, idle=1)
    pulls.submit("c", "c", "s", work.action("c"))
    # It moves again: two are at work now, and nobody else begins.
    work.jobs["a"].set_idle(False)
    work.end("b")
    assert future.result(LONG_S)
    assert pulls.state() == QueueState(waiting=1, running=1, idle=0)
    work.end("a")
    work.wait("c")
    work.end("c")


def test_one_registry_never_has_all_places(work):
    pulls = PullQueue(2)
    for name in ("a1", "a2", "a3", "a4"):
        pulls.submit(name, name, "dead", work.action(name))
    good = pulls.submit("b", "b", "good", work.action("b"))
    for name in ("a1", "a2"):
        work.wait(name)
        work.jobs[name].set_idle(True)
    work.wait("b")
    assert pulls.state() == QueueState(waiting=2, running=3, idle=2)
    work.end("b")
    assert good.result(LONG_S)
    assert "a3" not in work.begun
    work.end("a1", "a2", "a3", "a4")


def test_hanging_pulls_of_many_registries_have_a_limit(work):
    pulls = PullQueue(1)
    names = [f"n{number}" for number in range(queue._RUNNING_FACTOR + 2)]
    for name in names:
        pulls.submit(name, name, name, work.action(name))
    for name in names[: queue._RUNNING_FACTOR]:
        work.wait(name)
        work.jobs[name].set_idle(True)
    assert pulls.state().running == queue._RUNNING_FACTOR
    assert pulls.state().waiting == 2
    work.end(*names)


def test_too_many_wait(work, monkeypatch):
    monkeypatch.setattr(queue, "_WAITING_MAX", 2)
    pulls = PullQueue(1)
    for name in "abc":
        pulls.submit(name, name, name, work.action(name))
    with pytest.raises(WrongState, match="2 pulls are waiting already"):
        pulls.submit("d", "d", "d", work.action("d"))
    assert pulls.submit("b", "b", "b", work.action("b2"))
    work.end(*"abc")


def test_close_refuses_what_waits(work):
    pulls = PullQueue(1)
    running = pulls.submit("a", "a", "r", work.action("a"))
    waiting = pulls.submit("b", "b", "r", work.action("b"))
    work.wait("a")
    pulls.close()
    assert isinstance(waiting.exception(LONG_S), WrongState)
    with pytest.raises(WrongState, match="endpoint stops"):
        pulls.submit("c", "c", "r", work.action("c"))
    work.end("a")
    assert running.result(LONG_S) == "result of a"


def test_one_image_is_pulled_by_one_at_a_time(work):
    pulls = PullQueue(3)
    first = pulls.submit("a by one", "a", "r", work.action("a by one"))
    second = pulls.submit("a by two", "a", "r", work.action("a by two"))
    other = pulls.submit("b", "b", "r", work.action("b"))
    work.wait("a by one")
    work.wait("b")
    work.jobs["a by one"].set_idle(True)
    assert pulls.state() == QueueState(waiting=1, running=2, idle=1)
    work.end("a by one")
    work.wait("a by two")
    work.end("a by two", "b")
    assert {future.result(LONG_S) for future in (first, second, other)} == {
        "result of a by one",
        "result of a by two",
        "result of b",
    }
