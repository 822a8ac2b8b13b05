# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take times so that they can be compared: the cases alternate, run by run."""

from __future__ import annotations

import dataclasses
import statistics
import time
import typing as t

T = t.TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to time; ``before`` and ``after`` belong to each run but not to its time."""

    name: str
    action: t.Callable[[], object]
    before: t.Callable[[], object] | None = None
    after: t.Callable[[], object] | None = None


@dataclasses.dataclass(frozen=True)
class Series:
    """The times of one case, in seconds, in the order they were taken."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)

    def as_dict(self) -> dict[str, t.Any]:
        """Return plain data with the summary and every single time."""
        return {
            "name": self.name,
            "median_s": self.median,
            "min_s": min(self.seconds),
            "max_s": max(self.seconds),
            "seconds": list(self.seconds),
        }


def interleaved(
    cases: t.Sequence[Case], runs: int, *, warm_ups: int = 1, progress: t.Callable[[str], None] | None = None
) -> list[Series]:
    """Run all cases in turn, ``runs`` times over, after ``warm_ups`` rounds that are not counted.

    What slows the machine down for a while slows all of them; ``after`` runs even
    when the action fails.
    """
    taken: dict[str, list[float]] = {case.name: [] for case in cases}
    if len(taken) != len(cases):
        raise ValueError("two cases have the same name")
    for number in range(-warm_ups, runs):
        for case in cases:
            duration = timed(case)
            if number >= 0:
                taken[case.name].append(duration)
        if progress is not None and number >= 0:
            progress(f"run {number + 1} of {runs}")
    return [Series(name, tuple(durations)) for name, durations in taken.items()]


def timed(case: Case) -> float:
    """Run ``case`` once and return the seconds that its action took."""
    if case.before is not None:
        case.before()
    try:
        return seconds(case.action)
    finally:
        if case.after is not None:
            case.after()


def in_turn(
    lives: t.Mapping[str, t.Sequence[t.Callable[[], T]]],
    runs: int,
    *,
    warm_ups: int = 1,
    progress: t.Callable[[str], None] | None = None,
) -> dict[str, list[list[T]]]:
    """Run whole sequences of steps in turn, ``runs`` times over; return what the steps of each returned."""
    taken: dict[str, list[list[T]]] = {name: [[] for _ in steps] for name, steps in lives.items()}
    for number in range(-warm_ups, runs):
        for name, steps in lives.items():
            for results, step in zip(taken[name], steps, strict=True):
                result = step()
                if number >= 0:
                    results.append(result)
        if progress is not None and number >= 0:
            progress(f"run {number + 1} of {runs}")
    return taken


def seconds(action: t.Callable[[], object]) -> float:
    """Run ``action`` and return the seconds that it took."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
