# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep releases of the endpoint side by side: unpack them whole, switch between them, remove those left over.

    LIB_DIR/releases/<release>/   complete as soon as it has this name; RELEASE in it says what it is
    LIB_DIR/current               link to the one that counts

A process that runs a release holds a shared lock on its RELEASE file, so that it is
never removed under it.
"""

from __future__ import annotations

import compileall
import contextlib
import dataclasses
import json
import os
import py_compile
import re
import shutil
import tarfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CoreError,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import (
    is_locked,
    link_atomic,
    locked,
    remove_tree,
    sync_directory,
    write_atomic,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.rollback import point

LIB_DIR = "/usr/lib/pvecri"
PROGRAM_LINK = "/usr/local/sbin/pvecri"
PROGRAM = "bin/pvecri"
MARK = "RELEASE"
CURRENT = "current"
ROLLBACK = "rollback"

#: A version, a dash, and digits of a hash.
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~]*-[0-9a-f]{12}")
_TEMPORARY = ".new-"


@dataclasses.dataclass(frozen=True, slots=True)
class Actual:
    """What a host has."""

    #: Names of whole releases, the one that was made last first.
    releases: tuple[str, ...] = ()
    #: The release that ``current`` leads to, if that is whole.
    current: str | None = None
    #: Where the program's link leads, None without one.
    program: str | None = None
    #: What interrupted runs left in the directory of releases.
    rubbish: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do."""

    unpack: str | None = None
    activate: str | None = None
    link_program: bool = False
    remove: tuple[str, ...] = ()
    sweep: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is anything to do that counts as a change."""
        return bool(self.unpack or self.activate or self.link_program or self.remove)


def check_name(release: str) -> None:
    """Raise InvalidSpec for what is no name of a release."""
    if not _NAME.fullmatch(release):
        raise InvalidSpec("release", f"'{release}' is no release, such as 0.1.0-0123456789ab")


def read(lib_dir: str = LIB_DIR, program_link: str = PROGRAM_LINK) -> Actual:
    """Look at a host."""
    base = os.path.join(lib_dir, "releases")
    made: list[tuple[float, str]] = []
    rubbish = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(base):
            mark = os.path.join(base, name, MARK)
            if _NAME.fullmatch(name) and os.path.isfile(mark):
                made.append((os.stat(mark).st_mtime, name))
            elif name.startswith(_TEMPORARY) or _NAME.fullmatch(name):
                rubbish.append(name)
    names = tuple(name for _unused, name in sorted(made, reverse=True))
    target = _link(os.path.join(lib_dir, CURRENT))
    current = os.path.basename(target) if target and os.path.dirname(target) == "releases" else None
    return Actual(names, current if current in names else None, _link(program_link), tuple(sorted(rubbish)))


def plan(
    actual: Actual, release: str, *, activate: bool, keep: int, program: str, in_use: t.Container[str] = ()
) -> Plan:
    """Say how to get ``release``, with at most ``keep`` others beside the one that counts."""
    current = release if activate else actual.current
    others = [name for name in actual.releases if name not in {release, current}]
    # The one that was in use until now is the way back: it stays before those that are younger.
    if actual.current in others:
        others.sort(key=lambda name: name != actual.current)
    return Plan(
        unpack=None if release in actual.releases else release,
        activate=release if activate and actual.current != release else None,
        link_program=activate and actual.program != program,
        remove=tuple(name for name in others[keep:] if name not in in_use),
        sweep=actual.rubbish,
    )


def apply(plan_: Plan, *, lib_dir: str, program_link: str, archive: str | None) -> None:
    """Do what a plan says; what is interrupted is completed by the next run."""
    base = os.path.join(lib_dir, "releases")
    for name in plan_.sweep:
        remove_tree(os.path.join(base, name))
    if plan_.unpack:
        if archive is None:
            raise NotFound(
                f"this host has no release {plan_.unpack} and was given none",
                hint="Name one that is in 'releases', or run the role, which brings it",
            )
        unpack(archive, base, plan_.unpack)
    if plan_.activate:
        link_atomic(os.path.join(lib_dir, CURRENT), os.path.join("releases", plan_.activate))
    if plan_.link_program:
        existing = _link(program_link)
        if existing is None and os.path.lexists(program_link):
            raise WrongState(
                f"{program_link} is not a link of ours", hint="Move it away, then run the role again"
            )
        os.makedirs(os.path.dirname(program_link), exist_ok=True)
        link_atomic(program_link, os.path.join(lib_dir, CURRENT, PROGRAM))
    for name in plan_.remove:
        remove(base, name)


def unpack(archive: str, base: str, release: str) -> None:
    """Unpack a packed release below ``base``; it has its name only when all of it is there, compiled."""
    os.makedirs(base, mode=0o755, exist_ok=True)
    temporary = os.path.join(base, f"{_TEMPORARY}{release}")
    with contextlib.suppress(FileNotFoundError):
        remove_tree(temporary)
    os.mkdir(temporary, 0o755)
    with tarfile.open(archive) as tar:
        for member in tar:
            _extract(tar, member, temporary)
    # Never looked at again whether a source is newer: releases do not change, and imports are quicker.
    compiled = compileall.compile_dir(
        temporary,
        quiet=1,
        stripdir=temporary,
        prependdir=os.path.join(base, release),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not compiled:
        raise WrongState(f"release {release} does not compile under this Python")
    about = {"version": release.rpartition("-")[0], "release": release}
    os.sync()
    write_atomic(os.path.join(temporary, MARK), json.dumps(about).encode() + b"\n", durable=True)
    with contextlib.suppress(FileNotFoundError):
        remove_tree(os.path.join(base, release))
    os.rename(temporary, os.path.join(base, release))
    sync_directory(base)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: str) -> None:
    """Write one member; tarfile's own filters are not in every Python 3.11 of Debian."""
    path = os.path.join(folder, member.name)
    if os.path.relpath(path, folder).startswith("..") or os.path.isabs(member.name):
        raise InvalidSpec("src", f"the archive has a member outside of the release: {member.name}")
    stream = tar.extractfile(member) if member.isreg() else None
    if stream is not None:
        with open(path, "xb") as file:
            shutil.copyfileobj(stream, file)
        os.chmod(path, member.mode & 0o755)
    elif member.isdir():
        os.mkdir(path)
        os.chmod(path, 0o755)  # noqa: S103 - what everybody may run
    else:
        raise InvalidSpec("src", f"the archive has a member that is no file: {member.name}")


def remove(base: str, name: str) -> None:
    """Remove a release; from the first moment on it does not count as one any more."""
    gone = os.path.join(base, f"{_TEMPORARY}{name}")
    with contextlib.suppress(FileNotFoundError):
        remove_tree(gone)
    os.rename(os.path.join(base, name), gone)
    remove_tree(gone)


def remove_all(lib_dir: str, program_link: str) -> None:
    """Remove all releases with everything that lies beside them, and the program's link if it is ours."""
    if is_own_link(lib_dir, program_link):
        os.unlink(program_link)
    with contextlib.suppress(FileNotFoundError):
        # First, so that what is left of an interrupted removal is no installation any more.
        os.unlink(os.path.join(lib_dir, CURRENT))
    with contextlib.suppress(FileNotFoundError):
        remove_tree(lib_dir)


def is_own_link(lib_dir: str, program_link: str) -> bool:
    """Say whether the program's link leads to a release of ours."""
    return (_link(program_link) or "").startswith(f"{lib_dir}/")


def in_use(lib_dir: str, releases: t.Iterable[str]) -> set[str]:
    """Return the releases of which a process runs."""
    return {name for name in releases if is_locked(os.path.join(lib_dir, "releases", name, MARK))}


def way_back(lib_dir: str) -> set[str]:
    """Return the release that an upgrade which has not ended well would go back to."""
    # One that cannot be read leads nowhere.
    with contextlib.suppress(CoreError):
        kept = point.load(os.path.join(lib_dir, ROLLBACK))
        if kept and (link := kept.entries.get(os.path.join(lib_dir, CURRENT))):
            return {os.path.basename(link.target)}
    return set()


def guarded(lib_dir: str) -> t.ContextManager[None]:
    """Hold off other runs that change releases."""
    return locked(os.path.join(lib_dir, ".lock"), what="releases")


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
