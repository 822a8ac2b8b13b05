# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a child process whose input and output are bytes, may be large, and must not be waited for too long.

`command.SubprocessRunner` is the door for commands that report something; this
one is for programs of the user, run in a container: their output is cut at a
limit instead of filling the memory, and a grandchild that keeps the pipes open
does not keep the caller.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import select
import signal
import subprocess
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.children import Child
from ansible_collections.pvecri.runtime.plugins.module_utils.command import built_environment, missing_program

_CHUNK = 65536
_PAGE = 4096


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a program of the user wrote, as far as it was asked for."""

    stdout_bytes: bytes
    stderr_bytes: bytes
    #: There was more output than asked for.
    is_truncated: bool = False

    @property
    def stdout(self) -> str:
        """Standard output as text; what is no UTF-8 is replaced."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text; what is no UTF-8 is replaced."""
        return self.stderr_bytes.decode("utf-8", "replace")


@dataclasses.dataclass(slots=True)
class Collected:
    """What a child wrote and how it ended; ``rc`` is None when time was up, or it was called off, first."""

    rc: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    #: More came than the limit allowed and was thrown away.
    is_truncated: bool = False


def spawn(
    argv: t.Sequence[str],
    *,
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    env: t.Mapping[str, str] | None = None,
    pass_fds: t.Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own; the caller must `end` it.

    Raises MissingDependency when the program does not exist.
    """
    try:
        return Child(
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=built_environment(env),
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    except FileNotFoundError as exc:
        raise missing_program(argv[0]) from exc


def end(child: subprocess.Popen[bytes]) -> int:
    """Kill what is left of a child's process group, close its pipes, reap it and return its exit code."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    return child.wait()


def collect(
    child: subprocess.Popen[bytes],
    *,
    stdin: bytes = b"",
    timeout_s: float | None = None,
    limit_bytes: int | None = None,
    stop: int | None = None,
) -> Collected:
    """Feed a child, read what it writes until it ends, and return that; the caller still ends it.

    ``limit_bytes`` holds for each stream; what comes beyond is read and dropped, so
    that the child is not blocked.  ``stop`` is a descriptor that becomes readable when nobody
    wants to wait any longer.
    """
    pump = _Pump(child, stdin, limit_bytes, stop)
    try:
        finished = pump.run(timeout_s)
    finally:
        pump.close()
    return Collected(
        child.wait() if finished else None,
        bytes(pump.written[0]),
        bytes(pump.written[1]),
        pump.is_truncated,
    )


class _Pump:
    """Move bytes between a child's pipes and memory until the child has ended."""

    def __init__(
        self, child: subprocess.Popen[bytes], stdin: bytes, limit_bytes: int | None, stop: int | None
    ) -> None:
        self._child = child
        self._input = memoryview(stdin)
        self._limit = limit_bytes
        self.written = (bytearray(), bytearray())
        self.is_truncated = False
        self._poller = select.poll()
        self._pidfd = os.pidfd_open(child.pid)
        self._poller.register(self._pidfd, select.POLLIN)
        self._stop = stop
        if stop is not None:
            self._poller.register(stop, select.POLLIN)
        self._readers: dict[int, bytearray] = {}
        for stream, target in ((child.stdout, self.written[0]), (child.stderr, self.written[1])):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._readers[stream.fileno()] = target
                self._poller.register(stream.fileno(), select.POLLIN)
        if child.stdin is not None:
            os.set_blocking(child.stdin.fileno(), False)
            self._poller.register(child.stdin.fileno(), select.POLLOUT)

    def close(self) -> None:
        """Let go of the child's pidfd; its pipes are its own."""
        os.close(self._pidfd)

    def run(self, timeout_s: float | None) -> bool:
        """Work until the child has ended; return False when time is up or ``stop`` is readable first."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            events = self._poller.poll(left)
            ready = {handle for handle, _event in events}
            if self._pidfd in ready:
                self._drain()
                return True
            # A child that never stops writing has something to read at any time.
            if not events or self._stop in ready or left == 0:
                return False
            stdin = self._child.stdin
            if stdin is not None and not stdin.closed and stdin.fileno() in ready:
                self._feed(stdin)
            for handle in ready & self._readers.keys():
                self._read(handle)

    def _feed(self, stream: t.IO[bytes]) -> None:
        done = not self._input
        if not done:
            try:
                count = os.write(stream.fileno(), self._input[:_CHUNK])
                self._input = self._input[count:]
                done = not self._input
            except BlockingIOError:
                pass
            except BrokenPipeError:
                done = True
        if done:
            self._poller.unregister(stream.fileno())
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _read(self, handle: int) -> bool:
        """Read once; return whether there may be more just now."""
        try:
            data = os.read(handle, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._poller.unregister(handle)
            del self._readers[handle]
            return False
        target = self._readers[handle]
        room = len(data) if self._limit is None else self._limit - len(target)
        target += data[: max(0, room)]
        self.is_truncated = self.is_truncated or len(data) > room
        return True

    def _drain(self) -> None:
        """Read what the pipes hold; a grandchild may keep them open, or go on writing."""
        for handle in list(self._readers):
            # What the child wrote is among as many bytes as the pipe holds; each read takes a page at least.
            for _read in range(fcntl.fcntl(handle, fcntl.F_GETPIPE_SZ) // _PAGE + 1):
                if handle not in self._readers or not self._read(handle):
                    break
