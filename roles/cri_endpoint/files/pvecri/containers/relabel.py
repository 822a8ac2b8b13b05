# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give volumes the SELinux label that lets a container's processes use them."""

from __future__ import annotations

import errno
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from pvecri.api import cri_pb2

_ATTRIBUTE: t.Final = "security.selinux"

#: Without the labels that these have the host itself does not work.
_THE_HOSTS_OWN: t.Final = frozenset(
    (
        *("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run"),
        *("/sbin", "/sys", "/tmp", "/usr", "/var"),  # noqa: S108 - the host's, by name
    )
)


def relabel(mounts: t.Sequence[cri_pb2.Mount], label: str) -> None:
    """Label the sources of the mounts that ask for it, with all that is below them.

    Raises InvalidSpec for a directory of the host's own, and WrongState.
    """
    for index, mount in enumerate(mounts):
        if not mount.selinux_relabel or not mount.host_path:
            continue
        path = os.path.realpath(mount.host_path)
        field = f"config.mounts[{index}].selinux_relabel"
        if path in _THE_HOSTS_OWN:
            raise InvalidSpec(field, f"'{path}' is the host's own", hint="Mount a directory below it")
        try:
            _relabel_tree(path, label.encode())
        except FileNotFoundError:
            # It is about to be made.
            continue
        except OSError as exc:
            raise WrongState(f"{field}: '{path}' cannot be labelled: {exc.strerror}") from exc


def _relabel_tree(path: str, label: bytes) -> None:
    _set(path, label)
    # By descriptors: whoever can write there must not lead this elsewhere by swapping a directory for a link.
    for _path, folders, files, handle in os.fwalk(path, follow_symlinks=False):
        for name in (*folders, *files):
            _set(f"/proc/self/fd/{handle}/{name}", label)


def _set(path: str, label: bytes) -> None:
    try:
        os.setxattr(path, _ATTRIBUTE, label, follow_symlinks=False)
    except OSError as exc:
        # File systems without labels have one for all files, by their mount.
        if exc.errno not in {errno.ENOTSUP, errno.EROFS}:
            raise
