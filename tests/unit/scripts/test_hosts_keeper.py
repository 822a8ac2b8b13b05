# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock by which the test hosts know their keepers."""

from __future__ import annotations

import fcntl
import importlib
import os
import pathlib
import threading
import typing as t

import pytest

LIB = pathlib.Path(__file__).resolve().parents[3] / "scripts/lib"


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> t.Any:
    monkeypatch.syspath_prepend(LIB)
    return importlib.import_module("test_hosts.keeper")


def test_keeper_is_not_turned_away_by_who_only_looks(keeper: t.Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "keeper.lock"
    with open(path, "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(0.1, fcntl.flock, (other, fcntl.LOCK_UN)).start()
        with keeper.hold(path):
            assert path.read_text() == f"{os.getpid()}\n"


def test_second_keeper_ends_and_leaves_the_first_ones_id(keeper: t.Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "keeper.lock"
    with open(path, "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("1234\n")
        other.flush()
        with pytest.raises(BlockingIOError):
            keeper.hold(path)
        assert path.read_text() == "1234\n"
