# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count what processes have open, from /proc."""

from __future__ import annotations

import os
import typing as t

#: Files of a container that are looked at: whoever pleases may open half a million, and each takes 10 µs.
MOST_LOOKS: t.Final = 20_000


class Open(t.NamedTuple):
    """What processes have open in all; None where it is too much to look at."""

    files: int | None
    sockets: int | None


def count_open(pids: t.Sequence[int], proc: str = "/proc", *, most: int = MOST_LOOKS) -> Open:
    """Return what processes have open; one that has ended has nothing."""
    files = sockets = looks = 0
    for pid in pids:
        try:
            with os.scandir(f"{proc}/{pid}/fd") as entries:
                for entry in entries:
                    looks += 1
                    if looks > most:
                        return Open(_count_files(pids, proc), None)
                    try:
                        sockets += os.readlink(entry.path).startswith("socket:")
                    except OSError:
                        # Closed meanwhile.
                        continue
                    files += 1
        except OSError:
            continue
    return Open(files, sockets)


def _count_files(pids: t.Iterable[int], proc: str) -> int | None:
    """Return how many files processes have open as the kernel says it since 6.2; None before."""
    files = 0
    for pid in pids:
        try:
            files += os.stat(f"{proc}/{pid}/fd").st_size
        except OSError:
            continue
    return files or None


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
