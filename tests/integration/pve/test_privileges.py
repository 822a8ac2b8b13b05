# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the privilege table against fakepve's checks: with the roles it works, without one it is named.

Each row of the table is acted out by a request.  A user with exactly the roles of
docs/pve-privileges.md may do it; one who lacks the row's privilege may not, and is
told which.  Backups are checked by tests/support/pve_backups.py, because fakepve
itself asks no privilege for vzdump and pruning.
"""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.options import client_from_params
from ansible_collections.pvecri.runtime.tests.support import pve_privileges as privileges

CT = "/nodes/pve1/lxc/201"
TEMPLATE = "local:vztmpl/debian-12-standard.tar.zst"
ARCHIVE = "local:backup/vzdump-lxc-201-2026_01_31-02_00_00.tar.zst"


def put(**config):
    return lambda client: client.put(f"{CT}/config", **config)


def create(**more):
    params = {"vmid": 300, "ostemplate": TEMPLATE, "rootfs": "local-lvm:1", **more}
    return lambda client: client.post("/nodes/pve1/lxc", **params)


def post(path, **params):
    return lambda client: client.post(path, **params)


CLONE = post("/nodes/pve1/lxc/210/clone", newid=300)
RESTORE = post("/nodes/pve1/lxc", vmid=300, ostemplate=ARCHIVE, restore=True, storage="local-lvm")


def REMOVE(client):
    return client.delete(("nodes", "pve1", "storage", "local", "content", ARCHIVE))


#: What each row of the table looks like as a request, by module and subject.
ACTIONS = {
    ("all", "reading containers"): lambda client: client.get(f"{CT}/config"),
    ("pve_lxc_container", "state=present, creating"): create(),
    ("pve_lxc_container", "storage, rootfs of a new container"): create(),
    ("pve_lxc_container", "ostemplate"): create(),
    ("pve_lxc_container", "image, or ostemplate by name, putting it onto image_storage"): post(
        "/nodes/pve1/aplinfo", storage="local", template="debian-12-standard.tar.zst"
    ),
    ("pve_lxc_container", "unprivileged=false"): create(unprivileged=False),
    ("pve_lxc_container", "clone"): CLONE,
    ("pve_lxc_container", "clone, the new container"): CLONE,
    ("pve_lxc_container", "clone, volumes"): CLONE,
    ("pve_lxc_container", "cores, cpulimit, cpuunits"): put(cores=2, cpulimit=1, cpuunits=200),
    ("pve_lxc_container", "memory, swap"): put(memory=1024, swap=0),
    ("pve_lxc_container", "rootfs, mounts"): put(mp0="local-lvm:1,mp=/data"),
    ("pve_lxc_container", "rootfs, mounts, new or larger volumes"): put(mp0="local-lvm:1,mp=/data"),
    ("pve_lxc_container", "networks, hostname, nameserver, searchdomain"): put(hostname="other"),
    ("pve_lxc_container", "networks, each bridge or virtual network"): put(net0="name=eth0,bridge=vmbr0"),
    (
        "pve_lxc_container",
        "description, tags, onboot, protection, startup, cmode, console, tty, debug, timezone, arch, ostype, "
        "env, entrypoint, unset",
    ): put(description="x", tags="a", onboot=True, env="A=b"),
    ("pve_lxc_container", "features, nesting only"): put(features="nesting=1"),
    ("pve_lxc_container", "state=started, stopped, restarted"): post(f"{CT}/status/start"),
    ("pve_lxc_container", "state=template"): post("/nodes/pve1/lxc/202/template"),
    ("pve_lxc_container", "state=absent"): lambda client: client.delete(CT),
    ("pve_lxc_container", "migrate"): post(f"{CT}/migrate", target="pve2"),
    ("pve_lxc_container", "pool"): lambda client: client.put("/pools/prod", vms="201"),
    ("pve_lxc_container", "ha"): post("/cluster/ha/resources", sid="ct:201"),
    ("pve_lxc_container", "ha, reading"): lambda client: client.get("/cluster/ha/resources"),
    ("pve_lxc_snapshot", "state=present, absent"): post(f"{CT}/snapshot", snapname="new"),
    ("pve_lxc_snapshot", "state=rolledback"): post(f"{CT}/snapshot/old/rollback"),
    ("pve_lxc_snapshot", "start"): post(f"{CT}/snapshot/old/rollback", start=True),
    ("pve_lxc_backup", "state=present"): post("/nodes/pve1/vzdump", vmid=201, storage="local", remove=False),
    ("pve_lxc_backup", "state=present, the storage"): post(
        "/nodes/pve1/vzdump", vmid=201, storage="local", remove=False
    ),
    ("pve_lxc_backup", "bwlimit"): post(
        "/nodes/pve1/vzdump", vmid=201, storage="local", remove=False, bwlimit=1
    ),
    ("pve_lxc_backup", "max_age"): lambda client: client.get("/nodes/pve1/time"),
    ("pve_lxc_backup", "listing backups, state=absent, pruned, notes, protected"): REMOVE,
    ("pve_lxc_backup", "listing backups, state=absent, pruned, notes, protected, the storage"): REMOVE,
    ("pve_lxc_backup", "state=restored"): RESTORE,
    ("pve_lxc_backup", "state=restored, volumes"): RESTORE,
    ("pve_lxc_backup", "start"): post(f"{CT}/status/start"),
}

#: Rows that other tests act out, with another user than the one of these roles.
ELSEWHERE = ("cri_endpoint", "pve_access")

#: Rows that fakepve cannot refuse, and why.
NOT_REFUSED = {
    ("all", "reading storages"): "it lists every storage; Proxmox VE leaves out those without the privilege"
}

#: What no privilege is enough for.
ROOT_ONLY = {
    "features, any other": put(features="keyctl=1"),
    "features on a privileged container": lambda client: client.put(
        "/nodes/pve1/lxc/202/config", features="nesting=1"
    ),
    "mounts of a directory or device of the host": put(mp0="/srv,mp=/srv"),
    "devices": put(dev0="/dev/fuse"),
    "hookscript": put(hookscript="local:snippets/x.sh"),
}

#: What Proxmox VE refuses with a 500 instead, or does not offer at all.
ROOT_ONLY_OTHERWISE = {"ostemplate by absolute path", "lxc"}

ROWS = [n for n in privileges.MATRIX if not n.is_root_only and n.module not in ELSEWHERE]
CHECKED = [need for need in ROWS if (need.module, need.subject) not in NOT_REFUSED]


def described(need):
    return f"{need.module}: {need.subject}"


@pytest.fixture
def world(pve_cluster):
    """Fill the cluster with what the actions need."""
    pve = pve_cluster.pve
    pve.add_ct(201, "web", config={"unprivileged": 1, "tags": "pvecri"}).snapshots["old"] = {
        "snaptime": 1,
        "memory": 512,
    }
    pve.add_ct(202, "privileged").config.pop("unprivileged")
    base = pve.add_ct(210, "base", template=True)
    base.config["rootfs"] = "local-lvm:base-210-disk-0,size=1G"
    pve.pools["prod"] = set()
    pve.storages["local"]["volumes"] = {
        TEMPLATE.partition(":")[2]: {"content": "vztmpl", "size": 1},
        ARCHIVE.partition(":")[2]: {"content": "backup", "size": 1, "vmid": 201, "ctime": 1},
    }
    return pve_cluster


def grants(without=()):
    """Return the roles as paths and privileges, less some privileges."""
    paths = {
        "/storage/{storage}": "/storage",
        "/sdn/zones/{zone}": "/sdn/zones",
        "/pool/{pool}": "/pool/prod",
    }
    return [
        (paths.get(role.path, role.path), set(role.privileges) - set(without)) for role in privileges.roles()
    ]


def act(cluster, need, *, without=()):
    login = cluster.add_user("ops@pve", grants(without))
    client = client_from_params(cluster.params(**login))
    answer = ACTIONS[need.module, need.subject](client)
    if isinstance(answer, str) and answer.startswith("UPID:"):
        tasks.wait_task(client, answer, 30)


def test_every_row_is_acted_out_or_excused():
    assert {(need.module, need.subject) for need in ROWS} == set(ACTIONS) | set(NOT_REFUSED)
    root_only = {need.subject for need in privileges.MATRIX if need.is_root_only}
    assert root_only == set(ROOT_ONLY) | ROOT_ONLY_OTHERWISE


@pytest.mark.parametrize("need", CHECKED, ids=described)
def test_with_the_roles_it_works(world, need):
    act(world, need)


@pytest.mark.parametrize("need", CHECKED, ids=described)
def test_without_its_privilege_it_is_refused_and_named(world, need):
    for dropped in [need.privileges] if need.any_of else [(name,) for name in need.privileges]:
        with pytest.raises(errors.MissingPrivilege) as caught:
            act(world, need, without=dropped)
        assert set(dropped) <= set(caught.value.privilege.split("|"))
        assert caught.value.path


@pytest.mark.parametrize("need", [need for need in CHECKED if need.any_of], ids=described)
def test_one_of_several_is_enough(world, need):
    for name in need.privileges:
        if name == "Datastore.Audit":
            continue  # reading the template needs one of the two, the new volume needs the other
        act(world, need, without=set(need.privileges) - {name})
        world.pve.cts[:] = [ct for ct in world.pve.cts if ct.vmid != 300]


@pytest.mark.parametrize("subject", sorted(ROOT_ONLY))
@pytest.mark.parametrize("who", ["roles", "token of root"])
def test_root_only_is_refused_to_everybody_else(world, subject, who):
    login = world.add_user("ops@pve", grants())
    client = client_from_params(world.params(**login)) if who == "roles" else world.client()
    with pytest.raises(errors.MissingPrivilege, match="not even one of root@pam") as caught:
        ROOT_ONLY[subject](client)
    assert caught.value.privilege is None


@pytest.mark.parametrize("subject", sorted(ROOT_ONLY))
def test_root_itself_may(world, subject):
    world.add_user("ops@pve", grants())
    ROOT_ONLY[subject](PveClient(world.by_password()))


def test_template_by_absolute_path_is_refused_to_tokens(world):
    with pytest.raises(errors.ApiError, match="Only root can pass arbitrary filesystem paths"):
        create(ostemplate="/srv/x.tar.zst")(world.client())


def test_snapshot_module_works_with_its_own_roles_alone(world, run_module):
    own = [
        ("/storage" if role.path.startswith("/storage") else role.path, role.privileges)
        for role in privileges.roles(("pve_lxc_snapshot",))
    ]
    login = world.add_user("snap@pve", own)
    for state in ("present", "rolledback", "absent"):
        task = {
            **world.options(**login),
            "vmid": 201,
            "snapname": "mine",
            "state": state,
            "start": state == "rolledback",
        }
        result = run_module("pve_lxc_snapshot", task)
        assert result["changed"], result
