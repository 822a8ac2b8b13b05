# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put real LXC behind the routes of a fake Proxmox VE; see `pve_node` for what it is for."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
import subprocess
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.tests.support import pve_conf, pve_images
from ansible_collections.pvecri.runtime.tests.support.pve_machine import Machine

Values = dict[str, t.Any]
Body = t.Callable[[], t.Awaitable[t.Any]]

#: What running containers take at once, beside names and notes.
_LIMITS = frozenset({"memory", "swap", "cpulimit", "cpuunits"})
#: As long Proxmox VE waits for a container to run, and for its lock file.
_START_S = 10.0
_LOCK_S = 10.0


@dataclasses.dataclass
class Fault:
    """What befalls tasks of one kind."""

    #: Exit status instead of OK; None: it goes well.
    error: str | None = None
    #: Whether the error comes when the work is done.
    is_late: bool = False
    #: Lines of the task's log before the error.
    log: tuple[str, ...] = ()
    #: Seconds that the task takes longer.
    delay_s: float = 0.0
    #: How many tasks; None: all.
    times: int | None = 1


class Gate:
    """Holds tasks of one kind at one point until it is opened; see `LxcRoutes.hold`."""

    def __init__(self, *, at_end: bool) -> None:
        self.at_end = at_end
        self.reached = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        """Let the tasks go on."""
        self._opened.set()

    async def passed(self) -> None:
        """Wait for it."""
        self.reached.set()
        while not self._opened.is_set():
            await asyncio.sleep(0.005)


class LxcRoutes:
    """Handlers of containers on the node that this machine plays; those elsewhere stay fakepve's alone."""

    def __init__(self, pve: t.Any, node: str, machine: Machine, files: pve_conf.Files) -> None:
        self.pve, self.node = pve, node
        self.machine, self.files = machine, files
        self.faults: dict[str, Fault] = {}
        self.gates: dict[str, Gate] = {}
        #: vmid to the events that lxc-monitord told, newest last.
        self.states: dict[int, list[int]] = {}
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._logs: dict[str, list[str]] = {}
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._following: list[asyncio.Future[None]] = []

    def install(self) -> None:
        """Put ourselves in front of fakepve's own; before it listens."""
        pve = self.pve
        self._task, self._handler = pve.task, pve._lxc_handler
        self._acquire, self._release = pve.acquire, pve.release
        self._update, self._create, self._destroy = pve._update_config, pve._lxc_create, pve._lxc_destroy
        pve.task, pve._lxc_handler = self.task, self._synced
        pve.acquire, pve.release = self._acquire_file, self._release_file
        pve._update_config, pve._lxc_create = self._configure, self._made
        pve._lxc_destroy = self._destroyed
        pve._upid = self._upid
        pve._start_steps, pve._ct_powerdown = self._start_steps, self._powerdown

    # ---------------------------------------------------------------- files

    def _synced(self, fn: t.Any) -> t.Any:
        async def around(user: str, values: Values) -> t.Any:
            self._loop = asyncio.get_running_loop()
            for ct in self.pve.cts:
                self.files.read(ct)
            try:
                return await fn(user, values)
            finally:
                await self.flush()

        return self._handler(around)

    async def flush(self) -> None:
        """Write the files of all containers that have changed."""
        self.files.forget({ct.vmid for ct in self.pve.cts})
        for ct in list(self.pve.cts):
            if self.files.holds(ct.vmid):
                self.files.write(ct)
            elif self.files.lock(ct.vmid):
                self.files.write(ct)
                self.files.unlock(ct.vmid)
            # Else whoever has it reads what is there: the next request writes.

    async def _acquire_file(self, vm: t.Any, holder: str, wait: float | None = None) -> None:
        from fakepve import TaskError

        await self._acquire(vm, holder, wait)
        deadline = time.monotonic() + (_LOCK_S if wait is None else wait)
        while not self.files.lock(vm.vmid):
            if time.monotonic() >= deadline:
                self._release(vm, holder)
                raise TaskError(vm.lock_error)
            await asyncio.sleep(0.01)

    def _release_file(self, vm: t.Any, holder: str) -> None:
        if vm.lock_holder == holder:
            self.files.unlock(vm.vmid)
        self._release(vm, holder)

    # ---------------------------------------------------------------- tasks

    async def task(self, node: str, kind: str, ident: t.Any, user: str, body: Body, **more: t.Any) -> str:
        """Begin a task as fakepve does, with the faults and gates of its kind."""
        lines: list[str] = []
        upid = ""

        async def wrapped() -> t.Any:
            record = self.pve.tasks[upid]
            try:
                return await self._carried_out(kind, ident, body, lines)
            finally:
                record["log"] += lines
                await self.flush()

        upid = str(await self._task(node, kind, ident, user, wrapped, **more))
        self._following = [follower for follower in self._following if not follower.done()]
        self._following.append(asyncio.ensure_future(self._follow(upid)))
        return upid

    def _upid(self, node: str, kind: str, ident: t.Any, user: str) -> tuple[str, int, int]:
        """Return the id, process and time of a task whose process is there, as Proxmox VE's worker is."""
        worker = subprocess.Popen(["sleep", "3600"], stdin=subprocess.DEVNULL, start_new_session=True)
        stat = pathlib.Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        start = int(time.time())
        upid = f"UPID:{node}:{worker.pid:08X}:{int(stat[19]):08X}:{start:08X}:{kind}:{ident}:{user}:"
        self._workers[upid] = worker
        return upid, worker.pid, start

    async def _follow(self, upid: str) -> None:
        """End a task's process when the task has ended."""
        while self.pve.tasks[upid]["status"] == "running":
            await asyncio.sleep(0.002)
        self._end_worker(upid)

    def _end_worker(self, upid: str) -> None:
        worker = self._workers.pop(upid)
        worker.kill()
        worker.wait()

    def close(self) -> None:
        """End the processes of tasks that never ended."""
        for upid in list(self._workers):
            self._end_worker(upid)

    async def _carried_out(self, kind: str, ident: t.Any, body: Body, lines: list[str]) -> t.Any:
        from fakepve import TaskError

        fault = self._fault(kind)
        gate = self.gates.get(kind)
        if gate is not None and not gate.at_end:
            await gate.passed()
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.error is not None and not fault.is_late:
            lines += fault.log
            if kind == "vzcreate":
                self.pve._drop(self.pve.ct(int(ident)))
            raise TaskError(fault.error)
        self._logs[str(ident)] = lines
        note = await (self._stopped(int(ident), body) if kind == "vzstop" else body())
        if kind == "vzmigrate" and self.pve.ct(int(ident)).node != self.node:
            await asyncio.to_thread(self.machine.remove, int(ident))
        if gate is not None and gate.at_end:
            await gate.passed()
        if fault.error is not None:
            lines += fault.log
            raise TaskError(fault.error)
        return note

    def _fault(self, kind: str) -> Fault:
        fault = self.faults.get(kind)
        if fault is None:
            return Fault()
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                del self.faults[kind]
        return fault

    # ---------------------------------------------------------------- creation and removal

    async def _made(self, user: str, values: Values) -> t.Any:
        """Create as fakepve does, then unpack the template, all within its task."""
        if values["node"] != self.node or values.get("restore"):
            return await self._create(user, values)
        vmid = int(values["vmid"])
        task = self.pve.task

        async def with_rootfs(node: str, kind: str, ident: t.Any, who: str, body: Body, **more: t.Any) -> str:
            async def filled() -> t.Any:
                note = await body()
                await self._fill(self.pve.ct(vmid), values["ostemplate"])
                return note

            return str(await self.task(node, kind, ident, who, filled, **more))

        # fakepve has no other way in: nothing awaits between here and the call of `task`.
        self.pve.task = with_rootfs
        try:
            answer = await self._create(user, values)
        finally:
            self.pve.task = task
        return answer

    async def _fill(self, ct: t.Any, template: str) -> None:
        from fakepve import TaskError

        config = ct.config
        config["lock"] = "create"
        unprivileged = bool(int(config.get("unprivileged") or 0))
        storage, _colon, name = template.partition(":")
        path = self.pve._volume_path(storage, name, "vztmpl")
        try:
            size = self._size(config)
            brought = await asyncio.to_thread(
                self.machine.unpack, ct.vmid, path, unprivileged=unprivileged, size=size
            )
        except (pve_images.BadImage, OSError) as exc:
            await asyncio.to_thread(self.machine.remove, ct.vmid)
            self.pve._drop(ct)
            raise TaskError(f"unable to create CT {ct.vmid} - {exc}") from exc
        if pve_images.is_oci(path):
            for key in ("env", "entrypoint", "cmode"):
                config.pop(key, None)
            config["ostype"] = "unmanaged"
        config.update(brought)
        config["description"] = (config.get("description", "").rstrip("\n") + "\n").lstrip("\n")
        if not config["description"]:
            del config["description"]
        del config["lock"]
        self.files.write(ct, image_lines=True)

    def _size(self, config: Values) -> int:
        """Return the bytes of a root disk; raises BadImage when its storage has not as many."""
        from fakepve.lxc import parse_mount, parse_size

        rootfs = parse_mount(config["rootfs"])
        store = self.pve.storages[rootfs["volume"].partition(":")[0]]
        size = int(parse_size(rootfs.get("size", "0")))
        if "avail" in store and size > store["avail"]:
            raise pve_images.BadImage(
                "lvcreate 'pve/vm-disk' error:   Insufficient free space in the volume group"
            )
        return size

    async def _destroyed(self, user: str, values: Values) -> t.Any:
        from fakepve import TaskError

        task = self.pve.task
        ct = self.pve._find_ct(values["node"], values["vmid"])

        async def with_rootfs(node: str, kind: str, ident: t.Any, who: str, body: Body, **more: t.Any) -> str:
            async def emptied() -> t.Any:
                if not self.pve.quorate:
                    path = f"/etc/pve/nodes/{ct.node}/lxc/{ct.vmid}.conf.tmp.{os.getpid()}"
                    raise TaskError(f"unable to open file '{path}' - Permission denied")
                if values.get("force") and not ct.lock:
                    await asyncio.to_thread(self.machine.stop, ct.vmid)
                note = await body()
                await asyncio.to_thread(self.machine.remove, ct.vmid)
                return note

            return str(await self.task(node, kind, ident, who, emptied, **more))

        if ct.node != self.node:
            return await self._destroy(user, values)
        self.pve.task = with_rootfs
        try:
            return await self._destroy(user, values)
        finally:
            self.pve.task = task

    # ---------------------------------------------------------------- power

    async def _start_steps(self, ct: t.Any, user: str, skiplock: bool = False) -> None:
        from fakepve import TaskError

        if ct.template:
            raise TaskError("you can't start a CT if it's a template")
        if not skiplock:
            self.pve._task_lock(ct, allow=("mounted",))
        await self.pve.pause(ct.start_secs)
        if ct.start_error:
            raise TaskError(ct.start_error)
        self.files.read(ct)
        self.pve._apply(ct)
        self.states[ct.vmid] = []
        await asyncio.to_thread(self.machine.write_config, ct.vmid, ct.config)
        process = await asyncio.to_thread(self.machine.begin, ct.vmid)
        if not await self._runs(ct.vmid, process):
            await asyncio.to_thread(self.machine.stop, ct.vmid)
            self._logs.get(str(ct.vmid), []).extend(self.machine.said(ct.vmid))
            raise TaskError(f"startup for container '{ct.vmid}' failed")
        ct.status, ct.started_at, ct.pid = "running", time.time(), self.machine.init_pid(ct.vmid)
        threading.Thread(target=self._await_end, args=(ct, process), daemon=True).start()

    async def _runs(self, vmid: int, process: t.Any) -> bool:
        """Wait for what lxc-monitord says: 1 starting, 2 running, anything else is a failure."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            seen = self.states[vmid]
            if 2 in seen:
                return True
            if process.poll() is not None or any(state != 1 for state in seen):
                return False
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), 0.05)
            except TimeoutError:
                continue
        return False

    def told(self, vmid: int, state: int) -> None:
        """Take note of a state that lxc-monitord sent; called in the loop's thread."""
        self.states.setdefault(vmid, []).append(state)
        self._changed.set()

    def _await_end(self, ct: t.Any, process: t.Any) -> None:
        process.wait()
        # The loop may have ended with the test.
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended, ct, process)

    def _ended(self, ct: t.Any, process: t.Any) -> None:
        if not self.machine.is_up(ct.vmid) and ct.node == self.node:
            ct.status, ct.pid = "stopped", None

    async def _stopped(self, vmid: int, body: Body) -> t.Any:
        ct = self.pve.ct(vmid)
        if ct is not None and not ct.lock and ct.node == self.node:
            await asyncio.to_thread(self.machine.stop, vmid)
        return await body()

    async def _powerdown(self, ct: t.Any, timeout: float, force: bool) -> None:
        from fakepve import TaskError

        if ct.node == self.node:
            ended = await asyncio.to_thread(self.machine.stop, ct.vmid, timeout_s=float(timeout))
            if not ended and not force:
                raise TaskError("container did not stop")
            await asyncio.to_thread(self.machine.stop, ct.vmid)
        ct.status, ct.pid = "stopped", None

    # ---------------------------------------------------------------- configuration

    async def _configure(self, ct: t.Any, user: str, values: Values, *changes: t.Any) -> None:
        from fakepve import PveError

        await self._update(ct, user, values, *changes)
        if ct.status != "running" or ct.node != self.node or not _LIMITS & {*values, *changes[0]}:
            return
        try:
            await asyncio.to_thread(self.machine.apply_limits, ct.vmid, ct.config)
        except OSError as exc:
            option = min(_LIMITS & {*values, *changes[0]})
            raise PveError(
                400,
                "Parameter verification failed.",
                {option: f"hotplug problem - {os.strerror(exc.errno or 0)}"},
            ) from exc
