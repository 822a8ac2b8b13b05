# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import sqlite3

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.rollback import point, records


def make(path: pathlib.Path, version: int, readable_by: int | None, row: str) -> sqlite3.Connection:
    """Make a database as an endpoint of that version does, and keep it open."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value NOT NULL)")
    connection.execute("CREATE TABLE IF NOT EXISTS containers (id TEXT PRIMARY KEY)")
    connection.execute("INSERT INTO containers VALUES (?)", (row,))
    if readable_by is not None:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('readable_by', ?)", (readable_by,))
    connection.execute(f"PRAGMA user_version={version}")
    return connection


def rows(path: pathlib.Path) -> list[str]:
    """Return what a database that nobody has open holds."""
    with sqlite3.connect(path) as connection:
        found = [row[0] for row in connection.execute("SELECT id FROM containers ORDER BY id")]
    connection.close()
    return found


def test_copy_takes_what_is_in_the_journal_only(tmp_path: pathlib.Path) -> None:
    connection = make(tmp_path / "db", 1, 1, "one")
    assert records.copy(str(tmp_path / "db"), str(tmp_path / "copy")) == records.Tables(1, 1)
    connection.execute("INSERT INTO containers VALUES ('later')")
    connection.close()
    assert rows(tmp_path / "copy") == ["one"]
    assert os.stat(tmp_path / "copy").st_mode & 0o777 == 0o600
    assert rows(tmp_path / "db") == ["later", "one"]


def test_copy_without_a_database(tmp_path: pathlib.Path) -> None:
    assert records.copy(str(tmp_path / "db"), str(tmp_path / "copy")) is None
    assert not (tmp_path / "copy").exists()


def test_copy_of_what_is_no_database(tmp_path: pathlib.Path) -> None:
    (tmp_path / "db").write_text("no database, but long enough to be taken for one" * 40)
    with pytest.raises(CoreError, match="cannot be copied"):
        records.copy(str(tmp_path / "db"), str(tmp_path / "copy"))


@pytest.mark.parametrize(
    ("version", "readable_by", "stays"),
    [
        (1, 1, True),  # the same tables
        (2, 1, True),  # newer ones that the former version can work with
        (3, 2, False),  # newer ones that it cannot
        (2, None, False),  # newer ones that do not say
    ],
)
def test_give_back(tmp_path: pathlib.Path, version: int, readable_by: int | None, stays: bool) -> None:
    path, copy = tmp_path / "db", tmp_path / "copy"
    make(path, 1, 1, "before").close()
    records.copy(str(path), str(copy))
    connection = make(path, version, readable_by, "since")
    if readable_by is None:
        connection.execute("DELETE FROM meta")
    connection.close()
    aside = records.give_back(str(copy), str(path))
    if stays:
        assert aside is None
        assert rows(path) == ["before", "since"]
        return
    assert aside is not None
    assert rows(path) == ["before"]
    assert rows(pathlib.Path(aside)) == ["before", "since"]
    assert records.give_back(str(copy), str(path)) is None


def test_give_back_takes_the_journal_with_the_newer_database(tmp_path: pathlib.Path) -> None:
    path, copy = tmp_path / "db", tmp_path / "copy"
    make(path, 1, 1, "before").close()
    records.copy(str(path), str(copy))
    crashed = make(path, 3, 3, "since")
    crashed.execute("INSERT INTO containers VALUES ('in the journal')")
    # As a killed endpoint leaves it.
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"dead{suffix}").write_bytes((tmp_path / f"db{suffix}").read_bytes())
    crashed.close()
    aside = records.give_back(str(copy), str(tmp_path / "dead"))
    assert aside is not None
    assert not (tmp_path / "dead-wal").exists()
    assert rows(tmp_path / "dead") == ["before"]
    assert rows(pathlib.Path(aside)) == ["before", "in the journal", "since"]


def test_give_back_goes_on_after_a_kill(tmp_path: pathlib.Path) -> None:
    path, copy = tmp_path / "db", tmp_path / "copy"
    make(path, 1, 1, "before").close()
    records.copy(str(path), str(copy))
    # Killed when the newer one had been moved away, and its journal not yet.
    path.unlink()
    (tmp_path / "db-wal").write_bytes(b"left")
    assert records.give_back(str(copy), str(path))
    assert rows(path) == ["before"]


def test_a_point_gives_the_database_back(tmp_path: pathlib.Path) -> None:
    path, directory = tmp_path / "db", str(tmp_path / "kept" / "point")
    make(path, 1, 1, "before").close()
    assert point.save(directory, ["/nothing/there"], facts={}, database=str(path)).database == str(path)
    make(path, 3, 3, "since").close()
    there = point.load(directory)
    assert there is not None
    changed, aside = point.restore(there)
    assert changed == []
    assert aside
    assert rows(path) == ["before"]


def test_a_point_without_a_database(tmp_path: pathlib.Path) -> None:
    directory = str(tmp_path / "kept" / "point")
    saved = point.save(directory, ["/nothing/there"], facts={}, database=str(tmp_path / "none"))
    assert saved.database == ""
    make(tmp_path / "none", 3, 3, "since").close()
    assert point.restore(saved) == ([], None)
