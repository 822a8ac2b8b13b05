# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do in Proxmox VE's GUI behind the endpoint's back is seen, told and lived with."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

#: Proxmox VE is looked at as often.
LOOK_S = 1.0


def test_stop_ends_the_container(lab):
    container = lab.run(script="trap 'exit 8' TERM; echo up; while :; do sleep 0.05; done")
    lab.printed(container, "up")
    assert lab.node.gui("shutdown", lab.vmid(container), timeout=20) == "OK"
    assert lab.ended(container).exit_code == 8
    killed = lab.run()
    assert lab.node.gui_stop(lab.vmid(killed)) == "OK"
    assert lab.ended(killed).exit_code == 137


def test_destroyed_while_it_runs(lab):
    container = lab.run()
    vmid = lab.vmid(container)
    assert lab.node.gui_destroy(vmid) == "OK"
    assert lab.ended(container).exit_code == 137
    lab.cri.remove(container)


def test_destroyed_before_it_is_started(lab):
    container = lab.create(lab.pod())
    vmid = lab.vmid(container)
    assert lab.node.gui_destroy(vmid) == "OK"
    with pytest.raises(Exception, match=str(vmid)):
        lab.cri.start(container)
    lab.cri.remove(container)


def test_number_that_became_somebody_else_s_is_not_touched(lab):
    container = lab.create(lab.pod())
    vmid = lab.vmid(container)
    assert lab.node.gui_destroy(vmid) == "OK"
    lab.node.add_ct(vmid=vmid, tags="mine", description="of an administrator")
    with pytest.raises(Exception, match=str(vmid)):
        lab.cri.start(container)
    lab.cri.remove(container)
    assert lab.node.vmids() == [vmid]
    assert lab.node.config(vmid)["tags"] == "mine"
    assert lab.node.gui_destroy(vmid) == "OK"


def test_started_before_its_time_does_nothing_unseen(lab):
    container = lab.create(lab.pod(), "echo ran; exec sleep 1000")
    guest = lab.guest(container)
    lab.node.gui_start(guest.vmid)
    # Whoever starts it, it is the container's one run, seen as such.
    eventually(lambda: lab.status(container).state != pb.CONTAINER_CREATED)
    lab.printed(container, "ran")
    lab.cri.stop(container, 0)
    lab.cri.remove(container)


def test_started_again_after_its_end_runs_nothing(lab):
    container = lab.run(script="echo once; exit 3")
    assert lab.ended(container).exit_code == 3
    guest = lab.guest(container)
    eventually(lambda: guest.status == "stopped")
    lab.node.gui_start(guest.vmid)
    eventually(lambda: not lab.node.machine.is_up(guest.vmid), what="the end of what nobody asked for")
    assert lab.log(container) == ["once"]
    assert lab.status(container).exit_code == 3


def test_locked_guest_names_lock(lab):
    container = lab.create(lab.pod())
    vmid = lab.vmid(container)
    lab.node.lock(vmid)
    with lab.refused("FAILED_PRECONDITION", "backup"):
        lab.cri.start(container)
    lab.node.unlock(vmid)
    lab.cri.start(container)
    lab.node.lock(vmid, "snapshot")
    # What is locked is ended all the same: kubelet's time counts.
    lab.cri.stop(container, 0)
    assert lab.ended(container).exit_code == 137
    with lab.refused("FAILED_PRECONDITION", "snapshot"):
        lab.cri.remove(container)
    lab.node.unlock(vmid)
    lab.cri.remove(container)
    assert lab.node.vmids() == []


def test_migrated_guest_is_over_here(lab):
    container = lab.run()
    vmid = lab.vmid(container)
    assert lab.node.gui_migrate(vmid) == "OK"
    assert lab.ended(container).state == pb.CONTAINER_EXITED
    lab.cri.remove(container)
    # It is on another node: whoever moved it there has it.
    assert lab.node.vmids() in ([vmid], [])
    if lab.node.vmids():
        lab.node.pve.ct(vmid).status = "stopped"
        assert lab.node.gui_destroy(vmid) == "OK"


def test_renamed_noted_and_snapshotted_guest_goes_on(lab):
    container = lab.run()
    vmid = lab.vmid(container)
    lab.node.gui_set(vmid, hostname="renamed")
    assert lab.node.gui("snapshot", vmid, snapname="before") == "OK"
    assert lab.sh(container, "echo here") == "here"
    assert lab.status(container).state == pb.CONTAINER_RUNNING
    lab.cri.stop(container, 0)
    lab.cri.remove(container)
    assert lab.node.vmids() == []


def test_guest_whose_tags_were_taken_is_left_alone(lab):
    container = lab.run()
    vmid = lab.vmid(container)
    lab.node.gui_set(vmid, delete="tags")
    lab.cri.stop(container, 0)
    assert lab.ended(container).exit_code == 137
    lab.cri.remove(container)
    assert lab.node.vmids() == [vmid]
    # Its configuration includes our file as long as it is there; the pod's network is not held for it, so
    # that it cannot be started before somebody takes that line out.
    assert lab.files() != []
    eventually(lambda: lab.node.pve.ct(vmid).status == "stopped")
    assert lab.node.gui_start(vmid) != "OK"
    assert not lab.node.machine.is_up(vmid)
    assert lab.node.gui_destroy(vmid) == "OK"
    lab.endpoint.restart()
    eventually(lambda: lab.files() == [])


def test_guests_of_others_in_the_range_are_never_touched(lab):
    first = lab.node.vmid_range[0]
    notes = 'x\n\npvecri-cri: {"endpoint":"0123","container":"aa","sandbox":"bb"}'
    others = [
        lab.node.add_ct(vmid=first),
        lab.node.add_ct(vmid=first + 1, tags="pvecri;pvecri-cri"),
        lab.node.add_ct(vmid=first + 2, tags="pvecri;pvecri-cri", description=notes),
    ]
    before = {vmid: lab.node.config(vmid) for vmid in others}
    container = lab.run()
    lab.endpoint.kill()
    lab.endpoint.start()
    lab.cri.stop(container, 0)
    lab.cri.remove(container)
    assert {vmid: lab.node.config(vmid) for vmid in lab.node.vmids()} == before
    for vmid in others:
        lab.node.gui_destroy(vmid)
