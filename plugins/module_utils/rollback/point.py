# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a rollback point: files, links, directories and the endpoint's database, in a directory of their own.

The directory is complete or absent: it is written under a temporary name and renamed.
A point that was kept before a change that did not end is never replaced by what the
half-done change has left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.files import (
    host_trouble,
    remove_tree,
    sync_directory,
    write_atomic,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.rollback import entries, records
from ansible_collections.pvecri.runtime.plugins.module_utils.rollback.entries import Entry

FORMAT: t.Final = 1
_MANIFEST = "manifest.json"
_DATABASE = "database"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """What was kept, and when; ``facts`` are whatever the caller wanted to know again."""

    directory: str
    saved_at: str
    boot_id: str
    patterns: tuple[str, ...]
    facts: dict[str, t.Any]
    entries: dict[str, Entry]
    #: Path of the database, empty without one.
    database: str

    def changed(self) -> list[str]:
        """Return the paths that are no longer what they were, sorted."""
        now = entries.scan(self.patterns)
        return sorted(
            path for path in now.keys() | self.entries.keys() if now.get(path) != self.entries.get(path)
        )

    def as_dict(self) -> dict[str, t.Any]:
        """Return what a playbook wants to know."""
        return {
            "directory": self.directory,
            "saved_at": self.saved_at,
            "same_boot": self.boot_id == boot_id(),
            "facts": self.facts,
            "paths": sorted(self.entries),
            "database": self.database,
        }


def boot_id() -> str:
    """Return what tells this boot of the host from others."""
    with open(_BOOT_ID, encoding="ascii") as stream:
        return stream.read().strip()


def load(directory: str) -> Point | None:
    """Return the point of a directory, or None without one; raises CoreError for what is none."""
    try:
        with open(os.path.join(directory, _MANIFEST), encoding="utf-8") as stream:
            plain = json.load(stream)
        if plain["format"] != FORMAT:
            raise ValueError(f"it has the format {plain['format']}, this version knows {FORMAT}")
        return Point(
            directory=directory,
            saved_at=str(plain["saved_at"]),
            boot_id=str(plain["boot_id"]),
            patterns=tuple(plain["patterns"]),
            facts=dict(plain["facts"]),
            entries={entry["path"]: Entry(**entry) for entry in plain["entries"]},
            database=str(plain["database"]),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as exc:
        raise CoreError(
            f"{directory} holds no rollback point that can be read: {exc}",
            hint="Look at it, move it away, and run the play again",
        ) from exc


def save(
    directory: str,
    patterns: t.Sequence[str],
    *,
    facts: t.Mapping[str, t.Any],
    database: str = "",
) -> Point:
    """Keep what the patterns match and a copy of the database; a former point is replaced.

    Raises InvalidSpec, and CoreError when a file or the database cannot be kept.
    """
    entries.check_patterns(patterns)
    parent = os.path.dirname(directory)
    os.makedirs(parent, exist_ok=True)
    remove_leftovers(directory)
    temporary = tempfile.mkdtemp(prefix=_prefix(directory), dir=parent)
    try:
        found = entries.scan(patterns)
        for entry in found.values():
            if entry.kind == entries.FILE:
                _keep(entry, temporary)
        has_database = (
            bool(database) and records.copy(database, os.path.join(temporary, _DATABASE)) is not None
        )
        point = Point(
            directory=directory,
            saved_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            boot_id=boot_id(),
            patterns=tuple(patterns),
            facts=dict(facts),
            entries=found,
            database=database if has_database else "",
        )
        _write_manifest(point, temporary)
        remove(directory)
        os.rename(temporary, directory)
        sync_directory(parent)
    except BaseException as exc:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(exc, OSError) and (trouble := host_trouble(exc, "nothing was changed")):
            raise trouble from exc
        raise
    return point


def attach(point: Point, name: str, text: str) -> str:
    """Keep a text beside a point, and return its path."""
    path = os.path.join(point.directory, name)
    write_atomic(path, text.encode(), mode=0o600, durable=True)
    return path


def restore(point: Point) -> tuple[list[str], str | None]:
    """Make everything what it was; nobody may have the database open.

    Returns the paths that had changed, and where a database went that the former version
    could not read (None: it stayed where it was).  Can be repeated after an interruption.
    """
    changed = point.changed()
    contents = {path: _kept(point, entry) for path, entry in point.entries.items() if path in changed}
    now = entries.scan(point.patterns)
    for path in sorted(now.keys() - point.entries.keys(), reverse=True):
        entries.remove(now[path])
    for path in changed:
        if path in point.entries:
            entries.make(point.entries[path], contents[path])
    aside = None
    if point.database:
        aside = records.give_back(os.path.join(point.directory, _DATABASE), point.database)
    return changed, aside


def remove(directory: str) -> bool:
    """Drop a point; says whether there was one."""
    if not os.path.isdir(directory):
        return False
    # First what makes it one.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, _MANIFEST))
    remove_tree(directory)
    return True


def remove_leftovers(directory: str) -> None:
    """Remove what a killed `save` has left."""
    parent, prefix = os.path.dirname(directory), _prefix(directory)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(parent):
            if name.startswith(prefix):
                remove_tree(os.path.join(parent, name))


def _prefix(directory: str) -> str:
    return f".{os.path.basename(directory)}."


def _keep(entry: Entry, directory: str) -> None:
    content = entries.read(entry.path)
    if entries.digest(content) != entry.sha256:
        raise CoreError(
            f"{entry.path} changed while it was read", hint="Nothing was changed; run the play again"
        )
    # By content: what is the same is kept once.
    write_atomic(os.path.join(directory, entry.sha256), content, mode=0o600, durable=True)


def _kept(point: Point, entry: Entry) -> bytes:
    if entry.kind != entries.FILE:
        return b""
    path = os.path.join(point.directory, entry.sha256)
    try:
        content = entries.read(path)
    except FileNotFoundError:
        content = b""
    if entries.digest(content) != entry.sha256:
        raise NotFound(
            f"{path}, which {entry.path} is to be made from, is missing or damaged",
            hint="Nothing was put back; install the endpoint anew with the role",
        )
    return content


def _write_manifest(point: Point, directory: str) -> None:
    plain = {
        "format": FORMAT,
        "saved_at": point.saved_at,
        "boot_id": point.boot_id,
        "patterns": list(point.patterns),
        "facts": point.facts,
        "entries": [dataclasses.asdict(entry) for entry in point.entries.values()],
        "database": point.database,
    }
    text = json.dumps(plain, indent=1, sort_keys=True)
    write_atomic(os.path.join(directory, _MANIFEST), text.encode(), mode=0o600, durable=True)
