# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the test command makes of molecule's output."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

PROGRAM = pathlib.Path(__file__).resolve().parents[3] / "scripts/lib/molecule_parts.py"
MATRIX = "INFO     [default > discovery] scenario test matrix: create, verify kill.yml, verify, destroy\n"


def run(text: str, path: pathlib.Path) -> tuple[int, list[list[str]], list[tuple[str, bool]]]:
    """Return the exit code, the lines of progress and the tests of the JUnit file."""
    progress = path / "progress"
    with open(progress, "wb") as file:
        argv = [sys.executable, str(PROGRAM), str(file.fileno()), str(path / "junit.xml")]
        done = subprocess.run(
            argv, input=text, text=True, capture_output=True, check=False, pass_fds=[file.fileno()]
        )
    # Each task with the time at which it began, all else as it was.
    assert re.sub(r"^\([0-9]+\.[0-9] s\)\n(?=TASK)", "", done.stdout, flags=re.MULTILINE) == text, done.stderr
    assert done.stdout.count(" s)\nTASK") == text.count("TASK")
    cases = ET.parse(path / "junit.xml").getroot().iter("testcase")
    tests = [(case.get("name") or "", case.find("failure") is None) for case in cases]
    return done.returncode, [line.split() for line in progress.read_text().splitlines()], tests


def test_parts_keep_the_names_of_the_scenario(tmp_path: pathlib.Path) -> None:
    text = MATRIX
    for part in ("create", "verify", "verify", "destroy"):
        text += f"INFO     [default > {part}] Executing\nTASK [x]\n"
        text += f"INFO     [default > {part}] Executed: Successful\n"
    code, lines, tests = run(text, tmp_path)
    assert code == 0
    assert tests == [("create", True), ("verify kill.yml", True), ("verify", True), ("destroy", True)]
    assert lines[1] == ["default:", "verify", "kill.yml", "passed", "0", "s"]


@pytest.mark.parametrize(
    "end",
    [
        "ERROR    [default > verify] \x1b[31mExecuted: Failed\x1b[0m\n",
        "WARNING  [default > verify] Executed: Missing playbook (Remove from test_sequence to suppress)\n",
        "",
    ],
)
def test_part_that_did_not_run_to_its_end_has_failed(end: str, tmp_path: pathlib.Path) -> None:
    text = f"{MATRIX}[default > create] Executing\n[default > create] Executed: Successful\n"
    code, lines, tests = run(f"{text}[default > verify] Executing\n{end}", tmp_path)
    assert code == 1
    assert tests == [("create", True), ("verify kill.yml", False)]
    assert lines[1][3] == "FAILED"


def test_run_without_any_part_has_failed(tmp_path: pathlib.Path) -> None:
    assert run("CRITICAL molecule.yml is not valid\n", tmp_path) == (1, [], [])
