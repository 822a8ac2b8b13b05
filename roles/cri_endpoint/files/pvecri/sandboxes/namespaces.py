# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and unmake the namespaces that a pod's containers share."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.idmap import (
    host_id,
    namespace_holder,
    user_namespace,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.sysctls import sysctl_path
from pvecri.sandboxes.places import Places
from pvecri.sandboxes.pod import Pod

#: Every kind that may be pinned; the user namespace goes last, as the others belong to it.
KINDS: t.Final = ("net", "ipc", "uts", "user")

_UNSHARE = {"net": "--net", "ipc": "--ipc", "uts": "--uts"}

#: What stands for interfaces to come, and those that are there from the start.
_NOT_YET_ATTACHED = {"all", "default", "lo"}


def kinds_of(pod: Pod) -> tuple[str, ...]:
    """Return which namespaces of its own a pod has."""
    network = () if pod.has_host_network else ("net", "uts")
    ipc = () if pod.has_host_ipc else ("ipc",)
    user = ("user",) if pod.has_user_namespace else ()
    return (*network, *ipc, *user)


def make(pod: Pod, places: Places) -> None:
    """Make and pin a pod's namespaces, loopback up and host name set.

    A user namespace that the kernel refuses raises InvalidSpec or Unsupported.
    """
    kinds = kinds_of(pod)
    paths = {kind: places.namespace(kind) for kind in kinds if kind != "user"}
    hostname = pod.hostname or os.uname().nodename
    if "user" in kinds:
        _make_owned(pod, places, paths, hostname)
    elif paths:
        netns.pin_all(paths, hostname=hostname)


def release(places: Places) -> None:
    """Unpin all namespaces; those that are not there are fine.  Raises OSError after all were tried."""
    failure: OSError | None = None
    for kind in KINDS:
        try:
            netns.unpin(places.namespace(kind))
        except OSError as exc:
            failure = failure or exc
    if failure is not None:
        raise failure
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(os.path.dirname(places.namespace("net")))


def apply_sysctls(pod: Pod, places: Places, *, is_attached: bool) -> None:
    """Set a pod's sysctls in its namespaces, those of interfaces that come with the network after it."""
    wanted = {
        sysctl_path(name): value
        for name, value in pod.sysctls.items()
        if _needs_interface(name) == is_attached
    }
    if not wanted:
        return
    paths = {kind: places.namespace(kind) for kind in kinds_of(pod) if kind != "user"}
    owner = host_id(0, pod.uid_maps, "uids") if pod.has_user_namespace else None
    try:
        netns.run_inside_all(paths, lambda: netns.write_sysctls(wanted, owner=owner))
    except InvalidSpec as exc:
        raise InvalidSpec("config.linux.sysctls", exc.problem) from exc


def _needs_interface(name: str) -> bool:
    """Say whether a sysctl is that of one interface: ``net.ipv4.conf.eth0.…``, ``net.ipv6.neigh.eth0.…``."""
    parts = name.split(".")
    return (
        len(parts) > 4
        and parts[0] == "net"
        and parts[2] in {"conf", "neigh"}
        and parts[3] not in _NOT_YET_ATTACHED
    )


def _make_owned(pod: Pod, places: Places, paths: t.Mapping[str, str], hostname: str) -> None:
    """Make a user namespace, and the others from within it, so that they belong to it.

    Neither can a thread become a member of a new user namespace nor of an existing one
    (setns(2)), so a process makes the others; it lives only until they are pinned.
    """
    user = places.namespace("user")
    os.makedirs(os.path.dirname(user), mode=0o755, exist_ok=True)
    try:
        with user_namespace(pod.uid_maps, pod.gid_maps) as handle:
            netns.pin_of_fd(handle, user)
    except InvalidSpec as exc:
        field = "config.linux.security_context.namespace_options.userns_options"
        raise InvalidSpec(field, exc.problem, hint=exc.hint) from exc
    if not paths:
        return
    try:
        flags = [_UNSHARE[kind] for kind in paths]
        with namespace_holder(
            ["nsenter", f"--user={user}", "--", "unshare", *flags, "--"],
            problem="this host does not let a user namespace have namespaces of its own",
            hint="Look at the sysctls user.max_net_namespaces, user.max_ipc_namespaces and the like",
        ) as pid:
            netns.pin_of(pid, paths)
        netns.run_inside_all(paths, lambda: netns.prepare(paths, hostname))
    except BaseException:
        with contextlib.suppress(OSError):
            release(places)
        raise
