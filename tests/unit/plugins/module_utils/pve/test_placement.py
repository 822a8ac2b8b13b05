# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which node a container goes to, and why."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import ClusterView, Node, Storage
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.placement import (
    Ledger,
    Need,
    need_of,
    rank,
    require_eligible,
    storage_on,
)

GIB = 1024**3
MIB = 1024**2


def node(name, *, free_gib=8, cpu=0.0, online=True, cpus=8):
    return Node(name, online, cpus, cpu, 16 * GIB, (16 - free_gib) * GIB)


def storage(name, where, *, free_gib=50, content=("images", "rootdir"), available=True, kind="lvm"):
    return Storage(name, where, available, False, content, kind, 100 * GIB, (100 - free_gib) * GIB)


def view(nodes, storages):
    return ClusterView({}, {n.name: n for n in nodes}, tuple(storages))


def need(memory_mib=512, cores=1, disks=None, storages=()):
    return Need(
        memory_bytes=memory_mib * MIB,
        cores=cores,
        disks={None: 4 * GIB} if disks is None else disks,
        storages=frozenset(storages),
    )


EVERYWHERE = [storage("lvm", name) for name in ("a", "b", "c")]


@pytest.mark.parametrize(
    ("nodes", "storages", "wanted", "order"),
    [
        # Most of the scarcest resource left wins.
        ([node("a", free_gib=4), node("b", free_gib=12)], EVERYWHERE, need(), ["b", "a"]),
        ([node("a", cpu=0.9), node("b", cpu=0.1)], EVERYWHERE, need(), ["b", "a"]),
        ([node("a"), node("b")], [storage("lvm", "a", free_gib=9), storage("lvm", "b")], need(), ["b", "a"]),
        # The scarcest counts: much memory does not make up for a busy CPU.
        ([node("a", free_gib=16, cpu=0.95), node("b", free_gib=4)], EVERYWHERE, need(), ["b", "a"]),
        ([node("b"), node("a")], EVERYWHERE, need(), ["a", "b"]),
        # Those that cannot take it come last.
        ([node("a", online=False), node("b", free_gib=1)], EVERYWHERE, need(), ["b", "a"]),
    ],
)
def test_rank_order(nodes, storages, wanted, order):
    assert [c.node for c in rank(view(nodes, storages), wanted)] == order


@pytest.mark.parametrize(
    ("nodes", "storages", "wanted", "reason"),
    [
        ([node("a", online=False)], EVERYWHERE, need(), "is offline"),
        ([node("a", free_gib=1)], EVERYWHERE, need(2048), "has 1024 MiB of memory free, not 2048 MiB"),
        ([node("a", cpus=2)], EVERYWHERE, need(cores=4), "has 2 CPUs, not 4"),
        ([node("a")], EVERYWHERE, need(storages=["nfs"]), "has no storage 'nfs'"),
        ([node("a")], [storage("lvm", "a", available=False)], need(), "has no storage that takes containers"),
        (
            [node("a")],
            [storage("iso", "a", content=("iso",))],
            need(),
            "has no storage that takes containers",
        ),
        ([node("a")], EVERYWHERE, need(disks={"zfs": 1}), "has no storage 'zfs'"),
        (
            [node("a")],
            [*EVERYWHERE, storage("iso", "a", content=("iso",))],
            need(disks={"iso": 1}),
            "has a storage 'iso' that takes no containers",
        ),
        ([node("a")], EVERYWHERE, need(disks={"lvm": 60 * GIB}), "has 50 GiB free on 'lvm', not 60 GiB"),
        (
            [node("a")],
            EVERYWHERE,
            need(disks={None: 30 * GIB, "lvm": 30 * GIB}),
            "has 50 GiB free on 'lvm', not 60 GiB",
        ),
    ],
)
def test_rank_reasons_against(nodes, storages, wanted, reason):
    candidate = rank(view(nodes, storages), wanted)[0]
    assert (candidate.is_eligible, candidate.reason) == (False, reason)
    with pytest.raises(Conflict, match=f"a: {reason}"):
        require_eligible([candidate])


def test_rank_says_why():
    candidate = rank(view([node("a", free_gib=4)], EVERYWHERE), need(1024))[0]
    assert candidate.reason == "keeps 19% of its scarcest resource (memory) free"
    assert candidate.as_dict() == {
        "node": "a",
        "eligible": True,
        "storage": "lvm",
        "score": 0.188,
        "reason": candidate.reason,
    }


def test_rank_takes_the_storage_with_most_space():
    storages = [storage("s1", "a", free_gib=10), storage("s2", "a", free_gib=40)]
    assert rank(view([node("a")], storages), need())[0].storage == "s2"
    assert storage_on(view([node("a")], storages), "a", need()) == "s2"
    assert storage_on(view([node("a")], []), "a", need()) is None


@pytest.mark.parametrize(
    ("free_gib", "size_gib", "fits"),
    [(50, 60, True), (1, 8, True), (1, 11, False), (50, 101, False), (0, 1, False)],
)
def test_rank_lets_thin_storages_be_given_out_more_than_once(free_gib, size_gib, fits):
    world = view([node("a")], [storage("thin", "a", free_gib=free_gib, kind="lvmthin")])
    ledger = Ledger()
    wanted = need(disks={"thin": size_gib * GIB})
    for _unused in range(3):
        candidate = rank(world, wanted, ledger)[0]
        assert candidate.is_eligible is fits
        ledger.book(wanted, candidate)


def test_rank_prefers_space_also_on_thin_storages():
    storages = [storage("thin", "a", free_gib=1, kind="rbd"), storage("thin", "b", free_gib=40, kind="rbd")]
    assert [c.node for c in rank(view([node("a"), node("b")], storages), need())] == ["b", "a"]


def test_ledger_spreads_what_is_not_there_yet():
    world, ledger = view([node("a"), node("b")], EVERYWHERE), Ledger()
    chosen = []
    for _unused in range(6):
        best = require_eligible(rank(world, need(1024, cores=2), ledger))[0]
        ledger.book(need(1024, cores=2), best)
        chosen.append(best.node)
    assert sorted(chosen) == ["a", "a", "a", "b", "b", "b"]
    assert ledger.memory_bytes == {"a": 3 * GIB, "b": 3 * GIB}
    assert ledger.disk_bytes["a", "lvm"] == 12 * GIB


def test_ledger_spreads_beyond_what_there_is():
    world, ledger = view([node("a", cpus=1), node("b", cpus=1)], EVERYWHERE), Ledger()
    chosen = []
    for _unused in range(12):
        best = rank(world, need(64), ledger)[0]
        ledger.book(need(64), best)
        chosen.append(best.node)
    assert (chosen.count("a"), best.reason.startswith("keeps 0% of its scarcest resource (CPU)")) == (6, True)


def test_ledger_runs_out():
    world, ledger = view([node("a", free_gib=2)], EVERYWHERE), Ledger()
    for _unused in range(2):
        ledger.book(need(1024), require_eligible(rank(world, need(1024), ledger))[0])
    with pytest.raises(Conflict, match="0 MiB of memory free"):
        require_eligible(rank(world, need(1024), ledger))


def test_require_eligible_without_nodes_names_the_privilege():
    with pytest.raises(Conflict, match=r"Sys\.Audit"):
        require_eligible(rank(view([], []), need()))


@pytest.mark.parametrize(
    ("options", "memory_mib", "cores", "disks"),
    [
        ({}, 512, 1, {None: 4 * GIB}),
        ({"memory": 1024, "cores": 4}, 1024, 4, {None: 4 * GIB}),
        ({"storage": "zfs"}, 512, 1, {"zfs": 4 * GIB}),
        ({"rootfs": "zfs:8"}, 512, 1, {"zfs": 8 * GIB}),
        ({"rootfs": 8, "storage": "a1"}, 512, 1, {"a1": 8 * GIB}),
        ({"rootfs": {"volume": "a1:vm-1"}}, 512, 1, {}),
        ({"rootfs": {"storage": "a1"}}, 512, 1, {"a1": 4 * GIB}),
        (
            {"mounts": {"mp0": "zfs:1,mp=/d", "mp1": "/srv,mp=/e", "mp2": None}},
            512,
            1,
            {None: 4 * GIB, "zfs": GIB},
        ),
    ],
)
def test_need_of(options, memory_mib, cores, disks):
    found = need_of(parse_spec({"vmid": 100, **options}), template_storage="local")
    assert (found.memory_bytes, found.cores, dict(found.disks)) == (memory_mib * MIB, cores, disks)
    assert found.storages == {"local"}
    assert need_of(parse_spec({"vmid": 100})).storages == frozenset()
