# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proxmox VE in trouble: the right code, the end of the task's log, and a retry that joins or repairs."""

from __future__ import annotations

import contextlib
import threading

import grpc
import pytest

from ansible_collections.pvecri.runtime.tests.support.cri_client import status_of
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb


@contextlib.contextmanager
def offline(node):
    node.set_offline()
    try:
        yield
    finally:
        node.set_offline(offline=False)


@contextlib.contextmanager
def down(node):
    node.down()
    try:
        yield
    finally:
        node.up()


@contextlib.contextmanager
def without_quorum(node):
    node.lose_quorum()
    try:
        yield
    finally:
        node.regain_quorum()


TROUBLES = pytest.mark.parametrize("trouble", [offline, down, without_quorum], ids=lambda each: each.__name__)


@TROUBLES
def test_create_and_start_are_unavailable_and_a_retry_succeeds(lab, trouble):
    pod = lab.pod()
    config = lab.endpoint.container("app")
    with trouble(lab.node), lab.refused("UNAVAILABLE"):
        lab.cri.create(pod, config, lab.config_of(pod))
    container = lab.cri.create(pod, config, lab.config_of(pod))
    with trouble(lab.node), lab.refused("UNAVAILABLE"):
        lab.cri.start(container)
    assert lab.status(container).state == pb.CONTAINER_CREATED
    lab.cri.start(container)
    assert lab.sh(container, "echo here") == "here"


@TROUBLES
def test_what_runs_goes_on_and_is_stopped(lab, trouble):
    container = lab.run(script="trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done")
    lab.printed(container, "up")
    with trouble(lab.node):
        assert lab.sh(container, "echo here") == "here"
        lab.cri.stop(container, 20)
        assert lab.status(container).exit_code == 4
        with lab.refused("UNAVAILABLE"):
            lab.cri.remove(container)
    lab.cri.remove(container)
    assert lab.node.vmids() == []


def test_full_storage(lab):
    pod = lab.pod()
    config = lab.endpoint.container("app")
    lab.node.fill()
    try:
        with lab.refused("RESOURCE_EXHAUSTED", "local-lvm"):
            lab.cri.create(pod, config, lab.config_of(pod))
    finally:
        lab.node.empty()
    assert lab.node.vmids() == []
    lab.cri.start(lab.cri.create(pod, config, lab.config_of(pod)))


def test_failed_create_says_the_end_of_its_log(lab):
    pod = lab.pod()
    config = lab.endpoint.container("app")
    lab.node.fault("vzcreate", "unable to create CT", log=("mkfs.ext4: wrong fs type", "umount: nothing"))
    with lab.refused("INTERNAL", "unable to create CT", "mkfs.ext4: wrong fs type", "UPID:pve1:"):
        lab.cri.create(pod, config, lab.config_of(pod))
    assert lab.cri.list_containers() == []
    lab.cri.create(pod, config, lab.config_of(pod))


def test_create_that_fails_at_its_end_leaves_no_guest(lab):
    pod = lab.pod()
    config = lab.endpoint.container("app")
    lab.node.fault("vzcreate", "hook failed", is_late=True)
    with lab.refused("INTERNAL", "hook failed"):
        lab.cri.create(pod, config, lab.config_of(pod))
    assert lab.node.vmids() == []
    lab.cri.create(pod, config, lab.config_of(pod))


def test_failed_start_says_why_and_can_be_repeated(lab):
    container = lab.create(lab.pod())
    lab.node.fault("vzstart", "startup for container failed", log=("lxc_init: 845 Failed to run hook",))
    with lab.refused("INTERNAL", "startup for container failed", "Failed to run hook"):
        lab.cri.start(container)
    if lab.status(container).state == pb.CONTAINER_CREATED:
        lab.cri.start(container)
        assert lab.sh(container, "echo here") == "here"


def test_slow_create_is_joined_by_the_retry(lab):
    pod = lab.pod()
    config = lab.endpoint.container("app")
    before = len(lab.node.tasks("vzcreate"))
    with lab.node.holding("vzcreate") as gate:
        with lab.refused("DEADLINE_EXCEEDED"):
            lab.cri.create(pod, config, lab.config_of(pod), timeout_s=1.0)
        assert gate.reached.wait(20)
        made = []
        retry = threading.Thread(
            target=lambda: made.append(lab.cri.create(pod, config, lab.config_of(pod), timeout_s=60))
        )
        retry.start()
        gate.open()
        retry.join()
    assert len(lab.node.tasks("vzcreate")) == before + 1
    assert lab.node.vmids() == lab.vmids(made[0])


def test_slow_start_is_joined_by_the_retry(lab):
    container = lab.create(lab.pod(), "echo here; exec sleep 1000")
    before = len(lab.node.tasks("vzstart"))
    with lab.node.holding("vzstart") as gate:
        with lab.refused("DEADLINE_EXCEEDED"):
            lab.cri.start(container, timeout_s=1.0)
        assert gate.reached.wait(20)
    retried = None
    try:
        lab.cri.start(container)
    except grpc.RpcError as exc:
        retried = status_of(exc)
    # The first one may have come to its end before.
    assert retried in (None, "FAILED_PRECONDITION")
    lab.printed(container, "here")
    assert len(lab.node.tasks("vzstart")) == before + 1


@pytest.mark.parametrize("suffix", ["/lxc", "/status/start"], ids=["create", "start"])
def test_lost_answer_is_found_out(lab, suffix):
    pod = lab.pod()
    config = lab.endpoint.container("app", ["sh", "-c", "echo here; exec sleep 1000"])
    lab.node.lose_answers("POST", suffix)
    container = lab.cri.create(pod, config, lab.config_of(pod))
    lab.cri.start(container)
    lab.printed(container, "here")
    assert lab.node.vmids() == lab.vmids(container)


def test_missing_privilege_is_named(lab):
    pod = lab.pod()
    config = lab.endpoint.container("app")
    roles = lab.node.access.roles
    kept = set(roles["CriEndpointContainer"])
    roles["CriEndpointContainer"] = kept - {"VM.Allocate"}
    try:
        with lab.refused("FAILED_PRECONDITION", "VM.Allocate"):
            lab.cri.create(pod, config, lab.config_of(pod))
    finally:
        roles["CriEndpointContainer"] = kept
    lab.cri.create(pod, config, lab.config_of(pod))


def test_status_of_the_endpoint_tells_of_proxmox(lab):
    assert "pve1" in str(dict(lab.cri.status(verbose=True).info))
    conditions = {each.type: each.status for each in lab.cri.status().status.conditions}
    assert conditions["RuntimeReady"]
    with down(lab.node):
        # Containers under crun do not need Proxmox VE.
        conditions = {each.type: each.status for each in lab.cri.status().status.conditions}
        assert conditions["RuntimeReady"]
        container = lab.run(lab.pod(handler=""))
        assert lab.sh(container, "echo here") == "here"


def test_template_is_made_once_and_collected(lab):
    pod = lab.pod()
    lab.ended(lab.run(pod, "exit 0", name="one"))
    lab.ended(lab.run(pod, "exit 0", name="two"))
    archives = [path.name for path in lab.node.storage.cache.iterdir()]
    assert len(archives) == 1
    eventually(lambda: all(task["status"] == "stopped" for task in lab.node.tasks("vzcreate")))
