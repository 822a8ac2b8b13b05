# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Act out what the endpoint asks of the API for LXC pods, with the roles that cri_endpoint makes for it.

Each row of the privilege table is a request by a token with privilege separation.  With the
roles of the role it is answered; without the row's privilege it is refused.
"""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.tests.support import fakepve, pve_access
from ansible_collections.pvecri.runtime.tests.support import pve_privileges as privileges

TOKEN = "pvecri@pve!node-pve1"
POD = 900000
CT = f"/nodes/pve1/lxc/{POD}"
TEMPLATE = "local:vztmpl/sha256-0a.tar"
CREATE = {
    "vmid": POD,
    "ostemplate": TEMPLATE,
    "rootfs": "local-lvm:1",
    "hostname": "web",
    "memory": 256,
    "cores": 1,
    "unprivileged": True,
    "tags": "pvecri;pvecri-cri",
    "description": "default/web",
}


def create(client):
    return client.post("/nodes/pve1/lxc", **CREATE)


def put(**values):
    return lambda client: client.put(f"{CT}/config", **values)


ACTIONS = {
    "making the container of an LXC pod": create,
    "its root file system": create,
    "its template": create,
    "downloading a template of Proxmox's list": lambda client: client.post(
        "/nodes/pve1/aplinfo", storage="local", template="debian-12-standard.tar.zst"
    ),
    "its host name": put(hostname="other"),
    "CPU of the pod, at the start and later": put(cores=2, cpulimit=1.5, cpuunits=200),
    "memory of the pod, at the start and later": put(memory=512, swap=0),
    "size of its root file system": lambda client: client.put(f"{CT}/resize", disk="rootfs", size="2G"),
    "environment, command, tags, description": put(env="A=b", entrypoint="/bin/web", tags="pvecri"),
    "starting and stopping it": lambda client: client.post(f"{CT}/status/start"),
    "removing it": lambda client: client.delete(CT, purge=True),
    "its state and configuration": lambda client: (
        client.get(f"{CT}/status/current"),
        client.get(f"{CT}/config", current=True),
    ),
    "state of the node and of its tasks": lambda client: client.get("/nodes/pve1/status"),
}
NEW = {name for name, action in ACTIONS.items() if action is create}
#: fakepve names no privilege for a template that one of several would do for.
UNNAMED = "its template"
ROWS = [need for need in privileges.MATRIX if need.module == "cri_endpoint"]
NAMED = [need for need in ROWS if need.subject != UNNAMED]


@pytest.fixture
def world(tmp_path):
    """Yield a cluster with a template on storage local, and the endpoint's token."""
    cluster = fakepve.FakeCluster(str(tmp_path / "pki"))
    cluster.pve.storages["local"]["volumes"] = {TEMPLATE.partition(":")[2]: {"content": "vztmpl", "size": 1}}
    access = cluster.access = pve_access.install(cluster.pve)
    roles, grants = pve_access.endpoint_roles("local-lvm", "local", "pve1")
    access.roles.update({name: set(privs) for name, privs in roles.items()})
    access.users["pvecri@pve"] = {"enable": 1}
    access.tokens[TOKEN] = {"privsep": 1}
    cluster.pve.apitokens[TOKEN] = fakepve.TOKEN_SECRET
    for path, role in grants:
        access.give("user", "pvecri@pve", path, role)
        access.give("token", TOKEN, path, role)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def pod(world):
    world.pve.add_ct(POD, "web", config={"unprivileged": 1, "rootfs": "local-lvm:vm-900000-disk-0,size=1G"})


def act(world, subject):
    client = PveClient(world.connection(user="pvecri@pve", token_id="node-pve1"))
    answer = ACTIONS[subject](client)
    if isinstance(answer, str) and answer.startswith("UPID:"):
        tasks.wait_task(client, answer, 30)


def test_every_row_is_acted_out():
    assert [need.subject for need in ROWS] == list(ACTIONS)


@pytest.mark.parametrize("subject", list(ACTIONS))
def test_with_the_roles_it_works(world, request, subject):
    if subject not in NEW:
        request.getfixturevalue("pod")
    act(world, subject)


@pytest.mark.parametrize("whose", ["token", "user"])
@pytest.mark.parametrize("need", NAMED, ids=lambda need: need.subject)
def test_without_its_privilege_it_is_refused(world, request, need, whose):
    if need.subject not in NEW:
        request.getfixturevalue("pod")
    (privilege,) = need.privileges
    # A role without the privilege takes the place of the role, for the token or for its user alone.
    poor = {name: privs - {privilege} for name, privs in world.access.roles.items()}
    for (path, kind, who, role), on in list(world.access.acl.items()):
        if kind == whose:
            del world.access.acl[path, kind, who, role]
            world.access.roles[f"{role}Less"] = poor[role]
            world.access.give(kind, who, path, f"{role}Less", propagate=on)
    with pytest.raises(errors.MissingPrivilege) as caught:
        act(world, need.subject)
    assert privilege in str(caught.value.privilege)


def test_without_any_privilege_on_its_storage_the_template_is_refused(world):
    world.access.roles["CriEndpointTemplate"] = set()
    with pytest.raises(errors.MissingPrivilege):
        act(world, UNNAMED)


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda client: client.post("/nodes/pve1/lxc", **{**CREATE, "unprivileged": False}),
        lambda client: client.put("/nodes/pve1/lxc/200/config", mp0="/srv,mp=/srv"),
        lambda client: client.put("/nodes/pve1/lxc/200/config", net0="name=eth0,bridge=vmbr0"),
        lambda client: client.post("/nodes/pve1/lxc/200/snapshot", snapname="x1"),
        lambda client: client.post("/access/roles", roleid="Mine"),
        lambda client: client.request(
            "PUT", "/access/acl", {"path": "/", "users": "pvecri@pve", "roles": "Administrator"}
        ),
        lambda client: client.get("/nodes/pve2/status"),
        lambda client: client.post("/nodes/pve1/status", command="reboot"),
    ],
)
def test_the_roles_allow_nothing_else(world, forbidden):
    world.pve.add_ct(200, "db", config={"unprivileged": 1})
    client = PveClient(world.connection(user="pvecri@pve", token_id="node-pve1"))
    with pytest.raises(errors.MissingPrivilege):
        forbidden(client)
