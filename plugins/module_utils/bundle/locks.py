# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep two from working on one bundle: other processes, or only other threads."""

from __future__ import annotations

import contextlib
import os
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.named import Named


class NameLocks(t.Protocol):
    """One lock for each name of a bundle."""

    def held(self, name: str, timeout_s: float) -> contextlib.AbstractContextManager[None]:
        """Hold the lock; raises Conflict when another has it for ``timeout_s`` seconds."""


class FileLocks:
    """Locks among all processes of the host: files, which stay."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def held(self, name: str, timeout_s: float) -> contextlib.AbstractContextManager[None]:
        """Hold the lock; raises Conflict when another has it for ``timeout_s`` seconds."""
        path = os.path.join(self._paths.locks, f"bundle-{name}.lock")
        return locked(path, timeout_s=timeout_s, what=f"bundle {name}")


class ThreadLocks:
    """Locks among the threads of a process that has its bundles to itself, whose names never return."""

    def __init__(self) -> None:
        self._locks = Named(threading.Lock)

    @contextlib.contextmanager
    def held(self, name: str, timeout_s: float) -> t.Iterator[None]:
        """Hold the lock; raises Conflict when another has it for ``timeout_s`` seconds."""
        with self._locks.of(name) as lock:
            if not lock.acquire(timeout=timeout_s):
                raise Conflict(f"another thread has been working on bundle {name} for {timeout_s:g} s")
            try:
                yield
            finally:
                lock.release()
