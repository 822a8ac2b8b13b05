# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run skopeo for a pull: log what it does, and end it when nothing moves any more.

skopeo says which blob it begins with, and nothing after.  That bytes move is seen
in what the kernel counts for the process (proc(5), ``/proc/pid/io``): reads from
the network count there as those from files do.  A stalled download moves a few
bytes a second at most, those by which Go's scheduler wakes itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import subprocess
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import streams
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed, Runner, last_line
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    WrongState,
)

#: A blob's digest is shown with so many characters.
_SHORT = len("sha256:") + 12
#: How often a process is looked at, in seconds.
_TICK_S = 0.5
#: Fewer bytes than these within the time without progress are no progress.
MOVED_BYTES = 1024
#: Seconds after which a pull is said to go on, for the first time and then at most every so many.
_FIRST_NOTE_S = 10.0
_NOTE_S = 60.0
#: skopeo's output that is kept for an error message.
_KEPT_BYTES = 64 * 1024
#: Ends the child when the thread that waits for it dies with the daemon: a pull has no life of its own.
_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


class PullRunner:
    """Start the programs of one pull; those that fetch nothing go through ``other``."""

    def __init__(
        self,
        what: str,
        log: logging.Logger,
        other: Runner,
        *,
        no_progress_s: float,
        stop: threading.Event,
        on_idle: t.Callable[[bool], None] = lambda _is_idle: None,
    ) -> None:
        self.what = what
        self.log = log
        self.other = other
        self.no_progress_s = no_progress_s
        self.stop = stop
        #: Told when nothing has moved for a moment, and when something moves again.
        self.on_idle = on_idle
        #: Whether a program was ended because nothing moved.
        self.has_stalled = False

    def run(
        self,
        argv: t.Sequence[str],
        *,
        timeout_s: float = 60.0,
        stdin: bytes | None = None,
        env: t.Mapping[str, str] | None = None,
        cwd: str | None = None,
        pass_fds: t.Sequence[int] = (),
        check: bool = True,
    ) -> Completed:
        """Run ``argv`` as `Runner` says; a copy is watched.

        Raises CommandTimeout also when nothing moves, and WrongState when the
        endpoint stops.
        """
        if "copy" not in argv:
            return self.other.run(
                argv, timeout_s=timeout_s, stdin=stdin, env=env, cwd=cwd, pass_fds=pass_fds, check=check
            )
        child = streams.spawn(
            [*_WITH_PARENT, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
        )
        watch = _Watch(self, child, timeout_s)
        try:
            reason = watch.wait()
        finally:
            rc = streams.end(child)
        output = watch.output()
        if reason is not None:
            if self.stop.is_set():
                raise WrongState(
                    f"the pull of {self.what} was ended: the endpoint stops", hint="Pull it again"
                )
            raise CommandTimeout(reason, argv=list(argv), stderr=output)
        if check and rc != 0:
            raise CommandError(
                f"skopeo failed with exit code {rc}: {last_line(output) or 'no output'}",
                argv=list(argv),
                rc=rc,
                stderr=output,
            )
        return Completed(list(argv), rc, "", output)


class _Watch:
    """One program at work."""

    def __init__(self, runner: PullRunner, child: subprocess.Popen[bytes], timeout_s: float) -> None:
        self._runner = runner
        self._child = child
        self._started = time.monotonic()
        self._deadline = self._started + timeout_s
        self._moved = 0
        self._moved_at = self._started
        self._is_idle = False
        self._next_note = self._started + _FIRST_NOTE_S
        self._blob = ""
        self._output = bytearray()
        self._line = bytearray()

    def output(self) -> str:
        """Return the end of what the program wrote."""
        return self._output.decode("utf-8", "replace")

    def wait(self) -> str | None:
        """Watch the program until it ends; return why it has to be ended, or None."""
        pipe = t.cast("t.IO[bytes]", self._child.stdout).fileno()
        pidfd = os.pidfd_open(self._child.pid)
        poller = select.poll()
        poller.register(pipe, select.POLLIN)
        poller.register(pidfd, select.POLLIN)
        os.set_blocking(pipe, False)
        try:
            while True:
                events = dict(poller.poll(_TICK_S * 1000))
                if pipe in events and not self._read(pipe):
                    poller.unregister(pipe)
                if pidfd in events:
                    self._read(pipe)
                    return None
                reason = self._look()
                if reason is not None:
                    return reason
        finally:
            self._set_idle(False)
            os.close(pidfd)

    def _read(self, pipe: int) -> bool:
        """Log the lines that came; return whether more can come."""
        while True:
            try:
                data = os.read(pipe, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._output += data
            del self._output[:-_KEPT_BYTES]
            *lines, rest = (bytes(self._line) + data).split(b"\n")
            self._line = bytearray(rest[-_KEPT_BYTES:])
            for line in lines:
                self._say(line.decode("utf-8", "replace").strip())

    def _say(self, line: str) -> None:
        if not line or line.startswith("time="):
            return  # An error; the caller tells it.
        if line.startswith("Copying blob "):
            self._blob = line.removeprefix("Copying blob ")[:_SHORT]
        elapsed = round(time.monotonic() - self._started, 3)
        self._runner.log.info(
            "pulling", extra={"image": self._runner.what, "skopeo": line, "seconds": elapsed}
        )

    def _look(self) -> str | None:
        now = time.monotonic()
        moved = _moved_bytes(self._child.pid)
        if moved - self._moved >= MOVED_BYTES:
            self._moved, self._moved_at = moved, now
            self._set_idle(False)
        idle_s = now - self._moved_at
        if idle_s > 2 * _TICK_S and _waits_for_lock(self._child.pid):
            # Another pull unpacks a layer; that is watched there.
            self._moved_at, idle_s = now, 0.0
        elif idle_s > 4 * _TICK_S:
            self._set_idle(True)
        if self._runner.stop.is_set():
            return "the endpoint stops"
        if idle_s >= self._runner.no_progress_s:
            self._runner.has_stalled = True
            return f"nothing has come for {idle_s:.0f} s"
        if now >= self._deadline:
            return f"it has taken {now - self._started:.0f} s"
        if now >= self._next_note:
            self._note(now)
        return None

    def _note(self, now: float) -> None:
        elapsed = now - self._started
        self._next_note = now + min(_NOTE_S, max(_FIRST_NOTE_S, elapsed))
        facts = {
            "image": self._runner.what,
            "seconds": round(elapsed),
            "bytes_moved": self._moved,
            "last_blob": self._blob,
        }
        if self._is_idle:
            facts["seconds_without_progress"] = round(now - self._moved_at)
        self._runner.log.info("still pulling", extra=facts)

    def _set_idle(self, is_idle: bool) -> None:
        if is_idle is not self._is_idle:
            self._is_idle = is_idle
            self._runner.on_idle(is_idle)


def _moved_bytes(pid: int) -> int:
    """Return how many bytes a process has read and written, be it files, pipes or sockets."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as stream:
            counts = dict(line.split(":") for line in stream)
        return int(counts["rchar"]) + int(counts["wchar"])
    except (OSError, ValueError, KeyError):
        return 0


def _waits_for_lock(pid: int) -> bool:
    """Say whether one of a process's open files has a lock that somebody waits for.

    See proc(5), ``/proc/locks``.  Who waits by an open file description has no process
    there, so files are compared.
    """
    try:
        with open("/proc/locks", encoding="ascii") as stream:
            waited = {line.split()[6] for line in stream if "->" in line.split()[1:2]}
        if not waited:
            return False
        for handle in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(f"/proc/{pid}/fd/{handle}")
                device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
                if f"{device}:{status.st_ino}" in waited:
                    return True
    except (OSError, IndexError):
        pass
    return False
