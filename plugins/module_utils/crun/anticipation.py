# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the kernel wait in advance for what it waits for when a process changes its cgroup.

The first write to a ``cgroup.procs`` waits for an RCU grace period, 5 to 15 ms, so that the
writer of cgroup_threadgroup_rwsem gets it without slowing down every fork.  Writes that follow
within about another grace period do not wait (kernel/rcu/sync.c).  crun makes such a write
some 10 ms after a request for a container has come in; a thread makes one at once, so that the
two times pass side by side.  What it writes moves nothing: this process into the cgroup in which
it is.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

#: The kernel goes back to waiting after a grace period of about 15 ms, longer when it is busy.
_INTERVAL_S = 0.012

#: For how long a process is expected when the caller does not say.
WINDOW_S = 0.05


class Anticipation:
    """Keeps the way free for processes that are expected soon; a host that refuses it is left alone."""

    def __init__(self, root: str = "/sys/fs/cgroup", own_groups: str = "/proc/self/cgroup") -> None:
        """Set up; nothing is done before the first `expect`."""
        self._root = root
        self._own_groups = own_groups
        self._lock = threading.Condition()
        self._until = 0.0
        self._thread: threading.Thread | None = None
        self._is_refused = False
        #: The file that is known to be of our cgroup.
        self._known = ""

    def expect(self, for_s: float = WINDOW_S) -> None:
        """Keep the way free for ``for_s`` seconds from now; returns at once."""
        with self._lock:
            if self._is_refused:
                return
            self._until = max(self._until, time.monotonic() + for_s)
            if self._thread is not None:
                self._lock.notify()
                return
            thread = threading.Thread(target=self._keep, name="anticipation", daemon=True)
            # A host that has no room for a thread may have some for the process.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def _keep(self) -> None:
        while True:
            with self._lock:
                while time.monotonic() >= self._until:
                    self._lock.wait()
            try:
                self.wait_now()
            except OSError:
                with self._lock:
                    self._is_refused = True
                    self._thread = None
                return
            time.sleep(_INTERVAL_S)

    def wait_now(self) -> None:
        """Wait as a move of a process would; raises OSError where none of our cgroups may be written."""
        handle = self._open()
        try:
            os.write(handle, b"0")
        finally:
            os.close(handle)

    def _open(self) -> int:
        """Open the first ``cgroup.procs`` of this process that can be written.

        Looked up each time: whoever has moved us meanwhile must not find us back where we were.
        """
        failure: OSError = FileNotFoundError(f"{self._own_groups} names no cgroup")
        with open(self._own_groups, encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.read().splitlines()
        for line in lines:
            _number, controllers, group = line.split(":", 2)
            # A hierarchy with several controllers is mounted once, under their names or with links of these.
            name = controllers.removeprefix("name=")
            for top in (name, "unified") if not name else (name,):
                path = os.path.join(self._root, top, group.lstrip("/"), "cgroup.procs")
                try:
                    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
                    if path == self._known or _has_us(path):
                        self._known = path
                        return handle
                    os.close(handle)
                except OSError as exc:
                    failure = exc
        raise failure


def _has_us(path: str) -> bool:
    """Say whether we are in a cgroup; what is mounted may be of another cgroup namespace than paths are."""
    with open(path, "rb") as stream:
        return b"%d" % os.getpid() in stream.read().split()
