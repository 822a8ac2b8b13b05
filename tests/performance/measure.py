# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take times so that they can be compared: the cases alternate, run by run."""

from __future__ import annotations

import dataclasses
import resource
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


class Sample(t.NamedTuple):
    """What one run took, in seconds: on the clock, and of the processors.

    ``cpu`` counts this process and the children that ended and were waited for.
    """

    wall: float
    cpu: float


@dataclasses.dataclass(frozen=True)
class Series:
    """What the runs of one case took, in their order."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> tuple[float, ...]:
        """The times on the clock."""
        return tuple(sample.wall for sample in self.samples)

    @property
    def median(self) -> float:
        """Median on the clock, in seconds."""
        return statistics.median(self.seconds)

    @property
    def cpu_median(self) -> float:
        """Median of the processors' time, in seconds; it suffers less from what else the machine does."""
        return statistics.median(sample.cpu for sample in self.samples)

    def as_dict(self) -> dict[str, t.Any]:
        """Return plain data with the summary and every single time."""
        return {
            "name": self.name,
            "median_s": self.median,
            "min_s": min(self.seconds),
            "max_s": max(self.seconds),
            "cpu_median_s": self.cpu_median,
            "seconds": list(self.seconds),
            "cpu_seconds": [sample.cpu for sample in self.samples],
        }


def interleaved(
    cases: t.Sequence[Case], runs: int, *, warm_ups: int = 1, progress: t.Callable[[str], None] | None = None
) -> list[Series]:
    """Run all cases in turn, ``runs`` times over, after ``warm_ups`` rounds that are not counted.

    What slows the machine down for a while slows all of them; ``after`` runs even
    when the action fails.
    """
    taken: dict[str, list[Sample]] = {case.name: [] for case in cases}
    if len(taken) != len(cases):
        raise ValueError("two cases have the same name")
    for number in range(-warm_ups, runs):
        for case in cases:
            sample = timed(case)
            if number >= 0:
                taken[case.name].append(sample)
        if progress is not None and number >= 0:
            progress(f"run {number + 1} of {runs}")
    return [Series(name, tuple(samples)) for name, samples in taken.items()]


def timed(case: Case) -> Sample:
    """Run ``case`` once and return what its action took."""
    if case.before is not None:
        case.before()
    try:
        return sampled(case.action)
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
    taken: dict[str, list[list[T]]] = {name: [[] for _step in steps] for name, steps in lives.items()}
    for number in range(-warm_ups, runs):
        for name, steps in lives.items():
            for results, step in zip(taken[name], steps, strict=True):
                result = step()
                if number >= 0:
                    results.append(result)
        if progress is not None and number >= 0:
            progress(f"run {number + 1} of {runs}")
    return taken


def sampled(action: t.Callable[[], object]) -> Sample:
    """Run ``action`` and return what it took."""
    cpu, start = _cpu_seconds(), time.perf_counter()
    action()
    return Sample(time.perf_counter() - start, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
