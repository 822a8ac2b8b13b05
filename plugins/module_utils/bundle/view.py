# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look into a root file system that is not mounted anywhere yet.

Everything below an image is foreign: links may point anywhere, /etc/passwd may be
a device.  Paths are therefore resolved as if the image were the whole world.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap

#: Users and groups of an image: more than this is no list of users.
_TEXT_MAX = 8 << 20


@contextlib.contextmanager
def viewed(
    layers: t.Sequence[str],
    place: str,
    *,
    uid_maps: t.Sequence[IdMap] = (),
    gid_maps: t.Sequence[IdMap] = (),
) -> t.Iterator[int]:
    """Provide a directory descriptor through which the layers look like one tree.

    ``place`` is an empty directory; the mount is taken off it at once and lives on
    by the descriptor alone.
    """
    if len(layers) == 1 and not uid_maps:
        handle = os.open(layers[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        rootfs.mount_overlay(layers, place, uid_maps=uid_maps, gid_maps=gid_maps)
        try:
            handle = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            rootfs.unmount(place)
    try:
        yield handle
    finally:
        os.close(handle)


def read_text(root: int, path: str) -> str:
    """Return the text of a file in the image, empty when it has none; raises InvalidSpec for no file."""
    try:
        handle = syscalls.open_regular_beneath(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except WrongState as exc:
        raise InvalidSpec("image", f"/{path} of the image is no regular file") from exc
    except OSError as exc:
        raise InvalidSpec("image", f"/{path} of the image cannot be read: {exc.strerror}") from exc
    try:
        parts = []
        left = _TEXT_MAX
        while left > 0 and (block := os.read(handle, min(left, 1 << 16))):
            parts.append(block)
            left -= len(block)
        return b"".join(parts).decode("utf-8", "surrogateescape")
    finally:
        os.close(handle)


def open_directory(root: int, path: str) -> int | None:
    """Return a descriptor of a directory in the image, or None when it has none there."""
    try:
        return syscalls.open_beneath(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
