# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the CRI endpoint beside containerd: lives of pods, cheap calls, memory, recovery."""

from __future__ import annotations

import importlib.util
import tempfile
import typing as t

from ansible_collections.pvecri.runtime.tests.performance import endpoint_tables as tables
from ansible_collections.pvecri.runtime.tests.performance.context import Context, need_programs, need_root
from ansible_collections.pvecri.runtime.tests.performance.endpoint_targets import Figures, targets
from ansible_collections.pvecri.runtime.tests.performance.report import Section, Unavailable

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_calls import Rates
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_hosts import Contestant, Memory
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_load import Lives
    from ansible_collections.pvecri.runtime.tests.performance.endpoint_streams import Speeds

TITLE = "CRI endpoint: lives of pods, calls per second, memory and recovery, beside containerd"

#: The peer that the targets are set by, and another that uses the same runtime as ours.
RUNC, CRUN = "containerd + runc", "containerd + crun"
PEERS = {RUNC: "runc", CRUN: "crun"}
#: Pods with which memory and recovery are measured; they have networks of their own.
PODS = 50
#: Pods with which calls are counted; beyond `PODS` they are in the host's network, which is sooner done.
LEVELS = (0, PODS, 200)
THOROUGH_LEVELS = (*LEVELS, 500)
#: Pods at a time, with the lives that each caller goes through in a round.
AT_A_TIME = {1: 1, 8: 2, 10: 1}

_TEXT = (
    "All use the same image, the same CNI plugins (bridge with host-local and NAT, portmap) in one "
    "network namespace, and a container that is stopped by KILL. The caller of lives is a Python program on "
    "this machine; calls per second are asked for by h2load, which is written in C, with one connection a "
    "caller: what caller and daemon reach together, with the daemon's own cost beside it."
)


def measure(context: Context) -> Section:
    """Measure ours and containerd with runc and with crun, in turn."""
    need_root()
    need_programs(
        "crun", "conmon", "skopeo", "containerd", "ctr", "containerd-shim-runc-v2", "runc", "h2load"
    )
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
        lives = {callers: _lives(entered, callers, each, context) for callers, each in AT_A_TIME.items()}
        context.progress("where the time goes")
        stages = endpoint_hosts.stages(
            entered[0], lambda: endpoint_load.run(endpoint_load.lives_of(entered[0], context.runs + 3))
        )
        streams, no_streams = _streams(entered, context)
        before = {contestant.name: contestant.memory() for contestant in entered}
        rates, memory, recovery = _with_pods(entered, context)
    ours = entered[0].name
    titles = {1: "One pod at a time", 8: "8 pods at a time", 10: "10 pods at a time"}
    return Section(
        "endpoint",
        TITLE,
        _TEXT,
        (
            *(tables.lives_table(f"{titles[n]}, milliseconds", found, ours) for n, found in lives.items()),
            *tables.stages_table(stages),
            tables.throughput_table(lives, ours),
            *(tables.rates_table(pods, found, ours) for pods, found in rates.items()),
            *tables.streams_table(streams[0], streams[1]),
            tables.host_table(PODS, before, memory, recovery),
        ),
        targets(
            Figures(
                ours=ours,
                peer=RUNC,
                peers=tuple(PEERS),
                cheap=endpoint_load.CHEAP,
                lives=lives,
                rates=rates,
                memory=memory,
                recovery=recovery,
            )
        ),
        "; ".join([*failures, *no_streams]),
    )


def _lives(entered: t.Sequence[Contestant], callers: int, each: int, context: Context) -> dict[str, Lives]:
    from ansible_collections.pvecri.runtime.tests.performance import endpoint_load

    return endpoint_load.run(
        endpoint_load.lives_in_turn(
            entered,
            rounds=context.runs * 3 if callers == 1 else max(2, context.runs // 2),
            callers=callers,
            each=each,
            progress=context.progress,
        )
    )


def _streams(entered: t.Sequence[Contestant], context: Context) -> tuple[tuple[int, Speeds], list[str]]:
    """Return the size of each stream with the speeds, and why there are none."""
    from ansible_collections.pvecri.runtime.tests.performance import endpoint_streams

    try:
        rounds = max(2, context.runs // 2)
        found = endpoint_streams.speeds(entered, rounds=rounds, progress=context.progress)
    except Unavailable as exc:
        return (endpoint_streams.SIZE_MIB, {}), [str(exc)]
    return (endpoint_streams.SIZE_MIB, found), []


def _with_pods(
    entered: t.Sequence[Contestant], context: Context
) -> tuple[dict[int, Rates], dict[str, Memory], dict[str, list[float]]]:
    """Return calls per second by number of pods; memory and recovery with `PODS` of them."""
    from ansible_collections.pvecri.runtime.tests.performance import endpoint_calls, endpoint_load

    rates: dict[int, Rates] = {}
    memory: dict[str, Memory] = {}
    recovery: dict[str, list[float]] = {}
    there = 0
    for pods in THOROUGH_LEVELS if context.is_thorough else LEVELS:
        for contestant in entered:
            context.progress(f"{contestant.name}: running {pods} pods")
            endpoint_load.run(endpoint_load.fill(contestant, pods - there, host_network=pods > PODS))
        there = pods
        context.progress(f"calls per second with {pods} pods")
        rates[pods] = endpoint_calls.rates(
            entered, rounds=max(2, context.runs // 2), work_dir=context.work_dir
        )
        if pods == PODS:
            memory = {contestant.name: contestant.memory() for contestant in entered}
            recovery = _recovery(entered, context)
    for contestant in entered:
        context.progress(f"{contestant.name}: removing {there} pods")
        endpoint_load.run(endpoint_load.empty(contestant))
    return rates, memory, recovery


def _recovery(entered: t.Sequence[Contestant], context: Context) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {contestant.name: [] for contestant in entered}
    for number in range(3):
        for contestant in entered:
            context.progress(f"{contestant.name}: recovery {number + 1} of 3")
            found[contestant.name].append(contestant.recover(PODS))
    return found
