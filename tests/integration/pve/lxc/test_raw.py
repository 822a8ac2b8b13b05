# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw ``lxc.*`` lines, which go into a file on the node and come back through the API."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_reconcile import reconcile
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_session import Session
from ansible_collections.pvecri.runtime.tests.support.pve_lxc import CONFIG, TEMPLATE, rewire, writes


@pytest.fixture
def node(cluster, tmp_path):
    """Give the cluster the config directory of a node: what is in a file, the API shows."""
    directory = tmp_path / "lxc"
    directory.mkdir()
    get, create = cluster.pve._lxc_config_get, cluster.pve._lxc_create

    async def config_get(user, values):
        config = await get(user, values)
        path = directory / f"{values['vmid']}.conf"
        lines = path.read_text().splitlines() if path.exists() else []
        raw = [line.split(": ", 1) for line in lines if line.startswith("lxc.") and "unknown" not in line]
        return {**config, **({"lxc": raw} if raw else {})}

    async def lxc_create(user, values):
        (directory / f"{values['vmid']}.conf").write_text("arch: amd64\n")
        return await create(user, values)

    rewire(cluster, "GET", CONFIG, config_get)
    rewire(cluster, "POST", "/nodes/{node}/lxc", lxc_create)
    return directory


@pytest.fixture
def make(cluster, node, tmp_path):
    """Return a function that makes a container what it is asked to be, on its own node."""

    def make(*, check=False, **options):
        session = Session(
            client=cluster.client(),
            check_mode=check,
            config_dir=str(node),
            lock_dir=str(tmp_path / "lock"),
        )
        return reconcile(session, parse_spec(options))

    return make


OPTIONS = {
    "vmid": 300,
    "node": "pve1",
    "ostemplate": TEMPLATE,
    "storage": "local-lvm",
    "lxc": {"lxc.cap.drop": ["sys_time", "mknod"], "lxc.apparmor.profile": "unconfined"},
}


def test_lines_are_written_before_the_start_and_found_again(make, node):
    result = make(state="started", **OPTIONS)
    assert result.actions == ["create", "raw_lines", "start"]
    assert (node / "300.conf").read_text() == (
        "arch: amd64\nlxc.cap.drop: sys_time\nlxc.cap.drop: mknod\nlxc.apparmor.profile: unconfined\n"
    )
    assert not make(state="started", **OPTIONS).changed


def test_changes_go_both_ways(make, node):
    make(**OPTIONS)
    result = make(vmid=300, node="pve1", lxc={"lxc.cap.drop": "mknod", "lxc.apparmor.profile": None})
    assert result.actions == ["raw_lines"]
    assert (node / "300.conf").read_text() == "arch: amd64\nlxc.cap.drop: mknod\n"
    assert result.differences.as_diff() == {
        "before": {"lxc.cap.drop": ["sys_time", "mknod"], "lxc.apparmor.profile": ["unconfined"]},
        "after": {"lxc.cap.drop": ["mknod"]},
    }


def test_running_container_is_restarted_when_asked(make):
    make(state="started", **OPTIONS)
    lines = {"lxc": {"lxc.cap.drop": "mknod"}}
    assert make(vmid=300, node="pve1", apply_pending=True, **lines).actions == ["raw_lines", "reboot"]


def test_check_mode_leaves_the_file_alone(make, node):
    make(**OPTIONS)
    before = (node / "300.conf").read_text()
    assert make(check=True, vmid=300, node="pve1", lxc={"lxc.cap.drop": None}).changed
    assert (node / "300.conf").read_text() == before


def test_key_that_proxmox_ve_does_not_know_is_an_error(make):
    make(**OPTIONS)
    with pytest.raises(WrongState, match=r"accepted 'raw_lines' and did not carry it out.*lxc\.unknown"):
        make(vmid=300, node="pve1", lxc={"lxc.unknown": "1"})


def test_elsewhere_they_are_refused_before_anything_is_changed(cluster, run):
    cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"})
    result = run(fails=True, vmid=300, memory=1024, lxc={"lxc.cap.drop": "sys_time"})
    assert result["error"] == "unsupported"
    assert "as root on node 'pve1' itself" in result["msg"]
    assert writes(cluster) == []
