# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what molecule prints, pass it on, and say how each part ended: molecule_parts.py FD JUNIT

A line for each part goes to the file descriptor FD as soon as it has ended, and all parts into a JUnit file.
What is passed on tells with each task when it began.
"""

from __future__ import annotations

import os
import re
import sys
import time
import xml.etree.ElementTree as ET

MATRIX = re.compile(r"\[(?P<scenario>\S+) > discovery\] scenario test matrix: (?P<parts>.*)")
STATE = re.compile(r"\[\S+ > (?P<part>\w+)\] (?P<what>Executing|Executed: (?P<result>\w+))")
TASK = re.compile(r"(TASK|RUNNING HANDLER) \[")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Parts:
    """The parts of one run, in their order."""

    def __init__(self, progress: int) -> None:
        self._progress = progress
        self._titles: list[str] = []
        self._current = ""
        self._started = 0.0
        self.scenario = "?"
        self.ended: list[tuple[str, float, bool]] = []

    def read(self, line: str) -> None:
        """Take one line of molecule's."""
        line = COLOUR.sub("", line)
        if found := MATRIX.search(line):
            self.scenario = found["scenario"]
            self._titles = found["parts"].strip().split(", ")
        elif (found := STATE.search(line)) and found["what"] == "Executing":
            self._current = self._title(found["part"])
            self._started = time.monotonic()
        elif found and self._current:
            # What molecule misses, it only warns of.
            self._end(found["result"] not in ("Failed", "Missing"))

    def finish(self) -> None:
        """Count a part that never ended as failed."""
        if self._current:
            self._end(False)

    def _title(self, part: str) -> str:
        """Return what the scenario calls a part, with its playbook; clean-up after a failure is none."""
        if self._titles and self._titles[0].split()[0] == part:
            return self._titles.pop(0)
        return part

    def _end(self, passed: bool) -> None:
        took = time.monotonic() - self._started
        self.ended.append((self._current, took, passed))
        text = (
            f"         {self.scenario}: {self._current:24} {'passed' if passed else 'FAILED'} {took:5.0f} s\n"
        )
        os.write(self._progress, text.encode())
        self._current = ""


def write_junit(parts: Parts, path: str) -> None:
    """Write the parts as tests."""
    failures = sum(not passed for _scenario, _part, passed in parts.ended)
    counts = {"tests": str(len(parts.ended)), "failures": str(failures), "errors": "0", "skipped": "0"}
    suite = ET.Element("testsuite", {"name": f"molecule.{parts.scenario}"} | counts)
    for title, took, passed in parts.ended:
        case = ET.SubElement(suite, "testcase", classname=parts.scenario, name=title, time=f"{took:.1f}")
        if not passed:
            ET.SubElement(case, "failure", message="see the log")
    root = ET.Element("testsuites")
    root.append(suite)
    ET.ElementTree(root).write(path)


def main() -> int:
    """Copy standard input to standard output; exit code 1 when a part has not passed."""
    parts = Parts(int(sys.argv[1]))
    began = time.monotonic()
    for line in sys.stdin:
        if TASK.match(line):
            sys.stdout.write(f"({time.monotonic() - began:.1f} s)\n")
        sys.stdout.write(line)
        sys.stdout.flush()
        parts.read(line)
    parts.finish()
    write_junit(parts, sys.argv[2])
    return 0 if parts.ended and all(passed for _scenario, _part, passed in parts.ended) else 1


if __name__ == "__main__":
    sys.exit(main())
