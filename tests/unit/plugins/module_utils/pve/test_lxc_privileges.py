# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which privileges a change needs, and how a missing one is named."""

from __future__ import annotations

import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import MissingPrivilege
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_keys, lxc_privileges
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_create import clone_params, create_params
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_plan import Actual, plan
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_privileges import Requirement
from ansible_collections.pvecri.runtime.tests.support import pve_privileges as privileges

TEMPLATE = "local:vztmpl/debian-12.tar.zst"


def client(*, root=False):
    return types.SimpleNamespace(is_root=root, connection=types.SimpleNamespace(user="ops@pve"))


@pytest.mark.parametrize(
    ("held", "path", "met"),
    [
        ({"/": {"P": 1}}, "/vms/100", True),
        ({"/vms": {"P": 1}}, "/vms/100", True),
        ({"/vms/100": {"P": 1}}, "/vms/100", True),
        ({"/vms/101": {"P": 1}}, "/vms/100", False),
        ({"/vms/10": {"P": 1}}, "/vms/100", False),
        ({"/vms/100": {"Q": 1}}, "/vms/100", False),
        ({}, "/", False),
        ({"/pool/a": {"P": 1}}, "/pool/*", True),
        ({"/pool": {"P": 1}}, "/pool/*", True),
        ({"/poolside": {"P": 1}}, "/pool/*", False),
        ({"/vms": {"P": 1}}, "/pool/*", False),
    ],
)
def test_requirement_is_met_by_what_is_inherited(held, path, met):
    assert lxc_privileges.may(held, path, "P") is met


def needed(requirements):
    return {(need.privileges[0], need.paths[0]) for need in requirements}


def test_for_create():
    spec = parse_spec(
        {
            "hostname": "ct",
            "memory": 512,
            "cores": 1,
            "unprivileged": False,
            "rootfs": "zfs:8",
            "mounts": {"mp0": "nfs:1,mp=/d"},
            "networks": {"net0": "name=eth0,bridge=vmbr0"},
            "password": "secret",
            "pool": "prod",
        }
    )
    params = create_params(spec, 100, ostemplate=TEMPLATE)
    found = lxc_privileges.for_create(params, ha=True, start=True)
    vm = "/vms/100"
    assert needed(found) == {
        ("VM.Allocate", vm),
        ("Datastore.AllocateSpace", "/storage/local"),
        ("VM.Config.Memory", vm),
        ("VM.Config.CPU", vm),
        ("VM.Config.Network", vm),
        ("VM.Config.Disk", vm),
        ("VM.Config.Options", vm),
        ("Datastore.AllocateSpace", "/storage/zfs"),
        ("Datastore.AllocateSpace", "/storage/nfs"),
        ("SDN.Use", "/sdn/zones/*"),
        ("Sys.Modify", "/"),
        ("VM.PowerMgmt", vm),
        ("Sys.Console", "/"),
    }
    assert all(need.paths == (vm, "/pool/prod") for need in found if need.paths[0] == vm)
    assert lxc_privileges.root_only(params, config={}, unprivileged=True) == []


def test_for_clone():
    spec = parse_spec({"hostname": "ct", "clone": "9000", "storage": "zfs"})
    params = clone_params(spec, 100, source_is_template=True, origin=9000)
    assert needed(lxc_privileges.for_clone(params, 9000, ha=False, start=True)) == {
        ("VM.Clone", "/vms/9000"),
        ("VM.Allocate", "/vms/100"),
        ("VM.Config.Options", "/vms/100"),
        ("Datastore.AllocateSpace", "/storage/zfs"),
        ("VM.PowerMgmt", "/vms/100"),
    }


CONFIG = {"rootfs": "local-lvm:vm-100-disk-0,size=8G", "tags": "pvecri", "unprivileged": 1, "memory": 512}


@pytest.mark.parametrize(
    ("options", "more", "expected"),
    [
        ({"memory": 1024}, {}, {("VM.Config.Memory", "/vms/100")}),
        ({"features": {"nesting": True}}, {}, {("VM.Allocate", "/vms/100")}),
        ({"state": "started"}, {}, {("VM.PowerMgmt", "/vms/100")}),
        ({"state": "stopped"}, {"status": "running"}, {("VM.PowerMgmt", "/vms/100")}),
        ({"state": "restarted"}, {"status": "running"}, {("VM.PowerMgmt", "/vms/100")}),
        ({"state": "template"}, {}, {("VM.Allocate", "/vms/100")}),
        ({"state": "absent"}, {}, {("VM.Allocate", "/vms/100")}),
        (
            {"state": "absent", "protection": False},
            {"config": {**CONFIG, "protection": 1}},
            {("VM.Config.Options", "/vms/100"), ("VM.Allocate", "/vms/100")},
        ),
        ({"node": "pve2"}, {}, {("VM.Migrate", "/vms/100")}),
        (
            {"rootfs": 16},
            {},
            {("VM.Config.Disk", "/vms/100"), ("Datastore.AllocateSpace", "/storage/local-lvm")},
        ),
        (
            {"rootfs": "zfs:8"},
            {},
            {("VM.Config.Disk", "/vms/100"), ("Datastore.AllocateSpace", "/storage/zfs")},
        ),
        (
            {"mounts": {"mp0": "zfs:1,mp=/d"}},
            {},
            {("VM.Config.Disk", "/vms/100"), ("Datastore.AllocateSpace", "/storage/zfs")},
        ),
        (
            {"pool": "b"},
            {"pool": "a"},
            {("Pool.Allocate", "/pool/a"), ("Pool.Allocate", "/pool/b"), ("VM.Allocate", "/vms/100")},
        ),
        ({"ha": {}}, {}, {("Sys.Console", "/")}),
        ({"unset": ["net0"]}, {"config": {**CONFIG, "net0": "name=e"}}, {("VM.Config.Network", "/vms/100")}),
    ],
)
def test_for_plan(options, more, expected):
    now = Actual(**{"vmid": 100, "node": "pve1", "status": "stopped", "config": CONFIG, **more})
    made = plan(parse_spec({"vmid": 100, **options}), now)
    assert needed(lxc_privileges.for_plan(made, now)) == expected


@pytest.mark.parametrize(
    ("put", "delete", "config", "unprivileged", "expected"),
    [
        ({"memory": 1}, [], {}, True, []),
        ({"features": "nesting=1"}, [], {}, True, []),
        ({"features": "nesting=1"}, [], {}, False, ["features (of a privileged container)"]),
        ({"features": "keyctl=1,nesting=1"}, [], {"features": "nesting=1"}, True, ["features (keyctl)"]),
        ({"features": "nesting=1"}, [], {"features": "fuse=1,keyctl=1"}, True, ["features (fuse, keyctl)"]),
        ({}, ["features"], {"features": "nesting=1"}, True, []),
        ({}, ["features"], {"features": "mount=nfs"}, True, ["features (mount)"]),
        ({"dev0": "/dev/fuse"}, [], {}, True, ["dev0"]),
        ({}, ["dev1", "hookscript"], {}, True, ["dev1", "hookscript"]),
        ({"mp0": "/srv,mp=/d"}, [], {}, True, ["mp0 (bind mount)"]),
        ({"mp0": "/dev/sdb,mp=/d"}, [], {}, True, ["mp0 (device)"]),
        ({"mp0": "zfs:1,mp=/d", "rootfs": "zfs:vm-1"}, [], {}, True, []),
        ({}, ["mp0"], {"mp0": "/srv,mp=/d"}, True, []),
    ],
)
def test_root_only(put, delete, config, unprivileged, expected):
    assert lxc_privileges.root_only(put, delete, config=config, unprivileged=unprivileged) == expected


def test_check_names_everything_that_is_missing_at_once():
    needs = [
        Requirement("memory", ("/vms/100",), ("VM.Config.Memory",)),
        Requirement("cores", ("/vms/100",), ("VM.Config.CPU",)),
        Requirement("the template", ("/storage/local",), ("A", "B")),
    ]
    with pytest.raises(MissingPrivilege) as caught:
        lxc_privileges.check(client(), needs, (), lambda: {"/vms": {"VM.Config.CPU": 1}})
    assert "VM.Config.Memory on /vms/100 (for memory); A or B on /storage/local (for the template)" in str(
        caught.value
    )
    assert (caught.value.privilege, caught.value.path) == ("VM.Config.Memory", "/vms/100")
    lxc_privileges.check(client(), needs[1:2], (), lambda: {"/vms": {"VM.Config.CPU": 1}})


def test_check_of_what_only_root_may():
    with pytest.raises(MissingPrivilege, match=r"only root@pam itself may set mp0 \(bind mount\)"):
        lxc_privileges.check(client(), [], ["mp0 (bind mount)"], dict)

    def never():
        raise AssertionError("root is not asked for privileges")

    lxc_privileges.check(client(root=True), [Requirement("x", ("/",), ("P",))], ["mp0"], never)


def test_keys_agree_with_the_documented_table():
    documented = {}
    for need in privileges.MATRIX:
        if need.module == "pve_lxc_container" and need.path == privileges.GUEST:
            for word in need.subject.replace("mounts", "mp").replace("networks", "net").split(","):
                documented.setdefault(word.split(" of ")[0].strip(), need.privileges[0])
    for key in [*lxc_keys.SCALARS, "net0", "mp0", "rootfs", "features", "startup", "env", "tags"]:
        name = (lxc_keys.split_index(key) or (key, 0))[0]
        assert documented[name] == lxc_privileges.privilege_of(key), key
    assert lxc_privileges.privilege_of("dev3") == "root@pam"
