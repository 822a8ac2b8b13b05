# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add to the host facts what one request names: device nodes and a seccomp profile."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostDevice, HostFacts

#: A profile is a few dozen KiB; what is larger is no profile.
_PROFILE_MAX_BYTES: t.Final = 4 << 20

#: Below /dev, but of the container's own: terminals and what is no device.
_NOT_OF_THE_HOST: t.Final = frozenset({"pts", "shm", "mqueue", "fd", "console", "ptmx", "tty"})

#: Directories of device nodes are shallow; a limit keeps a loop of mounts from being followed.
_MAX_DEPTH: t.Final = 8


def with_request(host: HostFacts, spec: ContainerSpec) -> HostFacts:
    """Return the facts with the devices and the seccomp profile that a request needs.

    Raises InvalidSpec, with the option's path, for a device or a profile that is not there.
    """
    devices: dict[str, HostDevice] = {}
    for i, device in enumerate(spec.devices):
        _collect(device.source, f"devices[{i}].source", devices)
    for i, limit in enumerate(spec.resources.io_limits):
        _collect(limit.device, f"resources.io_limits[{i}].device", devices)
    if spec.security.privileged:
        for name in sorted(os.listdir("/dev")):
            if name not in _NOT_OF_THE_HOST:
                _walk(f"/dev/{name}", devices, _MAX_DEPTH)
    return dataclasses.replace(
        host, devices=tuple(devices.values()), seccomp_profile=_named_profile(spec.security.seccomp)
    )


def read_device(path: str) -> HostDevice | None:
    """Return what the host has at ``path``, links followed; None when that is no device."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if stat.S_ISCHR(found.st_mode):
        kind = "c"
    elif stat.S_ISBLK(found.st_mode):
        kind = "b"
    else:
        return None
    return HostDevice(
        path=path,
        kind=kind,
        major=os.major(found.st_rdev),
        minor=os.minor(found.st_rdev),
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
    )


def _collect(path: str, field: str, devices: dict[str, HostDevice]) -> None:
    path = path.rstrip("/")
    if not path.startswith("/"):
        raise InvalidSpec(field, f"'{path}' is not an absolute path")
    before = len(devices)
    _walk(path, devices, _MAX_DEPTH)
    if len(devices) == before and path not in devices and not os.path.isdir(path):
        problem = "is not a device" if os.path.exists(path) else "does not exist on this host"
        raise InvalidSpec(field, f"'{path}' {problem}")


def _walk(path: str, devices: dict[str, HostDevice], depth: int) -> None:
    node = read_device(path)
    if node is not None:
        devices[path] = node
    elif depth and os.path.isdir(path) and not os.path.islink(path):
        for name in sorted(os.listdir(path)):
            _walk(os.path.join(path, name), devices, depth - 1)


def _named_profile(seccomp: str) -> dict[str, t.Any] | None:
    if seccomp in ("default", "unconfined"):
        return None
    field = "security.seccomp"
    if not seccomp.startswith("/"):
        raise InvalidSpec(
            field, f"'{seccomp}' is not a profile", hint="Use 'default', 'unconfined' or an absolute path"
        )
    try:
        with open(seccomp, "rb") as stream:
            data = stream.read(_PROFILE_MAX_BYTES + 1)
        profile = json.loads(data) if len(data) <= _PROFILE_MAX_BYTES else None
    except OSError as exc:
        raise InvalidSpec(field, f"cannot read '{seccomp}': {exc.strerror}") from exc
    except ValueError as exc:
        raise InvalidSpec(field, f"'{seccomp}' is not JSON: {exc}") from exc
    if not isinstance(profile, dict):
        raise InvalidSpec(field, f"'{seccomp}' is not a seccomp profile")
    return profile
