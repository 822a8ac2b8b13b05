# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How recovery mends and what it keeps; what it finds on a real host is tested beside crun."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import threading
import types
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    Status,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from ansible_collections.pvecri.runtime.tests.support import records
from ansible_collections.pvecri.runtime.tests.support.fake_crun import FakeCrun
from pvecri.containers.exits import Exits
from pvecri.daemon import orphans, recovery, verdicts
from pvecri.daemon.operations import Operations
from pvecri.daemon.orphans import OrphanSearch
from pvecri.daemon.recovery import Mend, Recovery
from pvecri.errors import Unavailable
from pvecri.state.records import Phase
from pvecri.state.registry import Registry


class Host:
    """A context of things that do as little as possible."""

    def __init__(self, top: pathlib.Path) -> None:
        self.registry = Registry.open(str(top / "x.sqlite"))
        self.crun: t.Any = FakeCrun(top)
        self.runtimes = self.crun
        self.paths = Paths(str(top / "s"), str(top / "r"), owner=Owner.CRI)
        self.bundles: t.Any = types.SimpleNamespace(names=list, load=lambda _name: None, sweep=list)
        self.cni: t.Any = types.SimpleNamespace(attached=set)
        self.crun.names = list
        self.stopped: list[str] = []

    def recovery(self, **options: t.Any) -> Recovery:
        context: t.Any = self
        services: t.Any = types.SimpleNamespace(
            start=lambda name: self.stopped.append(f"start {name}"),
            stop=self.stopped.append,
            remove=self.stopped.append,
        )
        return Recovery(context, services, services, Exits(self.registry, self.crun), **options)


@pytest.fixture
def host(tmp_path: pathlib.Path) -> t.Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.crun.close()
    made.registry.close()


def mend(host: Host, *mends: Mend) -> None:
    async def main() -> None:
        operations = Operations(host.registry.held)
        try:
            await host.recovery().mend(operations, mends)
        finally:
            operations.close()

    asyncio.run(main())


class Failing:
    """An act that raises what it is given, one after the other, and then succeeds."""

    def __init__(self, *problems: Exception) -> None:
        self.problems = list(problems)
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.problems:
            raise self.problems.pop(0)


def test_mend_tries_again_and_gives_up(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recovery, "_RETRY_S", (0.001, 0.001))
    fine, late = Failing(), Failing(CoreError("busy"), OSError("broken"))
    never, gone, bug = Failing(*[CoreError("busy")] * 9), Failing(NotFound("gone")), Failing(KeyError("bug"))
    acts = {"fine": fine, "late": late, "never": never, "gone": gone, "bug": bug}
    with caplog.at_level(logging.WARNING):
        mend(host, *(Mend(name, "thing", act) for name, act in acts.items()))
    assert {name: act.calls for name, act in acts.items()} == {
        "fine": 1,
        "late": 3,
        "never": 3,
        "gone": 1,
        "bug": 1,
    }
    assert "thing never stays as it is until the next start" in caplog.text
    assert "thing late stays" not in caplog.text
    assert "KeyError" in caplog.text


def test_mend_waits_for_a_client_at_the_same_object(host: Host) -> None:
    order: list[str] = []

    async def main() -> None:
        operations = Operations(host.registry.held)
        entered = asyncio.Event()
        loop = asyncio.get_running_loop()

        def client() -> None:
            loop.call_soon_threadsafe(entered.set)
            asyncio.run(asyncio.sleep(0.05))
            order.append("client")

        first = asyncio.create_task(operations.run("client", client, lock="x"))
        await entered.wait()
        await host.recovery().mend(operations, [Mend("x", "thing", lambda: order.append("mend"))])
        await first
        operations.close()

    asyncio.run(main())
    assert order == ["client", "mend"]


def test_survey_of_a_container_whose_conmon_is_about_to_tell(host: Host) -> None:
    pod = host.registry.reserve_sandbox(records.sandbox())
    made = host.registry.reserve_container(records.container(pod.id, phase=Phase.RUNNING))
    host.crun.add(made.id)
    host.crun.kill_first(made.id)
    host.crun.waits[made.id] = 4
    (to_end, *_others) = host.recovery().survey()
    assert to_end.what == "container to end"
    # Nothing waits for conmon before requests are let in.
    assert host.registry.container(made.id).phase is Phase.RUNNING
    to_end.act()
    assert host.registry.container(made.id).exit_code == 4


def test_survey_changes_nothing_by_a_look_that_was_given_up(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = host.registry.reserve_sandbox(records.sandbox())
    name = host.registry.reserve_container(records.container(pod.id, phase=Phase.CREATED)).id
    host.crun.add(name)
    goes_on, is_over = threading.Event(), threading.Event()
    real = verdicts.judge_container

    def judge(*arguments: t.Any) -> verdicts.Verdict:
        verdict = real(*arguments)
        assert verdict.changes["phase"] is Phase.RUNNING
        assert goes_on.wait(20)
        is_over.set()
        return verdict

    monkeypatch.setattr(verdicts, "judge_container", judge)
    host.recovery(limit_s=0.05).survey()
    assert host.registry.container(name).phase is Phase.UNKNOWN
    # A client ends it, and only then the look comes to its end.
    host.registry.exited(name, exit_code=7, finished_at_ns=1)
    (late,) = (thread for thread in threading.enumerate() if thread.name == "pvecri-recovery")
    goes_on.set()
    late.join(20)
    assert is_over.is_set()
    assert host.registry.container(name).phase is Phase.EXITED


def test_survey_keeps_what_cannot_be_read(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    strange, broken, vanished = "not-an-id", records.new_id(), records.new_id()
    host.cni.attached = lambda: {strange}
    host.bundles.names = lambda: [broken, vanished]
    host.crun.names = lambda: [records.new_id()]

    def load(name: str) -> t.Any:
        if name == broken:
            raise OSError("broken disk")
        return None

    host.bundles.load = load
    context: t.Any = host
    with caplog.at_level(logging.ERROR):
        found = OrphanSearch(context).run()
    assert found.kept == [f"CNI attachment of '{strange}'", f"bundle {broken}: broken disk"]
    assert (found.adopted, found.cleared) == ([], [])


def test_started_at_is_what_is_known_best(host: Host, tmp_path: pathlib.Path) -> None:
    host.crun.add("x")
    state = host.crun.state("x")
    layout: t.Any = types.SimpleNamespace(runtime_dir=str(tmp_path / "gone"))
    assert orphans.started_at_ns(layout, state) > 10**18
    layout.runtime_dir = str(tmp_path)
    assert orphans.started_at_ns(layout, state) == tmp_path.stat().st_mtime_ns


# ---- guests of Proxmox VE ---------------------------------------------------------------------------------


class Guests:
    """Says how far containers came, and whether Proxmox VE answers."""

    def __init__(self, **stages: Stage) -> None:
        self.stages = stages
        self.looks = 0

    def stage(self, name: str) -> Stage | None:
        return self.stages.get(name)

    def look(self) -> None:
        self.looks += 1
        raise Unavailable("no quorum")


def test_mend_goes_on_as_long_as_proxmox_does_not_answer(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recovery, "_RETRY_S", (0.001, 0.001))
    late = Failing(*[Unavailable("the node is offline")] * 9, Unavailable("no quorum"))
    with caplog.at_level(logging.WARNING):
        mend(host, Mend("late", "thing", late))
    assert late.calls == 11
    # It may be away for days: each reason is told once.
    assert [line.getMessage().rpartition(": ")[2] for line in caplog.records] == [
        "the node is offline",
        "no quorum",
    ]


def test_survey_asks_proxmox_nothing_and_leaves_that_to_a_mend(host: Host) -> None:
    guests = Guests()
    mends = host.recovery(guests=guests).survey()
    assert guests.looks == 0
    (asked,) = [each for each in mends if each.what == "what Proxmox VE has"]
    assert asked.is_upkeep
    with pytest.raises(Unavailable):
        asked.act()


@pytest.fixture
def guest(host: Host, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a container that waits for its start, and for which nobody waits."""
    pod = host.registry.reserve_sandbox(records.sandbox()).id
    name = host.registry.reserve_container(records.container(pod)).id
    waits = ContainerState(name=name, status=Status.CREATED, problems=(Problem.MONITOR_LOST,))
    monkeypatch.setattr(host.crun, "state", lambda _name: waits)
    return name


def acts(host: Host, guests: Guests, name: str) -> list[Mend]:
    """Return what a survey leaves to be done for a container."""
    return [each for each in host.recovery(guests=guests).survey() if each.object_id == name]


def test_guest_that_nobody_waits_for_is_prepared_anew(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repair,) = acts(host, Guests(**{guest: Stage.READY}), guest)

    def repaired(name: str) -> tuple[Problem, ...]:
        whole = ContainerState(name=name, status=Status.CREATED, pid=5, conmon_pid=4)
        monkeypatch.setattr(host.crun, "state", lambda _name: whole)
        return (Problem.MONITOR_LOST,)

    monkeypatch.setattr(host.crun, "repair", repaired)
    repair.act()
    assert host.registry.container(guest).phase is Phase.CREATED


def test_guest_that_cannot_be_prepared_anew_has_ended(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repair,) = acts(host, Guests(**{guest: Stage.READY}), guest)
    monkeypatch.setattr(host.crun, "repair", lambda _name: ())
    repair.act()
    assert host.registry.container(guest).phase is Phase.EXITED


def test_guest_of_a_pod_that_is_over_has_ended(host: Host, guest: str) -> None:
    pod = host.registry.container(guest).sandbox_id
    host.registry.update_sandbox(pod, phase=Phase.STOPPED)
    assert acts(host, Guests(**{guest: Stage.READY}), guest) == []
    assert host.registry.container(guest).phase is Phase.EXITED


def test_start_of_a_guest_is_brought_to_its_end_once(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = ContainerState(name=guest, status=Status.CREATED, pid=5, conmon_pid=4)
    monkeypatch.setattr(host.crun, "state", lambda _name: waits)
    (resume,) = acts(host, Guests(**{guest: Stage.STARTING}), guest)
    resume.act()
    assert host.stopped == [f"start {guest}"]
    host.registry.started(guest, 1)
    resume.act()
    assert host.stopped == [f"start {guest}"]
