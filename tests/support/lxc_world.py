# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods and containers of the LXC driver without Proxmox VE: plain LXC with a node's configuration files."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.container import logs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.driver import LxcDriver
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.include import IncludeFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import Guest, LxcLayout, guest
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.tests.support import bundles
from ansible_collections.pvecri.runtime.tests.support.pve_machine import SHIFT, Machine
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

ADDRESS = "10.99.7.5"
START_S = 30.0

#: What an ordinary container of a pod may do.
CAPABILITIES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL"),
)

Json = dict[str, t.Any]


class Pod:
    """Pinned namespaces with an address, as a pod has them."""

    def __init__(self, top: str) -> None:
        self.names = {kind: f"{top}/{kind}" for kind in ("net", "ipc", "uts")}
        netns.pin_all(self.names, hostname="the-pod")
        self.inside("ip", "link", "add", "eth0", "type", "bridge")
        self.inside("ip", "address", "add", f"{ADDRESS}/24", "dev", "eth0")
        self.inside("ip", "link", "set", "eth0", "up")

    def inside(self, *argv: str) -> str:
        """Run a program of the host in the pod's network, as a container beside it, and return its output."""
        enter = ["nsenter", f"--net={self.names['net']}", "--"]
        return subprocess.run([*enter, *argv], capture_output=True, text=True, check=True).stdout

    def end(self) -> None:
        """Let go of the namespaces."""
        for path in self.names.values():
            netns.unpin(path)


class Ct:
    """One container, as the endpoint has it: a record, a configuration, and LXC's files."""

    def __init__(self, world: World, config: Json, *, unprivileged: bool, **changes: t.Any) -> None:
        self.world = world
        self.vmid = random.randrange(100_000, 1_000_000_000)
        self.name = f"c{self.vmid}"
        self.config = config
        self.bundle = f"{world.top}/bundle-{self.vmid}"
        os.makedirs(self.bundle)
        self.log = f"{world.top}/logs/{self.vmid}.log"
        self.pve: Json = {"unprivileged": int(unprivileged), "memory": 256, "swap": 0, "console": 0, "tty": 0}
        values: Json = {
            "name": self.name,
            "vmid": self.vmid,
            "node": "here",
            "sandbox_id": "s",
            "bundle": self.bundle,
            "log_path": self.log,
            "boot_id": procfs.boot_id(),
            "created_at": 1.5,
            "lxc_path": world.machine.lxc_path,
            "stage": Stage.READY,
            "unprivileged": unprivileged,
            "id_offset": SHIFT if unprivileged else 0,
        }
        self.record = LxcRecord(**{**values, **changes})

    @property
    def layout(self) -> LxcLayout:
        """Its files."""
        return LxcLayout(self.world.paths, self.name)

    @property
    def guest(self) -> Guest:
        """The files of its vmid."""
        return guest(self.world.paths, self.vmid)

    @property
    def state(self) -> ContainerState:
        """Its state now."""
        state = self.world.driver.state(self.name)
        assert state is not None
        return state

    def prepare(self, **facts: t.Any) -> Ct:
        """Make everything but the container."""
        pod = self.world.pod
        met: Json = {"netns": pod.names["net"], "ipcns": pod.names["ipc"], "utsns": pod.names["uts"]}
        self.world.driver.prepare(
            self.record, self.config, IncludeFacts(**{**met, "stop_signal": 15, **facts})
        )
        return self

    def begin(self) -> subprocess.Popen[bytes]:
        """Start LXC, as Proxmox VE's unit does."""
        machine = self.world.machine
        rootfs = machine.rootfs(self.vmid)
        if not os.path.isdir(rootfs):
            shutil.copytree(self.world.rootfs, rootfs, symlinks=True)
            shift = SHIFT if self.record.unprivileged else 0
            for path, directories, names in os.walk(rootfs):
                for name in (".", *directories, *names):
                    os.chown(os.path.join(path, name), shift, shift, follow_symlinks=False)
        machine.write_config(self.vmid, {**self.pve, "lxc": [["lxc.include", self.guest.config]]})
        return machine.begin(self.vmid)

    def start(self, **facts: t.Any) -> int:
        """Prepare it, start it, and return the id of its first process once its program runs."""
        self.prepare(**facts)
        self.begin()
        try:
            return self.world.driver.await_start(self.name, START_S)
        except BaseException:
            print("\n".join(self.world.machine.said(self.vmid)))
            raise

    def wait(self) -> int | None:
        """Return its exit code."""
        return self.world.driver.wait(self.name, START_S)

    def written(self) -> tuple[str, str]:
        """Return what it wrote to standard output and error."""
        found = logs.join_streams(logs.read_records(self.log))
        return found["stdout"].decode(), found["stderr"].decode()

    def said(self, text: str) -> str:
        """Wait until its output has a text, and return all of it."""
        eventually(lambda: os.path.exists(self.log) and text in "".join(self.written()), what=text)
        return "".join(self.written())

    def stop(self) -> None:
        """End LXC's container, whatever it does."""
        self.world.machine.stop(self.vmid)

    def remove(self) -> None:
        """Remove all of it in the order in which the endpoint does."""
        self.stop()
        self.world.machine.remove(self.vmid)
        self.world.driver.clear_away(self.name)


class World:
    """One host with a pod; everything is below one short directory, and is gone at the end."""

    def __init__(self, rootfs: str) -> None:
        self.top = tempfile.mkdtemp(prefix="pl-", dir="/tmp")
        os.chmod(self.top, 0o755)
        self.paths = Paths(f"{self.top}/state", f"{self.top}/run", Owner.CRI)
        for place in (self.paths.state_dir, self.paths.run_dir):
            os.mkdir(place)
            os.chmod(place, 0o711)
        self.rootfs = rootfs
        self.pod = Pod(f"{self.top}/run/ns")
        self.machine = Machine(f"{self.top}/ct")
        self.warnings: list[str] = []
        self.driver = LxcDriver(self.paths, SubprocessRunner(), warn=self.warnings.append)
        self.cts: list[Ct] = []

    def ct(
        self,
        *args: str,
        change: t.Callable[[Json], object] | None = None,
        unprivileged: bool = True,
        **record: t.Any,
    ) -> Ct:
        """Return a container that is to run ``args``; ``change`` edits its configuration."""
        config = copy.deepcopy(bundles.CONFIG)
        config["process"].update(args=list(args), noNewPrivileges=False)
        for kind in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][kind] = list(CAPABILITIES)
        config["linux"]["resources"] = {}
        if change is not None:
            change(config)
        made = Ct(self, json.loads(json.dumps(config)), unprivileged=unprivileged, **record)
        self.cts.append(made)
        return made

    def volume(
        self, name: str, content: str = "", mode: int = 0o644, *, hidden: bool = False
    ) -> pathlib.Path:
        """Return a directory of the host's root with a file ``f``; ``hidden`` lets nobody else near it."""
        place = pathlib.Path(self.top, "private" if hidden else "volumes", name)
        place.mkdir(parents=True)
        (place / "f").write_text(content)
        (place / "f").chmod(mode)
        if hidden:
            place.parent.chmod(0o700)
        return place

    def end(self) -> None:
        """End and remove everything."""
        self.machine.close()
        for ct in self.cts:
            with contextlib.suppress(Exception):
                self.driver.kill(ct.name, "KILL")
            self.machine.remove(ct.vmid)
            self.driver.clear_away(ct.name)
        self.pod.end()
        shutil.rmtree(self.top)


def bind(source: object, destination: str, *options: str) -> Json:
    """Return a bind mount as a configuration has it."""
    return {
        "destination": destination,
        "type": "bind",
        "source": str(source),
        "options": list(options or ("rbind", "rprivate", "rw")),
    }
