# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remember which archives this endpoint has written to a storage, and what they are called.

Each is known by the file's identity too: one that somebody put in its place is not taken
for it.  The list is a help to memory: without it archives are written once more.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image

#: Digits of an image's and of an endpoint's id in a file's name.
_IMAGE_DIGITS, _ENDPOINT_DIGITS = 24, 8
_STEM_MAX = 64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One archive on a storage."""

    image_id: str
    storage: str
    directory: str
    file: str
    #: Inode, time of change and size.
    stamp: tuple[int, ...]
    used_at: float

    @property
    def path(self) -> str:
        """The file."""
        return os.path.join(self.directory, self.file)

    @property
    def volid(self) -> str:
        """The volume id."""
        return f"{self.storage}:vztmpl/{self.file}"

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self.stamp[2]

    @property
    def is_there(self) -> bool:
        """Whether the file is there, and still the one that was written."""
        return stamp_of(self.path) == self.stamp


def stamp_of(path: str) -> tuple[int, ...] | None:
    """Return what tells a file from another one of its name; None when there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def file_name(image: Image, endpoint_id: str) -> str:
    """Return what an image's archive is called: for people, by its digest, as this endpoint's own."""
    name = image.names[0] if image.names else ""
    stem = re.sub(r"[^A-Za-z0-9.+]+", "-", name.partition("@")[0].rpartition("/")[2])[:_STEM_MAX].strip("-.")
    return f"pvecri_{stem or 'image'}_{image.id[:_IMAGE_DIGITS]}_{endpoint_id[:_ENDPOINT_DIGITS]}.tar"


def own_names(endpoint_id: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what the names of this endpoint's archives look like, and of those that are being written."""
    name = rf"pvecri_[^/_]+_[0-9a-f]{{{_IMAGE_DIGITS}}}_{re.escape(endpoint_id[:_ENDPOINT_DIGITS])}\.tar"
    return re.compile(name), re.compile(rf"\.{name}\.[0-9]+\.[0-9a-f]+")


def load(path: str, log: logging.Logger) -> dict[str, Archive]:
    """Return the archives by image id; what cannot be read is forgotten."""
    try:
        with open(path, "rb") as stream:
            raw = json.load(stream)
        return {entry["image_id"]: _archive(entry) for entry in raw["archives"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        log.warning("archives of images are forgotten", extra={"file": path, "error": str(exc)})
        return {}


def save(path: str, archives: t.Iterable[Archive]) -> None:
    """Replace the list."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    data = json.dumps({"archives": [dataclasses.asdict(archive) for archive in archives]})
    write_atomic(path, data.encode(), mode=0o600, durable=True)


def _archive(entry: dict[str, t.Any]) -> Archive:
    known = {field.name: entry[field.name] for field in dataclasses.fields(Archive)}
    return Archive(**{**known, "stamp": tuple(int(part) for part in entry["stamp"])})
