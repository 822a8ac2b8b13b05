# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a tar archive of an unpacked layer, where the one that it was unpacked from cannot be given back.

What the overlay file system says by device nodes and attributes, the archive says as the
OCI image specification has it («Whiteouts» and «Opaque Whiteout» of layer.md).
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.images.tar_split import Sink

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_OPAQUE_ATTRIBUTES = ("trusted.overlay.opaque", "user.overlay.opaque")
#: Attributes that belong to the overlay file system, not to the files.
_OVERLAY = ("trusted.overlay.", "user.overlay.")


def pack_layer(layer_dir: str, sink: Sink) -> int:
    """Hand a tar archive of ``layer_dir`` to ``sink`` in pieces, and return its size in bytes.

    The same content gives the same archive.  Raises OSError.
    """
    out = _Out(sink)
    with tarfile.open(fileobj=t.cast("t.IO[bytes]", out), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _add_content(archive, layer_dir, "")
    return out.size


class _Out:
    """A file that only `tarfile` writes to."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.size = 0

    def write(self, data: bytes) -> int:
        """Take a piece."""
        self._sink(memoryview(data))
        self.size += len(data)
        return len(data)


def _add_content(archive: tarfile.TarFile, top: str, below: str) -> None:
    pending = [below]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(top, folder)) as entries:
            names = sorted(entry.name for entry in entries)
        folders = []
        for name in names:
            path = os.path.join(folder, name)
            if _add_entry(archive, os.path.join(top, path), path):
                folders.append(path)
        pending += reversed(folders)


def _add_entry(archive: tarfile.TarFile, place: str, name: str) -> bool:
    """Append one entry; return whether it is a directory."""
    status = os.lstat(place)
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        folder, _slash, base = name.rpartition("/")
        archive.addfile(tarfile.TarInfo(os.path.join(folder, _WHITEOUT + base)))
        return False
    if stat.S_ISSOCK(status.st_mode):
        return False  # No archive holds any.
    member = archive.gettarinfo(place, name)
    member.uname = member.gname = ""
    attributes = _attributes(place)
    member.pax_headers = {
        f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")
        for key, value in attributes.items()
        if not key.startswith(_OVERLAY)
    }
    if member.isreg():
        with open(place, "rb") as content:
            archive.addfile(member, content)
        return False
    archive.addfile(member)
    if member.isdir() and any(attributes.get(key) == b"y" for key in _OPAQUE_ATTRIBUTES):
        archive.addfile(tarfile.TarInfo(os.path.join(name, _OPAQUE)), io.BytesIO())
    return member.isdir()


def _attributes(place: str) -> dict[str, bytes]:
    names = os.listxattr(place, follow_symlinks=False)
    return {name: os.getxattr(place, name, follow_symlinks=False) for name in sorted(names)}
