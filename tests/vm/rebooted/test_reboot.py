# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node after a reboot: the endpoint is there by itself, and knows what ran before."""

from __future__ import annotations

import pathlib

from ansible_collections.pvecri.runtime.tests.vm import survivor
from ansible_collections.pvecri.runtime.tests.vm.node import CGROUPS, Node, run, unit_properties


def test_endpoint_came_with_the_machine(node: Node) -> None:
    assert survivor.find().boot_id != survivor.boot_id()
    node.crictl("version")
    assert unit_properties("pvecri.service", "NRestarts", "Result") == {"NRestarts": "0", "Result": "success"}
    assert run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--all") == ""


def test_new_pod_works(node: Node) -> None:
    container = node.start("echo after; exec sleep 3600")
    container.says("after")
    assert (
        pathlib.Path(f"/proc/{container.pid}/attr/apparmor/current").read_text().startswith("pvecri-default-")
    )


def test_pod_of_before_has_ended_and_can_be_removed(node: Node) -> None:
    was = survivor.find()
    pod = node.crictl.json("inspectp", was.pod_id)["status"]
    status = node.crictl.json("inspect", was.container_id)["status"]
    assert (pod["state"], status["state"]) == ("SANDBOX_NOTREADY", "CONTAINER_EXITED")
    assert "before" in pathlib.Path(was.log_file).read_text()
    node.crictl("stopp", was.pod_id)
    node.crictl("rmp", was.pod_id)
    assert not (CGROUPS / "pvecri.slice" / f"pvecri-pod{was.pod_id}.slice").exists()
    assert was.pod_id not in run("cat", "/proc/mounts")
