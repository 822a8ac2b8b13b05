# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know what each container has written to its root file system, without counting when somebody asks.

All layers are counted in one go beside, when somebody asks for one and the last count is
old; the first question for a container waits a moment for its first count.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.images.disk_usage import Usage, count

#: The directory of a bundle that takes what its container writes.
_UPPER = "upper"
#: Layers are counted again after so many seconds at the earliest.
_INTERVAL_S = 10.0
#: Of the time that passes, counting takes at most one part in so many.
_SHARE = 20
_FIRST_WAIT_S = 2.0


class Figure(t.NamedTuple):
    """What a container has written, and when that was counted (nanoseconds of the epoch)."""

    usage: Usage
    time_ns: int


class WritableLayers:
    """The running figures of all containers."""

    def __init__(self, bundles: str, runner: Runner, log: logging.Logger) -> None:
        self._bundles = bundles
        self._runner = runner
        self._log = log
        self._figures: dict[str, Figure] = {}
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._next_at = 0.0

    def figures(self, wanted: t.Collection[str]) -> dict[str, Figure]:
        """Return what is known of the containers with these ids; what has no layer is left out."""
        is_missing = any(identity not in self._figures for identity in wanted)
        if is_missing or time.monotonic() >= self._next_at:
            thread = self._begin()
            if is_missing:
                thread.join(_FIRST_WAIT_S)
        known = self._figures
        return {identity: known[identity] for identity in wanted if identity in known}

    def count(self) -> None:
        """Count now, and wait for it."""
        begin = time.monotonic()
        layers = {os.path.join(self._bundles, name, _UPPER): name for name in _names(self._bundles)}
        counted = count(self._runner, [path for path in layers if os.path.isdir(path)])
        now = time.time_ns()
        self._figures = {layers[path]: Figure(usage, now) for path, usage in counted.items()}
        end = time.monotonic()
        self._next_at = end + max(_INTERVAL_S, _SHARE * (end - begin))

    def _begin(self) -> threading.Thread:
        with self._guard:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="layer-usage", daemon=True)
                self._thread.start()
            return self._thread

    def _work(self) -> None:
        try:
            self.count()
        except (CoreError, OSError) as exc:
            self._log.warning("writable layers not counted", extra={"error": str(exc)})
            self._next_at = time.monotonic() + _INTERVAL_S


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
