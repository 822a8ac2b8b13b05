# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the mounts that every container has: its kernel file systems and its /dev."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, Json
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.namespaces import (
    has_user_namespace,
    is_mapped,
)

DEFAULT_SHM_SIZE: t.Final = 64 << 20

#: Group of terminals in Debian and most other systems.
_TTY_GID: t.Final = 5


def default_mounts(spec: ContainerSpec, host: HostFacts) -> list[Json]:
    """Return /proc, /dev with what belongs into it, /sys and the cgroups.

    In a user namespace the kernel lets nobody mount a file system that shows a
    namespace of the host, so the host's own mount is shown there instead.
    """
    foreign = has_user_namespace(spec.namespaces)
    namespaces = spec.namespaces
    privileged = spec.security.privileged
    return [
        _proc(bind=foreign and namespaces.pid == "host"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _devpts(spec),
        _shm(spec),
        *_mqueue(bind=foreign and namespaces.ipc == "host", host=host),
        _sysfs(bind=foreign and namespaces.network != "private", writable=privileged),
        _cgroup(writable=privileged),
    ]


def _mount(destination: str, kind: str, source: str, *options: str) -> Json:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _bind(path: str, *options: str) -> Json:
    return _mount(path, "bind", path, "rbind", "rslave", *options)


def _proc(*, bind: bool) -> Json:
    options = ("nosuid", "noexec", "nodev")
    return _bind("/proc", *options) if bind else _mount("/proc", "proc", "proc", *options)


def _devpts(spec: ContainerSpec) -> Json:
    options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    # A group without a mapping cannot own anything: mounting would fail.
    if spec.namespaces.user == "host" or is_mapped(_TTY_GID, spec.gid_maps):
        options.append(f"gid={_TTY_GID}")
    return _mount("/dev/pts", "devpts", "devpts", *options)


def _shm(spec: ContainerSpec) -> Json:
    size = spec.shm_size_bytes
    if spec.namespaces.ipc == "host":
        if size is not None:
            raise InvalidSpec(
                "shm_size",
                "the host's /dev/shm has the host's size, and namespaces.ipc is 'host'",
                hint="Leave out shm_size, or set namespaces.ipc to 'private'",
            )
        return _bind("/dev/shm", "nosuid", "noexec", "nodev")  # noqa: S108 - the container's, by name
    if size is not None and size < 1:
        raise InvalidSpec("shm_size", "must be at least 1 byte")
    return _mount(
        "/dev/shm",  # noqa: S108
        "tmpfs",
        "shm",
        "nosuid",
        "noexec",
        "nodev",
        "mode=1777",
        f"size={DEFAULT_SHM_SIZE if size is None else size}",
    )


def _mqueue(*, bind: bool, host: HostFacts) -> list[Json]:
    options = ("nosuid", "noexec", "nodev")
    if not bind:
        return [_mount("/dev/mqueue", "mqueue", "mqueue", *options)]
    return [_bind("/dev/mqueue", *options)] if host.has_mqueue else []


def _sysfs(*, bind: bool, writable: bool) -> Json:
    options = ("nosuid", "noexec", "nodev", "rw" if writable else "ro")
    return _bind("/sys", *options) if bind else _mount("/sys", "sysfs", "sysfs", *options)


def _cgroup(*, writable: bool) -> Json:
    options = ("nosuid", "noexec", "nodev", "relatime", "rw" if writable else "ro")
    return _mount("/sys/fs/cgroup", "cgroup", "cgroup", *options)
