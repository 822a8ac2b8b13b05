# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.rollback import entries, point


class Host:
    """A configuration of some files below one directory, and the directory for a point."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root / "host"
        self.directory = str(root / "kept" / "rollback")
        self.etc = self.root / "etc"
        (self.etc / "certs.d").mkdir(parents=True)
        (self.etc / "config.toml").write_text("a = 1\n")
        (self.etc / "token").write_text("secret\n")
        (self.etc / "token").chmod(0o600)
        (self.etc / "certs.d" / "ca.crt").write_text("ca\n")
        os.symlink("releases/one", self.root / "current")
        self.patterns = [
            f"{self.etc}",
            f"{self.etc}/**",
            f"{self.root}/current",
            f"{self.root}/unit*.service",
        ]

    def save(self, **facts: t.Any) -> point.Point:
        return point.save(self.directory, self.patterns, facts=facts)

    def load(self) -> point.Point:
        found = point.load(self.directory)
        assert found is not None
        return found

    def state(self) -> dict[str, entries.Entry]:
        return entries.scan(self.patterns)


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


def test_save_and_load(host: Host) -> None:
    saved = host.save(release="one")
    loaded = host.load()
    assert loaded == saved
    assert loaded.changed() == []
    assert loaded.as_dict()["facts"] == {"release": "one"}
    assert loaded.as_dict()["same_boot"] is True
    assert os.stat(host.directory).st_mode & 0o777 == 0o700
    for name in os.listdir(host.directory):
        assert os.stat(os.path.join(host.directory, name)).st_mode & 0o777 == 0o600


def change_content(host: Host) -> None:
    (host.etc / "config.toml").write_text("a = 2\n")


def change_mode(host: Host) -> None:
    (host.etc / "token").chmod(0o644)


def change_owner(host: Host) -> None:
    os.chown(host.etc / "config.toml", 12, 34)


def change_link(host: Host) -> None:
    (host.root / "current").unlink()
    os.symlink("releases/two", host.root / "current")


def lose_file(host: Host) -> None:
    (host.etc / "token").unlink()


def lose_directory(host: Host) -> None:
    (host.etc / "certs.d" / "ca.crt").unlink()
    (host.etc / "certs.d").rmdir()


def lose_everything(host: Host) -> None:
    entries.remove_tree(str(host.root))


def add_file(host: Host) -> None:
    (host.root / "unit-new.service").write_text("[Unit]\n")


def add_tree(host: Host) -> None:
    (host.etc / "new" / "deep").mkdir(parents=True)
    (host.etc / "new" / "deep" / ".hidden").write_text("x")


def file_for_directory(host: Host) -> None:
    lose_directory(host)
    (host.etc / "certs.d").write_text("no directory")


def directory_for_file(host: Host) -> None:
    (host.etc / "config.toml").unlink()
    (host.etc / "config.toml").mkdir()
    (host.etc / "config.toml" / "inside").write_text("x")


def link_for_file(host: Host) -> None:
    (host.etc / "token").unlink()
    os.symlink("/nowhere", host.etc / "token")


def file_for_link(host: Host) -> None:
    (host.root / "current").unlink()
    (host.root / "current").write_text("no link")


CHANGES = [
    change_content,
    change_mode,
    change_owner,
    change_link,
    lose_file,
    lose_directory,
    lose_everything,
    add_file,
    add_tree,
    file_for_directory,
    directory_for_file,
    link_for_file,
    file_for_link,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_restore_makes_what_was(host: Host, change: t.Callable[[Host], None]) -> None:
    if change is change_owner and os.geteuid() != 0:
        pytest.skip("needs root")
    before = host.state()
    host.save()
    change(host)
    assert host.load().changed()
    changed, aside = point.restore(host.load())
    assert changed
    assert aside is None
    assert host.state() == before
    assert (host.etc / "token").read_text() == "secret\n"
    # A second time there is nothing to do.
    assert point.restore(host.load()) == ([], None)


@pytest.mark.parametrize("killed_at", range(6))
def test_restore_goes_on_after_a_kill(host: Host, killed_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = host.state()
    host.save()
    for change in (change_content, change_mode, change_link, lose_directory, add_tree, add_file):
        change(host)
    steps = 0

    def dying(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def act(*values: t.Any) -> t.Any:
            nonlocal steps
            steps += 1
            if steps > killed_at:
                raise KeyboardInterrupt
            return function(*values)

        return act

    with monkeypatch.context() as patched:
        patched.setattr(entries, "make", dying(entries.make))
        patched.setattr(entries, "remove", dying(entries.remove))
        with pytest.raises(KeyboardInterrupt):
            point.restore(host.load())
    point.restore(host.load())
    assert host.state() == before


def test_save_replaces_a_point_and_clears_what_a_kill_left(host: Host) -> None:
    host.save(release="one")
    leftover = pathlib.Path(host.directory).parent / ".rollback.abcdef"
    leftover.mkdir()
    (leftover / "x").write_text("x")
    change_content(host)
    host.save(release="two")
    assert host.load().facts == {"release": "two"}
    assert os.listdir(pathlib.Path(host.directory).parent) == ["rollback"]


def test_save_that_is_cut_short_leaves_no_point(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_values: t.Any, **_more: t.Any) -> t.NoReturn:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(point, "write_atomic", fail)
    with pytest.raises(CoreError, match="nothing was changed"):
        host.save()
    assert point.load(host.directory) is None
    assert os.listdir(pathlib.Path(host.directory).parent) == []


def test_restore_refuses_a_damaged_copy(host: Host) -> None:
    saved = host.save()
    change_content(host)
    add_file(host)
    copy = saved.entries[str(host.etc / "config.toml")].sha256
    pathlib.Path(host.directory, copy).write_text("something else")
    changed = host.state()
    with pytest.raises(NotFound, match=r"config\.toml"):
        point.restore(host.load())
    assert host.state() == changed


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "entries": [{"no": 1}]}'])
def test_load_refuses_what_is_no_point(host: Host, text: str) -> None:
    os.makedirs(host.directory)
    pathlib.Path(host.directory, "manifest.json").write_text(text)
    with pytest.raises(CoreError, match="no rollback point"):
        point.load(host.directory)


def test_remove(host: Host) -> None:
    host.save()
    assert point.remove(host.directory)
    assert not point.remove(host.directory)
    assert point.load(host.directory) is None


def test_attach(host: Host) -> None:
    path = point.attach(host.save(), "before.json", json.dumps({"running": []}))
    assert pathlib.Path(path).read_text() == '{"running": []}'
    assert host.load().changed() == []


@pytest.mark.parametrize("pattern", ["etc/pvecri", "/etc/../root", "/*", "/**", "/etc/pvecri/"])
def test_save_refuses_patterns(host: Host, pattern: str) -> None:
    with pytest.raises(InvalidSpec, match=r"paths\[0\]"):
        point.save(host.directory, [pattern], facts={})


def test_scan_passes_over_what_is_no_configuration(host: Host) -> None:
    os.mkfifo(host.etc / "pipe")
    assert str(host.etc / "pipe") not in host.state()


def test_save_refuses_a_huge_file(host: Host) -> None:
    with open(host.etc / "huge", "wb") as stream:
        stream.truncate(entries.FILE_MAX + 1)
    with pytest.raises(CoreError, match="too many"):
        host.save()


def test_save_sees_a_file_that_changes_meanwhile(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    found = host.state()
    change_content(host)
    monkeypatch.setattr(entries, "scan", lambda _patterns: found)
    with pytest.raises(CoreError, match="while it was read"):
        host.save()
