# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
import pathlib
import sqlite3

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported
from pvecri.state import database as module
from pvecri.state.database import Database, DatabaseDamagedError, Row

HEADER = 100


def version(database):
    return database._connection.execute("PRAGMA user_version").fetchone()[0]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "state" / "x.sqlite")


def test_database_keeps_objects_in_their_order(path: str) -> None:
    database = Database.open(path)
    for name in ("b", "a", "c"):
        database.insert("containers", name, f"name-{name}", "{}", name.encode())
    database.update("containers", "a", '{"x":1}')
    database.update("containers", "c", "{}", b"new config")
    database.delete("containers", "b")
    database.close()
    assert Database.open(path).load("containers") == [
        Row("a", "name-a", '{"x":1}', b"a"),
        Row("c", "name-c", "{}", b"new config"),
    ]


def test_database_is_for_root_alone_and_journals_ahead(path: str) -> None:
    database = Database.open(path)
    database.set_note("a", "b")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.path.exists(path + "-wal")
    assert version(database) == module.SCHEMA


def test_database_keeps_notes(path: str) -> None:
    database = Database.open(path)
    assert database.note("boot_id") is None
    database.set_note("boot_id", "x")
    database.set_note("boot_id", "y")
    database.close()
    assert Database.open(path).note("boot_id") == "y"


def test_database_undoes_half_a_change(path: str) -> None:
    database = Database.open(path)
    database.insert("sandboxes", "1", "one", "{}", b"")
    with pytest.raises(OSError, match="UNIQUE") as caught:
        database.insert("sandboxes", "2", "one", "{}", b"config of 2")
    assert caught.value.errno == errno.EIO
    assert [row.id for row in database.load("sandboxes")] == ["1"]
    database.insert("sandboxes", "2", "two", "{}", b"config of 2")
    assert [row.id for row in database.load("sandboxes")] == ["1", "2"]


def test_database_tells_of_a_full_disk(path: str) -> None:
    database = Database.open(path)
    pages = database._connection.execute("PRAGMA page_count").fetchone()[0]
    database._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(OSError, match="full") as caught:
        database.insert("sandboxes", "1", "one", "x" * 100_000, b"")
    assert caught.value.errno == errno.ENOSPC
    assert database.load("sandboxes") == []


@pytest.mark.parametrize("damage", ["header", "tree", "empty pages"])
def test_database_that_is_damaged_is_moved_aside(path: str, damage: str) -> None:
    database = Database.open(path)
    for number in range(200):
        database.insert("sandboxes", str(number), f"name {number}", "r" * 500, b"c")
    database.close()
    with open(path, "r+b") as stream:
        content = stream.read()
        if damage == "header":
            stream.seek(0)
            stream.write(b"no database at all")
        elif damage == "tree":
            stream.seek(HEADER)
            stream.write(os.urandom(3000))
        else:
            stream.seek(8192)
            stream.write(bytes(len(content) - 8192))
    with open(path, "rb") as stream:
        broken = stream.read()
    opened = Database.open(path)
    assert opened.was_set_aside is not None
    with open(opened.was_set_aside, "rb") as stream:
        assert stream.read() == broken
    assert opened.load("sandboxes") == []
    opened.insert("sandboxes", "1", "one", "{}", b"")
    opened.close()
    again = Database.open(path)
    assert again.was_set_aside is None
    assert len(again.load("sandboxes")) == 1


def test_database_that_is_damaged_takes_its_journal_along(path: str) -> None:
    database = Database.open(path)
    database.insert("sandboxes", "1", "one", "{}", b"")
    with open(path, "r+b") as stream:
        stream.write(b"no database at all")
    aside = module.set_aside(path)
    assert os.path.exists(aside)
    assert os.path.exists(aside + "-wal")
    assert not os.path.exists(path + "-wal")


def test_database_survives_a_process_that_dies_after_a_write(path: str, tmp_path: pathlib.Path) -> None:
    database = Database.open(path)
    database.insert("sandboxes", "1", "one", "{}", b"config")
    # What a kill leaves: the journal was never merged.
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        (copy / f"x.sqlite{suffix}").write_bytes(pathlib.Path(path + suffix).read_bytes())
    assert Database.open(str(copy / "x.sqlite")).load("sandboxes") == [Row("1", "one", "{}", b"config")]


def test_database_of_the_next_version_is_used_and_kept(path: str) -> None:
    Database.open(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("ALTER TABLE sandboxes ADD COLUMN colour TEXT DEFAULT 'blue'")
    connection.execute("INSERT INTO sandboxes VALUES ('1', 'one', '{}', 'red')")
    connection.execute(f"PRAGMA user_version = {module.SCHEMA + 1}")
    connection.close()
    database = Database.open(path)
    database.update("sandboxes", "1", '{"a":1}')
    database.insert("sandboxes", "2", "two", "{}", b"")
    database.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT id, record, colour FROM sandboxes").fetchall() == [
        ("1", '{"a":1}', "red"),
        ("2", "{}", "blue"),
    ]
    assert connection.execute("PRAGMA user_version").fetchone() == (module.SCHEMA + 1,)


@pytest.mark.parametrize(
    "statement", ["UPDATE meta SET value = 99 WHERE key = 'readable_by'", "DELETE FROM meta"]
)
def test_database_of_a_version_too_new_is_refused_untouched(path: str, statement: str) -> None:
    Database.open(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {module.SCHEMA + 2}")
    connection.close()
    with pytest.raises(Unsupported, match="newer version"):
        Database.open(path)
    assert os.listdir(os.path.dirname(path)) == ["x.sqlite"]


def test_database_is_migrated_step_by_step(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database.open(path)
    database.insert("sandboxes", "1", "one", "{}", b"")
    database.close()
    monkeypatch.setattr(
        module, "MIGRATIONS", (*module.MIGRATIONS, "ALTER TABLE sandboxes ADD COLUMN a DEFAULT 5")
    )
    monkeypatch.setattr(module, "SCHEMA", module.SCHEMA + 1)
    database = Database.open(path)
    assert version(database) == module.SCHEMA
    assert database._connection.execute("SELECT a FROM sandboxes").fetchall() == [(5,)]
    assert [row.id for row in database.load("sandboxes")] == ["1"]


def test_database_keeps_damaged_rows_apart(path: str) -> None:
    database = Database.open(path)
    database.insert("sandboxes", "1", "one", "not json", b"config")
    (row,) = database.load("sandboxes")
    database.keep_damaged(row)
    database.update("sandboxes", "1", "{}")
    database.keep_damaged(database.load("sandboxes")[0])
    kept = database._connection.execute("SELECT id, record, config FROM damaged").fetchall()
    assert kept == [("1", "not json", b"config")]
    database.delete("sandboxes", "1")
    assert database._connection.execute("SELECT * FROM damaged").fetchall() == []


def test_database_gives_bytes_where_text_is_no_text(path: str) -> None:
    database = Database.open(path)
    database._connection.execute("INSERT INTO sandboxes VALUES (5, 'x', CAST(x'ff' AS TEXT))")
    assert database.load("sandboxes") == [Row("5", "x", b"\xff", None)]


def test_database_that_was_closed_says_so(path: str) -> None:
    database = Database.open(path)
    database.close()
    with pytest.raises(OSError, match="closed"):
        database.load("sandboxes")


def test_database_damage_while_running_is_told_apart(path: str) -> None:
    database = Database.open(path)
    for number in range(200):
        database.insert("sandboxes", str(number), f"name {number}", "r" * 500, b"c")
    database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(path, "r+b") as stream:
        stream.seek(HEADER)
        stream.write(os.urandom(400_000))
    database._connection.execute("PRAGMA cache_size = 0")
    with pytest.raises(DatabaseDamagedError):
        _write_all(database)


def _write_all(database: Database) -> None:
    for number in range(200):
        database.update("sandboxes", str(number), "{}")
