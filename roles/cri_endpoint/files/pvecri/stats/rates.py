# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know how fast things grow, from two readings of how much there was in all."""

from __future__ import annotations

import threading
import typing as t

#: A rate is taken over at least so long: shorter ones say nothing.
_RATE_NS: t.Final = 1_000_000_000


class Rates:
    """CPU use per second of whatever is asked for again and again; nothing is read in between."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        #: By object: time and CPU time of the last reading that counts, and the rate up to it.
        self._last: dict[str, tuple[int, int, int | None]] = {}

    def cores(self, identity: str, time_ns: int, cpu_ns: int) -> int | None:
        """Return billionths of a core that are used; None at the first reading."""
        with self._guard:
            last = self._last.get(identity)
            if last is None or cpu_ns < last[1]:
                self._last[identity] = (time_ns, cpu_ns, None)
                return None
            then_ns, before_ns, rate = last
            if time_ns < then_ns:
                # The clock was set back.
                self._last[identity] = (time_ns, cpu_ns, rate)
            elif time_ns - then_ns >= _RATE_NS:
                rate = (cpu_ns - before_ns) * 1_000_000_000 // (time_ns - then_ns)
                self._last[identity] = (time_ns, cpu_ns, rate)
            return rate

    def forget(self, identity: str) -> None:
        """Forget an object that is gone."""
        with self._guard:
            self._last.pop(identity, None)
