# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy the endpoint's database of records while it is in use, and give it back to an older version.

A database says in ``PRAGMA user_version`` which version of the tables it has, and in
``meta.readable_by`` the oldest that code may know to work with it.  The endpoint brings
a database to its own version when it opens it, so a copy tells what the endpoint that
used it knew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import time

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.files import sync_directory

_BUSY_S = 10.0
#: The database's own file first: without it what is left is found to be none, and this begins anew.
_SUFFIXES = ("", "-wal", "-shm")


@dataclasses.dataclass(frozen=True, slots=True)
class Tables:
    """Version of a database's tables, and the oldest version that code may know to work with it."""

    version: int
    readable_by: int


def look(path: str) -> Tables | None:
    """Return what a database says of itself; None without one, or with one that cannot be read."""
    if not os.path.exists(path):
        return None
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_connected(path)) as connection:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        found = connection.execute("SELECT value FROM meta WHERE key = 'readable_by'").fetchone()
        return Tables(version, version if found is None else int(found[0]))
    return None


def copy(path: str, to: str) -> Tables | None:
    """Copy a database, journal and all, as it is at one moment; None when there is nothing to copy.

    Raises CoreError when it cannot be read or the copy not written.
    """
    if not os.path.exists(path):
        return None
    try:
        with (
            contextlib.closing(_connected(path)) as source,
            contextlib.closing(sqlite3.connect(to)) as target,
        ):
            os.chmod(to, 0o600)
            source.backup(target)
            # Else the copy wants a journal of its own beside it.
            target.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as exc:
        raise CoreError(
            f"{path} cannot be copied to {to}: {exc}",
            hint="Look whether the endpoint is well and the disk has room, then run the play again",
        ) from exc
    return look(to)


def give_back(saved: str, path: str) -> str | None:
    """Put a copy in the place of a database that the version which used the copy cannot read.

    The newer one stays beside it under the name that is returned; None says that the
    version in question reads what is there, and nothing was done.  Nobody may have the
    database open.  What the newer version made since the copy has records of its own in
    sandboxes' directories and bundles, from which the endpoint takes it up again.
    """
    now, before = look(path), look(saved)
    if before is None or (now is not None and now.readable_by <= before.version):
        return None
    aside = f"{path}.newer-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(3).hex()}"
    temporary = f"{path}.{os.urandom(4).hex()}"
    _copy_file(saved, temporary)
    is_moved = False
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, aside + suffix)
            is_moved = True
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))
    return aside if is_moved else ""


def _connected(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        # It is somebody else's, and only looked at.
        connection.execute("PRAGMA query_only=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _copy_file(source: str, target: str) -> None:
    with open(source, "rb") as stream:
        content = stream.read()
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
