# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of (desired, actual, plan)."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_plan import Actual, Step, Verb, plan

GIB = 1024**3
TEMPLATE = "local:vztmpl/debian-12.tar.zst"


def actual(status="stopped", *, node="pve1", config=None, **more):
    base = {
        "hostname": "ct",
        "memory": 512,
        "rootfs": "local-lvm:vm-100-disk-0,size=8G",
        "tags": "pvecri",
        "unprivileged": 1,
    }
    return Actual(vmid=100, node=node, status=status, config={**base, **(config or {})}, digest="d", **more)


def planned(options, now, **how):
    return plan(parse_spec({"vmid": 100, **options}), now, **how)


STOPPED, RUNNING = actual(), actual("running")
TEMPLATED = actual(config={"template": 1})
MOUNT = {"mounts": {"mp0": "local-lvm:1,mp=/d"}}


@pytest.mark.parametrize(
    ("options", "now", "verbs"),
    [
        ({}, STOPPED, []),
        ({}, RUNNING, []),
        ({"state": "started"}, STOPPED, ["start"]),
        ({"state": "started"}, RUNNING, []),
        ({"state": "stopped"}, STOPPED, []),
        ({"state": "stopped"}, RUNNING, ["shutdown"]),
        ({"state": "restarted"}, RUNNING, ["reboot"]),
        ({"state": "restarted"}, STOPPED, ["start"]),
        ({"state": "template"}, STOPPED, ["to_template"]),
        ({"state": "template"}, RUNNING, ["shutdown", "to_template"]),
        ({"state": "template"}, TEMPLATED, []),
        ({"state": "present"}, TEMPLATED, []),
        ({"state": "stopped"}, TEMPLATED, []),
        ({"state": "absent"}, STOPPED, ["destroy"]),
        ({"state": "absent"}, RUNNING, ["shutdown", "destroy"]),
        ({"state": "absent"}, None, []),
        (
            {"state": "absent", "protection": False},
            actual(config={"protection": 1}),
            ["unprotect", "destroy"],
        ),
        # Changes come before a start and after a stop.
        ({"state": "started", "memory": 1024}, STOPPED, ["configure", "start"]),
        ({"state": "started", "memory": 1024}, RUNNING, ["configure"]),
        ({"state": "stopped", "memory": 1024}, RUNNING, ["shutdown", "configure"]),
        ({"state": "restarted", "memory": 1024}, RUNNING, ["configure", "reboot"]),
        ({"state": "template", "memory": 1024}, RUNNING, ["shutdown", "configure", "to_template"]),
        ({"rootfs": 16}, RUNNING, ["resize"]),
        ({"rootfs": 16, "memory": 1024}, RUNNING, ["configure", "resize"]),
        ({"rootfs": "zfs:16"}, STOPPED, ["move_volume", "resize"]),
        ({"rootfs": "zfs:8", "state": "stopped"}, RUNNING, ["shutdown", "move_volume"]),
        ({"lxc": {"lxc.x": "1"}, "state": "started"}, STOPPED, ["raw_lines", "start"]),
        # Place
        ({"node": "pve1"}, RUNNING, []),
        ({"node": "pve2"}, RUNNING, ["migrate"]),
        ({"node": "pve2", "state": "stopped"}, RUNNING, ["shutdown", "migrate"]),
        ({"node": "pve2", "state": "started"}, STOPPED, ["migrate", "start"]),
        ({"node": "pve2", "memory": 1024}, STOPPED, ["migrate", "configure"]),
        ({"node": "pve2", "migrate": False}, STOPPED, []),
        ({"node": "pve2", "state": "absent"}, STOPPED, ["destroy"]),
        # Pool
        ({"pool": "a"}, STOPPED, ["pool"]),
        ({"pool": "a"}, actual(pool="a"), []),
        ({"pool": ""}, STOPPED, []),
        ({"pool": ""}, actual(pool="a"), ["pool"]),
        # High availability
        ({"ha": {}}, STOPPED, ["ha_add"]),
        ({"ha": {}}, actual(ha_managed=True), []),
        ({"ha": {"managed": False}}, STOPPED, []),
        ({"ha": {"managed": False}}, actual(ha_managed=True), ["ha_remove"]),
        ({"ha": {"max_restart": 2}}, actual(ha_managed=True, ha={"max_restart": "2"}), []),
        ({"ha": {"max_restart": 2}}, actual(ha_managed=True, ha={"max_restart": 1}), ["ha_update"]),
        ({"ha": {"failback": True}}, actual(ha_managed=True, ha={"failback": 1}), []),
        ({"ha": {"failback": False}}, actual(ha_managed=True, ha={"failback": 1}), ["ha_update"]),
        ({"ha": {"comment": "x"}}, actual(ha_managed=True), ["ha_update"]),
        ({"ha": {}, "state": "started"}, STOPPED, ["ha_add", "start"]),
        # What waits for the next start
        ({}, actual("running", pending=("memory",)), []),
        ({"apply_pending": True}, actual("running", pending=("memory",)), ["reboot"]),
        ({"apply_pending": True, "state": "started"}, actual("running", pending=("memory",)), ["reboot"]),
        ({"apply_pending": True, "state": "stopped"}, actual("running", pending=("memory",)), ["shutdown"]),
        ({"apply_pending": True}, RUNNING, []),
        ({"apply_pending": True, "lxc": {"lxc.x": "1"}}, RUNNING, ["raw_lines", "reboot"]),
        ({"apply_pending": True, "node": "pve2"}, actual("running", pending=("memory",)), ["migrate"]),
        # Protection
        ({"protection": False, **MOUNT}, actual(config={"protection": 1}), ["unprotect", "configure"]),
        ({"protection": False}, actual(config={"protection": 1}), ["configure"]),
        ({"protection": True, **MOUNT}, STOPPED, ["configure"]),
        ({"memory": 1024}, actual(config={"protection": 1}), ["configure"]),
        ({"rootfs": 16}, actual(config={"protection": 1}), ["resize"]),
        # Others' containers
        ({}, actual(config={"tags": "web"}), []),
        ({"adopt": True}, actual(config={"tags": "web"}), ["configure"]),
        ({"adopt": True, "state": "absent"}, actual(config={"tags": "web"}), ["destroy"]),
        ({"adopt": True, "memory": 1024}, actual(config={"tags": "pvecri;pvecri-cri"}), ["configure"]),
    ],
)
def test_plan_table(options, now, verbs):
    made = planned(options, now)
    assert made.verbs() == verbs
    assert bool(made) == bool(made.differences) == bool(verbs)


@pytest.mark.parametrize(
    ("options", "now", "step"),
    [
        ({"node": "pve2"}, RUNNING, Step(Verb.MIGRATE, {"target": "pve2", "running": True})),
        ({"node": "pve2"}, STOPPED, Step(Verb.MIGRATE, {"target": "pve2", "running": False})),
        ({"rootfs": "zfs:8"}, STOPPED, Step(Verb.MOVE, {"disk": "rootfs", "storage": "zfs"})),
        ({"rootfs": 16}, STOPPED, Step(Verb.RESIZE, {"disk": "rootfs", "size_bytes": 16 * GIB})),
        (
            {"memory": 1024, "unset": ["cores"]},
            actual(config={"cores": 1}),
            Step(Verb.CONFIGURE, {"put": {"memory": 1024}, "delete": ["cores"]}),
        ),
        ({"pool": "b"}, actual(pool="a"), Step(Verb.POOL, {"leave": "a", "join": "b"})),
        ({"pool": ""}, actual(pool="a"), Step(Verb.POOL, {"leave": "a", "join": None})),
        # A new resource of HA neither starts nor stops the container by surprise.
        ({"ha": {}}, RUNNING, Step(Verb.HA_ADD, {"settings": {"state": "started"}})),
        ({"ha": {}}, STOPPED, Step(Verb.HA_ADD, {"settings": {"state": "stopped"}})),
        ({"ha": {}, "state": "started"}, STOPPED, Step(Verb.HA_ADD, {"settings": {"state": "started"}})),
        ({"ha": {"state": "ignored"}}, STOPPED, Step(Verb.HA_ADD, {"settings": {"state": "ignored"}})),
        ({"lxc": {"lxc.x": "1"}}, STOPPED, Step(Verb.RAW, {"lines": {"lxc.x": ("1",)}})),
    ],
)
def test_plan_steps(options, now, step):
    assert planned(options, now).steps[0] == step


def test_plan_stops_ha_containers_before_they_enter():
    made = planned({"ha": {}, "state": "stopped"}, RUNNING)
    assert made.verbs() == ["shutdown", "ha_add"]
    assert made.steps[1].values["settings"] == {"state": "stopped"}


def test_plan_does_not_restart_twice():
    for done in (Verb.REBOOT, Verb.START):
        assert planned({"state": "restarted"}, RUNNING, done=frozenset({done})).verbs() == []


def test_plan_bookkeeping_is_no_difference():
    made = planned({}, STOPPED, intent_tag="pvecri-spec-1")
    assert made.verbs() == ["configure"]
    assert not made.differences


@pytest.mark.parametrize(
    ("options", "now", "error", "text"),
    [
        ({"state": "started"}, None, NotFound, "does not exist"),
        ({}, None, NotFound, "Name an 'ostemplate'"),
        ({"state": "started"}, TEMPLATED, WrongState, "is a template and cannot run"),
        ({"state": "restarted"}, TEMPLATED, WrongState, "is a template and cannot run"),
        ({"state": "absent"}, actual(config={"protection": 1}), WrongState, "Set 'protection: false'"),
        (MOUNT, actual(config={"protection": 1}), WrongState, "protected, so mp0 cannot"),
        ({"rootfs": "zfs:8"}, actual(config={"protection": 1}), WrongState, "protected, so rootfs cannot"),
        ({"rootfs": "zfs:8"}, RUNNING, WrongState, "Stop it first"),
        ({"unprivileged": False}, STOPPED, InvalidSpec, "is unprivileged, and Proxmox VE cannot change that"),
        ({"unprivileged": True}, actual(config={"unprivileged": 0}), InvalidSpec, "is privileged"),
        ({"memory": 1024}, actual(config={"tags": "web"}), WrongState, "Set 'adopt: true'"),
        ({"state": "absent"}, actual(config={"tags": ""}), WrongState, "was not made by this collection"),
        ({"state": "started"}, actual(config={"tags": "pvecri;pvecri-cri"}), WrongState, "a Kubernetes pod"),
        ({"rootfs": 4}, STOPPED, InvalidSpec, "cannot shrink"),
    ],
)
def test_plan_refuses(options, now, error, text):
    with pytest.raises(error, match=text):
        planned(options, now)


def test_plan_kubelets_container_needs_its_id_to_be_adopted():
    spec = parse_spec({"hostname": "ct", "adopt": True, "memory": 1024})
    with pytest.raises(WrongState, match="together with its vmid"):
        plan(spec, actual(config={"tags": "pvecri;pvecri-cri"}))


def test_plan_new_shows_what_it_will_be():
    made = planned(
        {
            "hostname": "web",
            "state": "started",
            "node": "pve1",
            "ostemplate": TEMPLATE,
            "memory": 1024,
            "rootfs": "local-lvm:8",
            "networks": {"net0": "name=eth0"},
            "mounts": {"mp0": "zfs:1,mp=/d", "mp1": None},
            "env": {"A": "1", "B": None},
            "lxc": {"lxc.x": ["1"], "lxc.y": None},
            "features": {"nesting": True},
            "pool": "prod",
            "ha": {"max_restart": 2},
            "tags": ["web"],
            "password": "not to be seen",
        },
        None,
    )
    assert made.verbs() == ["create"]
    assert made.differences.before() == {}
    assert made.differences.after() == {
        "status": "running",
        "ostemplate": TEMPLATE,
        "vmid": 100,
        "node": "pve1",
        "pool": "prod",
        "hostname": "web",
        "memory": 1024,
        "features": {"nesting": "1"},
        "rootfs": {"storage": "local-lvm", "size": "8G"},
        "mounts.mp0": {"storage": "zfs", "size": "1G", "mp": "/d"},
        "networks.net0": {"name": "eth0"},
        "env.A": "1",
        "lxc.x": ["1"],
        "tags": ["pvecri", "web"],
        "ha": {"max_restart": 2},
    }


@pytest.mark.parametrize(
    ("state", "status"), [("present", "stopped"), ("template", "template"), ("restarted", "running")]
)
def test_plan_new_ends_as(state, status):
    assert planned({"state": state, "clone": "9000"}, None).differences.after()["status"] == status


def test_plan_absent_shows_what_goes():
    assert planned({"state": "absent"}, RUNNING).differences.as_diff() == {
        "before": {"vmid": 100, "node": "pve1", "hostname": "ct", "status": "running"},
        "after": {},
    }


def test_actual_half_cloned_is_ours():
    now = actual(config={"tags": "", "description": "pvecri: clone in progress of 9000\n"})
    assert now.is_ours
    assert not actual(config={"tags": ""}).is_ours
    assert actual(config={"hostname": None}).hostname == "CT100"
