# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a set of small files of a host as they are wanted, and touch nothing that others made.

A file is ours if it has the marker in its first lines, or if its place is said to be ours.
All of a set is checked before any file is written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import tempfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    Conflict,
    InvalidSpec,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import remove_temporaries, write_atomic

MARKER = "# Managed by Ansible (pvecri.runtime.cri_endpoint)"

_HEAD_BYTES = 1024
_MODE_BITS = 0o7777
_VALIDATE_S = 60.0
_HIDDEN = "(its content is not shown)\n"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file as it is wanted; content is None for one that is to be away."""

    path: str
    content: str | None
    mode: int = 0o644
    #: Whatever lies at this place is ours, as nothing else has the name.
    owned: bool = False
    #: Command that has to accept the content before it gets its name; %s stands for a file with it.
    validate: tuple[str, ...] = ()
    secret: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a file."""

    wanted: Wanted
    before: str | None
    mode_before: int | None
    #: The directory that is to be away, since nothing is in it.
    directory: bool = False

    def diff(self) -> dict[str, str]:
        """Return what the change is in diff mode."""
        path = self.wanted.path
        before, after = self.before, self.wanted.content
        if self.wanted.secret:
            before, after = before and _HIDDEN, after and _HIDDEN
        notes = [before or "", after or ""]
        if before is not None and after is not None and self.mode_before != self.wanted.mode:
            notes = [f"mode {self.mode_before:04o}\n" + notes[0], f"mode {self.wanted.mode:04o}\n" + notes[1]]
        return {
            "before_header": f"{path} (absent)" if before is None else path,
            "after_header": f"{path} (absent)" if after is None else path,
            "before": notes[0],
            "after": notes[1],
        }


def plan(wanted: t.Sequence[Wanted], marker: str = MARKER) -> tuple[list[Change], list[str]]:
    """Return what there is to do, and which files stay since they are not ours; raises Conflict."""
    changes: list[Change] = []
    kept: list[str] = []
    strangers: list[str] = []
    going: set[str] = set()
    for file in wanted:
        _check(file)
        change, is_ours = _look(file, marker, going)
        if change is None or (file.content is None and file.path in going):
            continue
        if is_ours:
            changes.append(change)
            if file.content is None:
                going.add(file.path)
        elif file.content is None:
            kept.append(file.path)
        else:
            strangers.append(file.path)
    if strangers:
        raise Conflict(
            f"not made by this role, and in its way: {', '.join(strangers)}",
            hint="Move that away, or choose by the role's variables that it is not written",
        )
    return changes, kept


def apply(changes: t.Sequence[Change], runner: Runner) -> None:
    """Check all contents, then bring the changes about one by one."""
    validate(changes, runner)
    for change in changes:
        file = change.wanted
        if change.directory:
            os.rmdir(file.path)
        elif file.content is None:
            os.unlink(file.path)
        else:
            os.makedirs(os.path.dirname(file.path), mode=0o755, exist_ok=True)
            remove_temporaries(file.path)
            write_atomic(file.path, file.content.encode(), mode=file.mode, durable=True)


def validate(changes: t.Sequence[Change], runner: Runner, *, lenient: bool = False) -> None:
    """Have contents checked by their commands; raises InvalidSpec with what they say.

    A ``lenient`` check passes over programs that are not there, as before the first installation.
    """
    for change in changes:
        file = change.wanted
        if file.content is None or not file.validate:
            continue
        if lenient and not os.access(file.validate[0], os.X_OK):
            continue
        with tempfile.TemporaryDirectory(prefix="pvecri-") as folder:
            path = os.path.join(folder, os.path.basename(file.path))
            write_atomic(path, file.content.encode(), mode=0o600)
            try:
                runner.run([part.replace("%s", path) for part in file.validate], timeout_s=_VALIDATE_S)
            except CommandError as exc:
                said = (exc.stderr or exc.stdout).strip().replace(path, file.path)
                raise InvalidSpec(file.path, f"it is refused:\n{said}") from exc


def _check(file: Wanted) -> None:
    if not os.path.isabs(file.path) or os.path.normpath(file.path) != file.path:
        raise InvalidSpec("files.path", f"'{file.path}' is not an absolute, plain path")
    if file.validate and not any("%s" in part for part in file.validate):
        raise InvalidSpec("files.validate", "it needs %s where the file's path belongs")


def _look(file: Wanted, marker: str, going: t.Container[str]) -> tuple[Change | None, bool]:
    """Return what is to become of a file, None for nothing, and whether that is for us to do.

    ``going`` are files that will be away by then.
    """
    try:
        about = os.lstat(file.path)
    except (FileNotFoundError, NotADirectoryError):
        return (None if file.content is None else Change(file, None, None)), True
    if stat.S_ISDIR(about.st_mode):
        if file.content is not None:
            raise WrongState(f"{file.path} is a directory", hint="Move it away, then run the role again")
        with contextlib.suppress(FileNotFoundError):
            if all(os.path.join(file.path, name) in going for name in os.listdir(file.path)):
                return Change(file, "", None, directory=True), True
        return None, True
    if stat.S_ISLNK(about.st_mode):
        # As systemctl mask and update-alternatives make them: never written through, never taken away.
        return Change(file, f"link to {os.readlink(file.path)}\n", None), False
    with open(file.path, encoding="utf-8", errors="replace") as stream:
        before = stream.read()
    mode = about.st_mode & _MODE_BITS
    as_wanted = (before, mode, about.st_uid, about.st_gid) == (
        file.content,
        file.mode,
        os.geteuid(),
        os.getegid(),
    )
    if as_wanted:
        return None, True
    is_ours = file.owned or marker in before[:_HEAD_BYTES] or before == file.content
    return Change(file, before, mode), is_ours
