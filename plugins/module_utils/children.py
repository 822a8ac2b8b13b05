# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the children that somebody waits for from those that nobody does.

A process that adopts orphans (PR_SET_CHILD_SUBREAPER, prctl(2)) must reap them, and
must leave alone what a thread of its own has started: the first to wait for a child
gets its exit status, all others get an error.  So every child of the core is born
here, under a lock, and is known as ours until its status has been taken.
"""

from __future__ import annotations

import os
import select
import subprocess
import threading
import typing as t

_lock = threading.Lock()
_own: set[int] = set()
#: Called whenever a child of ours has been waited for.
_listeners: list[t.Callable[[], None]] = []


class Child(subprocess.Popen[bytes]):
    """A child process whose exit status nobody else takes; it must be waited for."""

    def __init__(self, argv: t.Sequence[str], **options: t.Any) -> None:
        # Nobody reaps while the lock is held, not even a child that ends at once.
        with _lock:
            super().__init__(list(argv), **options)
            _own.add(self.pid)

    def poll(self) -> int | None:
        """Return the exit code if the child has ended."""
        code = super().poll()
        if code is not None:
            _forget(self.pid)
        return code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the child and return its exit code."""
        try:
            if timeout is not None and self.returncode is None:
                # subprocess would look, sleep and look again, for longer each time.
                _await_end(self.pid, timeout)
            return super().wait(timeout)
        finally:
            if self.returncode is not None:
                _forget(self.pid)


def await_killed(child: Child, timeout_s: float) -> None:
    """Wait for the end of a child that was killed, ``timeout_s`` seconds at most.

    One in uninterruptible sleep ends when the device that it waits for answers, which may be
    never: then it is waited for in a thread, so that nothing else does.
    """
    try:
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        threading.Thread(target=child.wait, name="lingering", daemon=True).start()


def _await_end(pid: int, timeout_s: float) -> None:
    """Return when a child of ours has ended, or after ``timeout_s`` seconds."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        poller.poll(max(0.0, timeout_s) * 1000)
    finally:
        os.close(handle)


def _forget(pid: int) -> None:
    if pid in _own:
        _own.discard(pid)
        for listener in list(_listeners):
            listener()


def listen(listener: t.Callable[[], None]) -> t.Callable[[], None]:
    """Have ``listener`` called whenever a child was waited for; return what ends that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def reap_adopted(
    candidates: t.Iterable[int] | None = None, *, seen: t.Callable[[int, int], None] | None = None
) -> bool:
    """Take the exit status of ended children that nobody waits for, and tell each to ``seen``.

    Returns False when an ended child of ours stands before others in the kernel's list,
    which shows one at a time: call again when it has been waited for, or name the
    ``candidates`` to look at.  ``seen`` gets process id and wait status.
    """
    if candidates is not None:
        for pid in candidates:
            with _lock:
                if pid not in _own:
                    _reap(pid, seen)
        return True
    while True:
        with _lock:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return True
            if ended is None:
                return True
            if ended.si_pid in _own:
                return False
            _reap(ended.si_pid, seen)


def _reap(pid: int, seen: t.Callable[[int, int], None] | None) -> None:
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
    if reaped and seen is not None:
        seen(pid, status)
