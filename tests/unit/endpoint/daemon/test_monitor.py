# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
import errno
import os
import pathlib
import resource
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support import records
from ansible_collections.pvecri.runtime.tests.support.fake_crun import FakeCrun, crun_of
from pvecri.containers.exits import Exits
from pvecri.daemon import monitor as module
from pvecri.daemon.monitor import Monitor
from pvecri.state.holds import STOPPING
from pvecri.state.records import Phase
from pvecri.state.registry import Registry

LIMIT_S = 20

_PIDFD = module._pidfd


class Bench:
    def __init__(self, top: pathlib.Path) -> None:
        self.registry = Registry.open(str(top / "x.sqlite"))
        self.crun = FakeCrun(top)
        self.exits = Exits(self.registry, crun_of(self.crun))
        self.pod = self.registry.reserve_sandbox(records.sandbox())
        self.monitor: Monitor

    def container(self, phase: Phase = Phase.RUNNING) -> str:
        made = records.container(self.pod.id, phase=phase)
        self.crun.add(made.id)
        return self.registry.reserve_container(made).id

    async def eventually(self, test: t.Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not test():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)

    def exit_code(self, name: str) -> int | None:
        return self.registry.container(name).exit_code

    def is_watched(self, name: str) -> bool:
        watch = self.monitor._watches.get(name)
        return watch is not None and len(watch.handles) == 2

    def run(self, scenario: t.Callable[[], t.Coroutine[t.Any, t.Any, None]], *, loop: t.Any = None) -> None:
        async def main() -> None:
            self.monitor = Monitor(self.registry, crun_of(self.crun), self.exits, asyncio.to_thread)
            self.monitor.start()
            try:
                await asyncio.wait_for(scenario(), LIMIT_S)
            finally:
                self.monitor.stop()

        with asyncio.Runner(loop_factory=loop) as runner:
            # What the first loop of its kind opens for good is not ours.
            runner.run(asyncio.sleep(0))
        before = len(os.listdir("/proc/self/fd"))
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(main())
        assert len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> t.Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.crun.close()
    made.registry.close()


def uvloop_factory() -> t.Any:
    return pytest.importorskip("uvloop").new_event_loop


@pytest.mark.parametrize("has_uvloop", [False, True])
def test_monitor_sees_ends_by_exit_files(bench: Bench, has_uvloop: bool) -> None:
    there = bench.container()

    async def scenario() -> None:
        later = bench.container(Phase.CREATING)
        bench.registry.update_container(later, phase=Phase.CREATED)
        await bench.eventually(lambda: bench.is_watched(there) and bench.is_watched(later))
        bench.crun.end(there, 3)
        bench.crun.end(later, 4)
        await bench.eventually(lambda: (bench.exit_code(there), bench.exit_code(later)) == (3, 4))
        await bench.eventually(lambda: bench.monitor._watches == {})

    bench.run(scenario, loop=uvloop_factory() if has_uvloop else None)


def test_monitor_settles_what_ended_before_it_began(bench: Bench) -> None:
    name = bench.container()
    bench.crun.end(name, 5)

    async def scenario() -> None:
        await bench.eventually(lambda: bench.exit_code(name) == 5)

    bench.run(scenario)


def test_monitor_kills_a_container_whose_conmon_was_killed(bench: Bench) -> None:
    name = bench.container()

    async def scenario() -> None:
        await bench.eventually(lambda: bench.is_watched(name))
        bench.crun.kill_conmon(name)
        await bench.eventually(lambda: bench.registry.container(name).reason == "MonitorLost")

    bench.run(scenario)
    assert bench.crun.killed == [name]


def test_monitor_does_not_wait_for_a_conmon_that_hangs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.05)
    name = bench.container()

    async def scenario() -> None:
        await bench.eventually(lambda: bench.is_watched(name))
        bench.crun.kill_first(name)
        await bench.eventually(lambda: bench.registry.container(name).phase is Phase.EXITED)

    bench.run(scenario)
    assert bench.crun.repaired == [name]


def test_monitor_lets_go_of_what_is_removed(bench: Bench) -> None:
    name = bench.container()

    async def scenario() -> None:
        await bench.eventually(lambda: bench.is_watched(name))
        bench.registry.remove_container(name)
        await bench.eventually(lambda: name not in bench.monitor._watches)
        # Its end is nobody's business any more.
        bench.crun.end(name, 1)
        await asyncio.sleep(0.02)

    bench.run(scenario)


def test_monitor_ends_a_pod_whose_pause_container_ended(bench: Bench) -> None:
    pod = bench.registry.reserve_sandbox(records.sandbox(has_pause=True))
    bench.crun.add(pod.id)

    async def scenario() -> None:
        await bench.eventually(lambda: bench.is_watched(pod.id))
        bench.crun.write_exit(pod.id, 0)
        await asyncio.sleep(0.02)
        assert bench.registry.sandbox(pod.id).phase is Phase.READY
        bench.crun.end(pod.id)
        await bench.eventually(lambda: bench.registry.sandbox(pod.id).phase is Phase.STOPPED)
        assert "pause container" in bench.registry.sandbox(pod.id).message

    bench.run(scenario)


def test_monitor_leaves_a_pod_alone_that_is_being_stopped(bench: Bench) -> None:
    pod = bench.registry.reserve_sandbox(records.sandbox(has_pause=True))
    bench.crun.add(pod.id)

    async def scenario() -> None:
        await bench.eventually(lambda: bench.is_watched(pod.id))
        with bench.registry.flagged(pod.id, STOPPING):
            asked = len(bench.crun.asked)
            bench.crun.end(pod.id)
            await bench.eventually(lambda: len(bench.crun.asked) > asked)
            await asyncio.sleep(0.02)
            assert bench.registry.sandbox(pod.id).phase is Phase.READY

    bench.run(scenario)


def test_monitor_looks_at_all_when_the_kernel_lost_count(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [bench.container() for _number in range(3)]

    async def scenario() -> None:
        await bench.eventually(lambda: all(bench.is_watched(name) for name in names))
        monkeypatch.setattr(bench.monitor._watcher, "read", lambda: None)
        for name in names:
            container = bench.crun.containers[name]
            container.exit_code = 6
            bench.crun.kill_first(name)
        bench.monitor._read_exits()
        await bench.eventually(lambda: [bench.exit_code(name) for name in names] == [6, 6, 6])
        monkeypatch.undo()

    bench.run(scenario)


def test_monitor_survives_a_disk_that_is_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    name = bench.container()

    async def scenario() -> None:
        await bench.eventually(lambda: bench.is_watched(name))
        with monkeypatch.context() as patch:
            patch.setattr(bench.registry, "exited", _full)
            bench.crun.end(name, 2)
            asked = len(bench.crun.asked)
            # By the file, by conmon's end, and then again and again.
            await bench.eventually(lambda: len(bench.crun.asked) > asked + 4)
        await bench.eventually(lambda: bench.exit_code(name) == 2)

    bench.run(scenario)


def test_monitor_tries_again_without_descriptors(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    name = bench.container()
    opened: list[int] = []

    def few(pid: int | None, start_time: int) -> int | None:
        opened.append(0 if pid is None else pid)
        if len(opened) in {1, 3}:
            raise OSError(errno.EMFILE, "too many open files")
        return _PIDFD(pid, start_time)

    monkeypatch.setattr(module, "_pidfd", few)

    async def scenario() -> None:
        await bench.eventually(lambda: bench.is_watched(name))
        bench.crun.kill_conmon(name)
        await bench.eventually(lambda: bench.registry.container(name).reason == "MonitorLost")

    bench.run(scenario)
    assert len(opened) == 5


def _full(*_unused: t.Any, **_options: t.Any) -> None:
    raise OSError(28, "no space left on device")


def test_monitor_watches_a_thousand(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # One pair of processes stands for all of them: what counts is a thousand pairs of descriptors.
    module.allow_many_files()
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 4000:
        pytest.skip("needs a limit of 4000 open files")
    first = bench.container()
    names = [first]
    for _number in range(999):
        made = records.container(bench.pod.id, phase=Phase.RUNNING)
        bench.crun.containers[made.id] = bench.crun.containers[first]
        names.append(bench.registry.reserve_container(made).id)

    async def scenario() -> None:
        await bench.eventually(lambda: all(bench.is_watched(name) for name in names))
        asked = len(bench.crun.asked)
        await asyncio.sleep(0.1)
        # Nobody asks in turns.
        assert len(bench.crun.asked) == asked
        bench.crun.end(first, 9)
        await bench.eventually(lambda: all(bench.exit_code(name) == 9 for name in names))

    bench.run(scenario, loop=uvloop_factory())


def test_monitor_that_never_began_ends(bench: Bench) -> None:
    Monitor(bench.registry, crun_of(bench.crun), bench.exits, asyncio.to_thread).stop()


def test_allow_many_files_raises_the_soft_limit_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[t.Any] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: set_to.append(limits))
    for limits, expected in (
        ((1024, 4096), [(4096, 4096)]),
        ((1024, 1 << 20), [(65536, 1 << 20)]),
        ((1024, resource.RLIM_INFINITY), [(65536, resource.RLIM_INFINITY)]),
        ((70000, 1 << 20), []),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), []),
    ):
        set_to.clear()
        monkeypatch.setattr(resource, "getrlimit", lambda _kind, limits=limits: limits)
        assert module.allow_many_files() == limits
        assert set_to == expected
