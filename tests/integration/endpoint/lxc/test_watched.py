# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do in Proxmox VE stands in a container's status, and what was ours is put back."""

from __future__ import annotations

import gzip
import json
import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.tests.integration.endpoint.lxc.conftest import running_lab
from ansible_collections.pvecri.runtime.tests.support.images import File, busybox_files, tar_layer
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb


@pytest.fixture(scope="module")
def module_lab():
    """An endpoint that looks often."""
    with running_lab(pve={"watch_interval_s": 0.2}) as lab:
        yield lab


def told(lab, container, text):
    """Wait until a container's status tells of something, and return all that it says."""
    eventually(lambda: text in lab.status(container).message, what=f"«{text}»")
    return lab.status(container).message


def raw_lines(lab, vmid):
    return pathlib.Path(lab.node.config_dir, "lxc", f"{vmid}.conf").read_text().splitlines()


def test_changes_are_told_while_they_last(lab):
    container = lab.run()
    vmid = lab.vmid(container)
    lab.node.gui_set(vmid, hostname="db")
    told(lab, container, "renamed in Proxmox VE to db")
    lab.node.lock(vmid)
    message = told(lab, container, "(backup)")
    assert "renamed" in message
    assert lab.info(container)["proxmox"]["problem"] == message
    assert lab.info(container)["proxmox"]["now"]["lock"] == "backup"
    lab.node.unlock(vmid)
    eventually(lambda: "backup" not in lab.status(container).message)
    assert lab.status(container).state == pb.CONTAINER_RUNNING


def test_verbose_status_says_where_to_look(lab):
    container = lab.run()
    vmid = lab.vmid(container)
    said = lab.info(container)["proxmox"]
    assert (said["vmid"], said["node"], said["storage"]) == (vmid, "pve1", "local-lvm")
    assert {what: upid.split(":")[5] for what, upid in said["tasks"].items()} == {
        "create": "vzcreate",
        "start": "vzstart",
    }
    assert said["configDigest"] == said["now"]["configDigest"] != ""
    assert said["now"]["isOurs"]
    assert os.path.exists(said["include"])
    assert json.dumps(said)


def test_who_stopped_it_is_told(lab):
    container = lab.run()
    assert lab.node.gui_stop(lab.vmid(container)) == "OK"
    assert lab.ended(container).exit_code == 137
    assert "ended in Proxmox VE by root@pam (UPID:pve1:" in told(lab, container, "ended in Proxmox VE")


def test_destroyed_before_its_start_has_ended(lab):
    container = lab.create(lab.pod())
    assert lab.node.gui_destroy(lab.vmid(container)) == "OK"
    status = lab.ended(container)
    assert status.reason == "ContainerLost"
    assert status.message == "it was destroyed in Proxmox VE"
    lab.cri.remove(container)


def test_missing_tag_and_line_are_put_back(lab):
    container = lab.run()
    vmid = lab.vmid(container)
    lab.node.gui_set(vmid, tags="pvecri-cri;shop")
    told(lab, container, "its tag pvecri was taken away in Proxmox VE and was put back")
    assert set(lab.node.config(vmid)["tags"].split(";")) == {"pvecri", "pvecri-cri", "shop"}
    file = pathlib.Path(lab.node.config_dir, "lxc", f"{vmid}.conf")
    kept = [line for line in raw_lines(lab, vmid) if "lxc.include" not in line]
    assert kept != raw_lines(lab, vmid)
    file.write_text("\n".join(kept) + "\n")
    told(lab, container, "lxc.include was taken away in Proxmox VE and was put back")
    assert len([line for line in raw_lines(lab, vmid) if line.startswith("lxc.include")]) == 1
    # It can be stopped, started again by nobody, and removed.
    lab.cri.stop(container, 0)
    lab.cri.remove(container)
    assert lab.node.vmids() == []


def test_given_up_guest_keeps_its_files_as_long_as_it_is_there(lab):
    container = lab.run()
    vmid = lab.vmid(container)
    include = lab.info(container)["proxmox"]["include"]
    lab.node.gui_set(vmid, delete="tags")
    told(lab, container, "given up")
    lab.cri.stop(container, 0)
    lab.cri.remove(container)
    assert os.path.exists(include)
    # Whoever has it now can start and stop it; there is nothing of the pod in it.
    assert lab.node.gui_destroy(vmid) == "OK"
    eventually(lambda: not os.path.exists(os.path.dirname(include)), what="the end of its files")


def test_started_in_the_gui_runs_and_is_said_to(lab):
    container = lab.create(lab.pod(), "echo ran; exec sleep 1000")
    lab.node.gui_start(lab.vmid(container))
    eventually(lambda: lab.status(container).state == pb.CONTAINER_RUNNING)
    told(lab, container, "it was started in Proxmox VE")
    lab.cri.stop(container, 0)
    assert lab.status(container).exit_code == 137


def test_orphan_of_a_lost_record_is_removed_by_the_next_daemon(lab):
    container = lab.create(lab.pod())
    vmid = lab.vmid(container)
    other = lab.run()
    lab.endpoint.kill()
    state = pathlib.Path(lab.endpoint.state_dir)
    (state / "lxc" / "records" / f"{container}.json").unlink()
    lab.endpoint.start()
    # A client knows of it: it is kept until the client removes it.
    assert vmid in lab.node.vmids()
    lab.cri.remove(container)
    eventually(lambda: vmid not in lab.node.vmids(), what="the orphan's end")
    assert lab.status(other).state == pb.CONTAINER_RUNNING


def test_distributions_init_is_shut_down_without_proxmox(lab):
    init = b"#!/bin/sh\ntrap 'echo bye; exit 0' PWR\necho booted\nwhile :; do sleep 0.1; done\n"
    files = [*busybox_files(), File("sbin/init", init, 0o755)]
    name = "quiet_1.0-1_amd64.tar.gz"
    lab.node.storage.appliances[name] = gzip.compress(tar_layer(files), mtime=0)
    lab.cri.pull("lxc/quiet")
    container = lab.run(command=[], image="lxc/quiet")
    lab.printed(container, "booted")
    lab.node.set_offline()
    try:
        lab.cri.stop(container, 20)
        # TERM would have been passed over, and the container killed.
        assert lab.ended(container).exit_code == 0
    finally:
        lab.node.set_offline(offline=False)
    assert "bye" in lab.log(container)
    lab.cri.remove(container)
    lab.cri.remove_image("lxc/quiet")


def test_half_made_guest_is_removed_when_proxmox_is_back(lab):
    pod = lab.pod()
    request = pb.CreateContainerRequest(
        pod_sandbox_id=pod, config=lab.endpoint.container("app"), sandbox_config=lab.config_of(pod)
    )
    with lab.node.holding("vzcreate", at_end=True) as gate:
        # Kept: a call that nobody holds is cancelled.
        pending = lab.cri.begin("CreateContainer", request)
        assert gate.reached.wait(30)
        lab.endpoint.kill()
        lab.node.down()
    assert pending is not None
    try:
        lab.endpoint.start()
        # What cannot be undone now keeps nobody from anything else.
        assert lab.cri.pod_status(pod).state == pb.SANDBOX_READY
    finally:
        lab.node.up()
    eventually(lambda: lab.node.vmids() == [], timeout_s=60, what="the end of the half-made guest")
    eventually(lambda: lab.cri.list_containers() == [])
