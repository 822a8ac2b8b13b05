# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep of objects what is true only while something is being done to them: flags and locks.

None of it is ever written, so no crash leaves anything behind.
"""

from __future__ import annotations

import contextlib
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.named import Named

#: Flags of objects that are on their way out: nothing new may be made in such a sandbox.
STOPPING: t.Final = "stopping"
REMOVING: t.Final = "removing"


class Holds:
    """Flags and locks by the ids of objects; safe for any number of threads."""

    def __init__(self) -> None:
        #: Held while records change: what is made in a sandbox is made before its flag is set, or refused.
        self._lock = threading.RLock()
        self._flags: dict[str, frozenset[str]] = {}
        self._holds = Named(threading.RLock)

    def flags(self, object_id: str) -> frozenset[str]:
        """Return what is being done to an object: STOPPING, REMOVING."""
        return self._flags.get(object_id, frozenset())

    @contextlib.contextmanager
    def flagged(self, object_id: str, flag: str) -> t.Iterator[None]:
        """Set a flag on an object for a while; it is never written, so no crash leaves one behind."""
        with self._lock:
            self._flags[object_id] = self.flags(object_id) | {flag}
        try:
            yield
        finally:
            with self._lock:
                rest = self.flags(object_id) - {flag}
                if rest:
                    self._flags[object_id] = rest
                else:
                    self._flags.pop(object_id, None)

    @contextlib.contextmanager
    def held(self, object_id: str, *, timeout_s: float | None = None) -> t.Iterator[None]:
        """Hold an object's lock in the calling thread, which may do so again.

        An operation holds the lock of its own object already.  It takes those of others
        in one direction only, from a sandbox to its containers.  Raises WrongState after
        ``timeout_s`` seconds.
        """
        with self._holds.of(object_id) as lock:
            if not lock.acquire(timeout=-1 if timeout_s is None else timeout_s):
                raise WrongState(
                    f"another operation on {object_id} has not ended for {timeout_s:g} s",
                    hint="Try again later",
                )
            try:
                yield
            finally:
                lock.release()

    def forget_flags(self, object_id: str) -> None:
        """Drop the flags of an object that is gone."""
        with self._lock:
            self._flags.pop(object_id, None)
