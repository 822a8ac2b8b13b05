# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End what a dead process ran: processes of this host stand for crun and its commands."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import sockets
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.leftovers import (
    end_commands,
    left_commands,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> Paths:
    return Paths(str(tmp_path / "s"), str(tmp_path / "r"))


@pytest.fixture
def directory(paths: Paths) -> pathlib.Path:
    made = pathlib.Path(sockets(paths))
    made.mkdir(parents=True)
    return made


@pytest.fixture
def start() -> t.Iterator[t.Callable[..., subprocess.Popen[bytes]]]:
    """Return what starts a process in a session of its own."""
    started = []

    def run(*argv: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(argv, start_new_session=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


Start = t.Callable[..., "subprocess.Popen[bytes]"]


def test_left_are_files_of_commands_and_terminals(paths: Paths) -> None:
    assert left_commands(paths) == []
    os.makedirs(sockets(paths))
    for name in ("0123.pid", "4567.tty", "89ab"):
        pathlib.Path(sockets(paths), name).touch()
    assert sorted(map(os.path.basename, left_commands(paths))) == ["0123.pid", "4567.tty"]
    end_commands(left_commands(paths))
    assert os.listdir(sockets(paths)) == ["89ab"]
    end_commands([])


def test_crun_with_its_command_is_ended_by_its_file(directory: pathlib.Path, start: Start) -> None:
    pid_file = directory / "0123.pid"
    other = start("sleep", "1000")
    # As crun has it on its command line; the command is in a session of its own.
    helper = start("sh", "-c", "setsid sh -c 'sleep 1000 & sleep 1000' & wait; true", str(pid_file))
    eventually(lambda: len(procfs.descendants(helper.pid)) == 3)
    family = procfs.descendants(helper.pid)
    pid_file.write_text("not yet")
    end_commands([str(pid_file), str(directory / "gone.pid")])
    helper.wait(10)
    eventually(lambda: not any(procfs.is_same_process(stat.pid, stat.start_time) for stat in family))
    assert other.poll() is None
    assert not pid_file.exists()


def test_who_looks_around_is_left_alone(directory: pathlib.Path) -> None:
    (directory / "0123.pid").write_text("not yet")
    shell = subprocess.Popen(["sleep", "1000"], cwd=directory, start_new_session=True)
    try:
        end_commands([f"{directory}/0123.pid"])
        assert shell.poll() is None
    finally:
        shell.kill()
        shell.wait()


@pytest.mark.parametrize("age_s", [0, 100])
def test_command_without_crun_is_ended_unless_the_id_is_another_s(
    directory: pathlib.Path, start: Start, age_s: float
) -> None:
    pid_file = directory / "0123.pid"
    command = start("sleep", "1000")
    pid_file.write_text(str(command.pid))
    written = pid_file.stat().st_mtime - age_s
    os.utime(pid_file, (written, written))
    end_commands([str(pid_file)])
    if age_s:
        assert command.poll() is None
    else:
        assert command.wait(10) == -9
    assert not pid_file.exists()


def test_signal_for_all_that_a_process_started(start: Start) -> None:
    parent = start("sh", "-c", "trap '' HUP; sh -c 'trap - HUP; sleep 1000'; sleep 1000")
    eventually(lambda: procfs.descendants(parent.pid))
    ignoring = start("nohup", "sleep", "1000")
    procfs.signal_family(parent.pid, 15)
    assert parent.wait(10) == -15
    assert ignoring.poll() is None
    procfs.signal_family(parent.pid, 15)
