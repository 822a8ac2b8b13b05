# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give each test a sandbox service with real plugins, in a network and directories of its own."""

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
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import PLUGIN_DIRS, Cni
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import default_config
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import gather_host_facts
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import compile_policy
from pvecri.api import cri_pb2
from pvecri.config import model
from pvecri.context import Context
from pvecri.sandboxes.places import Places
from pvecri.sandboxes.service import SandboxService
from pvecri.state.records import SandboxRecord
from pvecri.state.registry import Registry

CRUN = os.environ.get("PVECRI_TEST_CRUN", "/usr/bin/crun")
_NEEDED = (CRUN, "conmon", f"{PLUGIN_DIRS[0]}/portmap")


_PLUGIN = """#!/usr/bin/python3
import json, os, sys
request = json.load(sys.stdin)
verb = os.environ["CNI_COMMAND"]
def answer():
    print(json.dumps(request.get("prevResult", {})) if verb == "ADD" else "")
"""


class Pods:
    """A sandbox service with what is around it, and looks at what it made."""

    def __init__(self, top: pathlib.Path) -> None:
        self.top = top
        self.conf_dir = top / "net.d"
        self.conf_dir.mkdir()
        self.plugin_dirs: tuple[str, ...] = (str(top / "plugins"), *PLUGIN_DIRS)
        self.paths = Paths(str(top / "s"), str(top / "r"), owner=Owner.CRI)
        self.runner = SubprocessRunner()
        self.ended: list[str] = []
        self.removed: list[str] = []
        self.cgroup_parent = f"/pvecri-test/{top.name}"
        self.count = 0
        self.context: t.Any = None
        self.network()
        self.restart()

    def restart(self, *, plugin_timeout_s: float = 20.0) -> None:
        """Make everything anew, as a daemon does that starts."""
        if self.context is not None:
            self.context.registry.close()
        config = model.Config(
            paths=model.PathsConfig(state_dir=self.paths.state_dir, run_dir=self.paths.run_dir),
            network=model.NetworkConfig(conf_dir=str(self.conf_dir), plugin_dirs=self.plugin_dirs),
            runtime=model.RuntimeConfig(crun=CRUN, cgroup_driver="cgroupfs"),
        )
        store = ImageStore(self.paths, self.runner)
        os.makedirs(self.paths.state_dir, exist_ok=True)
        self.context = Context(
            config=config,
            paths=self.paths,
            registry=Registry.open(str(self.top / "s" / "test.sqlite")),
            runner=self.runner,
            store=store,
            bundles=BundleManager(self.paths, store, self.runner),
            crun=CrunRuntime(self.paths, self.runner, programs=Programs(crun=CRUN)),
            cni=Cni(
                self.paths,
                self.runner,
                conf_dir=str(self.conf_dir),
                plugin_dirs=self.plugin_dirs,
                timeout_s=plugin_timeout_s,
            ),
            policy=compile_policy(),
            host=gather_host_facts(self.runner, crun=CRUN),
            log=logging.getLogger("pvecri.test"),
        )
        self.service = SandboxService(
            self.context, end_container=self.ended.append, remove_container=self._remove_container
        )

    def _remove_container(self, container_id: str) -> None:
        self.removed.append(container_id)
        self.context.registry.remove_container(container_id)

    def network(
        self,
        plugins: t.Sequence[dict[str, t.Any]] | None = None,
        *,
        subnets: t.Sequence[str] = ("10.88.0.0/24",),
    ) -> None:
        """Write the network: a bridge, ports, and further plugins."""
        plain = default_config(name="pods", bridge="pods0", subnets=subnets).plain()
        plain["plugins"][0]["ipam"]["dataDir"] = str(self.top / "ipam")
        if plugins is not None:
            plain["plugins"] += list(plugins)
        (self.conf_dir / "10-pods.conflist").write_text(json.dumps(plain))

    def plugin(self, name: str, script: str) -> None:
        """Write a CNI plugin: the body of a Python script that has `request`, `verb` and `answer`."""
        directory = self.top / "plugins"
        directory.mkdir(exist_ok=True)
        path = directory / name
        path.write_text(_PLUGIN + script + "\nanswer()\n")
        path.chmod(0o755)

    def recorder(self, **capabilities: bool) -> t.Callable[[], list[dict[str, t.Any]]]:
        """Add a plugin that notes what it is called with; return what reads the notes."""
        notes = self.top / "notes"
        self.plugin(
            "recorder",
            f"""
            note = {{"verb": verb, "request": request, "args": os.environ.get("CNI_ARGS", "")}}
            note["netns"] = os.environ["CNI_NETNS"]
            note["id"] = os.environ["CNI_CONTAINERID"]
            with open({str(notes)!r}, "a") as out:
                out.write(json.dumps(note) + "\\n")
            """.replace("\n            ", "\n"),
        )
        self.network([{"type": "recorder", "capabilities": capabilities}])
        return lambda: [json.loads(line) for line in notes.read_text().splitlines()]

    def pod(self, name: str = "web", **linux: t.Any) -> cri_pb2.PodSandboxConfig:
        """Return the config of a pod such as kubelet's: processes are each container's own."""
        self.count += 1
        config = cri_pb2.PodSandboxConfig(
            metadata=cri_pb2.PodSandboxMetadata(name=name, namespace="default", uid=f"uid{self.count}"),
            hostname=name,
            log_directory=str(self.top / "logs"),
            linux=cri_pb2.LinuxPodSandboxConfig(
                cgroup_parent=f"{self.cgroup_parent}/pod{self.count}", **linux
            ),
        )
        if not config.linux.security_context.HasField("namespace_options"):
            config.linux.security_context.namespace_options.pid = cri_pb2.CONTAINER
        return config

    def run(self, config: cri_pb2.PodSandboxConfig) -> SandboxRecord:
        """Run a pod and return its record."""
        return self.context.registry.sandbox(self.service.run(config))

    def places(self, record: SandboxRecord) -> Places:
        """Return where a sandbox's things are."""
        return Places(self.paths, record.id)

    def inside(self, record: SandboxRecord, action: t.Callable[[], t.Any]) -> t.Any:
        """Do something in a pod's network, IPC and UTS namespace."""
        paths = {"net": record.netns, "ipc": record.ipcns, "uts": record.utsns}
        return netns.run_inside_all({kind: path for kind, path in paths.items() if path}, action)

    def leases(self) -> list[str]:
        """Return the addresses that are taken."""
        directory = self.top / "ipam" / "pods"
        names = os.listdir(directory) if directory.exists() else []
        return sorted(name for name in names if name[0].isdigit())

    def leftovers(self) -> dict[str, t.Any]:
        """Return all that is left of any sandbox; empty is clean."""
        found = {
            "records": [record.id for record in self.context.registry.sandboxes()],
            "leases": self.leases(),
            "attachments": [each.container_id for each in self.context.cni.attachments()],
            "mounts": syscalls.mounts_below(str(self.top)),
            "files": _entries(self.paths.state_dir, "sandboxes"),
            "volatile": _entries(self.paths.run_dir, "sandboxes"),
            "bundles": self.context.bundles.names(),
            "containers": self.context.crun.names(),
            "cgroups": self.cgroups(),
        }
        return {key: value for key, value in found.items() if value}

    def cgroups(self) -> list[str]:
        """Return the cgroups of this test's pods."""
        tree = "/sys/fs/cgroup"
        tops = (
            [tree]
            if os.path.exists(f"{tree}/cgroup.controllers")
            else [e.path for e in os.scandir(tree) if e.is_dir()]
        )
        found = []
        for top in tops:
            with contextlib.suppress(FileNotFoundError):
                found += [e.path for e in os.scandir(top + self.cgroup_parent) if e.is_dir()]
        return found

    def close(self) -> None:
        """Remove all pods and what they were in."""
        for record in self.context.registry.sandboxes():
            with contextlib.suppress(Exception):
                self.service.remove(record.id)
        self.context.registry.close()
        for name in self.context.crun.names():
            self.context.crun.delete(name, force=True)
        rootfs.unmount_below(str(self.top))
        shutil.rmtree(self.top)
        for tree in os.scandir("/sys/fs/cgroup"):
            for path in (tree.path + self.cgroup_parent, tree.path + os.path.dirname(self.cgroup_parent)):
                with contextlib.suppress(OSError):
                    os.rmdir(path)


def _entries(*parts: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(os.path.join(*parts))
    return []


@pytest.fixture
def pods() -> t.Iterator[Pods]:
    """A sandbox service, this thread and all it starts being in a network of their own."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    missing = [program for program in _NEEDED if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {missing[0]}")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    netns.prepare({"net"}, None)
    pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    top = pathlib.Path(tempfile.mkdtemp(prefix="ps-"))
    # The root of a user namespace goes through it.
    top.chmod(0o755)
    made = Pods(top)
    try:
        yield made
    finally:
        made.close()
        syscalls.setns(before, syscalls.CLONE_NEWNET)
        os.close(before)
