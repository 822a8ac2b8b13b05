# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sqlite3
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, NotFound, WrongState
from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.api import cri_pb2 as pb
from pvecri.state.database import Database, DatabaseDamagedError
from pvecri.state.holds import REMOVING, STOPPING
from pvecri.state.records import ContainerRecord, Phase
from pvecri.state.registry import Change, Registry
from pvecri.state.table import AmbiguousError


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "endpoint.sqlite")


@pytest.fixture
def registry(path: str) -> t.Iterator[Registry]:
    made = Registry.open(path)
    yield made
    made.close()


def reopened(registry: Registry, path: str) -> Registry:
    registry.close()
    return Registry.open(path)


def listed(registry: Registry, wanted: pb.ContainerFilter | None = None) -> list[str]:
    answer = pb.ListContainersResponse.FromString(registry.list_containers_bytes(wanted))
    return [item.id for item in answer.containers]


# ---- names ---------------------------------------------------------------------------------------------


def test_reserve_takes_the_name_and_writes_the_record(registry: Registry, path: str) -> None:
    pod = records.sandbox()
    assert registry.reserve_sandbox(pod) is pod
    member = records.container(pod.id)
    assert registry.reserve_container(member) is member
    registry = reopened(registry, path)
    assert registry.sandboxes() == [pod]
    assert registry.containers_of(pod.id) == [member]
    assert registry.container_named(member.name) == member
    assert registry.container_named("x") is None


def test_reserve_again_with_equal_config_gives_the_one_that_is_there(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox("a"))
    again = dataclasses.replace(pod, id=records.new_id(), created_at_ns=5)
    assert registry.reserve_sandbox(again) is pod
    member = registry.reserve_container(records.container(pod.id, "c"))
    assert registry.reserve_container(dataclasses.replace(member, id=records.new_id())) is member
    assert len(registry.sandboxes()) == len(registry.containers()) == 1


@pytest.mark.parametrize("other", [{"config": b"other"}, {"handler": "other"}])
def test_reserve_with_another_config_names_the_holder(registry: Registry, other: dict[str, t.Any]) -> None:
    pod = registry.reserve_sandbox(records.sandbox("a"))
    with pytest.raises(Conflict, match=pod.id):
        registry.reserve_sandbox(dataclasses.replace(pod, id=records.new_id(), **other))


def test_reserve_refuses_an_id_that_is_there(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox("a"))
    with pytest.raises(Conflict, match="with id"):
        registry.reserve_sandbox(records.sandbox("b", id=pod.id))


def test_reserve_at_once_gives_one_winner(registry: Registry) -> None:
    pod = records.sandbox("a")
    with ThreadPoolExecutor(16) as pool:
        found = list(
            pool.map(
                lambda _number: registry.reserve_sandbox(dataclasses.replace(pod, id=records.new_id())),
                range(50),
            )
        )
    assert len({record.id for record in found}) == len(registry.sandboxes()) == 1


def test_reserve_container_wants_a_ready_sandbox(registry: Registry) -> None:
    with pytest.raises(NotFound, match="no sandbox"):
        registry.reserve_container(records.container(records.new_id()))
    pod = registry.reserve_sandbox(records.sandbox(phase=Phase.STOPPED))
    with pytest.raises(WrongState, match="is stopped, not ready"):
        registry.reserve_container(records.container(pod.id))
    registry.update_sandbox(pod.id, phase=Phase.READY)
    with registry.flagged(pod.id, REMOVING), pytest.raises(WrongState, match="is removing"):
        registry.reserve_container(records.container(pod.id))
    registry.reserve_container(records.container(pod.id))


def test_names_are_free_after_removal(registry: Registry, path: str) -> None:
    pod = registry.reserve_sandbox(records.sandbox("a"))
    member = registry.reserve_container(records.container(pod.id, "c"))
    with pytest.raises(Conflict, match="has 1 containers"):
        registry.remove_sandbox(pod.id)
    registry.remove_container(member.id)
    registry.remove_container(member.id)
    registry.remove_sandbox(pod.id)
    registry.remove_sandbox(pod.id)
    other = registry.reserve_sandbox(records.sandbox("a", config=b""))
    registry = reopened(registry, path)
    assert registry.sandboxes() == [other]
    assert registry.containers() == []


def test_removal_leaves_the_other_members(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    one, two = (registry.reserve_container(records.container(pod.id)) for _number in range(2))
    registry.remove_container(one.id)
    assert registry.containers_of(pod.id) == [two]


def test_adopt_takes_what_no_request_could_make(registry: Registry, path: str) -> None:
    pod = records.sandbox(phase=Phase.STOPPED)
    registry.adopt_sandbox(pod)
    stray = records.container(records.new_id(), phase=Phase.EXITED)
    registry.adopt_container(stray)
    for adopt, record in ((registry.adopt_sandbox, pod), (registry.adopt_container, stray)):
        with pytest.raises(Conflict):
            adopt(dataclasses.replace(record, id=records.new_id()))  # type: ignore[operator]
    registry = reopened(registry, path)
    assert registry.containers_of(stray.sandbox_id) == [stray]


# ---- finding -------------------------------------------------------------------------------------------


def test_objects_are_found_by_what_begins_no_other_id(registry: Registry) -> None:
    one = registry.reserve_sandbox(records.sandbox(id=records.new_id("aaa1")))
    registry.reserve_sandbox(records.sandbox(id=records.new_id("aaa2")))
    assert registry.sandbox("aaa1") is one
    assert registry.sandbox(one.id) is one
    with pytest.raises(AmbiguousError, match="begins the ids of 2 sandboxes"):
        registry.sandbox("aaa")
    for unknown in ("b", "", one.id + "0", "%", "x" * 10_000):
        with pytest.raises(NotFound, match="no sandbox") as caught:
            registry.sandbox(unknown)
        assert len(str(caught.value)) < 200


def test_objects_in_the_making_are_found_by_their_whole_id_only(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox(phase=Phase.CREATING))
    assert registry.sandbox(pod.id) is pod
    with pytest.raises(NotFound):
        registry.sandbox(pod.id[:8])
    with pytest.raises(NotFound):
        registry.sandbox_status_bytes(pod.id)
    assert registry.list_sandboxes_bytes() == b""
    assert registry.sandbox_items() == []


# ---- changing ------------------------------------------------------------------------------------------


def test_update_is_on_disk_before_it_is_told(registry: Registry, path: str) -> None:
    pod = registry.reserve_sandbox(records.sandbox(phase=Phase.CREATING))
    seen: list[t.Any] = []

    def look(change: Change) -> None:
        assert change.old is not None
        assert change.new is not None
        stored = sqlite3.connect(path).execute("SELECT record FROM sandboxes").fetchone()[0]
        seen.append((change.old.phase, change.new.phase, json.loads(stored)["phase"]))

    registry.listen(look)
    new = registry.update_sandbox(pod.id, phase=Phase.READY, ips=("10.0.0.9",))
    assert registry.sandbox(pod.id) is new
    assert seen == [(Phase.CREATING, Phase.READY, "ready")]


def test_update_that_cannot_be_written_changes_nothing(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    before = registry.list_sandboxes_bytes()
    connection = registry._journal._database._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OSError, match="full"):
        registry.update_sandbox(pod.id, extra={"m": "m" * 1_000_000})
    with pytest.raises(OSError, match="full"):
        registry.reserve_sandbox(records.sandbox("b", message="m" * 1_000_000))
    assert registry.sandboxes() == [pod]
    assert registry.list_sandboxes_bytes() == before
    connection.execute("PRAGMA max_page_count = 100000")
    assert registry.update_sandbox(pod.id, message="m").message == "m"


def _full(*_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
    raise OSError(28, "no space left on device")


def test_what_recovery_finds_out_by_itself_is_written_when_there_is_space_again(
    registry: Registry, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = registry.reserve_sandbox(records.sandbox("a"))
    one, two = (registry.reserve_container(records.container(pod.id, name)) for name in ("one", "two"))
    with monkeypatch.context() as patch:
        for verb in ("insert", "update", "delete"):
            patch.setattr(registry._journal._database, verb, _full)
        registry.started(one.id, 10)
        registry.exited(one.id, exit_code=3, finished_at_ns=5_000)
        registry.remove_container(two.id)
        assert registry.containers_of(pod.id) == [registry.container(one.id)]
        with pytest.raises(OSError, match="no space"):
            registry.update_container(one.id, resources=b"x")
        with pytest.raises(OSError, match="no space"):
            registry.reserve_container(records.container(pod.id, "two"))
    before_it_was_written = Registry.open(path)
    assert [record.phase for record in before_it_was_written.containers()] == [Phase.CREATED] * 2
    before_it_was_written.close()
    again = registry.reserve_container(records.container(pod.id, "two"))
    record = registry.container(one.id)
    assert record.exit_code == 3
    registry = reopened(registry, path)
    assert registry.containers() == [record, again]


def test_what_is_late_is_written_at_the_end(
    registry: Registry, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    with monkeypatch.context() as patch:
        patch.setattr(registry._journal._database, "delete", _full)
        registry.remove_sandbox(pod.id)
    assert reopened(registry, path).sandboxes() == []


def test_update_of_nothing_writes_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    monkeypatch.setattr(registry._journal._database, "update", None)
    assert registry.update_sandbox(pod.id, phase=Phase.READY) is pod
    assert registry.change_sandbox(pod.id, lambda _record: None) is pod


def test_update_refuses_another_name_and_unknown_objects(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    for changes in ({"name": "x"}, {"id": "x"}):
        with pytest.raises(ValueError, match="do not change"):
            registry.change_sandbox(pod.id, lambda _record, changes=changes: changes)  # type: ignore[misc]
    with pytest.raises(NotFound):
        registry.update_sandbox(pod.id[:10], phase=Phase.READY)
    with pytest.raises(NotFound):
        registry.update_container(records.new_id(), phase=Phase.EXITED)


def test_update_of_the_config_is_kept(registry: Registry, path: str) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    registry.update_sandbox(pod.id, config=b"\x0a\x00")
    assert reopened(registry, path).sandbox(pod.id).config == b"\x0a\x00"


def test_updates_of_many_threads_lose_nothing(registry: Registry, path: str) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    members = [registry.reserve_container(records.container(pod.id)) for _number in range(8)]

    def count(record: ContainerRecord) -> None:
        for _number in range(40):
            registry.change_container(record.id, lambda old: {"extra": {"n": old.extra.get("n", 0) + 1}})

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(count, members * 2))
    assert {record.extra["n"] for record in registry.containers()} == {80}
    assert {record.extra["n"] for record in reopened(registry, path).containers()} == {80}


def test_readers_do_not_wait_for_a_writer(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    member = registry.reserve_container(records.container(pod.id))
    entered, leave = threading.Event(), threading.Event()
    update = registry._journal._database.update

    def slow(*arguments: t.Any) -> None:
        entered.set()
        assert leave.wait(20)
        update(*arguments)

    monkeypatch.setattr(registry._journal._database, "update", slow)
    writer = threading.Thread(target=lambda: registry.update_container(member.id, message="new"))
    writer.start()
    assert entered.wait(20)
    assert registry.container(member.id[:12]).message == ""
    assert listed(registry) == [member.id]
    assert registry.container_status_bytes(member.id)
    assert registry.sandbox_status_bytes(pod.id, with_containers=True)
    leave.set()
    writer.join()
    assert registry.container(member.id).message == "new"


def test_lists_are_right_whatever_is_changed_meanwhile(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    member = registry.reserve_container(records.container(pod.id))
    wrong: list[str] = []
    is_over = threading.Event()

    def write() -> None:
        for number in range(400):
            registry.update_container(member.id, image_ref=str(number))
            answer = pb.ListContainersResponse.FromString(registry.list_containers_bytes())
            if answer.containers[0].image_ref != str(number):
                wrong.append(f"{number}: {answer.containers[0].image_ref}")
        is_over.set()

    def read() -> None:
        while not is_over.is_set():
            registry.list_containers_bytes()

    threads = [threading.Thread(target=act) for act in (write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- starts and ends -----------------------------------------------------------------------------------


def test_start_and_exit_are_right_in_either_order(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    one, two = (registry.reserve_container(records.container(pod.id)) for _number in range(2))
    registry.started(one.id, 5_000)
    registry.exited(one.id, exit_code=3, finished_at_ns=6_000)
    registry.exited(two.id, exit_code=3, finished_at_ns=6_000)
    registry.started(two.id, 5_000)
    for record in registry.containers():
        assert (record.phase, record.started_at_ns, record.finished_at_ns, record.exit_code) == (
            Phase.EXITED,
            5_000,
            6_000,
            3,
        )


def test_exit_is_told_once_and_a_late_code_is_added(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    member = registry.reserve_container(records.container(pod.id))
    registry.exited(member.id, exit_code=None, finished_at_ns=9_000, reason="Unknown")
    registry.exited(member.id, exit_code=None, finished_at_ns=9_500)
    assert registry.container(member.id).finished_at_ns == 9_000
    registry.exited(member.id, exit_code=0, finished_at_ns=10_000)
    registry.exited(member.id, exit_code=137, finished_at_ns=11_000)
    record = registry.container(member.id)
    assert (record.exit_code, record.finished_at_ns, record.reason) == (0, 10_000, "")


def test_exit_is_never_before_the_start(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    member = registry.reserve_container(records.container(pod.id, created_at_ns=100))
    registry.started(member.id, 200)
    assert registry.exited(member.id, exit_code=0, finished_at_ns=150).finished_at_ns == 200


# ---- answers -------------------------------------------------------------------------------------------


def test_list_answers_are_built_once_per_change(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    members = [registry.reserve_container(records.container(pod.id)) for _number in range(3)]
    first = registry.list_containers_bytes()
    assert registry.list_containers_bytes(pb.ContainerFilter()) is first
    assert b"".join(registry.container_items()) == first
    assert listed(registry) == [member.id for member in members]
    registry.started(members[1].id, 1)
    running = pb.ContainerStateValue(state=pb.CONTAINER_RUNNING)
    assert listed(registry, pb.ContainerFilter(state=running)) == [members[1].id]
    assert listed(registry) == [member.id for member in members]
    registry.remove_container(members[0].id)
    assert listed(registry) == [member.id for member in members[1:]]


def test_status_answers(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox(ips=("10.1.1.1",)))
    member = registry.reserve_container(records.container(pod.id))
    registry.reserve_container(records.container(pod.id, phase=Phase.CREATING))
    answer = pb.PodSandboxStatusResponse.FromString(
        registry.sandbox_status_bytes(pod.id[:20], {"info": "x"}, with_containers=True, timestamp_ns=4)
    )
    assert (answer.status.network.ip, answer.info["info"], answer.timestamp) == ("10.1.1.1", "x", 4)
    assert [status.id for status in answer.containers_statuses] == [member.id]
    status = pb.ContainerStatusResponse.FromString(registry.container_status_bytes(member.id))
    assert status.status.id == member.id
    with pytest.raises(NotFound, match="no container 'nothing'"):
        registry.container_status_bytes("nothing")


def test_sandbox_list_is_filtered(registry: Registry) -> None:
    registry.reserve_sandbox(records.sandbox(labels={"a": "1"}))
    two = registry.reserve_sandbox(records.sandbox(labels={"a": "2"}))
    wanted = pb.PodSandboxFilter(label_selector={"a": "2"})
    answer = pb.ListPodSandboxResponse.FromString(registry.list_sandboxes_bytes(wanted))
    assert [item.id for item in answer.items] == [two.id]
    assert registry.sandbox_items(wanted) == [registry.list_sandboxes_bytes(wanted)]


# ---- flags, locks, listeners ---------------------------------------------------------------------------


def test_flags_are_kept_as_long_as_anything_is_done(registry: Registry) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    with registry.flagged(pod.id, STOPPING):
        with registry.flagged(pod.id, REMOVING):
            assert registry.flags(pod.id) == {STOPPING, REMOVING}
        assert registry.flags(pod.id) == {STOPPING}
    assert registry.flags(pod.id) == frozenset()


def test_held_keeps_other_threads_out_and_may_be_taken_again(registry: Registry) -> None:
    with registry.held("x"), registry.held("x"), ThreadPoolExecutor(1) as pool:
        with pytest.raises(WrongState, match="another operation on x"):
            pool.submit(_hold, registry, "x", 0.01).result()
        pool.submit(_hold, registry, "y", 0.01).result()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_hold, registry, "x", 0.01).result()
    assert registry._holds._used == {}


def _hold(registry: Registry, object_id: str, timeout_s: float) -> None:
    with registry.held(object_id, timeout_s=timeout_s):
        pass


def test_listeners_hear_of_everything_in_order(registry: Registry) -> None:
    heard: list[Change] = []

    def fail(_change: Change) -> None:
        raise RuntimeError("whatever")

    registry.listen(fail)
    registry.listen(heard.append)
    pod = registry.reserve_sandbox(records.sandbox())
    registry.reserve_sandbox(dataclasses.replace(pod, id=records.new_id()))
    member = registry.reserve_container(records.container(pod.id))
    started = registry.started(member.id, 5)
    registry.remove_container(member.id)
    registry.remove_sandbox(pod.id)
    registry.remove_sandbox(pod.id)
    adopted = records.container("x")
    registry.adopt_container(adopted)
    stray = records.sandbox()
    registry.adopt_sandbox(stray)
    assert heard == [
        Change(None, pod),
        Change(None, member),
        Change(member, started),
        Change(started, None),
        Change(pod, None),
        Change(None, adopted),
        Change(None, stray),
    ]


# ---- what is found at a start --------------------------------------------------------------------------


def test_boot_id_is_kept(registry: Registry, path: str) -> None:
    assert registry.boot_id == ""
    registry.boot_id = "abc"
    assert reopened(registry, path).boot_id == "abc"


def test_boot_id_is_written_before_anything_new_is(
    registry: Registry, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.boot_id = "first"
    with monkeypatch.context() as patch:
        patch.setattr(registry._journal._database, "set_note", _full)
        registry.boot_id = "first"
        registry.boot_id = "second"
        assert registry.boot_id == "second"
        with pytest.raises(OSError, match="no space"):
            registry.reserve_sandbox(records.sandbox())
    registry.reserve_sandbox(records.sandbox())
    assert reopened(registry, path).boot_id == "second"


def _spoil(path: str, statement: str, *values: t.Any) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("UPDATE containers SET record = ?", "{broken"),
        ("UPDATE containers SET record = ?", "[]"),
        ("UPDATE containers SET record = ?", '{"phase":"nonsense"}'),
        ("UPDATE containers SET record = ?", b"\xff\xfe"),
        ("UPDATE containers SET record = ?", '{"sandbox_id":"%s"}'),
        ("DELETE FROM configs WHERE id = ?", "%s"),
        ("UPDATE configs SET config = 'text' WHERE id = ?", "%s"),
    ],
)
def test_a_damaged_row_is_kept_and_shown_as_unknown(
    registry: Registry, path: str, statement: str, value: t.Any
) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    member = registry.reserve_container(records.container(pod.id))
    registry.close()
    if isinstance(value, str):
        value = value.replace("%s", pod.id if "sandbox_id" in value else member.id)
    _spoil(path, statement, value)
    registry = Registry.open(path)
    found = registry.container(member.id)
    assert (found.phase, found.name) == (Phase.UNKNOWN, member.name)
    assert "cannot be read" in found.message
    status = pb.ContainerStatusResponse.FromString(registry.container_status_bytes(member.id)).status
    assert status.state == pb.CONTAINER_UNKNOWN
    kept = sqlite3.connect(path).execute("SELECT id FROM damaged").fetchall()
    assert kept == [(member.id,)]
    registry.remove_container(member.id)
    assert reopened(registry, path).containers() == []


def test_a_row_that_no_answer_could_hold_keeps_nobody_else_back(registry: Registry, path: str) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    ids = [registry.reserve_container(records.container(pod.id)).id for _number in range(2)]
    registry.close()
    with sqlite3.connect(path) as database:
        rows = dict(database.execute("SELECT id, record FROM containers"))
        plain = json.loads(rows[ids[0]])
        spoilt = json.dumps({**plain, "created_at_ns": 1 << 70, "log_path": "\ud800"})
        database.execute("UPDATE containers SET record = ? WHERE id = ?", (spoilt, ids[0]))
    database.close()
    registry = Registry.open(path)
    listed = pb.ListContainersResponse.FromString(registry.list_containers_bytes()).containers
    assert [(found.id, found.state) for found in listed] == [
        (ids[0], pb.CONTAINER_UNKNOWN),
        (ids[1], pb.CONTAINER_CREATED),
    ]
    registry.container_status_bytes(ids[0])
    assert registry.container(ids[0]).sandbox_id == pod.id


def test_a_damaged_sandbox_keeps_what_can_be_told(registry: Registry, path: str) -> None:
    pod = registry.reserve_sandbox(records.sandbox(created_at_ns=55))
    registry.close()
    _spoil(path, "UPDATE sandboxes SET record = ?", '{"created_at_ns":55,"ips":5}')
    found = Registry.open(path).sandbox(pod.id)
    assert (found.phase, found.created_at_ns, found.config) == (Phase.UNKNOWN, 55, pod.config)


def test_a_row_whose_id_is_none_is_left_alone(registry: Registry, path: str) -> None:
    registry.close()
    _spoil(path, "INSERT INTO sandboxes VALUES (?, 'n', '{}')", "../../etc")
    registry = Registry.open(path)
    assert registry.sandboxes() == []
    registry.close()
    assert sqlite3.connect(path).execute("SELECT id FROM sandboxes").fetchall() == [("../../etc",)]


def test_keys_of_a_newer_version_are_kept(registry: Registry, path: str) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    registry.close()
    _spoil(path, "UPDATE sandboxes SET record = json_set(record, '$.colour', ?)", "blue")
    registry = Registry.open(path)
    registry.update_sandbox(pod.id, message="changed")
    registry.close()
    stored = json.loads(sqlite3.connect(path).execute("SELECT record FROM sandboxes").fetchone()[0])
    assert (stored["colour"], stored["message"]) == ("blue", "changed")


def test_a_database_that_breaks_while_we_run_is_written_anew(registry: Registry, path: str) -> None:
    pods = [registry.reserve_sandbox(records.sandbox(message="m" * 300)) for _number in range(100)]
    member = registry.reserve_container(records.container(pods[0].id))
    registry._journal._database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    registry._journal._database._connection.execute("PRAGMA cache_size = 0")
    with open(path, "r+b") as stream:
        stream.seek(100)
        stream.write(os.urandom(400_000))
    for pod in pods:
        registry.update_sandbox(pod.id, message="after")
    registry.remove_container(member.id)
    names = os.listdir(os.path.dirname(path))
    assert any(".damaged-" in name for name in names)
    registry = reopened(registry, path)
    assert [record.message for record in registry.sandboxes()] == ["after"] * 100
    assert registry.containers() == []
    assert registry.was_set_aside is None


def test_a_database_that_breaks_on_a_full_disk_is_written_anew_when_there_is_space(
    registry: Registry, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = registry.reserve_sandbox(records.sandbox())
    gone, left = (registry.reserve_container(records.container(pod.id)).id for _number in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(Database, "update", _breaks)
        patch.setattr(Database, "insert", _is_full)
        registry.update_container(left, phase=Phase.RUNNING)
        registry.remove_container(gone)
        with pytest.raises(OSError, match="no space"):
            registry.reserve_container(records.container(pod.id))
    new = registry.reserve_container(records.container(pod.id)).id
    found = reopened(registry, path)
    assert [(record.id, record.phase) for record in found.containers()] == [
        (left, Phase.RUNNING),
        (new, Phase.CREATED),
    ]
    assert [record.id for record in found.sandboxes()] == [pod.id]


def test_a_database_that_breaks_and_cannot_be_moved_is_written_anew_when_it_can(
    registry: Registry, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the kernel has made the file system read-only."""
    pod = registry.reserve_sandbox(records.sandbox())
    with monkeypatch.context() as patch:
        patch.setattr(Database, "update", _breaks)
        patch.setattr("pvecri.state.journal.set_aside", _is_read_only)
        registry.update_sandbox(pod.id, phase=Phase.STOPPED)
    registry.update_sandbox(pod.id, message="later")
    found = reopened(registry, path).sandbox(pod.id)
    assert (found.phase, found.message) == (Phase.STOPPED, "later")


def _is_read_only(*_unused: t.Any) -> t.NoReturn:
    raise OSError(30, "read-only file system")


def _breaks(*_unused: t.Any) -> None:
    raise DatabaseDamagedError("database disk image is malformed")


def _is_full(*_unused: t.Any) -> None:
    raise OSError(28, "no space left on device")


def test_a_damaged_database_is_set_aside_at_start(registry: Registry, path: str) -> None:
    registry.reserve_sandbox(records.sandbox())
    registry.close()
    with open(path, "r+b") as stream:
        stream.write(b"nonsense" * 10)
    registry = Registry.open(path)
    assert registry.sandboxes() == []
    assert registry.was_set_aside is not None
    assert os.path.exists(registry.was_set_aside)


def test_an_update_costs_a_fraction_of_a_spawn(registry: Registry) -> None:
    """A change of state must be cheap beside what it tells of: compare with starting /bin/true."""
    pod = registry.reserve_sandbox(records.sandbox())
    members = [registry.reserve_container(records.container(pod.id)) for _number in range(50)]
    begin = time.perf_counter()
    for number in range(4):
        for member in members:
            registry.update_container(member.id, message=str(number))
    update = (time.perf_counter() - begin) / 200
    begin = time.perf_counter()
    for _number in range(20):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    spawn = (time.perf_counter() - begin) / 20
    assert update < spawn
