# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher as first process, and as a command, of real LXC containers configured as Proxmox VE does."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import secrets
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import conmon, procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.files import memory_file
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import block, handover, monitord, peers
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.launcher import Stage
from ansible_collections.pvecri.runtime.tests.support import bundles, held, pve_machine
from ansible_collections.pvecri.runtime.tests.support.held import Held
from ansible_collections.pvecri.runtime.tests.support.pve_machine import Machine
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

_PATH = "PATH=/bin"


class Container:
    """One LXC container; it runs what `Held.hold` was told."""

    def __init__(self, top: pathlib.Path, *, unprivileged: bool) -> None:
        self.vmid = 100000 + secrets.randbelow(800000)
        self.machine = Machine(str(top / "ct"))
        self.uid = pve_machine.SHIFT if unprivileged else 0
        self.held = Held(top, str(self.vmid), self.machine.lxc_path, uid=self.uid)
        self.held.cgroup = f"/lxc/{self.vmid}"
        group = (
            pathlib.Path("/sys/fs/cgroup")
            / ("" if pve_machine.uses_v2() else "memory")
            / "lxc"
            / str(self.vmid)
        )
        v2 = group / "memory.events"
        self.held.oom = [str(v2 if pve_machine.uses_v2() else group / "ns/memory.oom_control")]
        self._unprivileged = unprivileged
        bundles.make_rootfs(self.machine.rootfs(self.vmid))
        subprocess.run(["chown", "-Rh", f"{self.uid}:{self.uid}", self.machine.rootfs(self.vmid)], check=True)

    def start(self, memory_mib: int = 64, vmid: int | None = None) -> subprocess.Popen[bytes]:
        """Start it as Proxmox VE's unit does, or a clone of it with the number ``vmid``."""
        lines = [
            "lxc.net.0.type = empty",
            "lxc.mount.auto =",
            "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed:force",
            f"lxc.mount.entry = {self.held.io} dev/.pvecri none bind,ro,create=dir 0 0",
            "lxc.init.cmd = /dev/.pvecri/run /dev/.pvecri/init",
            "lxc.init.uid = 0",
            "lxc.init.gid = 0",
            "lxc.init.cwd = /",
            "lxc.console.path = none",
            "lxc.tty.max = 0",
            "lxc.pty.max = 1024",
        ]
        if (self.held.monitor_dir / "console").exists():
            number = (self.held.monitor_dir / "console").read_text()
            lines.append(f"lxc.mount.entry = /dev/pts/{number} dev/console none bind,create=file 0 0")
        include = self.held.top / "config"
        include.write_text("".join(f"{line}\n" for line in lines))
        config = {
            "unprivileged": int(self._unprivileged),
            "memory": memory_mib,
            # As of an image's user and directory.
            "lxc": [("lxc.init.uid", "1000"), ("lxc.init.cwd", "/nowhere"), ("lxc.include", str(include))],
        }
        self.machine.write_config(vmid or self.vmid, config)
        return self.machine.begin(vmid or self.vmid)

    def run(self, process: dict[str, t.Any], *, timeout_s: float = 20.0) -> tuple[int, bytes]:
        """Run a command in it and return its exit code and output."""
        path = str(self.held.io / "command")
        argv = ["lxc-attach", "-P", self.machine.lxc_path, "-n", str(self.vmid), "--clear-env"]
        argv += ["--elevated-privileges=CAP", "--", "/dev/.pvecri/run", "/dev/.pvecri/command"]
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(handover.listen(path, self.uid, self.uid))
            reader, writer = os.pipe()
            stack.callback(os.close, reader)
            memory = memory_file("block", block.encode(process))
            null = os.open(os.devnull, os.O_RDONLY)
            child = stack.enter_context(
                subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
            pidfd = os.pidfd_open(child.pid)
            try:
                started = listener.give(
                    [null, writer, writer],
                    memory,
                    timeout_s,
                    lambda pid: (stat := procfs.read_stat(pid)) is not None and stat.parent == child.pid,
                    child=pidfd,
                )
                os.close(started.pidfd)
            finally:
                for handle in (writer, memory, null, pidfd):
                    os.close(handle)
            output = b""
            while data := os.read(reader, 65536):
                output += data
            return child.wait(timeout_s), output

    def end(self) -> None:
        """Leave nothing of it."""
        self.machine.close()
        self.held.end()
        self.machine.remove(self.vmid)


@pytest.fixture(params=["unprivileged", "privileged"])
def container(request: pytest.FixtureRequest) -> t.Iterator[Container]:
    """A container of each kind, gone at the end."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if lacking := pve_machine.missing():
        pytest.skip(lacking)
    for program in ("/usr/bin/conmon", bundles.BUSYBOX):
        if not os.access(program, os.X_OK):
            pytest.skip(f"needs {program}")
    with held.directory() as top:
        made = Container(top, unprivileged=request.param == "unprivileged")
        try:
            yield made
        finally:
            made.end()


def _process(script: str, **fields: t.Any) -> dict[str, t.Any]:
    return {"args": ["sh", "-c", script], "env": [_PATH], "cwd": "/", **fields}


_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def test_container_runs_as_told_with_its_own_streams_and_exit_code(container: Container) -> None:
    script = 'printf "%s\\n" "$SECRET" >/dev/stdout; id >&2; cat /proc/self/status >&2; pwd; exit 9'
    process = _process(
        script,
        env=[_PATH, "SECRET=line\nquote'\""],
        cwd="/made/here",
        user={"uid": 1000, "gid": 1001, "additionalGids": [10]},
        capabilities={"bounding": ["CAP_CHOWN"]},
        noNewPrivileges=True,
    )
    container.held.hold(process, make_directory=True, read_only_root=True)
    container.start()
    assert container.held.exit_code() == 9
    log = container.held.log()
    assert log["stdout"] == b"line\nquote'\"\n/made/here\n"
    assert b"uid=1000(alice) gid=1001(users) groups=10(wheel)" in log["stderr"]
    status = dict(re.findall(r"^(\w+):\s*(.*?)\s*$", log["stderr"].decode(), re.MULTILINE))
    assert (int(status["CapBnd"], 16), int(status["CapPrm"], 16)) == (1, 0)
    assert status["NoNewPrivs"] == "1"
    assert int(status["SigBlk"], 16) == int(status["SigIgn"], 16) == 0
    eventually(lambda: not container.machine.is_up(container.vmid))


def test_read_only_root_leaves_volumes_writable(container: Container) -> None:
    container.held.hold(_process("touch /x 2>&1; touch /dev/y && echo yes"), read_only_root=True)
    container.start()
    assert container.held.exit_code() == 0
    assert container.held.log()["stdout"] == b"touch: /x: Read-only file system\nyes\n"


def test_start_by_somebody_else_finds_nobody_and_ends(container: Container) -> None:
    container.held.hold(_process("exit 5"))
    container.start().wait(held.DEADLINE_S)
    assert container.held.exit_code() == 5
    told = container.held.told()
    container.start().wait(held.DEADLINE_S)
    assert container.held.told() == told


def test_clone_that_is_started_first_is_turned_away(container: Container) -> None:
    container.held.hold(_process("exit 5"))
    clone = 100000 + secrets.randbelow(800000)
    root = container.machine.rootfs(clone)
    shutil.copytree(container.machine.rootfs(container.vmid), root, symlinks=True)
    subprocess.run(["chown", "-Rh", f"{container.uid}:{container.uid}", root], check=True)
    container.start(vmid=clone).wait(held.DEADLINE_S)
    assert container.held.told() is None
    container.machine.remove(clone)
    container.start()
    assert container.held.exit_code() == 5


def test_reboot_from_inside_ends_the_container(container: Container) -> None:
    # Its parent is told SIGHUP (reboot(2)), which lets LXC start it anew, and who has a pidfd SIGKILL.
    sets = {key: ["CAP_SYS_BOOT"] for key in _SETS}
    container.held.hold(_process("reboot -f; sleep 1000", capabilities=sets))
    process = container.start()
    assert container.held.exit_code() in {129, 137}
    process.wait(held.DEADLINE_S)


def test_missing_program_and_directory_are_told(container: Container) -> None:
    container.held.hold({**_process(""), "args": ["nope"]})
    container.start().wait(held.DEADLINE_S)
    told = container.held.answer()
    assert told.stage == Stage.PROGRAM
    assert container.held.exit_code() == 127


def test_oom_is_marked(container: Container) -> None:
    container.held.hold(_process("tail /dev/zero; exit 3"))
    container.start(memory_mib=16)
    assert container.held.exit_code() in {3, 137}
    assert (container.held.monitor_dir / "oom").exists()


def test_terminal_is_the_console(container: Container) -> None:
    process = _process(
        "tty; test -t 0 && echo yes; stty size; stat -Lc '%A %u %g' $(tty); exit 2",
        terminal=True,
        user={"uid": 1000, "gid": 1001},
    )
    container.held.hold(process)
    conmon.resize_terminal(str(container.held.monitor_dir / "ctl"), 90, 20)
    container.start()
    assert container.held.exit_code() == 2
    text = (container.held.top / "log").read_bytes()
    assert b"/dev/console" in text
    assert b"yes" in text
    assert b"20 90" in text
    assert b"crw--w---- 1000 5" in text


def test_command_runs_as_told_beside_the_first_process(container: Container) -> None:
    container.held.hold(_process("exec sleep 1000", capabilities={}))
    container.start()
    init = container.held.answer()
    process = _process(
        "id; cat /proc/self/status; readlink /proc/self/ns/pid; pwd; exit 5",
        cwd="/tmp",
        user={"uid": 1000, "gid": 1001, "additionalGids": [10]},
        capabilities={key: ["CAP_NET_BIND_SERVICE"] for key in _SETS},
    )
    code, output = container.run(process)
    assert code == 5
    text = output.decode()
    assert "uid=1000(alice) gid=1001(users) groups=10(wheel)" in text
    assert os.readlink(f"/proc/{init.pid}/ns/pid") in text
    assert text.endswith("/tmp\n")
    status = dict(re.findall(r"^(\w+):\s*(.*?)\s*$", text, re.MULTILINE))
    for name in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status[name], 16) == 1 << 10, name
    code, _output = container.run(_process("kill -9 $$"))
    assert code == 137
    with pytest.raises(handover.StartFailed) as caught:
        container.run({**_process(""), "args": ["nope"]})
    assert caught.value.stage == Stage.PROGRAM


def test_command_is_not_given_to_another_process_of_the_container(container: Container) -> None:
    # Connects to every socket that appears, as fast as it can.
    thief = "while :; do for s in /dev/.pvecri/c*; do /dev/.pvecri/run $s; done; done"
    container.held.hold(_process(thief))
    container.start()
    container.held.answer()
    for _attempt in range(3):
        code, output = container.run(_process("echo mine"))
        assert (code, output) == (0, b"mine\n")


def test_lxc_monitord_tells_what_the_kernel_tells(container: Container) -> None:
    reader, writer = os.pipe()
    program = pve_machine.monitor_daemon()
    assert program is not None
    daemon = subprocess.Popen(
        [program, container.machine.lxc_path, str(writer)], pass_fds=[writer], start_new_session=True
    )
    try:
        os.close(writer)
        assert os.read(reader, 1)
        reports = monitord.Reports(container.machine.lxc_path)
        assert reports.connect()
        container.held.hold(_process("exit 42"))
        container.start().wait(held.DEADLINE_S)
        heard: list[monitord.Message] = []
        stopped = monitord.Message(monitord.STATE, str(container.vmid), monitord.STOPPED)
        eventually(lambda: heard.extend(reports.read()) or stopped in heard)  # type: ignore[func-returns-value]
        assert monitord.Message(monitord.EXIT_CODE, str(container.vmid), 42 << 8) in heard
        assert heard.index(stopped) > heard.index(
            monitord.Message(monitord.EXIT_CODE, str(container.vmid), 42 << 8)
        )
        reports.close()
    finally:
        os.close(reader)
        daemon.kill()
        daemon.wait()


def test_first_process_is_known_by_its_namespace(container: Container) -> None:
    container.held.hold(_process("exec sleep 1000"))
    container.start()
    told = container.held.answer()
    assert peers.is_first_process(told.pid)


def test_ids_that_an_unprivileged_container_does_not_have_are_told(container: Container) -> None:
    if not container.uid:
        pytest.skip("a privileged container has all ids")
    user = {"uid": 70000, "gid": 0}
    container.held.hold(_process("true", user=user))
    container.start().wait(held.DEADLINE_S)
    told = container.held.answer()
    assert told.stage == Stage.USER
    assert "user 70000" in str(handover.explained(told.stage, told.errno, {"user": user}))


def test_command_in_a_container_that_has_ended_is_refused_at_once(container: Container) -> None:
    container.held.hold(_process("true"))
    container.start().wait(held.DEADLINE_S)
    with pytest.raises(WrongState):
        container.run(_process("true"), timeout_s=600.0)
