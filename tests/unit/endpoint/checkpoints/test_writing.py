# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives appear whole or not at all, and what a killed daemon left is cleared away."""

from __future__ import annotations

import errno
import json
import logging
import os
import pathlib
import stat
import tarfile
import types
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from pvecri.checkpoints import journal, writing

LOG = logging.getLogger("test")


class Crun:
    """Knows one paused container, and remembers who was resumed."""

    def __init__(self) -> None:
        self.resumed: list[str] = []

    def state(self, name: str) -> t.Any:
        if name == "gone":
            return None
        return types.SimpleNamespace(status=Status.RUNNING if name == "runs" else Status.PAUSED)

    def resume(self, name: str) -> None:
        self.resumed.append(name)
        if name == "broken":
            raise CoreError("no")


def test_write_archive(tmp_path: pathlib.Path) -> None:
    (tmp_path / "in/checkpoint").mkdir(parents=True)
    (tmp_path / "in/checkpoint/a.img").write_text("1")
    target = f"{tmp_path}/a.tar"
    temporary = writing.unfinished(target, "key")
    assert os.path.basename(temporary) == ".a.tar.key.unfinished"
    size = writing.write_archive(target, temporary, f"{tmp_path}/in")
    assert os.stat(target).st_size == size
    assert stat.S_IMODE(os.stat(target).st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "in"]
    with tarfile.open(target) as tar:
        assert sorted(tar.getnames()) == [".", "checkpoint", "checkpoint/a.img"]
        assert {(member.uid, member.uname) for member in tar} == {(0, "")}


def test_write_archive_that_fails(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "in").mkdir()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        writing.write_archive(f"{tmp_path}/a.tar", f"{tmp_path}/t", f"{tmp_path}/in")
    assert os.listdir(tmp_path) == ["in"]


def test_check_target(tmp_path: pathlib.Path) -> None:
    (tmp_path / "old").write_text("")
    os.symlink("old", tmp_path / "link")
    assert writing.check_target(f"{tmp_path}/./old", "f") == f"{tmp_path}/old"
    assert writing.check_target(f"{tmp_path}/new", "f") == f"{tmp_path}/new"
    for path in ("", "x", f"{tmp_path}/no/x", str(tmp_path), f"{tmp_path}/link", "/dev/null", "/"):
        with pytest.raises(InvalidSpec, match=r"^f: "):
            writing.check_target(path, "f")


def test_work_is_gone_afterwards(tmp_path: pathlib.Path) -> None:
    made = journal.Journal(str(tmp_path))
    assert made.left_over() == []
    with made.work(f"{tmp_path}/a.tar", ["c"]) as work:
        assert os.listdir(work.archive) == []
        [key] = made.left_over()
        entry = json.loads((tmp_path / "checkpoints" / key / "journal.json").read_text())
        assert entry == {"containers": ["c"], "temporary": f"{tmp_path}/.a.tar.{key}.unfinished"}
    assert made.left_over() == []


def test_clear(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_TRIES_S", (0.0, 0.0))
    made, crun = journal.Journal(str(tmp_path)), Crun()
    directory = tmp_path / "checkpoints" / "key"
    (directory / "archive").mkdir(parents=True)
    temporary = tmp_path / ".a.tar.key.unfinished"
    temporary.write_text("")
    entry = {"containers": ["one", "broken", "runs", "gone", "two"], "temporary": str(temporary)}
    (directory / "journal.json").write_text(json.dumps(entry))
    made.clear("key", t.cast("t.Any", crun), LOG)
    assert crun.resumed == ["one", "broken", "broken", "two"]
    assert not temporary.exists()
    assert made.left_over() == []


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"containers": [], "temporary": "/etc/passwd"}'])
def test_clear_of_a_damaged_journal(tmp_path: pathlib.Path, text: str | None) -> None:
    made = journal.Journal(str(tmp_path))
    (tmp_path / "checkpoints" / "key").mkdir(parents=True)
    if text is not None:
        (tmp_path / "checkpoints" / "key" / "journal.json").write_text(text)
    made.clear("key", t.cast("t.Any", Crun()), LOG)
    assert made.left_over() == []
    assert os.path.exists("/etc/passwd")
