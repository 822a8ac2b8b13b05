# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access to Proxmox VE that is wrong keeps nobody from using crun, and is taken up when it is mended."""

from __future__ import annotations

import os
import shutil

import pytest

from ansible_collections.pvecri.runtime.tests.integration.endpoint.lxc.conftest import running_lab
from ansible_collections.pvecri.runtime.tests.support.endpoint import running_endpoint

PROBLEM = "Proxmox LXC cannot be used"


def refused(lab, code, *words):
    config = lab.endpoint.pod()
    pod = lab.pod(config=config)
    with lab.refused(code, *words):
        lab.cri.create(pod, lab.endpoint.container("app"), config)


def test_access_that_is_mended_needs_no_restart(tmp_path):
    file = tmp_path / "pve.json"
    file.write_text("{}")
    with running_lab(pve={"access_file": str(file)}) as lab:
        assert lab.endpoint.log_text().count(PROBLEM) == 1
        sidecar = lab.run(lab.pod(handler="crun"), "echo here; sleep 1000")
        lab.printed(sidecar, "here")
        refused(lab, "FAILED_PRECONDITION", str(file), "Run the role cri_endpoint")
        shutil.copy(lab.node.access_file, file)
        os.chmod(file, 0o600)
        lab.printed(lab.run(script="echo guest; sleep 1000"), "guest")
        lab.clear()
        assert lab.left() == []
        assert lab.endpoint.tracebacks() == []


@pytest.mark.parametrize("enabled", ["auto", "false"])
def test_a_host_that_has_no_access_runs_containers(tmp_path, enabled):
    pve = {"enabled": enabled, "access_file": str(tmp_path / "none.json")}
    with running_endpoint(settings={"pve": pve}) as endpoint:
        assert PROBLEM not in endpoint.log_text()
        endpoint.run_container()


def test_missing_access_that_is_wanted_is_told(tmp_path):
    pve = {"enabled": "true", "access_file": str(tmp_path / "none.json")}
    with running_endpoint(settings={"pve": pve}) as endpoint:
        assert PROBLEM in endpoint.log_text()
        endpoint.run_container()


def test_range_that_is_used_up_is_named():
    with running_lab() as lab:
        first, _last = lab.node.vmid_range
        lab.endpoint.settings["pve"]["vmid_range"] = [first, first + 1]
        lab.endpoint.restart()
        lab.node.add_ct(vmid=first)
        lab.run()
        refused(lab, "RESOURCE_EXHAUSTED", f"no number from {first} to {first + 1} is free", "pve.vmid_range")
        lab.clear()
        assert lab.left() == []
        assert lab.node.vmids() == [first]
