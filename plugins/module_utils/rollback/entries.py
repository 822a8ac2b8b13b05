# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe files, links and directories, and make them what a description says."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import os
import stat
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import (
    link_atomic,
    remove_tree,
    write_atomic,
)

FILE: t.Final = "file"
LINK: t.Final = "link"
DIRECTORY: t.Final = "directory"

#: Configuration is small; more than this is none, and would fill the disk.
FILE_MAX: t.Final = 16 * 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One path as it is; ``sha256`` is of a file's content, ``target`` where a link leads."""

    path: str
    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    sha256: str = ""
    target: str = ""


def check_patterns(patterns: t.Sequence[str]) -> None:
    """Raise InvalidSpec for what is no absolute pattern, or would match anybody's files."""
    for number, pattern in enumerate(patterns):
        if not pattern.startswith("/") or os.path.normpath(pattern) != pattern:
            raise InvalidSpec(f"paths[{number}]", f"'{pattern}' is no absolute path in its shortest form")
        if glob.has_magic(pattern.split("/")[1]):
            raise InvalidSpec(f"paths[{number}]", f"'{pattern}' begins with a pattern")


def scan(patterns: t.Iterable[str]) -> dict[str, Entry]:
    """Return what the patterns match by path, sorted; ``**`` is any number of directories."""
    paths = {
        path.rstrip("/")
        for pattern in patterns
        for path in glob.iglob(pattern, recursive=True, include_hidden=True)
    }
    return {path: entry for path in sorted(paths) if (entry := describe(path)) is not None}


def describe(path: str) -> Entry | None:
    """Return what is at a path; None for nothing, and for sockets and the like."""
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            return Entry(path, LINK, uid=found.st_uid, gid=found.st_gid, target=os.readlink(path))
        mode = stat.S_IMODE(found.st_mode)
        if stat.S_ISDIR(found.st_mode):
            return Entry(path, DIRECTORY, mode, found.st_uid, found.st_gid)
        if not stat.S_ISREG(found.st_mode):
            return None
        if found.st_size > FILE_MAX:
            raise CoreError(
                f"{path} has {found.st_size} bytes, too many for a file of the configuration",
                hint="Move it to where it belongs",
            )
        return Entry(path, FILE, mode, found.st_uid, found.st_gid, sha256=digest(read(path)))
    except FileNotFoundError:
        return None


def read(path: str) -> bytes:
    """Return a file's content."""
    with open(path, "rb") as stream:
        return stream.read()


def digest(content: bytes) -> str:
    """Return the SHA-256 of a content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def make(entry: Entry, content: bytes) -> None:
    """Make a path what its entry says, whatever is there; a reader sees the old or the new, never a part."""
    there = describe(entry.path)
    if there is not None and there.kind != entry.kind and DIRECTORY in {there.kind, entry.kind}:
        remove(there)
    if entry.kind == DIRECTORY:
        os.makedirs(entry.path, exist_ok=True)
        os.chmod(entry.path, entry.mode)
        os.chown(entry.path, entry.uid, entry.gid)
        return
    os.makedirs(os.path.dirname(entry.path), exist_ok=True)
    if entry.kind == LINK:
        link_atomic(entry.path, entry.target, owner=(entry.uid, entry.gid))
        return
    if there is None or there.sha256 != entry.sha256:
        # Nobody else may read it before it has its owner.
        write_atomic(entry.path, content, mode=0o600, durable=True)
    os.chown(entry.path, entry.uid, entry.gid)
    os.chmod(entry.path, entry.mode)


def remove(entry: Entry) -> None:
    """Take a path away."""
    with contextlib.suppress(FileNotFoundError):
        if entry.kind == DIRECTORY:
            remove_tree(entry.path)
        else:
            os.unlink(entry.path)
