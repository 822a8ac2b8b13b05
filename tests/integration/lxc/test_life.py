# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of an LXC container under the driver: start, pod, end, removal."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import Stage
from ansible_collections.pvecri.runtime.tests.support.lxc_world import ADDRESS, Json, World, bind
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

BOTH = pytest.mark.parametrize("unprivileged", [True, False], ids=["unprivileged", "privileged"])


@BOTH
def test_container_runs_in_the_network_of_its_pod(world: World, *, unprivileged: bool) -> None:
    script = "ip -o address; hostname; ls /sys/class/net; id -u; sleep 1000"
    ct = world.ct("sh", "-c", script, unprivileged=unprivileged)
    ct.prepare()
    assert (ct.state.status, ct.state.started_at) == (Status.CREATED, None)
    assert ct.state.is_alive
    ct.begin()
    pid = world.driver.await_start(ct.name, 30)
    state = ct.state
    assert (state.status, state.pid, state.problems) == (Status.RUNNING, pid, ())
    assert state.started_at
    said = ct.said("\n0\n")
    assert ADDRESS in said
    assert "the-pod\neth0\nlo\n0\n" in said
    assert world.warnings == []


def test_container_and_a_process_beside_it_reach_each_other(world: World) -> None:
    # A port below 1024, of a network namespace that is not its user namespace's.
    ct = world.ct("sh", "-c", "mkdir /www; echo hello >/www/x; httpd -f -p 127.0.0.1:80 -h /www")
    ct.start()
    fetch = ("busybox", "wget", "-q", "-O", "-", "http://127.0.0.1/x")
    said = eventually(lambda: _tried(world, *fetch))
    assert said == "hello\n"
    assert world.pod.inside("cat", "/proc/sys/net/ipv4/ping_group_range").split() == ["0", "2147483647"]


def test_sysctls_that_the_pod_has_set_stay(world: World) -> None:
    name = "net.ipv4.ip_unprivileged_port_start"
    world.ct("true").prepare(pod_sysctls=frozenset({name}))
    assert world.pod.inside("cat", "/proc/sys/" + name.replace(".", "/")) == "1024\n"


def _tried(world: World, *argv: str) -> str:
    try:
        return world.pod.inside(*argv)
    except subprocess.CalledProcessError:
        return ""


def test_container_gets_arguments_variables_and_directory_as_they_are(world: World) -> None:
    value = "one\ntwo 'three' \"four\" $five \\ ende "

    def change(config: Json) -> None:
        config["process"].update(env=["PATH=/bin", f"V={value}"], cwd="/made/for\nit")

    ct = world.ct("sh", "-c", 'printf "%s|%s|" "$V" "$1"; pwd', "x", value, change=change)
    ct.start()
    assert ct.wait() == 0
    assert ct.written() == (f"{value}|{value}|/made/for\nit\n", "")


def test_container_becomes_its_user_with_its_groups_and_capabilities(world: World) -> None:
    def change(config: Json) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o77}
        config["process"]["capabilities"] = {"bounding": ["CAP_CHOWN"]}
        config["process"]["noNewPrivileges"] = True

    ct = world.ct("sh", "-c", "id; umask; grep -E 'CapBnd|CapEff|NoNew' /proc/self/status", change=change)
    ct.start()
    ct.wait()
    said = ct.written()[0]
    assert "uid=1000(alice) gid=1001(users) groups=7,8" in said
    assert "0077\n" in said
    assert "CapEff:\t0000000000000000\nCapBnd:\t0000000000000001\nNoNewPrivs:\t1" in said


def test_container_with_a_read_only_root_can_write_its_volumes_alone(world: World) -> None:
    volume = world.volume("v")

    def change(config: Json) -> None:
        config["root"]["readonly"] = True
        config["mounts"].append(
            {"destination": "/new/v", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]}
        )

    ct = world.ct("sh", "-c", "echo a >/new/v/a; echo b >/b", change=change)
    ct.start()
    assert ct.wait() == 1
    assert (volume / "a").read_text() == "a\n"
    assert "Read-only file system" in ct.written()[1]


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 11", 11), ("kill -9 $$ & sleep 100", None), ("sleep 1000", 137)],
    ids=["zero", "eleven", "first-process-kills-itself-in-vain", "killed"],
)
def test_container_ends_with_its_programs_exit_code(world: World, script: str, code: int | None) -> None:
    ct = world.ct("sh", "-c", script)
    ct.start()
    if code is None:
        # The first process of a PID namespace does not hear its own signals.
        assert ct.state.is_alive
        code = 137
    if code == 137:
        world.driver.kill(ct.name, signal.SIGKILL)
    assert ct.wait() == code
    state = ct.state
    assert (state.status, state.exit_code, state.is_alive) == (Status.STOPPED, code, False)
    assert state.finished_at is not None
    assert state.started_at is not None
    assert state.finished_at >= state.started_at


def test_wait_gives_up_when_time_is_up(world: World) -> None:
    ct = world.ct("sleep", "1000")
    ct.start()
    with pytest.raises(CommandTimeout):
        world.driver.wait(ct.name, 0.1)


def test_container_that_is_stopped_by_lxc_ends_with_what_its_handler_says(world: World) -> None:
    ct = world.ct("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    ct.start()
    ct.said("ready")
    assert world.machine.stop(ct.vmid, timeout_s=20)
    assert ct.wait() == 7


def test_container_that_runs_out_of_memory_says_so(world: World) -> None:
    def change(config: Json) -> None:
        config["linux"]["resources"] = {"memory": {"limit": 32 << 20}}

    ct = world.ct("sh", "-c", "sleep 0.2; tail /dev/zero; exit 3", change=change)
    ct.start()
    assert ct.wait() in {3, 137}
    assert ct.state.oom_killed


def test_state_of_a_container_that_had_enough_memory_is_not_oom(world: World) -> None:
    ct = world.ct("true")
    ct.start()
    assert ct.wait() == 0
    assert not ct.state.oom_killed


@pytest.mark.parametrize(
    ("args", "cwd", "field"),
    [
        (["nope"], "/", "process.args"),
        (["/etc/passwd"], "/", "process.args"),
        (["true"], "/etc/passwd", "process.cwd"),
    ],
    ids=["no-such-program", "no-program", "no-directory"],
)
def test_container_that_cannot_run_says_why(world: World, args: list[str], cwd: str, field: str) -> None:
    ct = world.ct(*args, change=lambda config: config["process"].update(cwd=cwd))
    with pytest.raises(InvalidSpec) as caught:
        ct.start()
    assert caught.value.field == field
    assert ct.wait() == 127
    assert (ct.state.status, ct.state.started_at) == (Status.STOPPED, None)


def test_start_that_never_comes_is_given_up(world: World) -> None:
    ct = world.ct("true").prepare()
    with pytest.raises(CommandTimeout):
        world.driver.await_start(ct.name, 0.1)
    reader, writer = os.pipe()
    os.write(writer, b"x")
    with pytest.raises(WrongState):
        world.driver.await_start(ct.name, 30, reader)
    os.close(reader)
    os.close(writer)
    with pytest.raises(NotFound):
        world.driver.await_start("nobody", 0.1)


def test_container_that_somebody_else_starts_again_does_not_run(world: World) -> None:
    ct = world.ct("sh", "-c", "echo ran; exit 4")
    ct.start()
    assert ct.wait() == 4
    ct.stop()
    ct.begin().wait(30)
    assert not world.machine.is_up(ct.vmid)
    assert ct.state.exit_code == 4
    assert ct.written() == ("ran\n", "")
    with pytest.raises(WrongState):
        ct.prepare()


def test_second_prepare_keeps_the_one_who_waits(world: World) -> None:
    ct = world.ct("sh", "-c", "echo once")
    ct.prepare()
    before = ct.state
    ct.prepare()
    assert (ct.state.pid, ct.state.conmon_pid) == (before.pid, before.conmon_pid)
    ct.start()
    assert ct.wait() == 0
    assert ct.written() == ("once\n", "")


def test_kill_of_everyone_ends_all_processes(world: World) -> None:
    ct = world.ct("sh", "-c", "sleep 1000 & sleep 1000 & echo ready; wait")
    ct.start()
    ct.said("ready")
    world.driver.kill(ct.name, "KILL", everyone=True)
    assert ct.wait() == 137
    with pytest.raises(WrongState):
        world.driver.kill(ct.name, "KILL")


def test_clear_away_leaves_nothing_but_the_log(world: World) -> None:
    volume = world.volume("v", "x")
    mount = {"destination": "/v", "type": "bind", "source": str(volume), "options": ["rbind"]}
    ct = world.ct("sleep", "1000", change=lambda config: config["mounts"].append(mount), stdin=True)
    before = _mounts(world)
    ct.start()
    state = ct.state
    with pytest.raises(WrongState):
        world.driver.clear_away(ct.name)
    assert os.path.exists(ct.guest.config)
    ct.remove()
    assert world.driver.state(ct.name) is None
    assert world.driver.names() == []
    assert not world.driver.knows(ct.name)
    assert _files(world.paths.state_dir) == set()
    assert _files(world.paths.run_dir) == {"ns/net", "ns/ipc", "ns/uts"}
    assert _mounts(world) == before
    assert (volume / "f").read_text() == "x"
    assert os.path.exists(ct.log)
    for pid in (state.pid, state.conmon_pid):
        assert pid is not None
        assert not procfs.is_same_process(pid, 0)
    # Again: nothing to do.
    world.driver.clear_away(ct.name)


def _mounts(world: World) -> list[str]:
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return [point for line in lines if (point := line.split()[4]).startswith(world.top)]


def _files(top: str) -> set[str]:
    found: t.Iterable[pathlib.Path] = pathlib.Path(top).rglob("*")
    return {str(path.relative_to(top)) for path in found if not path.is_dir() or path.is_symlink()}


def test_volumes_of_a_container_that_will_not_be_started_are_let_go_of(world: World) -> None:
    volume = world.volume("v", "x")
    ct = world.ct("true", change=lambda config: config["mounts"].append(bind(volume, "/v"))).prepare()
    assert ct.guest.mounts in pathlib.Path("/proc/self/mountinfo").read_text()
    # As the endpoint stops one that never ran.
    world.driver.amend(ct.name, stage=Stage.STOPPING)
    world.driver.kill(ct.name, "KILL")
    assert ct.wait() == 137
    assert ct.guest.mounts not in pathlib.Path("/proc/self/mountinfo").read_text()
    # It is there as long as the container is.
    assert os.path.exists(ct.guest.config)


def test_clear_away_before_the_start_ends_who_waits(world: World) -> None:
    ct = world.ct("true", terminal=True).prepare()
    assert syscalls.is_mount_point(ct.guest.sysfs)
    pids = [pid for pid in (ct.state.pid, ct.state.conmon_pid) if pid is not None]
    world.driver.clear_away(ct.name, keep_guest=True)
    assert os.path.exists(ct.guest.config)
    world.driver.clear_guest(ct.vmid)
    assert not os.path.exists(ct.guest.directory)
    world.driver.clear_guest(ct.vmid)
    assert len(pids) == 2
    assert not any(procfs.is_same_process(pid, 0) for pid in pids)
