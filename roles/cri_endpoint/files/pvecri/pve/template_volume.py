# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know files on a storage of templates again, and give names to those that this endpoint writes.

Each is known by the file's identity too: one that somebody put in its place is not taken for it.
"""

from __future__ import annotations

import dataclasses
import os
import re

#: Digits of a digest and of an endpoint's id in a file's name.
_DIGEST_DIGITS, _ENDPOINT_DIGITS = 24, 8
_LABEL_MAX = 64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TemplateVolume:
    """One file on a storage."""

    storage: str
    directory: str
    file: str
    #: Inode, time of change and size.
    stamp: tuple[int, ...]

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
        """Whether the file is there, and still the one that it was."""
        return stamp_of(self.path) == self.stamp


def stamp_of(path: str) -> tuple[int, ...] | None:
    """Return what tells a file from another one of its name; None when there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def own_name(label: str, digest: str, endpoint_id: str) -> str:
    """Return what a file of this endpoint is called, without its suffix: for people, by its digest."""
    stem = re.sub(r"[^A-Za-z0-9.+]+", "-", label)[:_LABEL_MAX].strip("-.")
    return f"pvecri_{stem or 'image'}_{digest[:_DIGEST_DIGITS]}_{endpoint_id[:_ENDPOINT_DIGITS]}"


def own_names(endpoint_id: str) -> str:
    """Return the regular expression of such names."""
    return rf"pvecri_[^/_]+_[0-9a-f]{{{_DIGEST_DIGITS}}}_{re.escape(endpoint_id[:_ENDPOINT_DIGITS])}"
