# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what this host makes less of than containers ask for: once, not with every container."""

from __future__ import annotations

import logging
import threading
import typing as t


class Notes:
    """What has been noted since the daemon began; any thread may use it."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._told: dict[str, int] = {}

    def tell(self, container_id: str, notes: t.Iterable[str]) -> None:
        """Log notes that were not logged before, with the container that was the first."""
        for note in notes:
            with self._lock:
                # A note may name what a client asked for: there must be an end to what is kept.
                is_new = note not in self._told and len(self._told) < _KEPT
                if note in self._told or is_new:
                    self._told[note] = self._told.get(note, 0) + 1
            if is_new:
                self._log.warning(
                    "container limited by the host", extra={"container": container_id, "note": note}
                )

    def all(self) -> dict[str, int]:
        """Return each note with how often there was cause for it."""
        with self._lock:
            return dict(self._told)


_KEPT = 100
