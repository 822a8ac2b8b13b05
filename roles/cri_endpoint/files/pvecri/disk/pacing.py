# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count beside those who ask, and not too often."""

from __future__ import annotations

import logging
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError

#: All is counted again after so many seconds at the earliest.
_INTERVAL_S: t.Final = 10.0
#: Of the time that passes, counting takes at most one part in so many.
_SHARE: t.Final = 20


class Paced:
    """Has something counted in a thread, one count at a time; what fails is logged, and tried again later."""

    def __init__(self, what: str, count: t.Callable[[bool], None], log: logging.Logger) -> None:
        """Set up; ``count`` is told whether to count all, or only what it does not know yet."""
        self._what = what
        self._count = count
        self._log = log
        self._guard = threading.Lock()
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._next_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the last count of all is old."""
        return time.monotonic() >= self._next_at

    def begin(self, *, is_whole: bool = True) -> None:
        """Begin to count, unless somebody does."""
        with self._guard:
            if not self._is_idle.is_set():
                return
            self._is_idle.clear()
        try:
            threading.Thread(
                target=self._work, args=(is_whole,), name=self._what.replace(" ", "-"), daemon=True
            ).start()
        except RuntimeError as exc:
            self._failed(exc)
            self._is_idle.set()

    def wait(self, timeout_s: float) -> None:
        """Wait until nobody counts."""
        self._is_idle.wait(timeout_s)

    def count(self, *, is_whole: bool = True) -> None:
        """Count now; raises CoreError and OSError."""
        begin = time.monotonic()
        self._count(is_whole)
        if is_whole:
            end = time.monotonic()
            self._next_at = end + max(_INTERVAL_S, _SHARE * (end - begin))

    def _work(self, is_whole: bool) -> None:
        try:
            self.count(is_whole=is_whole)
        except (CoreError, OSError) as exc:
            self._failed(exc)
        finally:
            self._is_idle.set()

    def _failed(self, problem: Exception) -> None:
        self._log.warning(f"{self._what} not counted", extra={"error": str(problem)})
        self._next_at = time.monotonic() + _INTERVAL_S
