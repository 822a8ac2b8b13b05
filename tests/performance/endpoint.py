# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the CRI endpoint beside containerd: lives of pods, cheap calls, memory, recovery."""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import typing as t

from ansible_collections.pvecri.runtime.tests.performance.context import Context, need_programs, need_root
from ansible_collections.pvecri.runtime.tests.performance.measure import Sample, Series
from ansible_collections.pvecri.runtime.tests.performance.report import (
    Cell,
    Section,
    Table,
    Target,
    Unavailable,
)

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_hosts import Contestant
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_load import Lives, Rate

TITLE = "CRI endpoint: lives of pods, calls per second, memory and recovery, beside containerd"

#: The peer that the target is set by, and another that uses the same runtime as ours.
RUNC, CRUN = "containerd + runc", "containerd + crun"
PEERS = {RUNC: "runc", CRUN: "crun"}
RUNNING_FACTOR = 0.8
PODS = 50


def measure(context: Context) -> Section:
    """Measure ours and containerd with runc and with crun, in turn."""
    need_root()
    need_programs("crun", "conmon", "skopeo", "containerd", "ctr", "containerd-shim-runc-v2", "runc")
    missing = [name for name in ("grpc", "pvecri") if importlib.util.find_spec(name) is None]
    if missing:
        raise Unavailable(f"this Python does not find {' and '.join(missing)}")
    from ansible_collections.pvecri.runtime.tests.performance import endpoint_hosts, endpoint_load

    # Sockets need a path that is short.
    with (
        tempfile.TemporaryDirectory(prefix="pb-", dir="/tmp") as work_dir,
        endpoint_hosts.contestants(work_dir, PEERS) as all_of_them,
    ):
        entered, failures = endpoint_load.run(endpoint_load.able(all_of_them))
        if not entered:
            raise Unavailable("; ".join(failures))
        one = endpoint_load.run(
            endpoint_load.lives_in_turn(
                entered, rounds=context.runs * 3, callers=1, each=1, progress=context.progress
            )
        )
        many = endpoint_load.run(
            endpoint_load.lives_in_turn(
                entered,
                rounds=max(2, context.runs // 2),
                callers=endpoint_load.CALLERS,
                each=2,
                progress=context.progress,
            )
        )
        context.progress("calls per second without a pod")
        rates = {0: endpoint_load.run(endpoint_load.rates(entered, rounds=max(2, context.runs // 2)))}
        context.progress("where the time goes")
        stages = endpoint_hosts.stages(
            entered[0], lambda: endpoint_load.run(endpoint_load.lives_of(entered[0], context.runs + 3))
        )
        for contestant in entered:
            context.progress(f"{contestant.name}: running {PODS} pods")
            endpoint_load.run(endpoint_load.fill(contestant, PODS))
        context.progress(f"calls per second with {PODS} pods")
        rates[PODS] = endpoint_load.run(endpoint_load.rates(entered, rounds=max(2, context.runs // 2)))
        memory = {contestant.name: contestant.memory() for contestant in entered}
        recovery = _recovery(entered, context)
        for contestant in entered:
            context.progress(f"{contestant.name}: removing {PODS} pods")
            endpoint_load.run(endpoint_load.empty(contestant))
    ours = entered[0].name
    return Section(
        "endpoint",
        TITLE,
        "All use the same image, the same CNI plugins (bridge with host-local and NAT, portmap) in one "
        "network namespace, and a container that is stopped by KILL. The caller is a Python program on this "
        "machine: calls per second are what caller and daemon reach together; the daemon's own cost stands "
        "beside them.",
        (
            _lives_table("One pod at a time, milliseconds", one, ours),
            _lives_table(f"{endpoint_load.CALLERS} pods at a time, milliseconds", many, ours),
            *_stages_table(stages),
            _throughput_table(one, many, ours),
            *(_rates_table(pods, found, ours) for pods, found in rates.items()),
            _host_table(memory, recovery),
        ),
        _targets(one, ours),
        "; ".join(failures),
    )


def _recovery(entered: t.Sequence[Contestant], context: Context) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {contestant.name: [] for contestant in entered}
    for number in range(3):
        for contestant in entered:
            context.progress(f"{contestant.name}: recovery {number + 1} of 3")
            found[contestant.name].append(contestant.recover(PODS))
    return found


def _lives_table(title: str, lives: t.Mapping[str, Lives], ours: str) -> Table:
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


def _stages_table(stages: t.Mapping[tuple[str, str], t.Sequence[float]]) -> list[Table]:
    """Return what the daemon says of its own work; nothing of a peer's."""
    rows = [(f"{event}: {stage}", median(taken), p95(taken)) for (event, stage), taken in stages.items()]
    title = "Where the time of ours goes, one pod at a time, milliseconds"
    return [Table(title, ("event and stage, as logged", "p50", "p95"), tuple(rows))] if rows else []


def _throughput_table(one: t.Mapping[str, Lives], many: t.Mapping[str, Lives], ours: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for label, lives in (("one at a time", one), ("8 at a time", many)):
        figures = {name: median(item.per_second) for name, item in lives.items()}
        ratios = [figures[ours] / value for name, value in figures.items() if name != ours]
        rows.append((label, *figures.values(), *ratios))
    peers = [name for name in one if name != ours]
    return Table(
        "Lives per second",
        ("", *one, *(f"ratio to «{name}» (more is better)" for name in peers)),
        tuple(rows),
    )


def _rates_table(pods: int, found: t.Mapping[str, t.Mapping[str, Rate]], ours: str) -> Table:
    names = list(next(iter(found.values())))
    rows = []
    for call, rates in found.items():
        ratios = [rates[ours].median / rates[name].median for name in names if name != ours]
        cells = [value for name in names for value in (rates[name].median, rates[name].cpu_median)]
        rows.append((call, *cells, *ratios))
    columns = [f"{name} {which}" for name in names for which in ("per s", "daemon's cpu ms")]
    ratios_of = [f"ratio to «{name}» (more is better)" for name in names if name != ours]
    return Table(f"Calls per second, 8 callers, {pods} pods", ("", *columns, *ratios_of), tuple(rows))


def _host_table(
    memory: t.Mapping[str, tuple[float, float, float]], recovery: t.Mapping[str, t.Sequence[float]]
) -> Table:
    return Table(
        f"With {PODS} pods: memory in MiB, and milliseconds from SIGKILL until all are listed as running",
        ("", "PSS of daemon and helpers", "RSS of daemon", "PSS of helpers", "recovery", "worst"),
        tuple(
            (name, *memory[name], median(recovery[name]) * 1000, max(recovery[name]) * 1000)
            for name in memory
        ),
    )


def _targets(one: t.Mapping[str, Lives], ours: str) -> tuple[Target, ...]:
    if RUNC not in one or ours in PEERS:
        return ()
    own, peer = median(one[ours].to_running), median(one[RUNC].to_running)
    return (Target(f"a pod to its running container against {RUNC}", own / peer, RUNNING_FACTOR, "×"),)
