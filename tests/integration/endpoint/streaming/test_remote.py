# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run commands in real containers and attach to them, for clients in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pathlib
import shutil
import tempfile
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.container import logs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import sockets
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.leftovers import (
    end_commands,
    left_commands,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.tests.support import bundles, cgroups
from ansible_collections.pvecri.runtime.tests.support.endpoint import CRUN, missing
from ansible_collections.pvecri.runtime.tests.support.remote import NAP, Place, end_naps, naps, serving
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

PARENT = f"/pvecri-test/remote-{os.getpid()}"


class Containers:
    """Containers of one driver."""

    def __init__(self, top: str) -> None:
        self.paths = Paths(f"{top}/s", f"{top}/r")
        self.crun = CrunRuntime(self.paths, SubprocessRunner(), programs=Programs(crun=CRUN))
        self._rootfs = bundles.make_rootfs(f"{top}/root")
        self._count = 0

    def create(self, script: str = "sleep 1000", **options: t.Any) -> str:
        """Create a container that runs a script."""
        self._count += 1
        name = f"c{self._count}"
        path = os.path.join(self.paths.bundles, name)
        args = ("sh", "-c", script)

        def change(config: bundles.Json) -> None:
            config["process"]["terminal"] = bool(options.get("terminal"))

        bundle = bundles.make_bundle(path, self._rootfs, args, cgroup=f"{PARENT}/{name}", change=change)
        self.crun.create(bundle, name, log_path=self.log_path(name), **options)
        return name

    def run(self, script: str = "sleep 1000", **options: t.Any) -> str:
        """Create and start one."""
        name = self.create(script, **options)
        self.crun.start(name)
        return name

    def log_path(self, name: str) -> str:
        return f"{self.paths.state_dir}/{name}.log"

    def log(self, name: str) -> dict[str, bytes]:
        """Return what the log has, by stream."""
        return logs.join_streams(logs.read_records(self.log_path(name)))

    def files(self) -> list[str]:
        """Return files of commands and terminals: there are none while none runs."""
        return left_commands(self.paths)

    def clear(self) -> None:
        for name in self.crun.names():
            self.crun.delete(name, force=True)
        end_naps()


@pytest.fixture(autouse=True)
def _no_faults() -> None:
    """Need no endpoint: sessions are run in this process."""


@pytest.fixture(scope="module")
def module_containers() -> t.Iterator[Containers]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    top = tempfile.mkdtemp(prefix="pr-", dir="/tmp")
    yield Containers(top)
    cgroups.remove(PARENT)
    shutil.rmtree(top)


@pytest.fixture
def containers(module_containers: Containers) -> t.Iterator[Containers]:
    yield module_containers
    left = module_containers.files()
    module_containers.clear()
    assert left == []


def session(containers: Containers, work: t.Callable[[Place], t.Awaitable[None]], name: str) -> None:
    """Run a test with a place for sessions with one container."""

    async def run() -> None:
        async with asyncio.timeout(120), serving(containers.crun, container_id=name) as place:
            await work(place)

    asyncio.run(run())


# ---- commands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code", "out", "err"),
    [
        (["true"], 0, b"", b""),
        (["sh", "-c", "echo out; echo err >&2; exit 1"], 1, b"out\n", b"err\n"),
        (["sh", "-c", "exit 127"], 127, b"", b""),
        (["sh", "-c", "kill -9 $$"], 137, b"", b""),
        (["no-such-program"], 127, b"", b"no-such-program"),
        (["/etc/passwd"], 126, b"", b"execut"),
        (["pwd"], 0, b"/\n", b""),
        (["cat"], 0, b"given", b""),
    ],
)
def test_commands(containers: Containers, argv: list[str], code: int, out: bytes, err: bytes) -> None:
    async def work(place: Place) -> None:
        result = await place.run(argv, data=b"given")
        assert (result.exit_code, result.stdout) == (code, out)
        assert err in result.stderr

    session(containers, work, containers.run())


def test_a_program_that_is_not_there_with_a_terminal(containers: Containers) -> None:
    async def work(place: Place) -> None:
        result = await place.run(["no-such-program"], tty=True)
        assert result.exit_code == 127
        assert b"no-such-program" in result.stdout

    session(containers, work, containers.run())


def test_64_mib_through_cat(containers: Containers) -> None:
    data = os.urandom(1 << 20) * 64

    async def work(place: Place) -> None:
        result = await place.run(["cat"], data=data)
        assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()
        counted = await place.run(["sha256sum"], data=data)
        assert counted.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()

    session(containers, work, containers.run())


def test_terminal(containers: Containers) -> None:
    async def work(place: Place) -> None:
        shell = place.begin(["sh"], tty=True)
        await shell.size(132, 43)
        await shell.stdin.write(b"stty size; echo $TERM-$((6*7))\r")
        seen = await shell.until(b"-42\r\n")
        assert b"43 132\r\nxterm-42" in seen
        await shell.size(99, 33)
        await asyncio.sleep(0.1)
        await shell.stdin.write(b"stty size; exit 6\r")
        result = await shell.result()
        assert b"33 99\r\n" in result.stdout
        assert result.exit_code == 6

    session(containers, work, containers.run())


def test_a_background_process_keeps_nobody(containers: Containers) -> None:
    async def work(place: Place) -> None:
        begun = time.monotonic()
        for tty in (False, True):
            result = await place.run(["sh", "-c", "(trap '' HUP; exec NAP) & echo own"], tty=tty)
            assert b"own" in result.stdout
            assert result.exit_code == 0
        assert time.monotonic() - begun < 20
        assert naps()

    session(containers, work, containers.run())


def test_a_slow_client_makes_the_command_wait(containers: Containers) -> None:
    async def work(place: Place) -> None:
        slow = place.begin(
            ["sh", "-c", "head -c 20000000 /dev/zero; echo through >/tmp/through"], stdin=False
        )
        before = _resident_kib()
        await asyncio.sleep(1)
        assert (await place.run(["cat", "/tmp/through"])).exit_code == 1
        assert _resident_kib() - before < 4096
        found = 0
        while data := await slow.stdout.read():
            found += len(data)
        assert found == 20_000_000
        assert (await slow.result()).exit_code == 0

    session(containers, work, containers.run())


def _resident_kib() -> int:
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize(
    "script",
    [
        "cat; NAP",
        "NAP; NAP",
        "(NAP &); NAP",
        "trap '' HUP; NAP; NAP",
        "trap '' HUP; (trap '' HUP; NAP; NAP) & NAP; NAP",
        "while :; do echo more; done",
    ],
)
def test_a_client_vanishes(containers: Containers, script: str, tty: bool) -> None:
    async def work(place: Place) -> None:
        command = place.begin(["sh", "-c", f"echo begun; {script}"], tty=tty)
        await command.until(b"begun")
        await command.lose()
        await asyncio.to_thread(eventually, lambda: not naps(), timeout_s=5)
        left = (await place.run(["ps", "-o", "args"])).stdout
        assert b"begun" not in left

    session(containers, work, containers.run())


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize("delay_s", [0, 0.005, 0.01, 0.02, 0.1])
def test_a_client_vanishes_at_any_time(containers: Containers, delay_s: float, tty: bool) -> None:
    async def work(place: Place) -> None:
        command = place.begin(["sh", "-c", "NAP"], tty=tty)
        await asyncio.sleep(delay_s)
        await command.lose()
        await asyncio.to_thread(eventually, lambda: not naps(), timeout_s=5)

    session(containers, work, containers.run())


def test_container_is_removed_meanwhile(containers: Containers) -> None:
    name = containers.run()

    async def work(place: Place) -> None:
        command = place.begin(["sh", "-c", "echo begun; NAP; NAP"])
        await command.until(b"begun")
        await asyncio.to_thread(containers.crun.delete, name, force=True)
        assert (await command.result()).exit_code == 137
        gone = await place.run(["true"])
        assert (gone.status["reason"], gone.status["code"]) == ("NotFound", 404)

    session(containers, work, name)


def test_a_hundred_at_once(containers: Containers) -> None:
    async def work(place: Place) -> None:
        results = await asyncio.gather(
            *(place.run(["sh", "-c", f"cat; exit {n}"], data=b"%d" % n, tty=False) for n in range(100))
        )
        assert [(r.stdout, r.exit_code) for r in results] == [(b"%d" % n, n) for n in range(100)]

    session(containers, work, containers.run())


@pytest.mark.parametrize("terminal", [False, True])
def test_commands_of_a_dead_daemon_are_ended(containers: Containers, terminal: bool) -> None:
    name = containers.run()
    script = "trap '' HUP; (trap '' HUP; NAP; NAP) & NAP; NAP"
    words = script.replace("NAP", NAP)
    left = containers.crun.exec_session(name, ExecRequest(args=("sh", "-c", words), terminal=terminal))
    eventually(lambda: len(naps()) == 2)
    pathlib.Path(sockets(containers.paths), "0123456789ab.tty").touch()
    files = left_commands(containers.paths)
    assert len(files) == 2
    end_commands(files)
    assert naps() == []
    assert left_commands(containers.paths) == []
    eventually(lambda: left.child.poll() is not None)
    left.close()
    assert containers.crun.state(name).status is Status.RUNNING


# ---- attaching ---------------------------------------------------------------------------------------------

COUNT = 3000
PRINT = f"i=0; while [ $i -lt {COUNT} ]; do echo line $i; echo err $i >&2; i=$((i+1)); done"
OUT = b"".join(b"line %d\n" % n for n in range(COUNT))
ERR = b"".join(b"err %d\n" % n for n in range(COUNT))


def test_attached_to_a_created_container_gets_all_and_the_log_too(containers: Containers) -> None:
    name = containers.create(PRINT)

    async def work(place: Place) -> None:
        attached = [place.attach() for _number in range(3)]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(containers.crun.start, name)
        for result in await asyncio.gather(*(one.result() for one in attached)):
            assert (result.stdout, result.stderr, result.exit_code) == (OUT, ERR, 0)

    session(containers, work, name)
    assert containers.log(name) == {"stdout": OUT, "stderr": ERR}


def test_attached_with_input(containers: Containers) -> None:
    name = containers.run("cat; echo END", stdin=True)

    async def work(place: Place) -> None:
        first = place.attach(stdin=True, has_stdin=True)
        await first.send(b"one\n")
        result = await first.result()
        assert (result.stdout, result.exit_code) == (b"one\n", 0)
        second = place.attach(stdin=True, has_stdin=True)
        await second.stdin.write(b"two\n")
        await second.until(b"two\n")
        await second.lose()
        assert containers.crun.state(name).is_alive

    session(containers, work, name)
    assert containers.log(name)["stdout"] == b"one\ntwo\n"


def test_attached_with_input_once(containers: Containers) -> None:
    once = {"has_stdin": True, "stdin_once": True}
    data = os.urandom(1 << 19).hex().encode() + b"\n"
    name = containers.run("cat; echo END", stdin=True, stdin_once=True)

    async def work(place: Place) -> None:
        # Those who only look on come and go.
        for _number in range(3):
            onlooker = place.attach(**once)
            await asyncio.sleep(0.05)
            await onlooker.lose()
        assert containers.crun.state(name).is_alive
        last = place.attach(stdin=True, **once)
        _none, result = await asyncio.gather(last.send(data), last.result())
        assert result.stdout == data + b"END\n"

    session(containers, work, name)
    assert containers.log(name)["stdout"] == data + b"END\n"


def test_attached_client_that_vanishes_with_the_only_input_closes_it(containers: Containers) -> None:
    name = containers.run("cat; echo END", stdin=True, stdin_once=True)

    async def work(place: Place) -> None:
        attached = place.attach(stdin=True, has_stdin=True, stdin_once=True)
        await attached.stdin.write(b"begun\n")
        await attached.until(b"begun")
        await attached.lose()
        await asyncio.to_thread(containers.crun.wait, name, 20)

    session(containers, work, name)
    assert containers.log(name)["stdout"] == b"begun\nEND\n"


def test_input_for_a_container_without_any(containers: Containers) -> None:
    name = containers.run("sleep 0.5; echo out")

    async def work(place: Place) -> None:
        attached = place.attach(stdin=True)
        await attached.send(b"x" * 1_000_000)
        assert (await attached.result()).stdout == b"out\n"

    session(containers, work, name)


def test_attached_client_that_does_not_read_is_detached_and_the_container_goes_on(
    containers: Containers,
) -> None:
    count = 400_000
    name = containers.create(f"yes 0123456789 | head -n {count}")

    async def work(place: Place) -> None:
        stuck, reader = place.attach(), place.attach()
        await asyncio.sleep(0.2)
        await asyncio.to_thread(containers.crun.start, name)
        assert (await reader.result()).stdout == b"0123456789\n" * count
        result = await stuck.result()
        assert "too slow" in result.status["message"] or "took less" in result.status["message"]

    session(containers, work, name)
    assert containers.log(name)["stdout"] == b"0123456789\n" * count


def test_attached_terminal(containers: Containers) -> None:
    name = containers.run("while read line; do stty size; echo got $line; done", terminal=True, stdin=True)

    async def work(place: Place) -> None:
        attached = place.attach(stdin=True, tty=True, has_stdin=True, has_tty=True)
        for width in range(80, 111):
            await attached.size(width, 40)
        await asyncio.sleep(0.3)
        await attached.stdin.write(b"words\r")
        seen = await attached.until(b"got words\r\n")
        assert b"40 110\r\n" in seen
        await attached.lose()
        assert containers.crun.state(name).is_alive

    session(containers, work, name)


def test_a_container_that_has_ended_is_told(containers: Containers) -> None:
    name = containers.run("true")
    containers.crun.wait(name, 20)

    async def work(place: Place) -> None:
        for result in (await place.attach().result(), await place.run(["true"])):
            assert (result.status["reason"], result.status["code"]) == ("Conflict", 409)

    session(containers, work, name)
