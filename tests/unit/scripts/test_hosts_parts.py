# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of the test hosts that need no host: the lock of a keeper, how folders go."""

from __future__ import annotations

import fcntl
import importlib
import os
import pathlib
import subprocess
import sys
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


@pytest.mark.host
def test_what_is_mounted_in_a_folder_is_not_emptied_with_it(tmp_path: pathlib.Path) -> None:
    """Its path has a blank, and is reached by a link."""
    kept, folder, link = tmp_path / "kept", tmp_path / "of hosts", tmp_path / "hosts"
    kept.mkdir()
    (kept / "file").touch()
    (folder / "one/etc").mkdir(parents=True)
    link.symlink_to(folder)
    code = (
        "import pathlib, subprocess, sys; from test_hosts import ground;"
        "kept, path = map(pathlib.Path, sys.argv[1:]);"
        "subprocess.run(['mount', '--bind', kept, path / 'etc'], check=True); ground.remove_tree(path)"
    )
    subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", code, kept, link / "one"],
        check=True,
        env={**os.environ, "PYTHONPATH": str(LIB)},
    )
    assert list(folder.iterdir()) == []
    assert (kept / "file").exists()


def test_down_completes_what_a_killed_one_left_of_the_last_host(
    keeper: t.Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, network = (importlib.import_module(f"test_hosts.{name}") for name in ("machine", "network"))
    run, forward = tmp_path / "run", tmp_path / "forward"
    run.mkdir()
    (run / "ip_forward").write_text("0\n")
    forward.write_text("1\n")
    for module, name, value in (
        (machine, "RUN", run),
        (machine, "CACHE", tmp_path),
        (network, "SAVED_FORWARD", run / "ip_forward"),
        (network, "FORWARD", forward),
    ):
        monkeypatch.setattr(module, name, value)
    assert not machine.down("one")
    assert forward.read_text() == "0\n"
    assert not run.exists()
