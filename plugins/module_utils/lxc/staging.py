# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show volumes, devices and a /sys to an LXC container that is about to be started.

LXC mounts as the container's root.  For an unprivileged container that is nobody on this host: it could not
even reach what lies in another's directories, as kubelet's volumes do.  So each bind mount is made here,
with its ids mapped (mount_setattr(2), Linux 5.12), in a place that the container's root reaches, and LXC
takes it from there.  What is shown is what the path led to now, whoever swaps it later.  When
the container runs it has mounts of its own, and these are taken away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import posixpath
import stat
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import files, syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import idmap, rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import include
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.include import Config, HostView, Shown
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import PASSABLE, Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import ID_COUNT
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns

#: The pod's parameters that give an unprivileged container back what it may not do in a network namespace
#: that is not its user namespace's: ports below 1024, and echo requests.
_POD_SYSCTLS: t.Final = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}

_SYSFS_FLAGS: t.Final = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC

_PLACES_FLAGS: t.Final = syscalls.MS_NOSUID | syscalls.MS_NOEXEC

_KINDS: t.Final = {"b": stat.S_IFBLK, "c": stat.S_IFCHR}

#: What a file system without mapped ids says.
_NO_MAPPING: t.Final = frozenset({errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP})


class UserNamespaces:
    """User namespaces in which ids begin at an offset; each is made once and kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, int] = {}

    def of(self, offset: int) -> int:
        """Return the descriptor of a namespace whose root is the host's user ``offset``."""
        with self._lock:
            if offset not in self._known:
                maps = [IdMap(container_id=0, host_id=offset, size=ID_COUNT)]
                with idmap.user_namespace(maps, maps) as handle:
                    self._known[offset] = os.dup(handle)
            return self._known[offset]


@dataclasses.dataclass(frozen=True, slots=True)
class _Bind:
    """One bind mount of a configuration."""

    source: str
    destination: str
    is_recursive: bool
    gets_later_mounts: bool
    #: It serves the container as well when its ids cannot be mapped.
    is_public: bool


def stage(
    guest: Guest, config: Config, namespaces: UserNamespaces, offset: int, *, own: t.Sequence[str] = ()
) -> HostView:
    """Make what a configuration shows of the host below the guest's directory, and return what is where.

    ``offset`` is the host's id of the container's root; 0 leaves ids as they are.  What is there is made
    anew.  Files below the directories ``own`` are the pod's, for everybody to read, and its memory to share.
    Raises InvalidSpec for a source that is not there, Unsupported for one whose ids cannot be mapped.
    """
    unstage(guest)
    os.makedirs(guest.mounts, exist_ok=True)
    # Wherever the state is kept: devices work here.
    syscalls.mount("pvecri", guest.mounts, "tmpfs", flags=_PLACES_FLAGS, data=f"mode={PASSABLE:o},size=1m")
    namespace = namespaces.of(offset) if offset else None
    binds = {
        bind.destination: _shown(bind, os.path.join(guest.mounts, str(number)), namespace)
        for number, bind in enumerate(_binds(config, own))
    }
    devices = _devices(guest, config, offset)
    return HostView(binds=binds, devices=devices, kernel_paths=_kernel_paths(config))


def unstage(guest: Guest) -> None:
    """Take away what `stage` made; the container's own mounts stay."""
    if not os.path.isdir(guest.mounts):
        return
    top = os.path.realpath(guest.mounts)
    for point in syscalls.mounts_below(top):
        # What passes mounts on passes their end on: the container would lose those below its volumes.
        # Without this one in between it hears of the host's own.
        if point != top:
            with contextlib.suppress(OSError):
                syscalls.mount("", point, flags=syscalls.MS_PRIVATE)
    rootfs.unmount_below(guest.mounts)
    files.remove_tree(guest.mounts)


def _binds(config: Config, own: t.Sequence[str]) -> t.Iterator[_Bind]:
    for mount in config.get("mounts") or ():
        if include.is_bind(mount):
            options = mount.get("options") or ()
            destination = posixpath.normpath(mount["destination"])
            is_public = any(mount["source"].startswith(place + "/") for place in own)
            yield _Bind(mount["source"], destination, "bind" not in options, "rslave" in options, is_public)


def _shown(bind: _Bind, place: str, namespace: int | None) -> Shown:
    try:
        tree = syscalls.open_tree_clone(bind.source, recursive=bind.is_recursive)
    except OSError as exc:
        raise InvalidSpec(
            f"mounts ({bind.destination}).source", f"'{bind.source}' cannot be mounted: {exc.strerror}"
        ) from exc
    try:
        is_directory = stat.S_ISDIR(os.fstat(tree).st_mode)
        if namespace is not None and not _is_overlay(tree):
            _map_ids(tree, bind, namespace)
        if is_directory:
            os.mkdir(place)
        else:
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        syscalls.move_mount(tree, place)
    finally:
        os.close(tree)
    recursive = syscalls.MS_REC if bind.is_recursive else 0
    if bind.gets_later_mounts:
        # It hears of mounts on the host, and passes them on to the container, which hears of this one alone.
        syscalls.mount("", place, flags=syscalls.MS_SLAVE | recursive)
        syscalls.mount("", place, flags=syscalls.MS_SHARED | recursive)
    else:
        syscalls.mount("", place, flags=syscalls.MS_PRIVATE | recursive)
    return Shown(place, is_directory)


def _map_ids(tree: int, bind: _Bind, namespace: int) -> None:
    """Map the ids of a tree of mounts, or of its topmost one if others in it cannot have that."""
    failure: OSError | None = None
    for recursive in (True, False) if bind.is_recursive else (False,):
        try:
            syscalls.mount_setattr(tree, syscalls.MOUNT_ATTR_IDMAP, userns_fd=namespace, recursive=recursive)
        except OSError as exc:
            if exc.errno not in _NO_MAPPING:
                raise
            failure = exc
        else:
            return
    if bind.is_public:
        return
    raise Unsupported(
        f"mounts ({bind.destination}): the file system of '{bind.source}' cannot show files with mapped ids",
        hint="Use one that can (ext4, XFS, Btrfs, ZFS 2.2, tmpfs from Linux 6.3 on), or run it under crun",
    ) from failure


def _is_overlay(tree: int) -> bool:
    """Say whether a mount is an overlay, as images are: none can have mapped ids, so it is shown as it is."""
    return syscalls.file_system_kind(f"/proc/self/fd/{tree}") == syscalls.OVERLAYFS_MAGIC


# ---- devices and the kernel's files ----------------------------------------------------------------------


def _devices(guest: Guest, config: Config, offset: int) -> dict[str, str]:
    """Make a node for each device, which the container's users own, and return where it is."""
    found = {}
    for number, device in enumerate((config.get("linux") or {}).get("devices") or ()):
        path = posixpath.normpath(device["path"])
        if include.is_own_node(path) or device["type"] not in _KINDS:
            continue
        place = os.path.join(guest.mounts, f"d{number}")
        mode = int(device.get("fileMode") or 0o666) & 0o777
        os.mknod(place, _KINDS[device["type"]], os.makedev(int(device["major"]), int(device["minor"])))
        os.chmod(place, mode)
        os.chown(place, offset + int(device.get("uid") or 0), offset + int(device.get("gid") or 0))
        found[path] = place
    return found


def _kernel_paths(config: Config) -> dict[str, bool]:
    linux = config.get("linux") or {}
    found = {}
    for path in (*(linux.get("maskedPaths") or ()), *(linux.get("readonlyPaths") or ())):
        with contextlib.suppress(OSError):
            found[path] = stat.S_ISDIR(os.stat(path).st_mode)
    return found


# ---- the pod's network -----------------------------------------------------------------------------------


def show_network(guest: Guest, path: str) -> None:
    """Mount a /sys that shows the network namespace at ``path``; one that is there is made anew."""
    hide_network(guest)
    os.makedirs(guest.sysfs, exist_ok=True)
    netns.run_inside(path, lambda: syscalls.mount("sysfs", guest.sysfs, "sysfs", flags=_SYSFS_FLAGS))


def hide_network(guest: Guest) -> None:
    """Take that away."""
    while syscalls.is_mount_point(guest.sysfs):
        syscalls.umount2(guest.sysfs, syscalls.MNT_DETACH)


def allow_unprivileged(path: str, own: t.Collection[str]) -> None:
    """Let an unprivileged container use low ports and ping in the network namespace at ``path``.

    What the pod has set by itself (``own``) stays.
    """
    values = {name: value for name, value in _POD_SYSCTLS.items() if name not in own}
    if values:
        netns.run_inside(path, lambda: netns.write_sysctls(values))
