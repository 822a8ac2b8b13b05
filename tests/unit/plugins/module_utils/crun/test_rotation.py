# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Older log files, step by step, and the keeper's bookkeeping."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import rotation


@pytest.fixture
def log(tmp_path: pathlib.Path) -> pathlib.Path:
    """A log in a directory of its own."""
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory / "a.log"


def replace(log: pathlib.Path, text: str) -> None:
    """Begin a new file as conmon does."""
    temporary = log.with_name(log.name + ".tmp")
    temporary.write_text(text)
    temporary.rename(log)


def content(log: pathlib.Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(log.parent.iterdir())}


def test_settle_before_there_is_a_log(log: pathlib.Path) -> None:
    assert rotation.settle(str(log), 3) is False
    assert content(log) == {}


def test_settle_numbers_what_was_replaced(log: pathlib.Path) -> None:
    log.write_text("one")
    assert rotation.settle(str(log), 3) is False
    assert rotation.settle(str(log), 3) is False
    replace(log, "two")
    assert rotation.settle(str(log), 3) is True
    assert content(log) == {".a.log.held": "two", "a.log": "two", "a.log.1": "one"}
    for text in ("three", "four"):
        replace(log, text)
        assert rotation.settle(str(log), 3) is True
    assert content(log) == {".a.log.held": "four", "a.log": "four", "a.log.1": "three", "a.log.2": "two"}
    rotation.release(str(log))
    rotation.release(str(log))
    assert ".a.log.held" not in content(log)


def test_settle_after_the_log_was_removed(log: pathlib.Path) -> None:
    log.write_text("one")
    rotation.settle(str(log), 3)
    log.unlink()
    assert rotation.settle(str(log), 3) is False


def test_settle_with_one_file_keeps_none(log: pathlib.Path) -> None:
    log.write_text("one")
    rotation.settle(str(log), 1)
    replace(log, "two")
    rotation.settle(str(log), 1)
    assert set(content(log)) == {".a.log.held", "a.log"}


def test_settle_without_hard_links(log: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_text("one")

    def link(*_paths: str) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", link)
    assert rotation.settle(str(log), 3) is False


def test_a_kill_between_two_moves_loses_nothing(log: pathlib.Path) -> None:
    for name, text in (("a.log.2", "two"), ("a.log.3", "three"), ("a.log", "now"), (".a.log.held", "held")):
        (log.parent / name).write_text(text)
    rotation.settle(str(log), 5)
    assert content(log) == {
        ".a.log.held": "now",
        "a.log": "now",
        "a.log.1": "held",
        "a.log.2": "two",
        "a.log.3": "three",
    }


def test_begin_moves_the_log_of_an_earlier_life(log: pathlib.Path) -> None:
    rotation.begin(str(log), 3)
    log.write_text("one")
    rotation.settle(str(log), 3)
    replace(log, "two")
    rotation.begin(str(log), 3)
    assert content(log) == {"a.log.1": "two", "a.log.2": "one"}
    log.write_text("")
    rotation.begin(str(log), 3)
    assert content(log) == {"a.log": "", "a.log.1": "two", "a.log.2": "one"}


class Keeper:
    """A keeper in a thread, and the files it reads."""

    def __init__(self, top: pathlib.Path) -> None:
        self.records, self.exits, self.logs = top / "records", top / "exits", top / "logs"
        for directory in (self.records, self.exits, self.logs):
            directory.mkdir()
        self.lock = str(top / "lock")

    def add(self, name: str, **changes: t.Any) -> pathlib.Path:
        log = self.logs / f"{name}.log"
        record = {
            "name": name,
            "boot_id": "b",
            "log_size_max": 9,
            "log_max_files": 3,
            "log_path": str(log),
            **changes,
        }
        temporary = self.records / f".{name}"
        temporary.write_text(json.dumps(record))
        temporary.rename(self.records / f"{name}.json")
        return log

    def end(self, name: str) -> None:
        temporary = self.exits / f".{name}"
        temporary.write_text("0")
        temporary.rename(self.exits / name)

    def active(self) -> dict[str, int]:
        return rotation._active_logs(str(self.records), str(self.exits), "b")

    def keep(self) -> threading.Thread:
        thread = threading.Thread(
            target=rotation.keep, args=(str(self.records), str(self.exits), self.lock, "b"), daemon=True
        )
        thread.start()
        return thread


@pytest.fixture
def keeper(tmp_path: pathlib.Path) -> Keeper:
    """A keeper's files."""
    return Keeper(tmp_path)


def until(condition: t.Callable[[], object]) -> None:
    event = threading.Event()
    for _attempt in range(2000):
        if condition():
            return
        event.wait(0.01)
    raise AssertionError("it did not come true")


def test_active_logs(keeper: Keeper) -> None:
    log = keeper.add("one")
    keeper.add("other-boot", boot_id="x")
    keeper.add("no-limit", log_size_max=None)
    keeper.add("one-file", log_max_files=1)
    keeper.add("ended")
    keeper.end("ended")
    (keeper.records / "broken.json").write_text("{")
    (keeper.records / "note.txt").write_text("")
    assert keeper.active() == {str(log): 3}


def test_keep_settles_until_the_last_container_has_ended(keeper: Keeper) -> None:
    first = keeper.add("one")
    first.write_text("1")
    thread = keeper.keep()
    until((keeper.logs / ".one.log.held").exists)
    replace(first, "2")
    until((keeper.logs / "one.log.1").exists)
    second = keeper.add("two")
    second.write_text("1")
    replace(second, "1")
    until((keeper.logs / ".two.log.held").exists)
    replace(second, "2")
    until((keeper.logs / "two.log.1").exists)
    keeper.end("one")
    (keeper.records / "two.json").unlink()
    thread.join(20)
    assert not thread.is_alive()


def test_keep_leaves_when_there_is_another(keeper: Keeper) -> None:
    keeper.add("one")
    with open(keeper.lock, "wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        thread = keeper.keep()
        thread.join(20)
        assert not thread.is_alive()


def test_keep_goes_on_for_one_that_came_at_the_last_moment(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose maker saw the lock taken, after the keeper had looked for the last time."""
    log = keeper.logs / "late.log"
    real = fcntl.flock

    def flock(handle: int, operation: int) -> None:
        if operation == fcntl.LOCK_UN and not log.exists():
            log.write_text("1")
            keeper.add("late")
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    thread = keeper.keep()
    until((keeper.logs / ".late.log.held").exists)
    keeper.end("late")
    thread.join(20)
    assert not thread.is_alive()


def test_keep_looks_at_all_when_too_much_happened(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    log = keeper.add("one")
    log.write_text("1")
    real = rotation._EVENT.unpack_from

    class Overflown:
        size = rotation._EVENT.size

        @staticmethod
        def unpack_from(data: bytes) -> tuple[int, int, int, int]:
            _number, _mask, cookie, length = real(data)
            return (-1, 0x4000, cookie, length)

    monkeypatch.setattr(rotation, "_EVENT", Overflown)
    thread = keeper.keep()
    until((keeper.logs / ".one.log.held").exists)
    replace(log, "2")
    until((keeper.logs / "one.log.1").exists)
    keeper.end("one")
    thread.join(20)
    assert not thread.is_alive()


def test_watches_of_a_directory_that_is_not_there(tmp_path: pathlib.Path) -> None:
    watches = rotation._Watches()
    with pytest.raises(FileNotFoundError):
        watches.add(str(tmp_path / "none"))
    os.close(watches.handle)


def test_main_detaches_and_tells_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[t.Any] = []
    monkeypatch.setattr("sys.argv", ["-", "records", "exits", "lock", "boot", "title"])
    monkeypatch.setattr(os, "fork", lambda: 0)
    for name in ("setsid", "chdir", "dup2"):
        monkeypatch.setattr(os, name, lambda *args, name=name: done.append((name, *args)))
    monkeypatch.setattr(os, "write", lambda handle, data: done.append((handle, data)))
    monkeypatch.setattr(rotation, "keep", lambda *args: done.append(args))
    rotation.main()
    assert done[:2] == [("setsid",), (1, b"%d\n" % os.getpid())]
    assert [call[2] for call in done[2:5]] == [0, 1, 2], "the caller's pipes are let go"
    assert done[5:] == [("chdir", "/"), ("records", "exits", "lock", "boot")]
    os.close(done[2][1])


def test_main_leaves_at_once_in_the_caller_s_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: 77)

    def leave(code: int) -> t.NoReturn:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as caught:
        rotation.main()
    assert caught.value.code == 0


def test_watches_without_inotify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "_IN_CLOEXEC", 1)
    with pytest.raises(OSError, match="inotify"):
        rotation._Watches()


def test_settle_of_a_held_file_that_goes_away(log: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_text("one")
    rotation.settle(str(log), 3)
    replace(log, "two")

    def gone(*_paths: str) -> bool:
        raise FileNotFoundError

    monkeypatch.setattr(os.path, "samefile", gone)
    assert rotation.settle(str(log), 3) is False
