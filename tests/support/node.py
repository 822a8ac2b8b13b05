# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Be a node whose daemon can die and start anew within one test: the services without a server."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib
import shutil
import tempfile
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import default_config
from ansible_collections.pvecri.runtime.tests.support import cgroups, cri_client, pve_machine
from ansible_collections.pvecri.runtime.tests.support.endpoint import CRUN, IMAGE, busybox_layout, missing
from ansible_collections.pvecri.runtime.tests.support.pve_node import FakePveNode
from pvecri.config import load, model
from pvecri.containers.exits import Exits
from pvecri.daemon.assembly import build_context
from pvecri.daemon.recovery import Mend, Recovery
from pvecri.daemon.services import build_services
from pvecri.pve.watch import Watch


class Killed(BaseException):
    """Stands for the end of the daemon: nothing after it is done."""


class Node:
    """The daemon's services, with recovery, on directories of their own."""

    def __init__(self, top: pathlib.Path, played: FakePveNode | None = None) -> None:
        """Begin; ``played`` is the node of Proxmox VE that this is, if it is one."""
        self.top = top
        self.played = played
        self.paths = Paths(str(top / "s"), str(top / "r"), owner=Owner.CRI)
        self.ipam = top / "ipam"
        self.cgroup_parent = f"/pvecri-test/{top.name}"
        self.context: t.Any = None
        (top / "net.d").mkdir()
        plain = default_config(name="pods", bridge="node0", subnets=["10.89.0.0/24"]).plain()
        plain["plugins"][0]["ipam"]["dataDir"] = str(self.ipam)
        (top / "net.d" / "10-pods.conflist").write_text(json.dumps(plain))
        os.makedirs(self.paths.storage)
        store = f"containers-storage:[overlay@{self.paths.storage}+{self.paths.storage_run}]{IMAGE}"
        SubprocessRunner().run(
            ["skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{busybox_layout()}:latest", store]
        )
        self.restart()

    # ---- the daemon ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Make everything anew, as a daemon does that starts; nothing is looked at yet."""
        if self.context is not None:
            self.context.registry.close()
        config = model.Config(
            paths=model.PathsConfig(state_dir=self.paths.state_dir, run_dir=self.paths.run_dir),
            network=model.NetworkConfig(conf_dir=str(self.top / "net.d")),
            runtime=model.RuntimeConfig(crun=CRUN, cgroup_driver="cgroupfs"),
            pve=self._pve_config(),
        )
        loaded = load.Loaded(config=config, path=None, lines={})
        self.context = build_context(loaded, logging.getLogger("pvecri.test"))
        self.exits = Exits(self.context.registry, self.context.runtimes)
        self.services = build_services(self.context, self.exits)

    def _pve_config(self) -> model.PveConfig:
        if self.played is None:
            return model.PveConfig(enabled="false")
        values = self.played.settings()["pve"]
        return model.PveConfig(**{**values, "vmid_range": tuple(values["vmid_range"])})

    def survey(self, **options: t.Any) -> list[Mend]:
        """Look through everything; return what is to be mended."""
        pve = self.context.pve
        if pve is not None:
            options.setdefault(
                "guests", Watch(self.context.registry, self.exits, pve.node, pve.driver, interval_s=30.0)
            )
        self.recovery = Recovery(
            self.context, self.services.sandboxes, self.services.containers, self.exits, **options
        )
        return self.recovery.survey()

    def restart(self) -> list[str]:
        """Die, start anew, recover and mend; return what was mended."""
        self.begin()
        mended = []
        for mend in self.survey():
            mend.act()
            mended.append(mend.what)
        upkeep = {"bundles in the making", "commands of the last daemon", "what Proxmox VE has"}
        return [what for what in mended if what not in upkeep]

    def reboot(self) -> None:
        """Take what a restart of the host takes: processes, mounts and everything volatile."""
        for vmid in self.played.vmids() if self.played else ():
            assert self.played is not None
            self.played.machine.stop(vmid)
        for name in self.context.runtimes.names():
            state = self.context.runtimes.state(name)
            for pid in (state.conmon_pid, state.pid):
                if pid is not None:
                    procfs.send_signal(pid, 0, 9)
                    with procfs.held(pid) as pidfd:
                        assert pidfd is None or procfs.await_end(pidfd, 10)
        rootfs.unmount_below(str(self.top))
        shutil.rmtree(self.paths.run_dir)

    # ---- what clients do ----------------------------------------------------------------------------------

    def pod_config(self, name: str = "web", **fields: t.Any) -> t.Any:
        """Return the config of a pod."""
        return cri_client.pod(
            name,
            uid=f"uid-{name}",
            cgroup_parent=f"{self.cgroup_parent}/{name}",
            log_directory=str(self.top / "logs"),
            **fields,
        )

    def run_pod(self, name: str = "web", **fields: t.Any) -> str:
        """Run a pod and return its id; its containers are guests where there is Proxmox VE."""
        handler = "pve-lxc" if self.played else ""
        return self.services.sandboxes.run(self.pod_config(name, **fields), handler)

    def container_config(self, name: str = "app", command: t.Sequence[str] = ("sleep", "1000")) -> t.Any:
        """Return the config of a container."""
        return cri_client.container(name, IMAGE, list(command), log_path=f"{name}.log")

    def create(self, pod: str, name: str = "app", command: t.Sequence[str] = ("sleep", "1000")) -> str:
        """Create a container and return its id."""
        return self.services.containers.create(pod, self.container_config(name, command))

    def run_container(self, pod: str, name: str = "app", command: t.Sequence[str] = ("sleep", "1000")) -> str:
        """Create and start a container and return its id."""
        container = self.create(pod, name, command)
        self.services.containers.start(container)
        return container

    def container(self, container_id: str) -> t.Any:
        """Return a container's record."""
        return self.context.registry.container(container_id)

    def sandbox(self, sandbox_id: str) -> t.Any:
        """Return a sandbox's record."""
        return self.context.registry.sandbox(sandbox_id)

    # ---- looking ------------------------------------------------------------------------------------------

    def leases(self) -> list[str]:
        """Return the addresses that are taken."""
        return sorted(path.name for path in self.ipam.glob("pods/*.*.*.*"))

    def leftovers(self) -> dict[str, t.Any]:
        """Return all that is left of any pod or container; empty is clean."""
        own = (self.paths.storage, self.paths.storage_run)
        found = {
            "sandboxes": [record.id for record in self.context.registry.sandboxes()],
            "containers": [record.id for record in self.context.registry.containers()],
            "leases": self.leases(),
            "attachments": [each.container_id for each in self.context.cni.attachments()],
            "mounts": [path for path in syscalls.mounts_below(str(self.top)) if not path.startswith(own)],
            "files": _entries(self.paths.state_dir, "sandboxes"),
            "volatile": _entries(self.paths.run_dir, "sandboxes"),
            "bundles": _entries(self.paths.bundles),
            "crun": self.context.crun.names(),
            "exits": _entries(self.paths.exits),
            "cgroups": cgroups.below(self.cgroup_parent),
            "records": _entries(self.paths.state_dir, "lxc", "records"),
            "files of guests": _entries(self.paths.state_dir, "lxc", "guests"),
        }
        if self.played is not None:
            found["guests"] = [*self.played.vmids(), *self.played.leftovers()]
        return {key: value for key, value in found.items() if value}

    def remove_all(self) -> None:
        """Remove every pod, and every container without one."""
        for record in self.context.registry.sandboxes():
            self.services.sandboxes.remove(record.id)
        for record in self.context.registry.containers():
            self.services.containers.remove(record.id)

    def close(self) -> None:
        """Remove all pods and what they were in."""
        with contextlib.suppress(CoreError, OSError):
            self.remove_all()
        self.services.close()
        self.context.registry.close()
        for name in self.context.crun.names():
            self.context.crun.delete(name, force=True)
        rootfs.unmount_below(str(self.top))
        shutil.rmtree(self.top)
        cgroups.remove(self.cgroup_parent)


def _entries(*parts: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(os.path.join(*parts))
    return []


@contextlib.contextmanager
def own_node(*, plays_pve: bool = False) -> t.Iterator[Node]:
    """Yield a node, this thread and all that it starts being in a network of their own.

    With ``plays_pve`` it is one of Proxmox VE.
    """
    reason = missing() or (pve_machine.missing() if plays_pve else None)
    if reason:
        pytest.skip(reason)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    netns.prepare({"net"}, None)
    pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    top = pathlib.Path(tempfile.mkdtemp(prefix="pn-"))
    top.chmod(0o755)
    try:
        with FakePveNode() if plays_pve else contextlib.nullcontext() as played:
            try:
                made = Node(top, played)
            except BaseException:
                rootfs.unmount_below(str(top))
                shutil.rmtree(top)
                raise
            try:
                yield made
            finally:
                made.close()
    finally:
        syscalls.setns(before, syscalls.CLONE_NEWNET)
        os.close(before)
