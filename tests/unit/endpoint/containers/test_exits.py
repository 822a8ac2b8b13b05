# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import threading
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Problem
from ansible_collections.pvecri.runtime.tests.support import records
from ansible_collections.pvecri.runtime.tests.support.fake_crun import FakeCrun, crun_of
from pvecri.containers import exits as module
from pvecri.containers.exits import Exits
from pvecri.state.holds import REMOVING
from pvecri.state.records import ContainerRecord, Phase
from pvecri.state.registry import Registry


class Bench:
    def __init__(self, top: pathlib.Path) -> None:
        self.registry = Registry.open(str(top / "x.sqlite"))
        self.crun = FakeCrun(top)
        self.codes: dict[int, int] = {}
        self.exits = Exits(self.registry, crun_of(self.crun), reaped=self.codes.get)
        self.pod = self.registry.reserve_sandbox(records.sandbox())

    def container(self, **fields: t.Any) -> str:
        made = records.container(self.pod.id, phase=Phase.RUNNING, **fields)
        return self.registry.reserve_container(made).id

    def settled(self, container: str) -> ContainerRecord:
        record = self.exits.settle(container)
        assert record == self.registry.container(container)
        return record


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> t.Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.crun.close()
    made.registry.close()


@pytest.mark.parametrize(
    ("code", "oom_killed", "reason"),
    [(0, False, "Completed"), (3, False, "Error"), (137, True, "OOMKilled"), (0, True, "Completed")],
)
def test_settle_writes_code_time_and_reason(bench: Bench, code: int, oom_killed: bool, reason: str) -> None:
    name = bench.container()
    bench.crun.add(name).oom_killed = oom_killed
    bench.crun.end(name, code)
    record = bench.settled(name)
    assert (record.phase, record.exit_code, record.reason) == (Phase.EXITED, code, reason)
    assert record.finished_at_ns == 1_000_000_500_000_000


def test_settle_leaves_what_lives(bench: Bench) -> None:
    name = bench.container()
    bench.crun.add(name)
    assert bench.settled(name).phase is Phase.RUNNING


def test_settle_asks_nothing_about_what_is_settled(bench: Bench) -> None:
    making = bench.container()
    bench.registry.update_container(making, phase=Phase.CREATING)
    over = bench.container()
    bench.registry.exited(over, exit_code=1, finished_at_ns=5)
    assert bench.settled(making).phase is Phase.CREATING
    assert bench.settled(over).exit_code == 1
    assert bench.exits.settle(records.new_id()) is None
    assert bench.crun.asked == []


def test_settle_waits_for_the_start_that_is_under_way(bench: Bench) -> None:
    """A command that is over at once may end before its start is written down."""
    name = bench.container()
    bench.registry.update_container(name, phase=Phase.CREATED)
    bench.crun.add(name)
    bench.crun.end(name, 3)
    phases: list[Phase] = []
    bench.registry.listen(lambda change: phases.append(t.cast(ContainerRecord, change.new).phase))
    with bench.registry.held(name):
        settling = threading.Thread(target=bench.exits.settle, args=(name,))
        settling.start()
        # Nothing can tell that it waits but that it does not end.
        settling.join(0.05)
        assert phases == []
        bench.registry.started(name, 5)
    settling.join()
    assert phases == [Phase.RUNNING, Phase.EXITED]
    assert bench.registry.container(name).exit_code == 3


def test_settle_waits_for_no_start_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_START_S", 0.01)
    name = bench.container()
    bench.registry.update_container(name, phase=Phase.CREATED)
    bench.crun.add(name)
    bench.crun.end(name, 3)
    with bench.registry.held(name):
        settling = threading.Thread(target=bench.exits.settle, args=(name,))
        settling.start()
        settling.join()
    assert bench.registry.container(name).phase is Phase.EXITED


def test_settle_of_what_crun_does_not_know(bench: Bench) -> None:
    record = bench.settled(bench.container())
    assert (record.phase, record.exit_code, record.reason) == (Phase.EXITED, None, "Unknown")


def test_settle_waits_for_the_exit_file(bench: Bench) -> None:
    name = bench.container()
    bench.crun.add(name)
    bench.crun.kill_first(name)
    bench.crun.waits[name] = 7
    assert bench.settled(name).exit_code == 7
    assert bench.crun.repaired == []


def test_settle_ends_a_conmon_that_hangs(bench: Bench) -> None:
    name = bench.container()
    bench.crun.add(name)
    bench.crun.kill_first(name)
    record = bench.settled(name)
    assert (record.phase, record.reason, bench.crun.repaired) == (Phase.EXITED, "Unknown", [name])


def test_settle_of_a_container_that_ended_unseen(bench: Bench) -> None:
    name = bench.container()
    bench.crun.add(name)
    bench.crun.kill_conmon(name)
    bench.crun.kill_first(name)
    record = bench.settled(name)
    assert (record.exit_code, record.reason, record.message) == (None, "Unknown", "nobody saw its exit code")


def test_settle_after_a_restart_of_the_host(bench: Bench) -> None:
    name = bench.container(created_at_ns=5)
    bench.crun.add(name).problems = (Problem.HOST_RESTARTED,)
    bench.crun.kill_conmon(name)
    bench.crun.kill_first(name)
    record = bench.settled(name)
    assert (record.reason, record.message) == ("Unknown", "the host was restarted")
    assert abs(record.finished_at_ns - module.boot_time_ns()) < 10**9


@pytest.mark.parametrize("cannot_kill", [False, True])
def test_settle_kills_a_container_that_nobody_watches(bench: Bench, cannot_kill: bool) -> None:
    name = bench.container()
    bench.crun.add(name)
    bench.crun.kill_conmon(name)
    bench.crun.cannot_kill = cannot_kill
    record = bench.settled(name)
    assert (record.phase, record.exit_code, record.reason) == (Phase.EXITED, 137, "MonitorLost")
    assert "conmon" in record.message


def test_settle_of_a_container_that_a_daemon_killed_with_its_last_act(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = bench.container()
    bench.crun.add(name)
    bench.crun.kill_conmon(name)

    class Killed(BaseException):
        pass

    def die(*_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(bench.registry, "exited", die)
        with pytest.raises(Killed):
            bench.exits.settle(name)
    assert bench.registry.container(name).phase is Phase.RUNNING
    record = bench.settled(name)
    assert (record.phase, record.exit_code, record.reason) == (Phase.EXITED, 137, "MonitorLost")


def test_settle_of_a_killed_container_whose_code_is_known_all_the_same(bench: Bench) -> None:
    name = bench.container(reason="MonitorLost", message="conmon was killed")
    bench.crun.add(name)
    # As with guests: somebody else than conmon saw the end.
    bench.crun.end(name, 137)
    record = bench.settled(name)
    assert (record.exit_code, record.reason, record.message) == (137, "MonitorLost", "conmon was killed")


def test_settle_leaves_what_is_being_removed(bench: Bench) -> None:
    name = bench.container()
    bench.crun.add(name)
    with bench.registry.flagged(name, REMOVING):
        # A removal ends conmon first.
        bench.crun.kill_conmon(name)
        assert bench.settled(name).phase is Phase.RUNNING
    assert bench.crun.killed == []


def test_settle_knows_the_code_of_what_was_reaped(bench: Bench) -> None:
    name = bench.container()
    container = bench.crun.add(name)
    assert container.first is not None
    bench.codes[container.first.pid] = 5
    bench.crun.kill_conmon(name)
    assert bench.settled(name).exit_code == 5


def test_settle_leaves_what_cannot_be_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    name = bench.container()
    bench.crun.add(name)
    bench.crun.kill_conmon(name)
    bench.crun.cannot_kill = True
    monkeypatch.setattr(module.procfs, "send_signal", lambda *_args: True)
    monkeypatch.setattr(module, "_KILL_S", 0.01)
    assert bench.settled(name).phase is Phase.RUNNING


def test_settle_of_a_container_that_is_removed_meanwhile(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = bench.container()
    bench.crun.add(name)
    bench.crun.end(name)
    real = bench.crun.state

    def state(wanted: str) -> t.Any:
        bench.registry.remove_container(name)
        return real(wanted)

    monkeypatch.setattr(bench.crun, "state", state)
    assert bench.exits.settle(name) is None


def test_boot_time_is_before_now() -> None:
    assert 0 < module.boot_time_ns() < time.time_ns()
