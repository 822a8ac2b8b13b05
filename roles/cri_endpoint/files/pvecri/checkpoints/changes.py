# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write down what a container changed in its root file system: the upper layer of an overlay.

Nothing may write there meanwhile: the container is paused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import tarfile
import typing as t

#: How overlayfs marks a directory that hides what lower layers have at its place.
_OPAQUE: t.Final = "trusted.overlay.opaque"
#: Attributes that go along; others are the kernel's, or of the host's security module.
_KEPT: t.Final = ("security.capability", "user.")
#: By how tar files carry extended attributes.
XATTR: t.Final = "SCHILY.xattr."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """An overlay: what was written, what lies below (the topmost first), and all of it together."""

    upper: str
    lower: tuple[str, ...]
    merged: str


def write_changes(layers: Layers, skipped: t.Collection[str], output: t.IO[bytes]) -> list[str]:
    """Write everything new or changed into a tar file, and return the paths that were deleted.

    ``skipped`` are absolute paths in the container that are left out with all below: places of mounts.
    """
    deleted: list[str] = []
    with _new_tar(output) as tar:
        pending = [("", False)]
        while pending:
            directory, is_opaque = pending.pop()
            names = sorted(os.listdir(os.path.join(layers.upper, directory)))
            if is_opaque:
                deleted += [f"/{os.path.join(directory, name)}" for name in _hidden(layers, directory, names)]
            for name in names:
                path = os.path.join(directory, name)
                if f"/{path}" in skipped:
                    continue
                found = os.lstat(os.path.join(layers.upper, path))
                if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                    deleted.append(f"/{path}")
                    continue
                add(tar, os.path.join(layers.merged, path), path)
                if stat.S_ISDIR(found.st_mode):
                    pending.append((path, is_opaque or _is_opaque(os.path.join(layers.upper, path))))
    return deleted


def write_tree(directory: str, output: t.IO[bytes]) -> int:
    """Write all that is in a directory into a tar file; return the number of entries."""
    count = 0
    with _new_tar(output) as tar:
        for folder, folders, files in os.walk(directory):
            for name in sorted(folders + files):
                path = os.path.join(folder, name)
                add(tar, path, os.path.relpath(path, directory))
                count += 1
    return count


def _new_tar(output: t.IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(
        fileobj=output, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    )


def add(tar: tarfile.TarFile, path: str, name: str) -> None:
    """Add one file of any kind but a socket, which CRIU makes anew, with owner, times and attributes."""
    member = tar.gettarinfo(path, arcname=name)
    # It is None for sockets, which the type stubs do not know.
    if t.cast("tarfile.TarInfo | None", member) is None:
        return
    # Names of the host's users mean nothing in a container.
    member.uname = member.gname = ""
    member.pax_headers = {
        XATTR + attribute: os.getxattr(path, attribute, follow_symlinks=False).decode(
            "utf-8", "surrogateescape"
        )
        for attribute in os.listxattr(path, follow_symlinks=False)
        if attribute.startswith(_KEPT)
    }
    if member.isreg():
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as stream:
            tar.addfile(member, stream)
    else:
        tar.addfile(member)
    # tarfile remembers all that it has written: as much memory as the container has files.
    vars(tar)["members"] = []


def _is_opaque(path: str) -> bool:
    with contextlib.suppress(OSError):
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    return False


def _hidden(layers: Layers, directory: str, names: t.Collection[str]) -> list[str]:
    """Return names that lower layers have in a directory which hides them, and that are not there anew."""
    found: set[str] = set()
    gone: set[str] = set()
    for layer in layers.lower:
        path = os.path.join(layer, directory)
        try:
            entries = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(path)]
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name, entry in entries:
            if stat.S_ISCHR(entry.st_mode) and entry.st_rdev == 0:
                gone.add(name)
            elif name not in gone:
                found.add(name)
        if _is_opaque(path):
            break
    return sorted(found - set(names))
