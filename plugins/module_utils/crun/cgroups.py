# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write the few cgroup files that crun leaves to its callers, for cgroup v1 and v2."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import time
import typing as t

#: Where conmon processes live, so that the end of a login session or service spares them.
MONITOR_GROUP = "pvecri-conmon"

_EMPTY_POLL_S = 0.002


@dataclasses.dataclass(frozen=True, slots=True)
class CgroupTree:
    """The cgroup hierarchies of a host."""

    root: str = "/sys/fs/cgroup"

    @property
    def is_v2(self) -> bool:
        """Say whether the host has the unified hierarchy only."""
        return os.path.exists(os.path.join(self.root, "cgroup.controllers"))

    def path(self, group: str, controller: str, *names: str) -> str:
        """Return the path of a group's file; ``controller`` counts for v1 alone."""
        top = self.root if self.is_v2 else os.path.join(self.root, controller)
        return os.path.join(top, group.lstrip("/"), *names)

    def is_frozen(self, group: str) -> bool:
        """Say whether the group was told to freeze."""
        if self.is_v2:
            return _read(self.path(group, "", "cgroup.freeze")).strip() == "1"
        return _read(self.path(group, "freezer", "freezer.state")).strip() in {"FROZEN", "FREEZING"}

    def oom_kills(self, group: str) -> int:
        """Return how many processes of the group the kernel killed for want of memory."""
        return _keyed(self.oom_file(group)).get("oom_kill", 0)

    def oom_file(self, group: str) -> str:
        """Return the file that counts them, as ``oom_kill``."""
        return self.path(group, "memory", "memory.events" if self.is_v2 else "memory.oom_control")

    def pinned_memory(self, group: str) -> int:
        """Return the bytes of a v2 group that the kernel cannot take back, not even by swapping."""
        stat = _keyed(self.path(group, "", "memory.stat"))
        swappable = stat.get("anon", 0) + stat.get("shmem", 0)
        pinned = sum(stat.get(name, 0) for name in ("kernel_stack", "pagetables", "slab_unreclaimable"))
        return pinned + max(0, swappable - self._free_swap(group))

    def _free_swap(self, group: str) -> int:
        free = _swap_free()
        limit = _read(self.path(group, "", "memory.swap.max")).strip()
        if limit.isdigit():
            used = _read(self.path(group, "", "memory.swap.current")).strip()
            free = min(free, int(limit) - int(used or 0))
        return max(0, free)

    def processes(self, group: str) -> list[int]:
        """Return the ids of all processes of a group and those below it; none of a group that is gone."""
        # With v1 any hierarchy in which runtimes put processes has them all.
        top = self.path(group, "pids")
        found = [_read(os.path.join(place, "cgroup.procs")).split() for place, _dirs, _files in os.walk(top)]
        return [int(pid) for pids in found for pid in pids]

    def write(self, group: str, controller: str, name: str, value: str) -> None:
        """Write one file of a group."""
        with open(self.path(group, controller, name), "w", encoding="ascii") as stream:
            stream.write(value)

    def adopt(self, pid: int) -> bool:
        """Move a process into the monitors' group, out of the reach of its session's end.

        Returns False where the cgroup file system does not let us: the process then
        stays where it is and works all the same.
        """
        tops = [self.root] if self.is_v2 else [os.path.join(self.root, "systemd")]
        with contextlib.suppress(OSError):
            for top in tops:
                directory = os.path.join(top, MONITOR_GROUP)
                os.makedirs(directory, exist_ok=True)
                with open(os.path.join(directory, "cgroup.procs"), "w", encoding="ascii") as stream:
                    stream.write(str(pid))
            return True
        return False

    def remove(self, group: str, *, timeout_s: float = 2.0) -> None:
        """Remove an emptied group from every hierarchy; one that is gone already is fine.

        Waits for processes that were killed to leave it, since the kernel refuses until
        then.  Groups below it are left, and keep it.
        """
        tops = [self.root] if self.is_v2 else [os.path.join(self.root, name) for name in _names(self.root)]
        deadline = time.monotonic() + timeout_s
        for top in tops:
            _remove(os.path.join(top, group.lstrip("/")), deadline)


def _names(directory: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(directory)
    return []


def _remove(directory: str, deadline: float) -> None:
    while True:
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return
        except OSError as exc:
            if exc.errno != errno.EBUSY or time.monotonic() >= deadline or _has_groups(directory):
                raise
            time.sleep(_EMPTY_POLL_S)
        else:
            return


def _has_groups(directory: str) -> bool:
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        return any(entry.is_dir(follow_symlinks=False) for entry in entries)
    return False


def _swap_free() -> int:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("SwapFree:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read()
    except OSError:
        # Gone with its group, or a controller that this host lacks.
        return ""


def _keyed(path: str) -> dict[str, int]:
    pairs: t.Iterable[list[str]] = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
