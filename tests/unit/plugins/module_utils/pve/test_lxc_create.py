# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create and clone requests."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_create import clone_params, create_params
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec

TEMPLATE = "local:vztmpl/debian-12.tar.zst"


def create(options, **how):
    return create_params(parse_spec({"hostname": "ct", **options}), 100, ostemplate=TEMPLATE, **how)


LEAST = {
    "vmid": 100,
    "ostemplate": TEMPLATE,
    "unprivileged": True,
    "rootfs": "local-lvm:4",
    "tags": "pvecri",
    "hostname": "ct",
    "storage": "local-lvm",
}


@pytest.mark.parametrize(
    ("options", "params"),
    [
        ({}, {}),
        ({"storage": "zfs"}, {"storage": "zfs", "rootfs": "zfs:4"}),
        ({"rootfs": 8}, {"rootfs": "local-lvm:8"}),
        ({"rootfs": "0.5"}, {"rootfs": "local-lvm:0.5"}),
        ({"rootfs": {"storage": "nfs"}}, {"rootfs": "nfs:4"}),
        ({"rootfs": "nfs:0,ro=1"}, {"rootfs": "nfs:0,ro=1"}),
        ({"rootfs": {"volume": "nfs:vm-1", "acl": True}}, {"rootfs": "nfs:vm-1,acl=1"}),
        (
            {"rootfs": {"mountoptions": ["discard", "noatime"]}},
            {"rootfs": "local-lvm:4,mountoptions=discard;noatime"},
        ),
        ({"unprivileged": False}, {"unprivileged": False}),
        ({"memory": 1024, "onboot": True, "cpulimit": 1.5}, {"memory": 1024, "onboot": 1, "cpulimit": "1.5"}),
        ({"description": ""}, {}),
        ({"tags": ["web"]}, {"tags": "pvecri;web"}),
        ({"features": {"nesting": True, "fuse": False}}, {"features": "nesting=1"}),
        ({"startup": "order=1"}, {"startup": "1"}),
        ({"env": {"A": "1", "B": None}, "entrypoint": "/x"}, {"env": "A=1", "entrypoint": "/x"}),
        ({"mounts": {"mp0": {"size": 1, "mp": "/d"}, "mp1": None}}, {"mp0": "local-lvm:1,mp=/d"}),
        ({"mounts": {"mp0": {"volume": "/srv", "mp": "/d"}}}, {"mp0": "/srv,mp=/d"}),
        ({"networks": {"net0": "name=eth0,ip=dhcp", "net1": None}}, {"net0": "name=eth0,ip=dhcp"}),
        ({"devices": {"dev0": "/dev/fuse"}}, {"dev0": "/dev/fuse"}),
        ({"pool": "prod"}, {"pool": "prod"}),
        ({"pool": ""}, {}),
        (
            {
                "password": "secret",
                "ssh_public_keys": ["ssh-a", "ssh-b"],
                "bwlimit": 5,
                "ignore_unpack_errors": True,
            },
            {
                "password": "secret",
                "ssh-public-keys": "ssh-a\nssh-b",
                "bwlimit": 5,
                "ignore-unpack-errors": True,
            },
        ),
        # Never in a create request: its failure would not fail the task.
        ({"state": "started", "ha": {}}, {}),
    ],
)
def test_create_params(options, params):
    assert create(options, storage="local-lvm") == {**LEAST, **params}


def test_create_params_leave_to_an_oci_image_what_it_overrides():
    params = create(
        {"env": {"A": "1"}, "entrypoint": "/x", "cmode": "shell", "memory": 16}, storage="a1", is_oci=True
    )
    assert not {"env", "entrypoint", "cmode"} & set(params)
    assert params["memory"] == 16


def test_create_params_need_a_storage():
    with pytest.raises(InvalidSpec) as caught:
        create({})
    assert caught.value.field == "rootfs.storage"


def clone(options, *, template):
    spec = parse_spec({"hostname": "ct", "clone": "9000", **options})
    params = clone_params(spec, 100, source_is_template=template, origin=9000)
    return {name: value for name, value in params.items() if value is not None}


BASE = {"newid": 100, "hostname": "ct", "description": "pvecri: clone in progress of 9000"}


@pytest.mark.parametrize(
    ("options", "template", "params"),
    [
        ({}, True, {"full": False}),
        ({}, False, {"full": True}),
        ({"clone_type": "full"}, True, {"full": True}),
        ({"clone_type": "linked"}, True, {"full": False}),
        ({"storage": "zfs"}, True, {"full": True, "storage": "zfs"}),
        (
            {"clone_snapshot": "s", "bwlimit": 9, "pool": "p"},
            False,
            {"full": True, "snapname": "s", "bwlimit": 9, "pool": "p"},
        ),
    ],
)
def test_clone_params(options, template, params):
    assert clone(options, template=template) == {**BASE, **params}


@pytest.mark.parametrize(
    ("options", "template", "field"),
    [
        ({"clone_type": "linked"}, False, "clone_type"),
        ({"clone_type": "linked", "storage": "zfs"}, True, "storage"),
    ],
)
def test_clone_params_refuse(options, template, field):
    with pytest.raises(InvalidSpec) as caught:
        clone(options, template=template)
    assert caught.value.field == field


def test_clone_params_need_an_original():
    with pytest.raises(InvalidSpec, match="clone"):
        clone_params(parse_spec({"vmid": 100}), 100, source_is_template=True, origin=1)
