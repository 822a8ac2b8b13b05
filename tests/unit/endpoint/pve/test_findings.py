# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen in Proxmox VE says what was done to a container, and what follows."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from pvecri.pve import findings
from pvecri.pve.findings import Act, Kind, Known, Sighting
from pvecri.pve.identity import Identity, description
from pvecri.state.records import Phase

RECORD = LxcRecord(
    name="c" * 64,
    vmid=900001,
    node="pve1",
    sandbox_id="s" * 64,
    bundle="/b",
    log_path="",
    boot_id="boot",
    created_at=1.0,
    lxc_path="/var/lib/lxc",
    stage=Stage.RUNNING,
    endpoint="e" * 16,
)
INCLUDE = "/var/lib/pvecri/lxc/guests/900001/config"


def notes(**changes: t.Any) -> str:
    whose: dict[str, t.Any] = {
        "endpoint": RECORD.endpoint,
        "container": RECORD.name,
        "sandbox": RECORD.sandbox_id,
        **changes,
    }
    return description(Identity(**whose), pod="web", namespace="default", container="main", image="busybox")


CONFIG: dict[str, t.Any] = {
    "tags": "pvecri;pvecri-cri",
    "description": notes() + "\n",
    "hostname": "web-main",
    "lxc": [["lxc.init.uid", "1000"], ["lxc.include", INCLUDE]],
}
SEEN = Sighting("pve1", "running", "", CONFIG)


def known(**changes: t.Any) -> Known:
    record = dataclasses.replace(RECORD, **changes.pop("record", {}))
    values: dict[str, t.Any] = {
        "record": record,
        "phase": Phase.RUNNING,
        "runs": True,
        "hostname": "web-main",
        "include": INCLUDE,
    }
    return Known(**{**values, **changes})


def seen(status: str = "running", lock: str = "", node: str = "pve1", **config: t.Any) -> Sighting:
    return Sighting(node, status, lock, {**CONFIG, **config})


EXITED = {"phase": Phase.EXITED, "runs": False}
CREATED = {"phase": Phase.CREATED, "runs": False, "record": {"stage": Stage.READY}}
Expected = list[tuple[Kind, Act]]

TABLE: list[tuple[str, Known, Sighting | None, Expected]] = [
    ("as made", known(), SEEN, []),
    ("ended", known(**EXITED), seen("stopped"), []),
    ("waits", known(**CREATED), seen("stopped"), []),
    ("destroyed", known(runs=False), None, [(Kind.DESTROYED, Act.LOSE)]),
    ("destroyed before its start", known(**CREATED), None, [(Kind.DESTROYED, Act.LOSE)]),
    ("destroyed after its end", known(**EXITED), None, [(Kind.DESTROYED, Act.TELL)]),
    (
        "destroyed, record unread",
        known(phase=Phase.UNKNOWN, runs=False),
        None,
        [(Kind.DESTROYED, Act.TELL)],
    ),
    ("gone yet its program runs", known(), None, [(Kind.DESTROYED, Act.TELL)]),
    ("migrated", known(runs=False), Sighting("pve2", "unknown", "", {}), [(Kind.MIGRATED, Act.LOSE)]),
    ("migrated after its end", known(**EXITED), seen(node="pve2"), [(Kind.MIGRATED, Act.TELL)]),
    ("notes gone", known(), seen(description="mine"), [(Kind.FOREIGN, Act.TELL)]),
    ("another's number", known(runs=False), seen(description="mine"), [(Kind.FOREIGN, Act.LOSE)]),
    ("another endpoint", known(), seen(description=notes(endpoint="x")), [(Kind.FOREIGN, Act.TELL)]),
    ("another container", known(), seen(description=notes(container="x")), [(Kind.FOREIGN, Act.TELL)]),
    (
        "foreign, nothing is put back",
        known(),
        seen(description="", tags="", lxc=[]),
        [(Kind.FOREIGN, Act.TELL)],
    ),
    ("a clone", known(), seen(description=notes(vmid=105)), [(Kind.FOREIGN, Act.TELL)]),
    ("its own number", known(), seen(description=notes(vmid=900001)), []),
    ("one tag taken", known(), seen(tags="shop;pvecri"), [(Kind.UNTAGGED, Act.TAG)]),
    ("other tag taken", known(), seen(tags="pvecri-cri"), [(Kind.UNTAGGED, Act.TAG)]),
    ("both tags taken", known(), seen(tags="shop"), [(Kind.UNTAGGED, Act.TELL)]),
    ("untagged, nothing else is done", known(**EXITED), seen(tags="", lxc=[]), [(Kind.UNTAGGED, Act.TELL)]),
    ("include taken", known(), seen(lxc=[["lxc.init.uid", "1"]]), [(Kind.EXCLUDED, Act.INCLUDE)]),
    ("no raw lines", known(), seen(lxc=None), [(Kind.EXCLUDED, Act.INCLUDE)]),
    (
        "include taken, locked",
        known(),
        seen(lock="backup", lxc=[]),
        [(Kind.LOCKED, Act.TELL), (Kind.EXCLUDED, Act.TELL)],
    ),
    ("locked", known(), seen(lock="backup"), [(Kind.LOCKED, Act.TELL)]),
    ("renamed", known(), seen(hostname="db"), [(Kind.RENAMED, Act.TELL)]),
    ("name unknown", known(hostname=""), seen(hostname="db"), []),
    ("snapshotted", known(), seen(parent="before"), [(Kind.SNAPSHOTTED, Act.TELL)]),
    ("started after its end", known(**EXITED), SEEN, [(Kind.STARTED, Act.STOP)]),
    ("started by another", known(**{**CREATED, "runs": True}), SEEN, [(Kind.STARTED, Act.RUNS)]),
    (
        "start under way",
        known(phase=Phase.CREATED, record={"stage": Stage.STARTING}),
        SEEN,
        [],
    ),
    ("in the making", known(record={"stage": Stage.CREATING}), None, []),
    ("claimed", known(record={"stage": Stage.CLAIMED}), seen(description="theirs"), []),
    ("on its way out", known(record={"stage": Stage.DESTROYING}), None, []),
]


@pytest.mark.parametrize(
    ("what", "sighting", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_findings_table(what: Known, sighting: Sighting | None, expected: Expected) -> None:
    found = findings.judge(what, sighting)
    assert [(finding.kind, finding.act) for finding in found] == expected
    assert all(finding.message for finding in found)


def test_findings_name_what_was_seen() -> None:
    found = findings.judge(known(), seen(lock="backup", hostname="db", parent="before"))
    text = " ".join(finding.message for finding in found)
    assert all(word in text for word in ("(backup)", "db", "before"))


@pytest.mark.parametrize("tags", ["", "shop", "shop;other"])
def test_findings_never_touch_the_untagged(tags: str) -> None:
    for phase in (Phase.CREATED, Phase.RUNNING, Phase.EXITED):
        for stage in Stage:
            what = known(phase=phase, runs=False, record={"stage": stage})
            found = findings.judge(what, seen(tags=tags, lxc=[], hostname="x"))
            assert {finding.act for finding in found} <= {Act.TELL}
