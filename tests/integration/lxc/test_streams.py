# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs, streams and terminals of LXC containers, and limits that change while they run."""

from __future__ import annotations

import os
import pathlib
import socket
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.attach import Stream
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from ansible_collections.pvecri.runtime.tests.support.lxc_world import Ct, Json, World
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

MIB = 1 << 20


def test_log_keeps_both_streams_apart(world: World) -> None:
    ct = world.ct("sh", "-c", "echo out; echo err >&2; printf part; sleep 0.1; echo ' whole'")
    ct.start()
    assert ct.wait() == 0
    assert ct.written() == ("out\npart whole\n", "err\n")


def test_log_that_was_moved_goes_on_in_a_new_file(world: World) -> None:
    ct = world.ct("sh", "-c", "echo one; read x; echo two", stdin=True)
    ct.start()
    ct.said("one\n")
    os.rename(ct.log, ct.log + ".1")
    world.driver.reopen_log(ct.name)
    eventually(lambda: os.path.exists(ct.log))
    with world.driver.attach(ct.name) as connection:
        connection.send(b"go\n")
        assert ct.wait() == 0
    # Both files together are the log.
    assert ct.written() == ("one\ntwo\n", "")
    assert b"one" in pathlib.Path(ct.log + ".1").read_bytes()
    assert b"one" not in pathlib.Path(ct.log).read_bytes()
    with pytest.raises(WrongState):
        world.driver.reopen_log(ct.name)


def test_container_without_a_log_runs_as_well(world: World) -> None:
    ct = world.ct("sh", "-c", "echo out; exit 3", log_path="")
    ct.start()
    assert ct.wait() == 3


def _received(connection: socket.socket, text: bytes) -> dict[int, bytes]:
    seen: dict[int, bytes] = {}
    connection.settimeout(20)
    while text not in b"".join(seen.values()):
        packet = connection.recv(65536)
        assert packet
        seen[packet[0]] = seen.get(packet[0], b"") + packet[1:]
    return seen


def test_attached_client_speaks_with_the_program(world: World) -> None:
    ct = world.ct("sh", "-c", "while read x; do echo got $x; echo err >&2; done; echo over", stdin=True)
    ct.start()
    with world.driver.attach(ct.name) as connection:
        connection.send(b"a\n")
        assert _received(connection, b"err\n") == {Stream.STDOUT: b"got a\n", Stream.STDERR: b"err\n"}
    # Its input stays open for the next one.
    with world.driver.attach(ct.name) as connection:
        connection.send(b"b\n")
        assert _received(connection, b"err\n")[Stream.STDOUT] == b"got b\n"
    assert ct.state.is_alive


def test_input_ends_with_the_first_client_when_asked_for(world: World) -> None:
    ct = world.ct("sh", "-c", "cat; echo over", stdin=True, stdin_once=True)
    ct.start()
    with world.driver.attach(ct.name) as connection:
        connection.send(b"last\n")
        connection.shutdown(socket.SHUT_WR)
        assert ct.wait() == 0
    assert ct.written()[0] == "last\nover\n"


def test_container_without_input_finds_it_ended(world: World) -> None:
    ct = world.ct("sh", "-c", "cat; echo over")
    ct.start()
    assert ct.wait() == 0
    assert ct.written()[0] == "over\n"


@pytest.mark.parametrize("unprivileged", [True, False], ids=["unprivileged", "privileged"])
def test_terminal_is_the_containers_console(world: World, *, unprivileged: bool) -> None:
    script = "stty -echo; tty; test -t 0 && test -t 1 && test -t 2 && echo yes; read x; stty size; exit 6"
    ct = world.ct("sh", "-c", script, terminal=True, stdin=True, unprivileged=unprivileged)
    ct.start()
    with world.driver.attach(ct.name) as connection:
        ct.said("yes")
        world.driver.resize_terminal(ct.name, 101, 33)
        connection.send(b"go\n")
        assert ct.wait() == 6
    said = ct.written()[0]
    assert said.splitlines()[-1] == "33 101"
    assert "/dev/console" in said
    with pytest.raises(WrongState):
        world.driver.resize_terminal(ct.name, 10, 10)


# ---- limits ----------------------------------------------------------------------------------------------


def _limit(ct: Ct, controller: str, name: str, *, inner: bool = False) -> str:
    group = f"/lxc/{ct.vmid}" + ("/ns" if inner else "")
    return pathlib.Path(CgroupTree().path(group, controller, name)).read_text().strip()


def _cpu(quota: int, period: int) -> Json:
    return {"cpu": {"quota": quota, "period": period}}


@pytest.fixture
def names() -> t.Mapping[str, str]:
    """Files of this host's version of cgroups."""
    if CgroupTree().is_v2:
        return {"memory": "memory.max", "pids": "pids.max", "cpu": "cpu.max", "shares": "cpu.weight"}
    return {
        "memory": "memory.limit_in_bytes",
        "pids": "pids.max",
        "cpu": "cpu.cfs_quota_us",
        "shares": "cpu.shares",
    }


def test_limits_hold_exactly_and_can_be_seen_from_within(world: World, names: t.Mapping[str, str]) -> None:
    asked = {"memory": {"limit": 65 * MIB + 4096}, "pids": {"limit": 77}, **_cpu(55_000, 110_000)}
    ct = world.ct("sleep", "1000", change=lambda config: config["linux"].update(resources=asked))
    ct.start()
    assert _limit(ct, "memory", names["memory"]) == str(65 * MIB + 4096)
    assert _limit(ct, "memory", names["memory"], inner=True) == str(65 * MIB + 4096)
    assert _limit(ct, "pids", names["pids"]) == "77"
    assert _limit(ct, "cpu", names["cpu"]).split()[0] == "55000"
    assert _limit(ct, "cpu", names["cpu"], inner=True).split()[0] == "55000"
    seen = world.driver.exec(ct.name, ["sh", "-c", f"cat $(find /sys/fs/cgroup -name {names['memory']})"])
    assert str(65 * MIB + 4096) in seen.stdout


def test_limits_of_a_running_container_change_at_once(world: World, names: t.Mapping[str, str]) -> None:
    ct = world.ct(
        "sleep", "1000", change=lambda config: config["linux"].update(resources=_cpu(50_000, 100_000))
    )
    ct.start()
    for quota in (80_000, 20_000, 90_000):
        world.driver.update(ct.name, {**_cpu(quota, 100_000), "memory": {"limit": quota * 1024}})
        for inner in (False, True):
            assert _limit(ct, "cpu", names["cpu"], inner=inner).split()[0] == str(quota)
            assert _limit(ct, "memory", names["memory"], inner=inner) == str(quota * 1024 // 4096 * 4096)
    world.driver.update(ct.name, {"cpu": {"quota": -1, "shares": 512}, "pids": {"limit": 0}})
    assert _limit(ct, "cpu", names["cpu"]).split()[0] in {"-1", "max"}
    assert _limit(ct, "pids", names["pids"]) == "max"
    assert _limit(ct, "cpu", names["shares"]) in {"512", "20"}


def test_processors_of_a_running_container_change(world: World) -> None:
    ct = world.ct(
        "sleep", "1000", change=lambda config: config["linux"].update(resources={"cpu": {"cpus": "0"}})
    )
    ct.start()
    assert _limit(ct, "cpuset", "cpuset.cpus") == "0"
    for cpus in ("0-1", "1"):
        world.driver.update(ct.name, {"cpu": {"cpus": cpus}})
        assert _limit(ct, "cpuset", "cpuset.cpus") == cpus
        pid = ct.state.pid
        assert pid is not None
        assert os.sched_getaffinity(pid) == ({0, 1} if cpus == "0-1" else {1})


def test_limits_of_a_container_that_was_not_started_hold_from_its_start(
    world: World, names: t.Mapping[str, str]
) -> None:
    ct = world.ct("sleep", "1000").prepare()
    world.driver.update(ct.name, {"memory": {"limit": 70 * MIB}})
    assert ct.state.is_alive
    ct.begin()
    world.driver.await_start(ct.name, 30)
    assert _limit(ct, "memory", names["memory"]) == str(70 * MIB)
    assert _limit(ct, "memory", names["memory"], inner=True) == str(70 * MIB)


@pytest.mark.parametrize(
    "changes",
    [{"devices": [{"allow": True}]}, {"cpu": {"cpus": "4711"}}, {"memory": {"limit": 65536}}],
    ids=["devices", "processors", "memory-in-use"],
)
def test_limits_that_cannot_be_are_refused(world: World, changes: Json) -> None:
    ct = world.ct("sh", "-c", "x=$(head -c 3000000 /dev/zero | tr '\\0' x); echo ready; sleep 1000 & wait")
    ct.start()
    ct.said("ready")
    with pytest.raises(InvalidSpec):
        world.driver.update(ct.name, changes)
    assert ct.state.is_alive
    ct.stop()
    with pytest.raises(WrongState):
        world.driver.update(ct.name, {"pids": {"limit": 5}})
