# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what a pod's containers find as /etc/hostname, /etc/hosts, /etc/resolv.conf and /dev/shm."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.idmap import host_id
from ansible_collections.pvecri.runtime.plugins.module_utils.container.netfiles import hosts_text, resolv_text
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import NetworkRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.files import remove_tree, write_atomic
from pvecri.sandboxes.places import Places
from pvecri.sandboxes.pod import Dns, Pod

SHM_BYTES = 64 << 20

_HOST_HOSTS = "/etc/hosts"
_HOST_RESOLV = "/etc/resolv.conf"
#: The servers behind systemd-resolved's stub, which listens on a loopback address.
_RESOLVED = "/run/systemd/resolve/resolv.conf"


def prepare(places: Places) -> None:
    """Make the sandbox's directories."""
    os.makedirs(places.files, mode=0o711, exist_ok=True)
    os.makedirs(places.volatile, mode=0o711, exist_ok=True)


def write(pod: Pod, places: Places, addresses: t.Sequence[str], network_dns: t.Mapping[str, t.Any]) -> None:
    """Write the three files; the addresses and name servers are those that the network gave."""
    hostname = pod.hostname or os.uname().nodename
    hosts = _read(_HOST_HOSTS) if pod.has_host_network else ""
    texts = {
        places.hostname: f"{hostname}\n",
        places.hosts: hosts or hosts_text(hostname, addresses, NetworkRequest()),
        places.resolv_conf: resolver_text(pod.dns, network_dns, is_own=not pod.has_host_network),
    }
    for path, text in texts.items():
        write_atomic(path, text.encode())
        if pod.has_user_namespace:
            os.chown(path, *_root(pod))


def resolver_text(dns: Dns, network_dns: t.Mapping[str, t.Any], *, is_own: bool) -> str:
    """Return resolv.conf(5): just what is asked for, else what the network says, else the host's.

    In a network of its own a pod cannot reach the host's resolver on a loopback address.
    """
    if dns:
        lines = [f"nameserver {server}" for server in dns.servers]
        if dns.searches:
            lines.append("search " + " ".join(dns.searches))
        if dns.options:
            lines.append("options " + " ".join(dns.options))
        return "".join(f"{line}\n" for line in lines)
    host = _read(_HOST_RESOLV)
    if not is_own:
        return host
    request = NetworkRequest(mode="pod")
    text = resolv_text(request, network_dns, host)
    if "nameserver" not in text:
        text = resolv_text(request, network_dns, _read(_RESOLVED)) or text
    return text


def mount_shm(pod: Pod, places: Places) -> None:
    """Mount the memory that a pod with an IPC namespace of its own shares as /dev/shm."""
    if pod.has_host_ipc:
        return
    os.makedirs(places.shm, mode=0o711, exist_ok=True)
    if syscalls.is_mount_point(places.shm):
        return
    options = f"mode=1777,size={SHM_BYTES}"
    if pod.has_user_namespace:
        uid, gid = _root(pod)
        options += f",uid={uid},gid={gid}"
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("shm", places.shm, "tmpfs", flags, options)


def unmount_shm(places: Places) -> None:
    """Take the shared memory away; processes that still use it keep it until they are gone."""
    rootfs.unmount(places.shm)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(places.shm)


def remove(directory: str) -> None:
    """Remove one of the sandbox's directories; one that is gone is fine."""
    with contextlib.suppress(FileNotFoundError):
        remove_tree(directory)


def _root(pod: Pod) -> tuple[int, int]:
    """Return the ids of the host that are the pod's root."""
    return host_id(0, pod.uid_maps, "uids"), host_id(0, pod.gid_maps, "gids")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""
