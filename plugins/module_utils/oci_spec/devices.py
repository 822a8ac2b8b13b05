# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build ``linux.devices`` and the device rules of the cgroup."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, Device, Json
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostDevice, HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.paths import check_absolute

#: (kind, major, minor, access) of what every container may use: making nodes is
#: harmless while using them is not allowed; then null, zero, full, random, urandom,
#: tty, console, ptmx and the pseudo terminals (OCI config-linux.md, «Default Devices»).
_ALLOWED: t.Final = (
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", 1, 3, "rwm"),
    ("c", 1, 5, "rwm"),
    ("c", 1, 7, "rwm"),
    ("c", 1, 8, "rwm"),
    ("c", 1, 9, "rwm"),
    ("c", 5, 0, "rwm"),
    ("c", 5, 1, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 136, None, "rwm"),
)

#: The runtime makes these by itself.
OWN_NODES: t.Final = frozenset(
    f"/dev/{name}"
    for name in (
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "console",
        "ptmx",
        "stdin",
        "stdout",
        "stderr",
    )
)


def build_devices(spec: ContainerSpec, host: HostFacts) -> tuple[list[Json], list[Json]]:
    """Return ``linux.devices`` and ``linux.resources.devices``.

    A device that is asked for is found in ``host.devices``; a directory stands for
    all that it holds.  A privileged container has them all and no rule forbids any.
    """
    nodes: dict[str, Json] = {}
    rules: list[Json] = []
    for i, device in enumerate(spec.devices):
        access = _check_access(device.permissions, f"devices[{i}].permissions")
        destination = check_absolute(device.destination, f"devices[{i}].destination")
        for node, path in _nodes_of(device, destination, host, f"devices[{i}]"):
            if path in nodes:
                raise InvalidSpec(f"devices[{i}].destination", f"'{path}' is a device already")
            nodes[path] = _describe(node, path, device)
            rules.append(_rule(node.kind, node.major, node.minor, access))
    if spec.security.privileged:
        for node in host.devices:
            if node.path.startswith("/dev/") and node.path not in OWN_NODES:
                nodes.setdefault(node.path, _describe(node, node.path))
        return list(nodes.values()), [{"allow": True, "access": "rwm"}]
    deny_all: list[Json] = [{"allow": False, "access": "rwm"}]
    return list(nodes.values()), [*deny_all, *(_rule(*entry) for entry in _ALLOWED), *rules]


def find_device(path: str, host: HostFacts) -> HostDevice | None:
    """Return what the host facts know about a device node."""
    return next((node for node in host.devices if node.path == path), None)


def _nodes_of(
    device: Device, destination: str, host: HostFacts, field: str
) -> t.Iterator[tuple[HostDevice, str]]:
    source = check_absolute(device.source, f"{field}.source")
    single = find_device(source, host)
    if single is not None:
        yield single, destination
        return
    below = [node for node in host.devices if node.path.startswith(source + "/")]
    if not below:
        raise InvalidSpec(f"{field}.source", f"'{source}' is no device and holds none on this host")
    for node in below:
        yield node, destination + node.path[len(source) :]


def _check_access(permissions: str, field: str) -> str:
    if not permissions or set(permissions) - set("rwm") or len(set(permissions)) < len(permissions):
        raise InvalidSpec(field, f"'{permissions}' is not made of 'r', 'w' and 'm'")
    return permissions


def _describe(node: HostDevice, path: str, asked: Device | None = None) -> Json:
    mode, uid, gid = (None, None, None) if asked is None else (asked.mode, asked.uid, asked.gid)
    return {
        "path": path,
        "type": node.kind,
        "major": node.major,
        "minor": node.minor,
        "fileMode": (node.mode if mode is None else mode) & 0o777,
        "uid": node.uid if uid is None else uid,
        "gid": node.gid if gid is None else gid,
    }


def _rule(kind: str, major: int | None, minor: int | None, access: str) -> Json:
    rule: Json = {"allow": True, "type": kind, "access": access}
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return rule
