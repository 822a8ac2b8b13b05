# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare what the endpoint says with crun, mounts, namespaces, addresses, cgroups and the disk."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import conmon_pid
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout as lxc_layout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.state import holder_pid
from ansible_collections.pvecri.runtime.tests.support import cgroups
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint
from ansible_collections.pvecri.runtime.tests.support.pve_node import FakePveNode
from pvecri.api import cri_pb2 as pb

_ID = re.compile(r"[0-9a-f]{64}")


def differences(endpoint: Endpoint, node: FakePveNode | None = None) -> list[str]:
    """Return what does not fit together; empty when the views agree, that of a Proxmox VE node included.

    Nothing must be going on meanwhile, but for what the endpoint mends of its own accord.
    """
    return list(_Inspection(endpoint, node).run())


class _Inspection:
    def __init__(self, endpoint: Endpoint, node: FakePveNode | None) -> None:
        self.endpoint = endpoint
        self.node = node
        self.pods = {pod.id: pod for pod in endpoint.cri.list_pods()}
        self.containers = {each.id: each for each in endpoint.cri.list_containers()}
        self.ready = {name for name, pod in self.pods.items() if pod.state == pb.SANDBOX_READY}
        self.mounts = endpoint.host.mounts(endpoint.top)
        #: Names of containers that are guests of Proxmox VE.
        self.guests = {name.removesuffix(".json") for name in _names(lxc_layout.records(endpoint.paths))}

    def run(self) -> t.Iterator[str]:
        yield from self._containers()
        yield from self._of_proxmox()
        yield from self._bundles()
        yield from self._namespaces()
        yield from self._addresses()
        yield from self._files()
        yield from self._cgroups()
        yield from self._processes()

    def _containers(self) -> t.Iterator[str]:
        paths = self.endpoint.paths
        known = {path for path in _names(paths.runtime_root) if _ID.fullmatch(path)}
        for name in sorted(known - self.containers.keys() - self.pods.keys()):
            yield f"crun has container {name}, the endpoint has not"
        for name, container in self.containers.items():
            if container.pod_sandbox_id not in self.pods:
                yield f"container {name} belongs to no pod"
            is_alive = container.state in {pb.CONTAINER_CREATED, pb.CONTAINER_RUNNING}
            if is_alive and name not in known | self.guests:
                yield f"container {name} is said to live, crun does not have it"
            if is_alive and conmon_pid(Layout(paths, name)) is None:
                yield f"container {name} is said to live, but has no conmon"
            if container.state == pb.CONTAINER_UNKNOWN:
                yield f"container {name} is UNKNOWN"
            if container.state == pb.CONTAINER_EXITED and conmon_pid(Layout(paths, name)) is not None:
                yield f"container {name} is said to have ended, but its conmon lives"

    def _of_proxmox(self) -> t.Iterator[str]:
        """Each guest belongs to one container, and each container of that kind has one guest."""
        if self.node is None:
            return
        owners: dict[str, int] = {}
        for vmid in self.node.vmids():
            name = next(iter(_ID.findall(self.node.config(vmid).get("description", ""))), "")
            if name not in self.containers:
                yield f"guest {vmid} is left of container {name}"
            elif name in owners:
                yield f"guests {vmid} and {owners[name]} are both of container {name}"
            owners[name] = vmid
        for name in sorted(self.guests):
            if name not in self.containers:
                yield f"the record of guest {name} is left"
            elif name not in owners:
                yield f"container {name} has no guest"
            elif self.containers[name].state == pb.CONTAINER_RUNNING and not self._is_up(owners[name]):
                yield f"container {name} is said to run, its guest {owners[name]} does not"
            elif self.containers[name].state == pb.CONTAINER_EXITED and self._is_up(owners[name]):
                yield f"container {name} is said to have ended, its guest {owners[name]} runs"
        for vmid in _names(lxc_layout.guests(self.endpoint.paths)):
            if int(vmid) not in owners.values():
                yield f"the files of guest {vmid} are left"

    def _is_up(self, vmid: int) -> bool:
        return self.node is not None and self.node.machine.is_up(vmid)

    def _bundles(self) -> t.Iterator[str]:
        paths = self.endpoint.paths
        # A pause container's bundle bears the name of its pod.
        found = set(_names(paths.bundles)) - self.pods.keys()
        for name in sorted(found ^ self.containers.keys()):
            where = "the disk" if name in found else "the endpoint"
            yield f"bundle or container {name} is known to {where} alone"
        for mount in self.mounts:
            name = _id_in(mount, paths.bundles)
            if name and name not in self.containers and name not in self.pods:
                yield f"{mount} is mounted, its container is gone"
        for name, container in self.containers.items():
            if (
                container.state == pb.CONTAINER_RUNNING
                and name not in self.guests
                and f"{paths.bundles}/{name}/rootfs" not in self.mounts
            ):
                yield f"container {name} runs without its root file system"

    def _namespaces(self) -> t.Iterator[str]:
        top = f"{self.endpoint.run_dir}/sandboxes"
        for mount in self.mounts:
            name = _id_in(mount, top)
            if name and name not in self.ready:
                yield f"{mount} is mounted, its pod is not ready"
        for name in sorted(self.ready):
            if not any(mount.startswith(f"{top}/{name}/") for mount in self.mounts):
                yield f"pod {name} is ready and has no namespaces"

    def _addresses(self) -> t.Iterator[str]:
        taken = {path.name for path in pathlib.Path(self.endpoint.ipam).glob("*/*.*.*.*")}
        given: dict[str, str] = {}
        for name in sorted(self.ready):
            status = self.endpoint.cri.pod_status(name)
            address = status.network.ip
            if address in given:
                yield f"pods {name} and {given[address]} both have {address}"
            given[address] = name
            if address not in taken:
                yield f"pod {name} has {address}, which is not reserved"
        for address in sorted(taken - given.keys()):
            yield f"address {address} is reserved for nobody"
        for name in _names(f"{self.endpoint.state_dir}/cni/cri"):
            match = _ID.search(name)
            if match is None or match.group() not in self.ready:
                yield f"CNI's cache has {name}, which is no ready pod"

    def _files(self) -> t.Iterator[str]:
        for top in (self.endpoint.state_dir, self.endpoint.run_dir):
            for name in _names(f"{top}/sandboxes"):
                if name not in self.pods:
                    yield f"{top}/sandboxes/{name} is left"
        paths = self.endpoint.paths
        both = self.containers.keys() | self.pods.keys()
        for directory in (paths.exits, layouts.monitors(paths), layouts.records(paths)):
            for name in _names(directory):
                if name.removesuffix(".json") not in both:
                    yield f"{directory}/{name} is left"
        for name in _names(layouts.sockets(paths)):
            if name.endswith(".pid"):
                yield f"{layouts.sockets(paths)}/{name} is left of a command"

    def _cgroups(self) -> t.Iterator[str]:
        """Containers' groups bear their ids, each below its pod's."""
        alive = {
            name
            for name, container in self.containers.items()
            if container.state in {pb.CONTAINER_CREATED, pb.CONTAINER_RUNNING}
        }
        both = self.containers.keys() | self.pods.keys()
        seen = set()
        for path in cgroups.below(self.endpoint.cgroup_parent):
            for name in _ID.findall(path):
                seen.add(name)
                if name not in both:
                    yield f"cgroup {path} is left"
        # Those of guests are where Proxmox VE has them.
        for name in sorted(alive - seen - self.guests):
            yield f"container {name} lives without a cgroup of its own"

    def _processes(self) -> t.Iterator[str]:
        wanted = {self.endpoint.pid}
        for name in self.containers.keys() | self.pods.keys():
            pid = conmon_pid(Layout(self.endpoint.paths, name))
            if pid is not None:
                wanted.add(pid)
            holder = holder_pid(Layout(self.endpoint.paths, name)) if name in self.guests else None
            if holder is not None:
                wanted.add(holder)
        for pid in self.endpoint.host.processes():
            if pid not in wanted:
                with contextlib.suppress(OSError):
                    words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                    yield f"process {pid} is left: {b' '.join(words).decode(errors='replace')[:200]}"


def _names(directory: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(os.listdir(directory))
    return []


def _id_in(path: str, top: str) -> str | None:
    if not path.startswith(top + "/"):
        return None
    found = _ID.search(path[len(top) :])
    return found.group() if found else path
