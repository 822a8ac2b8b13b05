# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find a crun and a CRIU that can checkpoint here: the host's own, or those that scripts/test fetches.

Debian 12 builds crun without CRIU, and its CRIU does not know newer kernels.
"""

from __future__ import annotations

import ctypes.util
import functools
import os
import subprocess
import typing as t


class Tools(t.NamedTuple):
    """Absolute paths of programs that work together on this host."""

    crun: str
    criu: str


@functools.lru_cache(maxsize=1)
def find() -> tuple[Tools | None, str]:
    """Return the programs, or None and what is missing."""
    directory = os.environ.get("PVECRI_CRIU_TOOLS", "")
    found = [Tools(os.environ.get("PVECRI_TEST_CRUN", "/usr/bin/crun"), "/usr/sbin/criu")]
    if directory:
        found.append(Tools(f"{directory}/bin/crun", f"{directory}/bin/criu"))
    problem = ""
    for tools in found:
        problem = _problem(tools)
        if not problem:
            return tools, ""
    return None, problem


def _problem(tools: Tools) -> str:
    for program in tools:
        if not os.access(program, os.X_OK):
            return f"there is no {program}"
    version = subprocess.run([tools.crun, "--version"], capture_output=True, text=True, check=False).stdout
    if "+CRIU" not in version.split():
        return f"{tools.crun} is built without CRIU"
    if tools.criu.startswith("/usr/") and ctypes.util.find_library("criu") is None:
        return "the library libcriu is not installed"
    checked = subprocess.run([tools.criu, "check"], capture_output=True, text=True, check=False)
    if checked.returncode != 0:
        return f"{tools.criu} does not work with this kernel: {checked.stderr.strip()[-200:]}"
    return ""
