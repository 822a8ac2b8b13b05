# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at processes through /proc, and hold on to them by pidfd, so that a reused id deceives nobody."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import select
import signal
import time
import typing as t

#: Fields of /proc/PID/stat after the command name, see proc_pid_stat(5).
_STATE, _PPID, _SESSION, _START_TIME = 0, 1, 3, 19

#: Rounds in which the members of a family are looked up and killed.
_KILL_ROUNDS = 5

#: Why pidfd_open(2) fails for a process that may well be there.
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENODEV})


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessStat:
    """The part of /proc/PID/stat that tells processes apart."""

    pid: int
    #: One letter; Z and X are dead.
    state: str
    parent: int
    session: int
    #: Clock ticks after boot.
    start_time: int

    @property
    def is_alive(self) -> bool:
        """Say whether the process still runs, as opposed to waiting to be reaped."""
        return self.state not in {"Z", "X", "x"}


def read_stat(pid: int) -> ProcessStat | None:
    """Return what /proc says of a process, or None when there is none of that id."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            text = stream.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name may hold blanks and parentheses: fields count from its last ')'.
    fields = text[text.rindex(b")") + 2 :].split()
    return ProcessStat(
        pid,
        fields[_STATE].decode(),
        int(fields[_PPID]),
        int(fields[_SESSION]),
        int(fields[_START_TIME]),
    )


def is_same_process(pid: int, start_time: int) -> bool:
    """Say whether the process of that id is alive and the one that started then.

    A start time of 0 is unknown and matches any.
    """
    stat = read_stat(pid)
    return stat is not None and stat.is_alive and start_time in {0, stat.start_time}


def started_s(stat: ProcessStat) -> float:
    """Return when a process began, in seconds of the epoch."""
    boot_s = (time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1e9
    return boot_s + stat.start_time / os.sysconf("SC_CLK_TCK")


def boot_id() -> str:
    """Return the kernel's identifier of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()


@contextlib.contextmanager
def held(pid: int, start_time: int = 0) -> t.Iterator[int | None]:
    """Yield a pidfd of exactly this process, or None when it is gone.

    Raises OSError when the host has no descriptor left: that says nothing of the process.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError as exc:
        if exc.errno in _NO_DESCRIPTOR:
            raise
        yield None
        return
    try:
        # Looked at after the pidfd is open: from here on the id cannot pass to another process.
        yield handle if is_same_process(pid, start_time) else None
    finally:
        os.close(handle)


def await_end(pidfd: int, timeout_s: float | None) -> bool:
    """Wait until the process of ``pidfd`` has ended; return False when time is up first."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000))


def send_signal(pid: int, start_time: int, number: int) -> bool:
    """Send a signal to exactly this process; return False when it is gone."""
    with held(pid, start_time) as pidfd:
        if pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return False
        return True


def descendants(pid: int, session: int | None = None) -> list[ProcessStat]:
    """Return all processes below ``pid``, and those of the session that it leads, or of ``session``.

    Read from a scan of /proc, since not every kernel has /proc/PID/task/TID/children.
    """
    leader = pid if session is None else session
    everyone = [stat for entry in os.listdir("/proc") if entry.isdigit() and (stat := read_stat(int(entry)))]
    family = {pid}
    grew = True
    while grew:
        related = {s.pid for s in everyone if s.parent in family or s.session == leader}
        grew = not related <= family
        family |= related
    return [stat for stat in everyone if stat.pid in family and stat.pid != pid]


def signal_family(pid: int, number: int) -> None:
    """Send a signal to a process, all that descend from it and all of its session."""
    first = read_stat(pid)
    if first is not None:
        for stat in [first, *descendants(pid, first.session)]:
            send_signal(stat.pid, stat.start_time, number)


def kill_family(pid: int) -> None:
    """Kill a process, all that descend from it and all of its session.

    Looked up anew until nobody is found, since they go on forking meanwhile.
    """
    first = read_stat(pid)
    # The id of one that is gone may be another's.
    family = {pid: first.start_time} if first else {}
    # A command without a terminal is in a session whose leader, a process of crun's, is long gone.
    session = first.session if first else pid
    for _round in range(_KILL_ROUNDS):
        # Looked up before anyone is killed: children of the dead are handed to another parent.
        for stat in descendants(pid, session):
            family[stat.pid] = stat.start_time
        alive = [member for member, start in family.items() if is_same_process(member, start)]
        if not alive:
            return
        for member in alive:
            send_signal(member, family[member], signal.SIGKILL)


def belonging_to(directory: str | None, *words: str) -> list[ProcessStat]:
    """Return all processes that work in a directory or have one of these words on their command line.

    A process in the middle of execve(2) has no command line, but a working directory.
    """
    wanted = {os.fsencode(word) for word in words}
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    related = (
        pid
        for pid in pids
        if (directory is not None and _directory(pid) == directory) or not wanted.isdisjoint(_words(pid))
    )
    stats = (read_stat(pid) for pid in related)
    return [stat for stat in stats if stat is not None and stat.is_alive]


def _directory(pid: int) -> str:
    # Others' processes may be none of our business, and any may be gone.
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd")
    return ""


def _words(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as stream:
        return stream.read().split(b"\0")
    return []


def with_environment(*variables: str) -> list[ProcessStat]:
    """Return all processes that were started with each of these variables, given as NAME=value."""
    wanted = {os.fsencode(variable) for variable in variables}
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    stats = (read_stat(pid) for pid in pids if wanted.issubset(_variables(pid)))
    return [stat for stat in stats if stat is not None and stat.is_alive]


def _variables(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as stream:
        return stream.read().split(b"\0")
    return []


def cgroups(pid: int) -> set[str]:
    """Return the paths of a process's cgroups, of all hierarchies."""
    with (
        contextlib.suppress(FileNotFoundError, ProcessLookupError),
        open(f"/proc/{pid}/cgroup", "rb") as stream,
    ):
        return {os.fsdecode(line.rstrip(b"\n").split(b":", 2)[2]) for line in stream}
    return set()


def monotonic_deadline(timeout_s: float | None) -> t.Callable[[], float | None]:
    """Return a function that says how many seconds are left; None is for ever."""
    if timeout_s is None:
        return lambda: None
    end = time.monotonic() + timeout_s
    return lambda: max(0.0, end - time.monotonic())
