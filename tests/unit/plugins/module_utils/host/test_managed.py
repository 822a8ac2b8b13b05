# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep files as they are wanted, and those of others as they are."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, InvalidSpec, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.host import managed
from ansible_collections.pvecri.runtime.plugins.module_utils.host.managed import MARKER, Wanted

TEXT = f"{MARKER}\nkey = 1\n"


def run(*wanted: Wanted) -> tuple[list[str], list[str]]:
    changes, kept = managed.plan(wanted)
    managed.apply(changes, SubprocessRunner())
    return [change.wanted.path for change in changes], kept


def test_file_is_made_kept_corrected_and_removed(tmp_path):
    path = str(tmp_path / "a/b/file")
    assert run(Wanted(path=path, content=TEXT)) == ([path], [])
    assert run(Wanted(path=path, content=TEXT)) == ([], [])
    assert run(Wanted(path=path, content=TEXT, mode=0o600)) == ([path], [])
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert run(Wanted(path=path, content=TEXT + "more\n", mode=0o600)) == ([path], [])
    assert pathlib.Path(path).read_text() == TEXT + "more\n"
    # Named twice, as by two lists of which each is right.
    assert run(*[Wanted(path=path, content=None)] * 2) == ([path], [])
    assert run(Wanted(path=path, content=None)) == ([], [])
    assert os.listdir(os.path.dirname(path)) == []


def test_file_of_somebody_else_is_neither_replaced_nor_removed(tmp_path):
    path = tmp_path / "file"
    path.write_text("theirs\n")
    new = tmp_path / "new"
    with pytest.raises(Conflict, match="not made by this role"):
        run(Wanted(path=str(new), content=TEXT), Wanted(path=str(path), content=TEXT))
    assert not new.exists()
    assert run(Wanted(path=str(path), content=None)) == ([], [str(path)])
    assert path.read_text() == "theirs\n"


def test_file_is_ours_by_marker_place_or_content(tmp_path):
    marked, owned, same = (tmp_path / name for name in ("marked", "owned", "same"))
    marked.write_text(f"first\n{MARKER}\n")
    owned.write_text("anything")
    same.write_text(TEXT)
    same.chmod(0o666)
    wanted = [
        Wanted(path=str(marked), content="new"),
        Wanted(path=str(owned), content="new", owned=True),
        Wanted(path=str(same), content=TEXT),
    ]
    assert run(*wanted) == ([str(marked), str(owned), str(same)], [])


def test_link_is_never_written_through_or_taken_away(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text(TEXT)
    link.symlink_to(target)
    with pytest.raises(Conflict):
        run(Wanted(path=str(link), content="new", owned=True))
    assert run(Wanted(path=str(link), content=None)) == ([], [str(link)])
    assert link.is_symlink()


def test_directory_goes_when_nothing_else_is_in_it(tmp_path):
    top, file = tmp_path / "top", tmp_path / "top/below/file"
    file.parent.mkdir(parents=True)
    file.write_text(TEXT)
    gone = [Wanted(path=str(path), content=None) for path in (file, file.parent, top)]
    (top / "theirs").write_text("x")
    assert run(*gone) == ([str(file), str(file.parent)], [])
    (top / "theirs").unlink()
    assert run(*gone) == ([str(top)], [])
    assert run(*gone) == ([], [])


def test_directory_in_the_way_is_told(tmp_path):
    with pytest.raises(WrongState, match="is a directory"):
        run(Wanted(path=str(tmp_path), content=TEXT))


def test_content_that_is_refused_changes_nothing(tmp_path):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    refuse = ("/bin/sh", "-c", 'echo "$0:3: wrong" >&2; exit 1', "%s")
    with pytest.raises(InvalidSpec, match=f"{second}: it is refused:\n{second}:3: wrong"):
        run(Wanted(path=first, content=TEXT), Wanted(path=second, content="x", validate=refuse))
    assert os.listdir(tmp_path) == []
    accept = ("/bin/sh", "-c", 'grep -q x "$0"', "%s")
    assert run(Wanted(path=second, content="x", validate=accept)) == ([second], [])


def test_lenient_check_passes_over_a_program_that_is_not_there(tmp_path):
    wanted = Wanted(path=str(tmp_path / "x"), content="x", validate=("/nowhere/program", "%s"))
    changes, _kept = managed.plan([wanted])
    managed.validate(changes, SubprocessRunner(), lenient=True)
    with pytest.raises(Exception, match="/nowhere/program"):
        managed.validate(changes, SubprocessRunner())


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a/"])
def test_path_must_be_plain(path):
    with pytest.raises(InvalidSpec, match=r"files\.path"):
        managed.plan([Wanted(path=path, content="")])


def test_check_needs_a_place_for_the_path():
    with pytest.raises(InvalidSpec, match=r"files\.validate"):
        managed.plan([Wanted(path="/x", content="", validate=("true",))])


def test_diff_shows_content_mode_and_no_secret(tmp_path):
    path = tmp_path / "file"
    path.write_text(TEXT)
    path.chmod(0o644)
    changes, _kept = managed.plan(
        [
            Wanted(path=str(path), content=TEXT, mode=0o600),
            Wanted(path=str(tmp_path / "secret"), content="hush", secret=True),
            Wanted(path=str(tmp_path / "new"), content="new"),
        ]
    )
    mode, secret, new = (change.diff() for change in changes)
    assert (mode["before"], mode["after"]) == (f"mode 0644\n{TEXT}", f"mode 0600\n{TEXT}")
    assert "hush" not in str(secret)
    assert secret["after"]
    assert (new["before_header"], new["before"], new["after"]) == (f"{tmp_path}/new (absent)", "", "new")
