# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what is promised of the endpoint, and say of each promise how it stands."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.tests.performance.endpoint_tables import median, p95
from ansible_collections.pvecri.runtime.tests.performance.report import Target

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_calls import Rates
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_hosts import Memory
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_load import Lives

#: Two that are level do not come out equal.
_LEVEL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What the targets are about, by name of the contestant."""

    ours: str
    #: The peer that ratios are taken to, and all peers.
    peer: str
    peers: t.Sequence[str]
    #: The calls that start no process.
    cheap: t.Collection[str]
    #: By pods at a time.
    lives: t.Mapping[int, t.Mapping[str, Lives]]
    #: By pods that there were.
    rates: t.Mapping[int, Rates]
    memory: t.Mapping[str, Memory]
    recovery: t.Mapping[str, t.Sequence[float]]


def targets(figures: Figures) -> tuple[Target, ...]:
    """Return every target; none when ours or the peer that they are set by could not be measured."""
    measured = figures.lives[1]
    if figures.ours not in measured or figures.peer not in measured or figures.ours == figures.peer:
        return ()
    return (*_of_lives(figures), *_of_rates(figures), *_of_host(figures))


def _of_lives(figures: Figures) -> t.Iterator[Target]:
    ours, peer = figures.ours, figures.peer
    one, eight = figures.lives[1], figures.lives[8]
    ratio = median(one[ours].to_running) / median(one[peer].to_running)
    yield Target(f"a pod to its running container against {peer}", ratio, 0.45, "×")
    ratio = median(eight[ours].per_second) / median(eight[peer].per_second)
    yield Target(
        f"whole lives per second, 8 pods at a time, against {peer}", ratio, 1.5, "×", is_minimum=True
    )
    ratio = median(one[ours].taken["ExecSync"]) / median(one[peer].taken["ExecSync"])
    yield Target(f"ExecSync against {peer}", ratio, 0.5, "×")
    for text, limit, names in (
        ("calls that start no process", 5.0, [name for name in one[ours].taken if name in figures.cheap]),
        ("the other calls", 100.0, [name for name in one[ours].taken if name not in figures.cheap]),
    ):
        slowest = max(names, key=lambda name: p95(one[ours].taken[name]))
        value = p95(one[ours].taken[slowest]) * 1000
        yield Target(f"p95 of {text}, one at a time; the slowest is {slowest}", value, limit, "ms")


def _of_rates(figures: Figures) -> t.Iterator[Target]:
    for pods, found in figures.rates.items():
        for call, rates in found.items():
            own, others = rates[figures.ours], [rates[name] for name in figures.peers if name in rates]
            # Version is the library's speed alone, and does not depend on the pods.
            if not others or (pods == 0) != (call == "Version"):
                continue
            least, what = (_LEVEL, "level with") if call == "Version" else (1.0, "ahead of")
            speed = own.median / max(other.median for other in others)
            cost = own.cpu_median / min(other.cpu_median for other in others)
            where = f"{call} with {pods} pods"
            yield Target(
                f"{where}: calls per second, {what} the best peer", speed, least, "×", is_minimum=True
            )
            yield Target(f"{where}: the daemon's processor time for a call", cost, 1 / least, "×")


def _of_host(figures: Figures) -> t.Iterator[Target]:
    own, peer = figures.memory[figures.ours], figures.memory[figures.peer]
    yield Target("PSS of the daemon with 50 pods", own.daemon, 60.0, "MiB")
    yield Target(
        f"PSS of daemon and helpers with 50 pods against {figures.peer}", own.whole / peer.whole, 0.3, "×"
    )
    yield Target("recovery of 50 running pods", median(figures.recovery[figures.ours]), 0.7, "s")
