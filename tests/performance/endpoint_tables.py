# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the endpoint's figures into tables, beside those of its peers."""

from __future__ import annotations

import statistics
import typing as t

from ansible_collections.pvecri.runtime.tests.performance.measure import Sample, Series
from ansible_collections.pvecri.runtime.tests.performance.report import Cell, Table

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_calls import Rates
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_hosts import Memory
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_load import Lives


def lives_table(title: str, lives: t.Mapping[str, Lives], ours: str) -> Table:
    """Return p50 and p95 of each call of a life."""
    peers = [name for name in lives if name != ours]
    columns = [f"{name} {which}" for name in lives for which in ("p50", "p95")]
    rows = [
        _lives_row(rpc, {name: item.taken[rpc] for name, item in lives.items()}, ours)
        for rpc in next(iter(lives.values())).taken
    ]
    rows.append(_lives_row("a pod to its running container", _field(lives, "to_running"), ours))
    rows.append(_lives_row("a whole life", _field(lives, "whole"), ours))
    series = tuple(
        Series(f"{name}: {rpc}", tuple(Sample(seconds, 0.0) for seconds in taken))
        for name, item in lives.items()
        for rpc, taken in item.taken.items()
    )
    return Table(title, ("", *columns, *(f"ratio to «{name}»" for name in peers)), tuple(rows), series)


def _field(lives: t.Mapping[str, Lives], field: str) -> dict[str, list[float]]:
    return {name: getattr(item, field) for name, item in lives.items()}


def _lives_row(label: str, taken: t.Mapping[str, t.Sequence[float]], ours: str) -> tuple[Cell, ...]:
    figures = [value * 1000 for seconds in taken.values() for value in (median(seconds), p95(seconds))]
    own = median(taken[ours])
    ratios = [own / median(seconds) for name, seconds in taken.items() if name != ours]
    return (label, *figures, *ratios)


def median(seconds: t.Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(seconds)


def p95(seconds: t.Sequence[float]) -> float:
    """Return the value that 95 of 100 do not exceed."""
    ordered = sorted(seconds)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


def stages_table(stages: t.Mapping[tuple[str, str], t.Sequence[float]]) -> list[Table]:
    """Return what the daemon says of its own work; nothing of a peer's."""
    rows = [(f"{event}: {stage}", median(taken), p95(taken)) for (event, stage), taken in stages.items()]
    title = "Where the time of ours goes, one pod at a time, milliseconds (network: CNI's plugins)"
    return [Table(title, ("event and stage, as logged", "p50", "p95"), tuple(rows))] if rows else []


def throughput_table(found: t.Mapping[int, t.Mapping[str, Lives]], ours: str) -> Table:
    """Return how many whole lives there were in a second, by how many pods at a time."""
    rows: list[tuple[Cell, ...]] = []
    for callers, lives in found.items():
        label = f"{callers} at a time"
        figures = {name: median(item.per_second) for name, item in lives.items()}
        ratios = [figures[ours] / value for name, value in figures.items() if name != ours]
        rows.append((label, *figures.values(), *ratios))
    peers = [name for name in found[1] if name != ours]
    return Table(
        "Lives per second",
        ("", *found[1], *(f"ratio to «{name}» (more is better)" for name in peers)),
        tuple(rows),
    )


def rates_table(pods: int, found: Rates, ours: str) -> Table:
    """Return calls per second, and what one costs the daemon."""
    names = list(next(iter(found.values())))
    rows: list[tuple[Cell, ...]] = []
    for call, rates in found.items():
        ratios = [rates[ours].median / rates[name].median for name in names if name != ours]
        cells = [value for name in names for value in (rates[name].median, rates[name].cpu_median * 1000)]
        rows.append((call, *cells, *ratios))
    columns = [f"{name} {which}" for name in names for which in ("per s", "daemon's cpu µs")]
    ratios_of = [f"ratio to «{name}» (more is better)" for name in names if name != ours]
    return Table(f"Calls per second, 8 callers, {pods} pods", ("", *columns, *ratios_of), tuple(rows))


def streams_table(size_mib: int, found: t.Mapping[str, t.Mapping[str, t.Sequence[float]]]) -> list[Table]:
    """Return how fast data came through streams; a peer that cannot do it has no figure."""
    names = list(dict.fromkeys(name for by_name in found.values() for name in by_name))
    rows = [
        (what, *(median(by_name[name]) if name in by_name else None for name in names))
        for what, by_name in found.items()
    ]
    title = f"Streams of {size_mib} MiB with crictl, its start included, MiB per second (more is better)"
    return [Table(title, ("", *names), tuple(rows))] if rows else []


def host_table(
    pods: int,
    before: t.Mapping[str, Memory],
    memory: t.Mapping[str, Memory],
    recovery: t.Mapping[str, t.Sequence[float]],
) -> Table:
    """Return what a host with ``pods`` pods spends, and how long a daemon takes to find them again."""
    return Table(
        f"With {pods} pods: memory in MiB, and milliseconds from SIGKILL until all are listed as running",
        (
            "",
            "PSS of daemon and helpers",
            "PSS of daemon",
            "RSS of daemon",
            "PSS of helpers",
            "more PSS per pod",
            "recovery",
            "worst",
        ),
        tuple(
            (
                name,
                now.whole,
                now.daemon,
                now.daemon_rss,
                now.helpers,
                (now.whole - before[name].whole) / pods,
                median(recovery[name]) * 1000,
                max(recovery[name]) * 1000,
            )
            for name, now in memory.items()
        ),
    )
