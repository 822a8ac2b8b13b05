# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the view of a cluster: what is asked, what is made of it, and how it copes with lag."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import cluster

NODES = [
    {"type": "node", "node": "pve1", "status": "online", "maxcpu": 8, "cpu": 0.5, "maxmem": 100, "mem": 30},
    {"type": "node", "node": "pve2", "status": "offline"},
]
CT = {
    "type": "lxc",
    "vmid": 101,
    "node": "pve1",
    "name": "web",
    "status": "running",
    "tags": "b;a",
    "pool": "prod",
    "lock": "backup",
    "template": 0,
    "hastate": "started",
    "maxcpu": 2,
    "maxmem": 512,
    "mem": 5,
    "maxdisk": 8,
    "disk": 1,
    "uptime": 9,
}
VM = {"type": "qemu", "vmid": 200, "node": "pve1", "name": "web", "status": "stopped", "template": 1}
STORAGE = {
    "type": "storage",
    "storage": "backups",
    "node": "pve1",
    "status": "available",
    "shared": 1,
    "content": "rootdir,backup",
    "plugintype": "dir",
    "maxdisk": 100,
    "disk": 40,
}


class Client:
    """Answer by path; an exception is raised."""

    def __init__(self, resources, **by_node):
        self.answers = {"/cluster/resources": resources}
        self.answers.update({("nodes", node, "lxc"): answer for node, answer in by_node.items()})
        self.asked = []

    def get(self, path, **params):
        self.asked.append((path, params))
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_view_of_one_request():
    client = Client([*NODES, CT, VM, STORAGE, {"type": "sdn", "sdn": "localnetwork"}])
    view = cluster.read_cluster(client)
    assert client.asked == [("/cluster/resources", {})]
    assert view.containers() == [
        cluster.Guest(
            vmid=101,
            node="pve1",
            name="web",
            status="running",
            tags=("b", "a"),
            pool="prod",
            lock="backup",
            ha_state="started",
            cpus=2.0,
            memory_bytes=512,
            memory_used_bytes=5,
            disk_bytes=8,
            disk_used_bytes=1,
            uptime_s=9,
        )
    ]
    assert view.guests[200].is_template
    assert view.nodes["pve1"].memory_free_bytes == 70
    assert [name for name, node in view.nodes.items() if node.is_online] == ["pve1"]
    (storage,) = view.storages
    assert (storage.free_bytes, storage.content, storage.is_shared) == (60, ("backup", "rootdir"), True)


@pytest.mark.parametrize(
    "new", [{"vmid": 102, "type": "lxc", "node": "pve1"}, {**CT, "vmid": 102, "status": "unknown"}]
)
def test_new_container_is_asked_of_its_node_once(new):
    listed = [{"vmid": 102, "name": "new", "status": "running", "tags": "x"}, {"vmid": 999, "name": "unseen"}]
    client = Client([*NODES, CT, new], pve1=listed)
    view = cluster.read_cluster(client)
    assert [path for path, _unused in client.asked] == ["/cluster/resources", ("nodes", "pve1", "lxc")]
    fresh = view.container(102)
    assert (fresh.name, fresh.status, fresh.tags) == ("new", "running", ("x",))
    assert fresh.pool == new.get("pool"), "the node's list knows no pools"
    assert 999 not in view.guests


def test_offline_node_is_not_asked():
    client = Client([*NODES, {**CT, "node": "pve2", "status": "unknown"}])
    assert cluster.read_cluster(client).container(101).status == "unknown"
    assert len(client.asked) == 1


def test_node_that_is_not_listed_is_asked():
    client = Client([{**CT, "status": "unknown"}], pve1=[{"vmid": 101, "name": "web", "status": "running"}])
    assert cluster.read_cluster(client).container(101).status == "running"


def test_node_that_cannot_be_asked_keeps_the_old_knowledge():
    client = Client([{**CT, "name": ""}], pve1=errors.ApiError("down", status=595))
    assert cluster.read_cluster(client).container(101).status == "running"


def test_current_asks_every_node_that_has_containers():
    third = {**NODES[0], "node": "pve3"}
    client = Client([*NODES, third, CT, VM], pve1=[{"vmid": 101, "name": "renamed", "status": "stopped"}])
    view = cluster.read_cluster(client, current=True)
    assert (view.container(101).name, view.container(101).status) == ("renamed", "stopped")
    assert len(client.asked) == 2


def test_container_that_is_not_there():
    view = cluster.read_cluster(Client([VM]))
    with pytest.raises(errors.NotFound, match=r"VM\.Audit"):
        view.container(101)
    with pytest.raises(errors.NotFound, match="virtual machine on node 'pve1'"):
        view.container(200)


@pytest.mark.parametrize(
    ("name", "node", "expected"),
    [("web", None, [101, 103]), ("web", "pve2", [103]), ("web", "pve9", []), ("nope", None, [])],
)
def test_named(name, node, expected):
    other = {**CT, "vmid": 103, "node": "pve2"}
    view = cluster.read_cluster(Client([*NODES, other, CT, VM]))
    assert [guest.vmid for guest in view.named(name, node=node)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, ()), ("", ()), (" ", ()), ("a", ("a",)), ("a;b", ("a", "b")), ("a, b  c", ("a", "b", "c"))],
)
def test_split_tags(text, expected):
    assert cluster.split_tags(text) == expected


def test_read_configs_keeps_each_error_in_its_place():
    good, bad = cluster.Guest(1, "pve1"), cluster.Guest(2, "pve2")
    client = Client([])
    client.answers[(*good.path, "config")] = {"hostname": "x"}
    client.answers[(*bad.path, "config")] = errors.ApiError("down", status=595)
    configs = cluster.read_configs(client, [good, bad])
    assert configs[1] == {"hostname": "x"}
    assert isinstance(configs[2], errors.ApiError)
    assert all(params == {"current": True} for _unused, params in client.asked)


@pytest.mark.parametrize(
    "listed",
    [
        *(None, "text", 5, [1], [None]),
        [{"type": "lxc"}],
        [{**CT, "vmid": "many"}],
        [{**CT, "maxmem": [1]}],
        [{"type": "node"}],
        [{"type": "storage", "storage": "x"}],
    ],
)
def test_answers_of_another_kind_are_an_error(listed):
    class Odd:
        def get(self, _path, **_params):
            return listed

    with pytest.raises(errors.ApiError, match="not like one of Proxmox VE"):
        cluster.read_cluster(Odd())
