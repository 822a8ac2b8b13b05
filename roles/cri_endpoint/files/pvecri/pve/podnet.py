# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare a pod's network namespace for an LXC container that joins it.

The namespace belongs to the host's user namespace, so an unprivileged container can neither mount
a /sys of its own for it nor use its capabilities in it.  So it gets a /sys that was mounted from within,
and the kernel lets everybody there have low ports and ping.
"""

from __future__ import annotations

import logging
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.sysctls import dotted_name, sysctl_path

#: What makes up for capabilities that do not count in the namespace, unless the pod names it.
SYSCTLS: t.Final = {
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
}


def mount_sysfs(namespace: str, target: str) -> None:
    """Mount a /sys that shows the interfaces of a network namespace, read-only; one that is there stays."""
    os.makedirs(target, mode=0o755, exist_ok=True)
    if syscalls.is_mount_point(target):
        return

    def mount() -> None:
        syscalls.mount("sysfs", target, "sysfs", syscalls.MS_RDONLY)

    netns.run_inside(namespace, mount)


def unmount_sysfs(target: str) -> None:
    """Take it away; nothing there is fine."""
    while syscalls.is_mount_point(target):
        syscalls.umount2(target, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)


def missing_sysctls(asked: t.Iterable[str]) -> dict[str, str]:
    """Return what is to be set in a pod that asks for these kernel parameters itself; pure."""
    own = {sysctl_path(dotted_name(name)) for name in asked}
    return {path: value for path, value in SYSCTLS.items() if path not in own}


def open_to_all(namespace: str, asked: t.Iterable[str], log: logging.Logger) -> None:
    """Let unprivileged processes of a network namespace have low ports and ping."""
    wanted = missing_sysctls(asked)
    try:
        netns.run_inside(namespace, lambda: netns.write_sysctls(wanted))
    except CoreError as exc:
        # Most programs need neither.
        log.warning(
            "ports below 1024 and ping are not for an unprivileged LXC container here",
            extra={"namespace": namespace, "error": str(exc)},
        )
