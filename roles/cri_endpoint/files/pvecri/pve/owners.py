# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out whether files can be shown to an unprivileged guest as its own.

The kernel maps owners for a mount (mount_setattr(2), MOUNT_ATTR_IDMAP) where the file system
lets it: ext4, XFS, Btrfs, ZFS 2.2, tmpfs from Linux 6.3; not NFS, nor most of FUSE.  It is tried
with a copy of the mount that has no place, so that nothing of the host changes.
"""

from __future__ import annotations

import errno
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import ID_OFFSET
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.staging import UserNamespaces

#: Kinds (linux/magic.h) whose name helps; every mount of a FUSE may differ from the next.
_NAMES: t.Final = {
    0x6969: "NFS",
    0x65735546: "FUSE",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB",
    0x01021997: "9p",
    0x00C36400: "CephFS",
    0x794C7630: "overlayfs",
    0x01021994: "tmpfs",
}
_FUSE: t.Final = 0x65735546

#: What mount_setattr(2) says of a file system that cannot, or of a mount that is mapped already.
_CANNOT: t.Final = frozenset({errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})


class Owners:
    """Tries each kind of file system once; for any number of threads."""

    def __init__(self) -> None:
        self._namespaces = UserNamespaces()
        #: Kinds that can.
        self._known: set[int] = set()

    def problem(self, path: str) -> str:
        """Return the name of the file system whose owners cannot be mapped; empty: they can be.

        For a path that is not there yet its nearest parent is looked at.
        """
        place = path
        while not os.path.lexists(place) and place != "/":
            place = os.path.dirname(place)
        try:
            kind = syscalls.file_system_kind(place)
        except OSError:
            # Whoever mounts it says what is wrong with it.
            return ""
        if kind in self._known:
            return ""
        if not self._can(place):
            return _NAMES.get(kind, f"a file system of kind {kind:#x}")
        if kind != _FUSE:
            self._known.add(kind)
        return ""

    def _can(self, path: str) -> bool:
        try:
            tree = syscalls.open_tree_clone(path)
        except OSError:
            return True
        try:
            syscalls.mount_setattr(
                tree,
                syscalls.MOUNT_ATTR_IDMAP,
                propagation=syscalls.MS_PRIVATE,
                userns_fd=self._namespaces.of(ID_OFFSET),
            )
        except OSError as exc:
            return exc.errno not in _CANNOT
        finally:
            os.close(tree)
        return True
