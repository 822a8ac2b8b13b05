# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of programs held in memory: real ones, since what counts is that they start."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.sealed import SealedProgram


@pytest.fixture
def program(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a program of its own that fails."""
    path = tmp_path / "crun"
    shutil.copy(shutil.which("false") or "", path)
    return path


def code(path: str) -> int:
    return subprocess.run([path], check=False).returncode


def test_path_is_a_sealed_copy_under_the_program_s_name(
    program: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    sealed = SealedProgram(str(program), str(tmp_path / "run/programs/crun"))
    path = sealed.path()
    assert path == str(tmp_path / "run/programs/crun")
    assert sealed.path() == path
    assert pathlib.Path(path).read_bytes() == program.read_bytes()
    assert os.readlink(path).startswith(f"/proc/{os.getpid()}/fd/")
    with pytest.raises(PermissionError), open(path, "r+b") as stream:
        stream.write(b"changed")
    assert code(path) == 1


def test_path_follows_an_update_of_the_program(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    sealed = SealedProgram(str(program), str(tmp_path / "link"))
    assert code(sealed.path()) == 1
    shutil.copy(shutil.which("true") or "", tmp_path / "update")
    os.rename(tmp_path / "update", program)
    assert code(sealed.path()) == 0


@pytest.mark.parametrize("is_other", [False, True])
def test_path_mends_a_link_that_was_removed_or_leads_elsewhere(
    program: pathlib.Path, tmp_path: pathlib.Path, is_other: bool
) -> None:
    link = tmp_path / "run" / "program"
    sealed = SealedProgram(str(program), str(link))
    sealed.path()
    link.unlink()
    if is_other:
        link.symlink_to("/bin/true")
    assert sealed.path() == str(link)
    assert link.read_bytes() == program.read_bytes()


def test_path_replaces_the_link_of_a_process_that_is_gone(
    program: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for name in ("link", "link.new"):
        (tmp_path / name).symlink_to("/proc/4194305/fd/3")
    assert code(SealedProgram(str(program), str(tmp_path / "link")).path()) == 1


def test_path_of_a_script_is_its_own(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "crun"
    script.write_text("#!/bin/sh\nexit 3\n")
    assert SealedProgram(str(script), str(tmp_path / "link")).path() == str(script)
    assert not (tmp_path / "link").is_symlink()


def test_path_of_what_is_missing_is_its_own(tmp_path: pathlib.Path) -> None:
    missing = str(tmp_path / "crun")
    assert SealedProgram(missing, str(tmp_path / "link")).path() == missing


def test_path_where_no_link_can_be_made_is_the_program_s(
    program: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "file").write_text("")
    handles = len(os.listdir("/proc/self/fd"))
    assert SealedProgram(str(program), str(tmp_path / "file/link")).path() == str(program)
    assert len(os.listdir("/proc/self/fd")) == handles


def test_path_where_memory_is_not_executable_is_the_program_s(
    program: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert SealedProgram(str(program), str(tmp_path / "link")).path() == str(program)


def test_path_on_a_kernel_that_does_not_know_executable_memory(
    program: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.memfd_create

    def older(name: str, flags: int) -> int:
        return real(name, flags | (0x8000 if flags & 0x10 else 0))

    monkeypatch.setattr(os, "memfd_create", older)
    assert code(SealedProgram(str(program), str(tmp_path / "link")).path()) == 1
