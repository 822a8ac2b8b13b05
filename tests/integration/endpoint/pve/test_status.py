# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verbose status says what is on record, and what Proxmox VE says now or why it does not."""

from __future__ import annotations

import dataclasses

from ansible_collections.pvecri.runtime.tests.support.fakepve import FakeCluster
from ansible_collections.pvecri.runtime.tests.support.lxc_driver import StandIn, add_guest
from pvecri.pve import status
from pvecri.pve.node import PveNode

NAME = "c" * 64


def test_status_says_record_and_proxmox(cluster: FakeCluster, driver: StandIn, node: PveNode) -> None:
    record = driver.remember(
        NAME, 900001, storage="local-lvm", upids={"create": "UPID:a", "start": ""}, config_digest="old"
    )
    guest = add_guest(cluster, record, lock="backup", parent="before")
    said = status.describe(node, driver.paths, record)
    assert (said["vmid"], said["node"], said["storage"]) == (900001, "pve1", "local-lvm")
    # A task that was not begun is none.
    assert said["tasks"] == {"create": "UPID:a"}
    assert said["include"].endswith("/lxc/guests/900001/config")
    assert said["now"] == {
        "status": "stopped",
        "lock": "backup",
        "configDigest": guest.digest(),
        "isOurs": True,
        "rootfs": guest.config["rootfs"],
        "snapshot": "before",
    }
    assert not status.describe(node, driver.paths, dataclasses.replace(record, endpoint="x"))["now"]["isOurs"]


def test_status_says_why_proxmox_does_not_tell(cluster: FakeCluster, driver: StandIn, node: PveNode) -> None:
    record = driver.remember(NAME, 900001, problem="it is locked in Proxmox VE (backup)")
    cluster.pve.set_node_offline("pve1")
    said = status.describe(node, driver.paths, record)
    assert said["problem"] == "it is locked in Proxmox VE (backup)"
    assert "could not be reached" in said["now"]["error"]
