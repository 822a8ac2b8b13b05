# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep records in SQLite: small rows that a kill at any moment leaves whole.

The journal is a write-ahead log with ``synchronous=NORMAL``: a commit costs no
fsync.  When the process dies nothing is lost, since what was written is in the
kernel's hands.  A power cut can take the last commits, never the file's
consistency.  That is enough, because a power cut ends every container and network
namespace too; what is still to be told or undone then stands in files of its own:
CNI's attachments (synced one by one), the bundles with their records, crun's
records and the sandboxes' spare records.  Recovery takes up what has no row here.

A version reads what the next one wrote: columns and keys that it does not know stay
as they are.  A database whose ``readable_by`` says otherwise is refused, not touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import sqlite3
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported

_log = logging.getLogger(__name__)

#: Each entry leads from one version of the tables to the next; entries are only ever added.
MIGRATIONS: t.Final = (
    """
    CREATE TABLE sandboxes (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL);
    CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL);
    CREATE TABLE configs (id TEXT PRIMARY KEY, config BLOB NOT NULL);
    CREATE TABLE damaged (id TEXT PRIMARY KEY, record, config, seen_at INTEGER NOT NULL);
    """,
)

#: The version of the tables that this code writes, and the oldest code that can work with them.
SCHEMA: t.Final = len(MIGRATIONS)
READABLE_BY: t.Final = max(1, SCHEMA - 1)

#: Answers of SQLite that mean the file itself makes no sense.
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY_S = 10.0


class DatabaseDamagedError(Exception):
    """The database file cannot be used; the caller moves it aside and makes another."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One object as it is stored; values are as SQLite has them, whatever they are."""

    id: t.Any
    name: t.Any
    record: t.Any
    config: t.Any


class Database:
    """The tables ``sandboxes`` and ``containers`` with their configs; every call is one transaction."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.path = path
        #: Where a damaged predecessor was moved to.
        self.was_set_aside: str | None = None
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str) -> Database:
        """Open the database of ``path``, making or migrating it where needed.

        One that is damaged is moved aside, with a warning, and a new one begun: `was_set_aside`
        tells where it went.  Raises Unsupported for one of a version that is too new.
        """
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        try:
            return cls._opened(path)
        except DatabaseDamagedError as exc:
            aside = set_aside(path)
            _log.error("database %s is damaged (%s); it was moved to %s", path, exc, aside)
            database = cls._opened(path)
            database.was_set_aside = aside
            return database

    @classmethod
    def _opened(cls, path: str) -> Database:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        try:
            return cls(path, _connected(path))
        except OSError as exc:
            # What readers share of the write-ahead log wants a little space.  Alone we want none, and can
            # serve removals, which make some.
            _log.warning("database %s cannot be opened (%s); trying without space for others", path, exc)
            return cls(path, _connected(path, alone=True))

    def close(self) -> None:
        """Close the file; the write-ahead log is merged into it."""
        with self._lock:
            self._connection.close()

    def load(self, table: str) -> list[Row]:
        """Return all rows of a table in the order they were made."""
        # A row's text may be no text: it is looked at by whoever reads it.
        query = (
            f"SELECT o.id, o.name, o.record, c.config FROM {table} o "  # noqa: S608
            "LEFT JOIN configs c ON c.id = o.id ORDER BY o.rowid"
        )
        with self._lock, _translated(self.path):
            self._connection.text_factory = _text_or_bytes
            return [Row(*values) for values in self._connection.execute(query)]

    def insert(self, table: str, object_id: str, name: str, record: str, config: bytes) -> None:
        """Add an object."""
        with self._transaction() as connection:
            connection.execute(
                f"INSERT INTO {table} (id, name, record) VALUES (?, ?, ?)",  # noqa: S608
                (object_id, name, record),
            )
            connection.execute(
                "INSERT OR REPLACE INTO configs (id, config) VALUES (?, ?)", (object_id, config)
            )

    def update(self, table: str, object_id: str, record: str, config: bytes | None = None) -> None:
        """Replace an object's record, and its config where one is given."""
        statement = f"UPDATE {table} SET record = ? WHERE id = ?"  # noqa: S608
        if config is None:
            with self._lock, _translated(self.path):
                self._connection.execute(statement, (record, object_id))
            return
        with self._transaction() as connection:
            connection.execute(statement, (record, object_id))
            connection.execute(
                "INSERT OR REPLACE INTO configs (id, config) VALUES (?, ?)", (object_id, config)
            )

    def delete(self, table: str, object_id: str) -> None:
        """Remove an object; one that is gone already is fine."""
        with self._transaction() as connection:
            connection.execute(f"DELETE FROM {table} WHERE id = ?", (object_id,))  # noqa: S608
            connection.execute("DELETE FROM configs WHERE id = ?", (object_id,))
            connection.execute("DELETE FROM damaged WHERE id = ?", (object_id,))

    def keep_damaged(self, row: Row) -> None:
        """Copy a row that cannot be read to where no update will reach it."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO damaged (id, record, config, seen_at) VALUES (?, ?, ?, ?)",
                (row.id, row.record, row.config, time.time_ns()),
            )

    def note(self, key: str) -> t.Any:
        """Return a value that `set_note` left, or None."""
        with self._lock, _translated(self.path):
            found = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def set_note(self, key: str, value: str) -> None:
        """Keep a value that belongs to no object."""
        with self._lock, _translated(self.path):
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @contextlib.contextmanager
    def _transaction(self) -> t.Iterator[sqlite3.Connection]:
        with self._lock, _translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


def set_aside(path: str) -> str:
    """Move a database with its journal out of the way, under a name that says when, and return that."""
    aside = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(3).hex()}"
    # The journal first: without it the file stays what it was, and the next start comes here again.
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, aside + suffix)
    return aside


def _connected(path: str, *, alone: bool = False) -> sqlite3.Connection:
    """Open a database file; ``alone`` nobody else can read it meanwhile."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False, isolation_level=None)
    try:
        with _translated(path):
            if alone:
                # Before anything is read: then the log's index stays in memory (wal.html, section 8).
                connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    # Two files at most grow with a crowd of objects, and need not be given back.
    connection.execute("PRAGMA journal_size_limit=67108864")
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise DatabaseDamagedError(str(problem))
    connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value NOT NULL)")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA:
        found = connection.execute("SELECT value FROM meta WHERE key = 'readable_by'").fetchone()
        if found is None or found[0] > SCHEMA:
            raise Unsupported(
                f"{path} was written by a newer version (tables {version}, this one knows {SCHEMA})",
                hint="Install the newer version again",
            )
        _log.warning("%s was written by a newer version; what this one does not know is kept", path)
        return
    for number in range(version, SCHEMA):
        connection.execute("BEGIN IMMEDIATE")
        for statement in MIGRATIONS[number].split(";"):
            connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('readable_by', ?)", (READABLE_BY,))
        connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


@contextlib.contextmanager
def _translated(path: str) -> t.Iterator[None]:
    """Raise what SQLite complains of as what it means: a damaged file, or a failure to write."""
    try:
        yield
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGED:
            raise DatabaseDamagedError(str(exc)) from exc
        number = errno.ENOSPC if code == sqlite3.SQLITE_FULL else errno.EIO
        raise OSError(number, f"database: {exc}", path) from exc
