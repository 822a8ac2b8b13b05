# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the lists of a containers-storage directory: names, and what shall go.

skopeo has no words for some changes; here they are made as the library
containers/storage makes them: under its locks, by replacing a list, with a new mark in
the lock file by which other processes see that what they have in memory is old.

Nothing is deleted here.  An image that is on its way out carries a flag, which the
library keeps; a layer without image gets the flag of one that was never whole, and the
next program that changes the store clears it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Json

#: Flag of an image that is being removed.
REMOVING = "pvecri-removing"
#: The library's own flag of a layer that is not whole.
INCOMPLETE = "incomplete"
#: Length of the mark that the library leaves in a lock file to say that the data changed.
_MARK = 64


def has_flag(raw: Json, flag: str) -> bool:
    """Say whether an image or a layer carries a flag."""
    return bool((raw.get("flags") or {}).get(flag))


def untag(root: str, name: str) -> None:
    """Take ``name`` from the image that bears it."""
    with _changed(root, "overlay-images", "images") as images:
        for raw in images:
            raw["names"] = [other for other in raw.get("names") or () if other != name]


def condemn_image(root: str, image_id: str) -> None:
    """Take all names from an image and flag it as being removed: it is no longer found."""
    with _changed(root, "overlay-images", "images") as images:
        for raw in images:
            if raw["id"] == image_id:
                raw["names"] = []
                raw["flags"] = {**(raw.get("flags") or {}), REMOVING: True}


def condemn_layers(root: str, *, keep: t.Container[str], before: str) -> list[str]:
    """Flag layers that belong to no image, as killed and failed fetches leave them; return their ids.

    ``keep`` are layers that somebody needs all the same; ``before`` a time (ISO 8601,
    UTC) from which on layers stay, for whoever repeats the fetch that made them.  The
    caller knows that nothing is being fetched.
    """
    if not os.path.exists(os.path.join(root, "overlay-layers", "layers.json")):
        return []
    with _changed(root, "overlay-layers", "layers") as layers:
        parents = {raw["id"]: raw.get("parent") or "" for raw in layers}
        needed: set[str] = {raw["id"] for raw in layers if raw["id"] in keep}
        needed.update(
            _tops(root, "overlay-images", "images"), _tops(root, "overlay-containers", "containers")
        )
        for layer in list(needed):
            while layer := parents.get(layer, ""):
                needed.add(layer)
        found = []
        for raw in layers:
            is_old = str(raw.get("created", "")) < before
            if raw["id"] not in needed and is_old and not has_flag(raw, INCOMPLETE):
                raw["flags"] = {**(raw.get("flags") or {}), INCOMPLETE: True}
                found.append(raw["id"])
    return found


def _tops(root: str, folder: str, kind: str) -> set[str]:
    """Return the topmost layers of all images or containers."""
    found = set()
    for raw in _read(os.path.join(root, folder, f"{kind}.json")):
        found.update([raw.get("layer") or "", *(raw.get("mapped-layers") or ())])
    return found


@contextlib.contextmanager
def _changed(root: str, folder: str, kind: str) -> t.Iterator[list[Json]]:
    """Provide a list under the library's lock, and write it if it has changed."""
    path = os.path.join(root, folder, f"{kind}.json")
    lock_file = os.path.join(root, folder, f"{kind}.lock")
    lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        items = _read(path)
        before = json.dumps(items)
        yield items
        after = json.dumps(items)
        if after != before:
            write_atomic(path, after.encode(), mode=0o600)
            # Another mark than before makes a process that has the old list in memory read it again.
            os.pwrite(lock, os.urandom(_MARK // 2).hex().encode(), 0)
    finally:
        os.close(lock)


def _read(path: str) -> list[Json]:
    try:
        with open(path, "rb") as stream:
            items = json.loads(stream.read() or b"[]")
    except FileNotFoundError:
        return []
    except ValueError:
        items = None
    if not isinstance(items, list) or not all(isinstance(raw, dict) and "id" in raw for raw in items):
        raise WrongState(
            f"the image store's file {path} is damaged", hint="Restore it, or move the store away"
        )
    return items
