# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out which containers run from a bundle, whoever started them."""

from __future__ import annotations

import json
import os
import typing as t


def running_containers(runtime_root: str, bundle: str, *, only: t.Sequence[str] | None = None) -> list[str]:
    """Return the ids of living containers below crun's root whose bundle is the given directory.

    ``only`` names those to look at, where it is known that no other can be.  crun keeps one
    ``status`` file per container, with pid and start time; a pid whose start time differs
    belongs to somebody else by now.
    """
    try:
        names = os.listdir(runtime_root) if only is None else only
    except FileNotFoundError:
        return []
    wanted = os.path.realpath(bundle)
    return [name for name in sorted(names) if _runs_from(os.path.join(runtime_root, name, "status"), wanted)]


def _runs_from(status_file: str, bundle: str) -> bool:
    try:
        with open(status_file, "rb") as stream:
            status = json.load(stream)
        if os.path.realpath(status["bundle"]) != bundle:
            return False
        return _is_alive(int(status["pid"]), status.get("process-start-time"))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return False


def _is_alive(pid: int, started: int | None) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            # The program's name stands in parentheses and may hold anything, even a parenthesis.
            fields = stream.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    is_zombie = fields[0] in (b"Z", b"X")
    return not is_zombie and (not started or int(fields[19]) == started)
