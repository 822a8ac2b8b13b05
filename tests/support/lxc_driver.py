# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand in for LXC on this host where a test is about Proxmox VE's API: real records and real processes.

The container's first process is a child of the test; nothing of it is in a container.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import shutil
import signal
import subprocess
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout, record
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from pvecri.pve.identity import Identity, description
from pvecri.pve.node import PveNode

ENDPOINT = "0123456789abcdef"

#: Writes a line for each signal that it gets; ends with 7 upon TERM, unless told to go on.
_PROGRAM = 'trap "echo term >> {told}; {then}" TERM; echo up > {up}; while :; do sleep 0.05; done'


class StandIn:
    """What `LxcDriver` does for power, remove and watch."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.paths = Paths(str(directory / "state"), str(directory / "run"), owner=Owner.CRI)
        self._directory = directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._statuses: dict[str, Status] = {}
        #: Says whether the first process has asked for its program.
        self.has_begun: t.Callable[[str], bool] = lambda _name: False
        #: Names that were cleared away, and whether what is included stayed.
        self.cleared: dict[str, bool] = {}
        layout.prepare(self.paths)

    def remember(self, name: str, vmid: int, **fields: t.Any) -> LxcRecord:
        """Write and return the record of a container."""
        values: dict[str, t.Any] = {
            "name": name,
            "vmid": vmid,
            "node": "pve1",
            "sandbox_id": "s" * 64,
            "bundle": "/nowhere",
            "log_path": "",
            "boot_id": procfs.boot_id(),
            "created_at": time.time(),
            "lxc_path": str(self._directory / "lxc"),
            "stage": Stage.READY,
            "endpoint": ENDPOINT,
        }
        made = LxcRecord(**{**values, **fields})
        record.save(LxcLayout(self.paths, name), made)
        return made

    def record(self, name: str) -> LxcRecord:
        """Return the record as it is now."""
        return record.loaded(LxcLayout(self.paths, name))

    def run(self, name: str, *, ends: bool = True, status: Status = Status.RUNNING) -> int:
        """Start the process of a container and return its id when it is ready for signals."""
        told, up = self._file(name, "told"), self._file(name, "up")
        then = "exit 7" if ends else "true"
        program = _PROGRAM.format(told=told, up=up, then=then)
        self._processes[name] = process = subprocess.Popen(["/bin/sh", "-c", program])
        self._statuses[name] = status
        while not up.exists():
            time.sleep(0.005)
        return process.pid

    def told(self, name: str) -> int:
        """Return how many signals its process was told."""
        with contextlib.suppress(FileNotFoundError):
            return len(self._file(name, "told").read_text().splitlines())
        return 0

    def end(self) -> None:
        """Kill what is left."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _file(self, name: str, kind: str) -> pathlib.Path:
        return self._directory / f"{name[:12]}.{kind}"

    # ---- what is asked of a driver

    def amend(self, name: str, **changes: t.Any) -> LxcRecord:
        """Change fields of a record."""
        return record.amend(LxcLayout(self.paths, name), **changes)

    def state(self, name: str) -> ContainerState | None:
        """Return the state by the process."""
        process = self._processes.get(name)
        if process is None:
            return None
        stat = procfs.read_stat(process.pid)
        if stat is None or not stat.is_alive:
            return ContainerState(name=name, status=Status.STOPPED, exit_code=self.wait(name, 5))
        return ContainerState(
            name=name, status=self._statuses[name], pid=stat.pid, pid_start_time=stat.start_time, conmon_pid=1
        )

    def await_start(self, name: str, timeout_s: float) -> int:
        """Wait until the test says that it runs."""
        end = time.monotonic() + timeout_s
        while not self.has_begun(name):
            if time.monotonic() >= end:
                raise CommandTimeout("nobody asks")
            time.sleep(0.005)
        return 1

    def wait(self, name: str, timeout_s: float | None = None) -> int | None:
        """Return the exit code as conmon writes it."""
        try:
            code = self._processes[name].wait(timeout_s)
        except subprocess.TimeoutExpired as exc:
            raise CommandTimeout("it lives") from exc
        return 128 - code if code < 0 else code

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal, and see who was killed to the end."""
        self._processes[name].send_signal(number)
        if number == signal.SIGKILL:
            self._processes[name].wait()

    def clear_away(self, name: str, *, keep_guest: bool = False) -> None:
        """Forget it."""
        found = record.load(LxcLayout(self.paths, name))
        if found is not None and not keep_guest:
            shutil.rmtree(layout.guest_dir(self.paths, found.vmid), ignore_errors=True)
        record.remove(LxcLayout(self.paths, name))
        self.cleared[name] = keep_guest

    def clear_guest(self, vmid: int) -> None:
        """Remove what was included."""
        shutil.rmtree(layout.guest_dir(self.paths, vmid), ignore_errors=True)

    def knows(self, name: str) -> bool:
        """Say whether there is a record."""
        return record.exists(LxcLayout(self.paths, name))


def node_of(cluster: t.Any, directory: pathlib.Path, **changes: t.Any) -> PveNode:
    """Return a node of a fake cluster as the endpoint has it."""
    from pvecri.config.model import PveConfig

    config_dir = directory / "etc-pve"
    (config_dir / "lxc").mkdir(parents=True, exist_ok=True)
    node = PveNode(
        PveConfig(
            **{
                "node": "pve1",
                "rootfs_storage": "local-lvm",
                "template_storage": "local",
                "config_dir": str(config_dir),
                "lock_dir": str(directory / "lock"),
                "task_timeout_s": 20.0,
                **changes,
            }
        ),
        Paths(str(directory / "state"), str(directory / "run"), owner=Owner.CRI),
        logging.getLogger("test"),
    )
    client = cluster.client(api_timeout_s=5.0, connect_timeout_s=5.0)
    # The access file is the role's to write, and tested there.
    node.__class__ = type("NodeOfTest", (PveNode,), {"client": property(lambda _self: client)})
    return node


def add_guest(cluster: t.Any, found: LxcRecord, **config: t.Any) -> t.Any:
    """Add the container of a record to the fake, marked as ours unless told otherwise."""
    notes = description(
        Identity(endpoint=found.endpoint, container=found.name, sandbox=found.sandbox_id, vmid=found.vmid),
        pod="web",
        namespace="default",
        container="main",
        image="busybox",
    )
    values = {"tags": "pvecri;pvecri-cri", "description": notes + "\n", **config}
    return cluster.pve.add_ct(found.vmid, name="web-main", node=found.node, config=values)
