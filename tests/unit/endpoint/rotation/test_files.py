# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move, pack and remove the files of a log."""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import pathlib
import typing as t

import pytest

from pvecri.rotation import files
from pvecri.rotation.files import LogFiles, has_writer


@pytest.fixture
def log(tmp_path: pathlib.Path) -> LogFiles:
    (tmp_path / "app.log").write_text("line\n")
    return LogFiles(str(tmp_path / "app.log"))


def _names(log: LogFiles) -> list[str]:
    return sorted(os.listdir(os.path.dirname(log.path)))


def _make(log: LogFiles, *suffixes: str) -> None:
    for suffix in suffixes:
        pathlib.Path(f"{log.path}.{suffix}").write_text(suffix)


def test_size_is_that_of_plain_files(log: LogFiles, tmp_path: pathlib.Path) -> None:
    assert log.size() == 5
    os.rename(log.path, tmp_path / "other")
    assert log.size() is None
    assert log.is_missing()
    os.symlink(tmp_path / "other", log.path)
    assert log.size() is None
    assert not log.is_missing()
    assert LogFiles(f"{tmp_path}/other/app.log").size() is None
    assert not LogFiles(f"{tmp_path}/none/app.log").is_missing()


def test_names_of_others_are_not_touched(log: LogFiles) -> None:
    _make(
        log,
        "20260101-010101",
        "20260101-010102.gz",
        "20260101-010103.gz.tmp",
        "tmp",
        "1",
        "gz",
        "20269901-010101",
    )
    pathlib.Path(f"{log.path}2.20260101-010101").write_text("")
    os.symlink("/etc/passwd", f"{log.path}.20260101-010109")
    assert [os.path.basename(path) for path in log.moved()] == [
        "app.log.20260101-010101",
        "app.log.20260101-010102.gz",
    ]


def test_move_gives_a_new_name(log: LogFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.time, "time", lambda: 1767323045.5)
    moved = log.move()
    assert moved == f"{log.path}.20260102-030405"
    assert _names(log) == ["app.log.20260102-030405"]


@pytest.mark.parametrize(
    ("there", "name"),
    [
        ("20260102-030405", "20260102-030406"),
        ("20260102-030405.gz", "20260102-030406"),
        # The clock was set back.
        ("20261231-235959.gz", "20270101-000000"),
        ("20260102-030404", "20260102-030405"),
    ],
)
def test_move_sorts_after_all_others(
    log: LogFiles, monkeypatch: pytest.MonkeyPatch, there: str, name: str
) -> None:
    monkeypatch.setattr(files.time, "time", lambda: 1767323045.5)
    _make(log, there)
    assert log.move() == f"{log.path}.{name}"
    assert log.moved()[-1].endswith(name)


def test_move_back_replaces_nothing(log: LogFiles) -> None:
    moved = log.move()
    assert log.move_back(moved)
    assert _names(log) == ["app.log"]
    moved = log.move()
    pathlib.Path(log.path).write_text("new")
    assert not log.move_back(moved)
    assert pathlib.Path(log.path).read_text() == "new"
    assert pathlib.Path(moved).read_text() == "line\n"


def test_excess_is_the_oldest(log: LogFiles) -> None:
    _make(log, "20260101-010101.gz", "20260101-010102.gz", "20260101-010103")
    assert log.remove_excess(5) == []
    assert log.remove_excess(2) == [f"{log.path}.20260101-010101.gz"]
    assert log.remove_excess(0) == [f"{log.path}.20260101-010102.gz", f"{log.path}.20260101-010103"]
    assert _names(log) == ["app.log"]


def test_pack_keeps_content_and_mode(log: LogFiles) -> None:
    _make(log, "20260101-010101", "20260101-010102.gz")
    path = f"{log.path}.20260101-010101"
    os.chmod(path, 0o604)
    log.pack()
    assert _names(log) == ["app.log", "app.log.20260101-010101.gz", "app.log.20260101-010102.gz"]
    with gzip.open(f"{path}.gz", "rt") as stream:
        assert stream.read() == "20260101-010101"
    assert os.stat(f"{path}.gz").st_mode & 0o777 == 0o604


def test_pack_waits_for_writers(log: LogFiles) -> None:
    _make(log, "20260101-010101")
    path = f"{log.path}.20260101-010101"
    with open(path, "a", encoding="ascii"):
        assert has_writer(path)
        log.pack()
        assert os.path.exists(path)
    assert not has_writer(path)
    log.pack()
    assert not os.path.exists(path)


def test_writers_of_file_systems_without_leases_are_none(
    log: LogFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_unused: t.Any) -> t.NoReturn:
        raise OSError(errno.EINVAL, "no leases here")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert not has_writer(log.path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_came_in_the_place_of_a_log_is_not_packed(
    log: LogFiles, monkeypatch: pytest.MonkeyPatch, make: t.Callable[[str], None]
) -> None:
    moved = log.move()
    monkeypatch.setattr(log, "moved", lambda: [moved])
    os.unlink(moved)
    make(moved)
    with pytest.raises(OSError, match=r"no regular file|symbolic links"):
        log.pack()
    assert _names(log) == [os.path.basename(moved)]


def test_tidy_ends_what_a_killed_run_began(log: LogFiles) -> None:
    _make(log, "20260101-010101", "20260101-010101.gz", "20260101-010102", "20260101-010102.gz.tmp")
    log.tidy()
    assert _names(log) == ["app.log", "app.log.20260101-010101.gz", "app.log.20260101-010102"]
