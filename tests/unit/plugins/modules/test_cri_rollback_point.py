# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.modules import cri_rollback_point


class Place:
    """A file to keep, and the module called with it."""

    def __init__(self, root: pathlib.Path) -> None:
        self.file = root / "etc" / "config.toml"
        self.file.parent.mkdir()
        self.file.write_text("a = 1\n")
        self.directory = root / "rollback"

    def run(self, state: str = "saved", *, check: bool = False, **params: t.Any) -> Outcome:
        values = {
            "state": state,
            "directory": str(self.directory),
            "paths": [str(self.file)],
            "database": None,
            "facts": {},
            "before": None,
            **params,
        }
        return cri_rollback_point.run(
            values, Context(check_mode=check, diff_mode=True, log=lambda _text: None)
        )


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Place:
    return Place(tmp_path)


def test_saved(place: Place) -> None:
    done = place.run(facts={"from": "one"}, before="{}")
    assert done.changed
    assert done.values["point"]["facts"] == {"from": "one"}
    assert done.values["point"]["paths"] == [str(place.file)]
    assert done.values["interrupted"] is False
    assert pathlib.Path(done.values["before"]).read_text() == "{}"


def test_saved_keeps_the_point_of_an_interrupted_change(place: Place) -> None:
    place.run(facts={"from": "one"}, before="first")
    place.file.write_text("half done")
    again = place.run(facts={"from": "half"}, before="second")
    assert not again.changed
    assert again.values["interrupted"] is True
    assert again.values["point"]["facts"] == {"from": "one"}
    assert pathlib.Path(again.values["before"]).read_text() == "second"
    place.run("restored")
    assert place.file.read_text() == "a = 1\n"


def test_saved_anew_when_nothing_has_changed(place: Place) -> None:
    place.run(facts={"from": "one"}, before="first")
    again = place.run(facts={"from": "two"})
    assert again.changed
    assert again.values["point"]["facts"] == {"from": "two"}
    assert again.values["before"] == ""


def test_saved_in_check_mode_writes_nothing(place: Place) -> None:
    done = place.run(check=True, before="{}")
    assert done.changed
    assert done.values == {"point": None, "interrupted": False, "before": ""}
    assert not place.directory.exists()


def test_saved_wants_paths(place: Place) -> None:
    with pytest.raises(InvalidSpec, match="paths"):
        place.run(paths=[])


def test_restored(place: Place) -> None:
    place.run()
    assert not place.run("restored").changed
    place.file.write_text("a = 2\n")
    foreseen = place.run("restored", check=True)
    assert foreseen.changed
    assert place.file.read_text() == "a = 2\n"
    done = place.run("restored")
    assert done.changed
    assert done.values["changed_paths"] == foreseen.values["changed_paths"] == [str(place.file)]
    assert done.values["newer_database"] == ""
    assert done.diff[0]["after_header"] == str(place.file)
    assert place.file.read_text() == "a = 1\n"
    assert not place.run("restored").changed


def test_restored_without_a_point(place: Place) -> None:
    with pytest.raises(NotFound, match="no rollback point"):
        place.run("restored")


def test_absent(place: Place) -> None:
    place.run()
    assert place.run("absent", check=True).changed
    assert place.directory.exists()
    assert place.run("absent").changed
    assert not place.directory.exists()
    assert not place.run("absent").changed


@pytest.mark.parametrize("directory", ["rollback", "/rollback", "/"])
def test_directory_is_refused(place: Place, directory: str) -> None:
    with pytest.raises(InvalidSpec, match="directory"):
        place.run(directory=directory)
