# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring changes to disk, whatever becomes of the disk.

What is known already when it is written, an end or a removal, may be written later: on a
full disk those are what makes room.  A database file that turns out damaged is moved
aside and written anew from memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import typing as t

from pvecri.state.database import Database, DatabaseDamagedError, set_aside
from pvecri.state.table import Table

_log = logging.getLogger(__name__)

T = t.TypeVar("T")

AnyTable = Table[t.Any, t.Any]

_BOOT_ID: t.Final = "boot_id"


class Journal:
    """The database of the tables that are in memory; used under the registry's lock."""

    def __init__(self, database: Database, tables: t.Sequence[AnyTable]) -> None:
        self._database = database
        self._tables = tables
        #: Objects whose change or removal is yet to be written.
        self._late: dict[tuple[str, str], AnyTable] = {}
        self._late_boot_id = False
        #: The file was damaged, and could not be moved or written anew.
        self._is_lost = False
        self._boot_id = str(database.note(_BOOT_ID) or "")

    def load(self) -> None:
        """Take the tables up as the database has them."""
        for table in self._tables:
            table.load(self._database)

    @property
    def was_set_aside(self) -> str | None:
        """Where a damaged database was moved to when this one was opened."""
        return self._database.was_set_aside

    @property
    def boot_id(self) -> str:
        """The boot of the host in which the records were last looked through; empty: never."""
        return self._boot_id

    def note_boot_id(self, value: str) -> None:
        """Keep the boot; on a full disk it is written before anything new is, or nothing new is."""
        if value == self._boot_id:
            return
        self._boot_id = value
        self._late_boot_id = True
        try:
            self.write(_nothing)
        except OSError as exc:
            _log.error("that records were looked through is written later: %s", exc)

    def write(self, act: t.Callable[[Database], T]) -> T:
        """Do a write, after what is late; raises OSError when there is no space."""
        try:
            if self._is_lost:
                self._begin_anew()
            self._catch_up()
            return act(self._database)
        except DatabaseDamagedError as exc:
            path = self._database.path
            with contextlib.suppress(Exception):
                self._database.close()
            self._is_lost = True
            aside = set_aside(path)
            _log.error("database %s is damaged (%s); it was moved to %s", path, exc, aside)
            self._begin_anew()
            return act(self._database)

    def put_off(self, table: AnyTable, object_id: str, problem: OSError) -> None:
        """Write later what became of an object."""
        _log.error("what became of %s %s is written later: %s", table.what, object_id, problem)
        self._late[table.name, object_id] = table

    def close(self) -> None:
        """Write what is late, if it can be, and close the database."""
        with contextlib.suppress(OSError):
            self.write(_nothing)
        self._database.close()

    def _catch_up(self) -> None:
        """Write what could not be written when it was due."""
        if self._late_boot_id:
            self._database.set_note(_BOOT_ID, self._boot_id)
            self._late_boot_id = False
        for (name, object_id), table in list(self._late.items()):
            table.write(self._database, object_id)
            del self._late[name, object_id]

    def _begin_anew(self) -> None:
        """Write all that is in memory into a new database; raises OSError, and is to be tried again then."""
        path = self._database.path
        for name in (f"{path}-wal", f"{path}-shm", path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        database = Database.open(path)
        try:
            for table in self._tables:
                table.rewrite(database)
            database.set_note(_BOOT_ID, self._boot_id)
        except BaseException:
            database.close()
            raise
        self._database = database
        self._late.clear()
        self._late_boot_id = self._is_lost = False


def _nothing(_database: Database) -> None:
    """Write nothing: what is late is written before it."""
