# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count what processes have open, from /proc."""

from __future__ import annotations

import os
import typing as t


class Open(t.NamedTuple):
    """What processes have open in all."""

    files: int
    sockets: int


def count_open(pids: t.Iterable[int], proc: str = "/proc") -> Open:
    """Return what processes have open; one that has ended has nothing."""
    files = sockets = 0
    for pid in pids:
        directory = f"{proc}/{pid}/fd"
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        files += len(names)
        for name in names:
            try:
                sockets += os.readlink(f"{directory}/{name}").startswith("socket:")
            except OSError:
                # Closed meanwhile.
                files -= 1
    return Open(files, sockets)


def open_files_limit(pid: int, proc: str = "/proc") -> int | None:
    """Return the soft limit of a process for open files; None for one that has ended, or without a limit."""
    try:
        with open(f"{proc}/{pid}/limits", "rb") as stream:
            for line in stream:
                if line.startswith(b"Max open files"):
                    soft = line.split()[3]
                    return int(soft) if soft.isdigit() else None
    except OSError:
        pass
    return None
