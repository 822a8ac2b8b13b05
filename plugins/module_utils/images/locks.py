# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock images against each other's fetches and removals; the store belongs to both owners."""

from __future__ import annotations

import contextlib
import hashlib
import os

from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths


def locks_dir(paths: Paths) -> str:
    """Return the directory of the locks of all images; the store belongs to both owners."""
    return os.path.join(paths.run_dir, "locks", "images")


def fetch_lock(paths: Paths, name: str) -> str:
    """Return the lock file of whoever fetches the image of this name."""
    return os.path.join(locks_dir(paths), f"{lock_name(name)}.lock")


def lock_name(name: str) -> str:
    """Return a name for files that belong to the image of this name."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def locked_store(
    paths: Paths, *, shared: bool = False, timeout_s: float = 300
) -> contextlib.AbstractContextManager[None]:
    """Hold the store: shared to keep every image in it, alone to say which ones go."""
    path = os.path.join(locks_dir(paths), "store.lock")
    return locked(path, shared=shared, timeout_s=timeout_s, what="the image store")


def locked_removal(
    paths: Paths, image_id: str, *, timeout_s: float = 300
) -> contextlib.AbstractContextManager[None]:
    """Hold the deletion of an image that cannot be found any more."""
    return locked(_removal_lock(paths, image_id), timeout_s=timeout_s, what=f"image {image_id}")


def locked_deletions(
    paths: Paths, *, shared: bool = False, timeout_s: float = 300
) -> contextlib.AbstractContextManager[None]:
    """Hold all deletions: shared during one, alone to know that none is under way."""
    path = os.path.join(locks_dir(paths), "deletions.lock")
    return locked(path, shared=shared, timeout_s=timeout_s, what="deletions of images")


def last_deletion(paths: Paths) -> int:
    """Return what changes whenever an image has been deleted."""
    try:
        return os.stat(_deleted(paths)).st_mtime_ns
    except FileNotFoundError:
        return 0


def _deleted(paths: Paths) -> str:
    return os.path.join(locks_dir(paths), "deleted")


def forget_removal(paths: Paths, image_id: str) -> None:
    """Remove the lock file of a deletion that is done; its holder calls this."""
    with open(_deleted(paths), "w", encoding="ascii") as stream:
        stream.write(image_id)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_removal_lock(paths, image_id))


def _removal_lock(paths: Paths, image_id: str) -> str:
    return os.path.join(locks_dir(paths), f"removal-{image_id}.lock")


def locked_layers(
    paths: Paths, *, shared: bool = False, timeout_s: float = 300
) -> contextlib.AbstractContextManager[None]:
    """Hold the layers that have no image yet: shared while one is fetched, alone to clear them away."""
    path = os.path.join(locks_dir(paths), "layers.lock")
    return locked(path, shared=shared, timeout_s=timeout_s, what="the layers of fetches")
