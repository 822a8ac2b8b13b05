# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count where things happen: plain numbers, which nobody looks at until they are asked for."""

from __future__ import annotations

import dataclasses
import threading
import typing as t

from pvecri.api.methods import METHODS
from pvecri.metrics.text import Histogram
from pvecri.state import records
from pvecri.state.records import ContainerRecord, Phase
from pvecri.state.registry import Change

RPC_BOUNDS: t.Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
PULL_BOUNDS: t.Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

#: Reasons of ends that are told apart; whatever else a record says is Other.
REASONS: t.Final = (
    records.COMPLETED,
    records.ERROR,
    records.OOM_KILLED,
    records.MONITOR_LOST,
    records.CONTAINER_LOST,
    records.START_ERROR,
    records.UNKNOWN,
)
OTHER: t.Final = "Other"


class _Method:
    """What became of the calls of one method."""

    __slots__ = ("codes", "times")

    def __init__(self) -> None:
        self.codes: dict[str, int] = {"OK": 0}
        self.times = Histogram(RPC_BOUNDS)


class RpcCounts:
    """Calls by method; from the event loop alone, so no lock is needed."""

    def __init__(self) -> None:
        self._methods = {name: _Method() for name in METHODS}
        self._streams = frozenset(name for name, method in METHODS.items() if method.is_streaming)

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Count a call that has ended; one that streams takes as long as its client pleases."""
        counts = self._methods[method]
        codes = counts.codes
        codes[code] = codes.get(code, 0) + 1
        if method not in self._streams:
            counts.times.observe(seconds)

    def ended(self) -> t.Iterator[tuple[tuple[str, ...], float]]:
        """Yield how many calls there were, by method and code."""
        for name, counts in self._methods.items():
            for code, count in list(counts.codes.items()):
                yield (name, code), count

    def times(self) -> t.Iterator[tuple[tuple[str, ...], Histogram]]:
        """Yield how long calls took, of the methods that were called."""
        for name, counts in self._methods.items():
            if any(counts.times.counts):
                yield (name,), counts.times


class ExitCounts:
    """Ends of containers by their reason; told by the registry, whose lock is held."""

    def __init__(self) -> None:
        self._reasons = dict.fromkeys((*REASONS, OTHER), 0)

    def heard(self, change: Change) -> None:
        """Count an end."""
        old, new = change.old, change.new
        if not isinstance(new, ContainerRecord) or new.phase is not Phase.EXITED:
            return
        if old is not None and old.phase is not Phase.EXITED:
            reason = new.reason if new.reason in self._reasons else OTHER
            self._reasons[reason] += 1

    def values(self) -> t.Iterator[tuple[tuple[str, ...], float]]:
        """Yield how many containers have ended, by reason."""
        for reason, count in self._reasons.items():
            yield (reason,), count


class PullCounts:
    """Pulls of images, from the threads that do them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.succeeded = self.failed = self.bytes = 0
        self.times = Histogram(PULL_BOUNDS)

    def ended(self, seconds: float, *, fetched_bytes: int = 0, has_failed: bool = False) -> None:
        """Count a pull; ``fetched_bytes`` is the compressed size of what it brought."""
        with self._guard:
            self.times.observe(seconds)
            if has_failed:
                self.failed += 1
            else:
                self.succeeded += 1
                self.bytes += fetched_bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a start found; ``mends`` are counted from waiting to done or failed."""

    seconds: float
    objects: dict[str, int]
    mends: dict[str, int]
