# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount root file systems: overlays of layer directories, made by this process alone.

An image has up to a few hundred layers, and mount(2) takes one page of options.
So short ways are tried first: the layers' full paths, then the short links that
containers-storage keeps for this, then the newer calls that take one layer at a
time (Linux 6.8), then paths relative to the store from a thread that has a working
directory of its own.
"""

from __future__ import annotations

import errno
import os
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, Unsupported, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.files import remove_tree
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap

#: mount(2) copies one page and wants its last byte to be zero.
_OPTIONS_MAX = os.sysconf("SC_PAGE_SIZE") - 1
#: fsconfig(2) takes strings below this length.
_FSCONFIG_MAX = 256
#: OVL_MAX_STACK of the kernel.
_LAYERS_MAX = 500


def is_mounted(target: str) -> bool:
    """Say whether something is mounted on ``target``."""
    return syscalls.is_mount_point(target)


def unmount(target: str) -> bool:
    """Take every mount off ``target``; return whether there was one.

    Processes that still use it keep it until they are gone.
    """
    found = False
    while syscalls.is_mount_point(target):
        syscalls.umount2(target, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        found = True
    return found


def mount_overlay(
    layers: t.Sequence[str],
    target: str,
    *,
    upper: str | None = None,
    work: str | None = None,
    uid_maps: t.Sequence[IdMap] = (),
    gid_maps: t.Sequence[IdMap] = (),
) -> None:
    """Mount ``layers`` (directories, the topmost first) on ``target``.

    Without ``upper`` and ``work`` the mount is read-only.  With id maps the files of
    the layers appear with the host ids that they map to, as a user namespace with
    these maps needs it.  Raises WrongState when a layer is missing, Unsupported when
    the kernel or the file system cannot do it, CoreError for anything else.
    """
    if uid_maps or gid_maps:
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.idmap import (  # noqa: PLC0415
            mapped_layers,
        )

        with mapped_layers(layers, uid_maps, gid_maps, f"{target}.idmap") as mapped:
            _mount(mapped, target, upper, work)
    else:
        _mount(layers, target, upper, work)


def _mount(layers: t.Sequence[str], target: str, upper: str | None, work: str | None) -> None:
    if len(layers) > _LAYERS_MAX:
        raise Unsupported(
            f"the image has {len(layers)} layers; the kernel stacks at most {_LAYERS_MAX}",
            hint="Squash the image",
        )
    try:
        if upper is None and len(layers) == 1:
            _bind_read_only(layers[0], target)
            return
        _mount_by_any_way(layers, target, upper, work)
    except OSError as exc:
        raise _explained(exc, layers, target, upper) from exc


def _mount_by_any_way(layers: t.Sequence[str], target: str, upper: str | None, work: str | None) -> None:
    tail = f",upperdir={_escaped(upper)},workdir={_escaped(work)}" if upper and work else ""
    flags = 0 if upper else syscalls.MS_RDONLY
    for names in (layers, [_short(layer) for layer in layers]):
        options = "lowerdir=" + ":".join(_escaped(name) for name in names) + tail
        if len(os.fsencode(options)) <= _OPTIONS_MAX:
            syscalls.mount("overlay", target, "overlay", flags, options)
            return
    try:
        _mount_one_by_one(layers, target, upper, work)
        return
    except OSError as exc:
        # EINVAL: this kernel does not know «lowerdir+»; ENAMETOOLONG: a path is too long for it.
        if exc.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENAMETOOLONG):
            raise
    base, names = _relative(layers)
    options = "lowerdir=" + ":".join(_escaped(name) for name in names) + tail
    if len(os.fsencode(options)) > _OPTIONS_MAX:
        raise Unsupported(
            f"the {len(layers)} layers of the image do not fit into one mount call of this kernel",
            hint="Use Linux 6.8 or newer, or squash the image",
        )
    _in_directory(base, lambda: syscalls.mount("overlay", target, "overlay", flags, options))


def _bind_read_only(source: str, target: str) -> None:
    """Bind ``source`` in one step: a bind mount that is made read-only later is writable if we die before."""
    handle = syscalls.open_tree_clone(source)
    try:
        syscalls.mount_setattr(handle, syscalls.MOUNT_ATTR_RDONLY)
        syscalls.move_mount(handle, target)
    finally:
        os.close(handle)


def _escaped(path: str | None) -> str:
    """Protect what the option string gives a meaning to."""
    return (path or "").replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _short(layer: str) -> str:
    """Return the short link that containers-storage keeps beside a layer, else the path itself."""
    home, name = os.path.split(os.path.dirname(layer))
    if os.path.basename(layer) != "diff" or not name:
        return layer
    try:
        with open(os.path.join(home, name, "link"), encoding="ascii") as stream:
            link = os.path.join(home, "l", stream.read().strip())
        return link if os.path.samefile(link, layer) else layer
    except (OSError, UnicodeDecodeError):
        return layer


def _relative(layers: t.Sequence[str]) -> tuple[str, list[str]]:
    """Return a common parent and the layers' shortest paths below it."""
    short = [_short(layer) for layer in layers]
    base = os.path.commonpath(short)
    return base, [os.path.relpath(path, base) for path in short]


def _mount_one_by_one(layers: t.Sequence[str], target: str, upper: str | None, work: str | None) -> None:
    options = [("lowerdir+", layer) for layer in layers]
    if upper and work:
        options += [("upperdir", upper), ("workdir", work)]
    if any(len(os.fsencode(value)) >= _FSCONFIG_MAX for _unused, value in options):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    context = syscalls.fsopen("overlay")
    try:
        for key, value in options:
            syscalls.fsconfig_string(context, key, value)
        syscalls.fsconfig_create(context)
        mounted = syscalls.fsmount(context, 0 if upper else syscalls.MOUNT_ATTR_RDONLY)
    finally:
        os.close(context)
    try:
        syscalls.move_mount(mounted, target)
    finally:
        os.close(mounted)


def _in_directory(directory: str, action: t.Callable[[], None]) -> None:
    """Run ``action`` with a working directory that no other thread of this process shares."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            syscalls.unshare(syscalls.CLONE_FS)
            os.chdir(directory)
            action()
        except BaseException as exc:  # raised again by the caller's thread
            failed.append(exc)

    thread = threading.Thread(target=run, name="mount")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _explained(exc: OSError, layers: t.Sequence[str], target: str, upper: str | None) -> CoreError:
    missing = [path for path in (*layers, *([upper] if upper else ()), target) if not os.path.isdir(path)]
    reason = os.strerror(exc.errno) if exc.errno else str(exc)
    if missing:
        return WrongState(
            f"the root file system cannot be mounted on {target}: {missing[0]} is missing",
            hint="Fetch the image again and repair the bundle",
        )
    if exc.errno == errno.ENODEV:
        return Unsupported("this kernel has no overlay file system", hint="Load the module 'overlay'")
    if exc.errno in (errno.EINVAL, errno.ENOTSUP) and upper is not None:
        return Unsupported(
            f"the file system of {upper} cannot hold the writable part of an overlay: {reason}",
            hint="Keep the state directory on ext4, XFS, Btrfs or ZFS 2.2, not on NFS or another overlay",
        )
    return CoreError(f"the root file system cannot be mounted on {target}: {reason}")


def unmount_below(path: str) -> None:
    """Take off every mount at and below ``path``, the innermost first.

    One that cannot be reached, since it is below a volume that shows the whole host, goes with what it is on.
    """
    failure: OSError | None = None
    for point in syscalls.mounts_below(path):
        try:
            syscalls.umount2(point, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        except FileNotFoundError:
            continue
        except OSError as exc:
            failure = exc
    if failure is not None and syscalls.mounts_below(path):
        raise failure


def remove_whole(path: str, *, has_mounts: bool = True) -> None:
    """Remove what stands at ``path``, its mounts first, without following a link.

    Without ``has_mounts`` they are off already; nothing is removed through one that is there all the same.
    """
    if not os.path.isdir(path) or os.path.islink(path):
        os.unlink(path)
        return
    if has_mounts:
        unmount_below(path)
    try:
        remove_tree(path)
    except OSError as exc:
        raise CoreError(
            f"{exc.filename or path} cannot be removed: {os.strerror(exc.errno or 0)}",
            hint="Look for immutable files (lsattr) and for a process that still writes there",
        ) from exc
