# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure pve_lxc_container against community.proxmox's proxmox, and how it grows with containers.

The server is PyPI's fakepve on loopback, whose tasks end at once: the times are
those of the modules, and the numbers of requests are those that a real cluster
would see.
"""

from __future__ import annotations

import functools
import os
import typing as t

from ansible_collections.pvecri.runtime.tests.performance.context import Context, ModuleProcess
from ansible_collections.pvecri.runtime.tests.performance.measure import Sample, Series, in_turn, sampled
from ansible_collections.pvecri.runtime.tests.performance.report import (
    Cell,
    Section,
    Table,
    Target,
    Unavailable,
    timing_table,
)

TITLE = "pve_lxc_container: against community.proxmox, and from 10 to 1,000 containers"

NODES = ("pve1", "pve2", "pve3")
SIZES = (10, 100, 1000)
LOOPED = 10
TEMPLATE = "debian-12-standard_12.7-1_amd64.tar.zst"
PEER = "community.proxmox"
OSTEMPLATE = f"local:vztmpl/{TEMPLATE}"
NET0 = "name=eth0,bridge=vmbr0,ip=dhcp"
CONCURRENCY = 8

#: One container's life; each step says whether it must change something.
STEPS = (("create", True), ("unchanged rerun", False), ("update of the memory", True), ("remove", True))


class _Counted(t.NamedTuple):
    sample: Sample
    requests: int


def measure(context: Context) -> Section:
    """Time both modules on one container, then ours on many."""
    try:
        from ansible_collections.pvecri.runtime.tests.support.fakepve import running_cluster
    except ImportError as exc:
        raise Unavailable(f"the fake Proxmox VE API cannot be loaded: {exc}") from exc
    with running_cluster(os.path.join(context.work_dir, "pki"), nodes=NODES) as cluster:
        cluster.pve.store_file("local", TEMPLATE, 0, "vztmpl")
        ours = ModuleProcess(context, "pvecri.runtime.pve_lxc_container")
        theirs = ModuleProcess(context, "community.proxmox.proxmox")
        single, targets = _single(context, cluster, ours, theirs)
        growth, growth_target = _growth(context, cluster, ours, theirs)
    return Section(
        "pve",
        TITLE,
        "Each module runs as a process of its own, with the same template, memory, disk and interface. "
        "Requests are counted by the server; its tasks end at once, so times hold no waiting for their work. "
        "The processors' time of a single container includes the server's.",
        (*single, growth),
        (*targets, growth_target),
    )


def _counted(cluster: t.Any, action: t.Callable[[], object]) -> _Counted:
    cluster.forget_requests()
    sample = sampled(action)
    return _Counted(sample, len(cluster.requests_seen()))


def _own_steps(cluster: t.Any) -> list[dict[str, t.Any]]:
    identity = {**cluster.options(), "vmid": 101}
    wanted = {
        **identity,
        "node": NODES[0],
        "hostname": "single",
        "ostemplate": OSTEMPLATE,
        "memory": 512,
        "rootfs": "local-lvm:4",
        "networks": {"net0": NET0},
    }
    return [wanted, wanted, {**wanted, "memory": 1024}, {**identity, "state": "absent"}]


def _peer_login(cluster: t.Any) -> dict[str, t.Any]:
    options = cluster.options()
    login = {name: options[name] for name in options if name.startswith("api_")}
    # It knows no CA file: what it does not check, it does not pay for.
    return {**login, "validate_certs": False}


def _peer_steps(cluster: t.Any, vmid: int = 102) -> list[dict[str, t.Any]]:
    identity = {**_peer_login(cluster), "vmid": vmid}
    wanted = {
        **identity,
        "node": NODES[0],
        "hostname": f"peer-{vmid}",
        "ostemplate": OSTEMPLATE,
        "memory": 512,
        "disk": "local-lvm:4",
        "netif": {"net0": NET0},
    }
    return [wanted, wanted, {**wanted, "memory": 1024}, {**identity, "state": "absent"}]


def _single(
    context: Context, cluster: t.Any, ours: ModuleProcess, theirs: ModuleProcess
) -> tuple[list[Table], list[Target]]:
    """Take one container through its life with either module, in turn, and compare step by step."""
    lives = {"ours": (ours, _own_steps(cluster)), PEER: (theirs, _peer_steps(cluster))}
    taken = in_turn(
        {
            who: [
                functools.partial(
                    _counted, cluster, functools.partial(module.expect, parameters, changed=changed)
                )
                for (_step, changed), parameters in zip(STEPS, steps, strict=True)
            ]
            for who, (module, steps) in lives.items()
        },
        context.runs,
        progress=lambda text: context.progress(f"one container: {text}"),
    )
    tables, targets = [], []
    requests: list[tuple[Cell, ...]] = []
    for index, (step, _changed) in enumerate(STEPS):
        series = [Series(who, tuple(item.sample for item in taken[who][index])) for who in lives]
        tables.append(timing_table(f"One container: {step}", series, baseline=PEER))
        counts = [max(item.requests for item in taken[who][index]) for who in lives]
        requests.append((step, *counts))
        targets.append(Target(f"{step}: no more requests than {PEER}", counts[0], counts[1], "requests"))
    tables.append(Table("One container: requests", ("step", *lives), tuple(requests)))
    return tables, targets


def _growth(
    context: Context, cluster: t.Any, ours: ModuleProcess, theirs: ModuleProcess
) -> tuple[Table, Target]:
    """Make 10, 100 and 1,000 containers in one task; look at time and requests of each step."""
    rows: list[tuple[Cell, ...]] = []
    most = 0
    for size in SIZES:
        context.progress(f"{size} containers in one task")
        wanted = _batch(cluster, size)
        create = _counted(cluster, lambda p=wanted: ours.expect(p, changed=True))
        reruns = [
            _counted(cluster, lambda p=wanted: ours.expect(p, changed=False)) for _run in range(context.runs)
        ]
        rerun = Series(f"{size}", tuple(item.sample for item in reruns))
        requests = max(item.requests for item in reruns)
        most = max(most, requests)
        update = _counted(cluster, lambda p={**wanted, "memory": 1024}: ours.expect(p, changed=True))
        remove = _counted(cluster, lambda p={**wanted, "state": "absent"}: ours.expect(p, changed=True))
        rows.append(
            (
                f"ours, {size}",
                *_milliseconds(create),
                rerun.median * 1000,
                requests,
                *_milliseconds(update),
                *_milliseconds(remove),
            )
        )
    rows.append(_looped(context, cluster, theirs))
    steps = ("create", "unchanged", "update", "remove")
    columns = ("containers", *(f"{step} {unit}" for step in steps for unit in ("ms", "requests")))
    title = f"Many containers in one task on {len(NODES)} nodes, {CONCURRENCY} at a time"
    table = Table(title, columns, tuple(rows))
    limit = 1 + len(NODES)
    return table, Target(
        f"unchanged rerun of {SIZES[-1]} containers: one request and one for each node",
        most,
        limit,
        "requests",
    )


def _milliseconds(counted: _Counted) -> tuple[float, int]:
    return counted.sample.wall * 1000, counted.requests


def _batch(cluster: t.Any, size: int) -> dict[str, t.Any]:
    return {
        **cluster.options(),
        "ostemplate": OSTEMPLATE,
        "memory": 512,
        "rootfs": "local-lvm:4",
        "networks": {"net0": NET0},
        "concurrency": CONCURRENCY,
        "containers": [
            {"vmid": 1000 + number, "hostname": f"many-{number}", "node": NODES[number % len(NODES)]}
            for number in range(size)
        ],
    }


def _looped(context: Context, cluster: t.Any, theirs: ModuleProcess) -> tuple[Cell, ...]:
    """Take ten containers through the same steps with the peer, which a play runs once for each."""
    context.progress(f"{LOOPED} containers, one after the other, with community.proxmox")
    row: list[Cell] = [f"community.proxmox in a loop, {LOOPED}"]
    lives = [_peer_steps(cluster, 2000 + number) for number in range(LOOPED)]
    for index, (_step, changed) in enumerate(STEPS):

        def step(index: int = index, changed: bool = changed) -> None:
            for steps in lives:
                theirs.expect(steps[index], changed=changed)

        row.extend(_milliseconds(_counted(cluster, step)))
    return tuple(row)
