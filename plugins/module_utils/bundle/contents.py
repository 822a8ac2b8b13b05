# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write secrets and files that a request gives as content.

A file lies in the bundle.  A secret never reaches a disk: it lies in memory
(tmpfs) below the run directory, and a reboot takes it away.  It is in no record
either, so only the next run of whoever asked for it can bring it back.
"""

from __future__ import annotations

import errno
import os
import shutil
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

SECRET_MODE = 0o400
FILE_MODE = 0o644

_SIZE = "size=10%"


def secrets_root(paths: Paths) -> str:
    """Return the directory of all secrets of one owner."""
    return os.path.join(paths.run_dir, "secrets", paths.owner)


def secrets_dir(paths: Paths, name: str, instance: str) -> str:
    """Return the directory of the secrets of one making of a bundle; it need not exist."""
    # Names hold dots, instances do not: the last dot tells them apart.
    return os.path.join(secrets_root(paths), f"{name}.{instance}")


def ensure_memory(paths: Paths) -> None:
    """See to it that the secrets' directory lies in memory: mount a tmpfs unless /run is one."""
    top = os.path.join(paths.run_dir, "secrets")
    os.makedirs(top, mode=0o711, exist_ok=True)
    if syscalls.is_in_memory(top):
        return
    with locked(os.path.join(paths.run_dir, "locks", "secrets.lock"), what="the directory of secrets"):
        if syscalls.is_in_memory(top):
            return
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        try:
            # Without «noswap» (Linux 6.4) the kernel may write a secret to swap.
            syscalls.mount("pvecri-secrets", top, "tmpfs", flags, f"mode=711,{_SIZE},noswap")
        except OSError:
            try:
                syscalls.mount("pvecri-secrets", top, "tmpfs", flags, f"mode=711,{_SIZE}")
            except OSError as exc:
                raise CoreError(
                    f"secrets need a file system in memory at {top}: {exc.strerror}",
                    hint="Mount a tmpfs there",
                ) from exc


def write_content(path: str, content: bytes, *, mode: int, uid: int, gid: int) -> None:
    """Write a file that only appears with its whole content and its final owner and mode."""
    temporary = f"{path}.new"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fchown(handle, uid, gid)
        os.fchmod(handle, mode)
    os.rename(temporary, path)


def write_secret(paths: Paths, path: str, content: bytes, *, mode: int, uid: int, gid: int) -> None:
    """Write a secret into memory, and the directory that it lies in; raises CoreError without room."""
    ensure_memory(paths)
    try:
        os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
        write_content(path, content, mode=mode, uid=uid, gid=gid)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = os.path.join(paths.run_dir, "secrets")
        while not syscalls.is_mount_point(place) and place != "/":
            place = os.path.dirname(place)
        raise CoreError(
            f"a secret of {len(content)} bytes finds no room in memory, in the tmpfs on {place}",
            hint=f"Remove what fills it, or make it larger (mount -o remount,size=… {place})",
        ) from exc


def forget_secrets(paths: Paths, name: str, keep: t.Collection[str] = ()) -> None:
    """Remove the secrets of every making of bundle ``name`` but those in ``keep``."""
    root = secrets_root(paths)
    try:
        entries = os.listdir(root)
    except FileNotFoundError:
        return
    for entry in entries:
        owner, _unused, instance = entry.rpartition(".")
        if owner == name and instance not in keep:
            shutil.rmtree(os.path.join(root, entry), ignore_errors=True)
