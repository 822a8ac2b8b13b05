# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know which templates have lost their file, without asking the storage when a client asks.

A storage on the network that does not answer holds up whoever looks at it.  So a thread of
its own looks, now and then, and everybody else goes by what it saw last.
"""

from __future__ import annotations

import threading
import time
import typing as t

from pvecri.pve.native_index import Record

#: How often the storage is looked at while somebody asks for images, in seconds.
_EVERY_S = 10.0


class Presence:
    """What was seen of the files of some records."""

    def __init__(self, records: t.Callable[[], t.Sequence[Record]]) -> None:
        self._records = records
        self._lock = threading.Lock()
        self._gone: frozenset[str] = frozenset()
        self._looked_at: float | None = None
        self._is_looking = False
        #: Changes with what is gone.
        self.version = 0

    def is_gone(self, record: Record) -> bool:
        """Say whether a record's file was not there when it was looked at last."""
        return record.id in self._gone

    def look(self) -> None:
        """Look now; this waits for the storage."""
        gone = frozenset(record.id for record in self._records() if not record.is_there)
        with self._lock:
            self._looked_at = time.monotonic()
            if gone != self._gone:
                self._gone = gone
                self.version += 1

    def look_soon(self) -> None:
        """Have a thread look, if that was not done lately; never waits."""
        looked_at = self._looked_at
        if self._is_looking or (looked_at is not None and time.monotonic() - looked_at < _EVERY_S):
            return
        self._is_looking = True
        threading.Thread(target=self._look_beside, name="template-look", daemon=True).start()

    def _look_beside(self) -> None:
        try:
            self.look()
        finally:
            self._is_looking = False
