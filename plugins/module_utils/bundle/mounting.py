# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and take away the mounts that a bundle's record lists.

Both can be interrupted anywhere and repeated: what is there already is left, what
is half there is completed.
"""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord, HostMount
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap

#: Suffix of the place at which an image is mounted whole when a part of it is shown.
_WHOLE = ".whole"


def mount_all(path: str, record: BundleRecord) -> bool:
    """Mount what is missing of a bundle; return whether anything was."""
    changed = False
    maps = id_maps(record)
    target = os.path.join(path, record.rootfs)
    if record.layers and not syscalls.is_mount_point(target):
        upper, work = os.path.join(path, "upper"), os.path.join(path, "work")
        for directory in (target, upper, work):
            os.makedirs(directory, mode=0o755, exist_ok=True)
        rootfs.mount_overlay(
            record.layers, target, upper=upper, work=work, uid_maps=maps[0], gid_maps=maps[1]
        )
        changed = True
    for mount in record.mounts:
        if not syscalls.is_mount_point(os.path.join(path, mount.target)):
            _mount_one(path, mount, maps)
            changed = True
    return changed


def show_images_as(
    path: str, record: BundleRecord, uid_maps: t.Sequence[IdMap], gid_maps: t.Sequence[IdMap]
) -> None:
    """Mount the images among a bundle's mounts anew, with owners shifted for who is to see them.

    For one whose user namespace is made later, by somebody else, who shifts what is no overlay: an
    image of one layer is none.  Raises Unsupported where kernel or file system cannot do that.
    """
    for mount in record.mounts:
        if len(mount.layers) > 1:
            rootfs.unmount(os.path.join(path, mount.target))
            _mount_one(path, mount, (uid_maps, gid_maps))


def try_sub_paths(path: str, record: BundleRecord) -> None:
    """Raise InvalidSpec or WrongState when a part of a volume or image cannot be mounted.

    Asked of a staged bundle: once it has taken the old one's place, that one is gone.
    """
    maps = id_maps(record)
    for mount in record.mounts:
        if mount.sub_path:
            _mount_one(path, mount, maps)
            rootfs.unmount(os.path.join(path, mount.target))


def unmount_all(path: str, record: BundleRecord) -> bool:
    """Take away every mount of a bundle; return whether there was one."""
    changed = False
    for mount in reversed(record.mounts):
        point = os.path.join(path, mount.target)
        changed |= rootfs.unmount(point) | rootfs.unmount(point + _WHOLE)
    if record.layers:
        changed |= rootfs.unmount(os.path.join(path, record.rootfs))
    return changed


def id_maps(record: BundleRecord) -> tuple[list[IdMap], list[IdMap]]:
    """Return the user namespace's maps of a bundle, from its request; empty without one."""
    if record.request.get("namespaces", {}).get("user", "host") == "host":
        return [], []
    read = [[IdMap(**item) for item in record.request.get(key, ())] for key in ("uid_maps", "gid_maps")]
    return read[0], read[1]


def _mount_one(path: str, mount: HostMount, maps: tuple[t.Sequence[IdMap], t.Sequence[IdMap]]) -> None:
    target = os.path.join(path, mount.target)
    os.makedirs(os.path.dirname(target), mode=0o711, exist_ok=True)
    whole = target + _WHOLE
    rootfs.unmount(whole)
    if mount.layers and not mount.sub_path:
        os.makedirs(target, exist_ok=True)
        rootfs.mount_overlay(mount.layers, target, uid_maps=maps[0], gid_maps=maps[1])
        return
    if mount.layers:
        os.makedirs(whole, exist_ok=True)
        rootfs.mount_overlay(mount.layers, whole, uid_maps=maps[0], gid_maps=maps[1])
        try:
            _bind_beneath(whole, mount, target)
        finally:
            rootfs.unmount(whole)
    else:
        _bind_beneath(mount.source, mount, target)


def _bind_beneath(top: str, mount: HostMount, target: str) -> None:
    """Bind what ``sub_path`` names below ``top``: by descriptor, so that nobody can swap a link in."""
    try:
        handle = syscalls.open_beneath(top, mount.sub_path, os.O_PATH)
    except FileNotFoundError as exc:
        raise InvalidSpec(
            f"{mount.field}.sub_path", f"{mount.sub_path} does not exist there", hint="Make it first"
        ) from exc
    except OSError as exc:
        raise WrongState(f"{mount.field}.sub_path: {mount.sub_path} cannot be used: {exc.strerror}") from exc
    try:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            os.makedirs(target, exist_ok=True)
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        syscalls.mount(f"/proc/self/fd/{handle}", target, flags=syscalls.MS_BIND)
    finally:
        os.close(handle)
