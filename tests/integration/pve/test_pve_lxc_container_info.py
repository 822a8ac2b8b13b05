# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run pve_lxc_container_info against fakepve: filters, number of requests, faults."""

from __future__ import annotations

import pytest

MODULE = "pve_lxc_container_info"


@pytest.fixture
def info(pve_cluster, run_module):
    """Return a function that runs the module on a small cluster."""
    pve = pve_cluster.pve
    pve.pools["prod"] = set()
    pve.add_ct(201, "web-1", node="pve1", status="running", config={"tags": "prod;web"}, pool="prod")
    pve.add_ct(202, "web-2", node="pve2", config={"tags": "Web"})
    pve.add_ct(203, "db-1", node="pve2", status="running", lock="backup", pool="prod")
    pve.add_ct(204, "base", node="pve1", template=True)
    pve.add_vm(300, "web-vm", node="pve1", status="running")
    pve_cluster.forget_requests()

    def run(**params):
        return run_module(MODULE, {**pve_cluster.options(), **params}, diff=True)

    return run


def vmids(result):
    assert result["changed"] is False
    return [container["vmid"] for container in result["containers"]]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [201, 202, 203, 204]),
        ({"vmid": [203, 201, 999]}, [201, 203]),
        ({"hostname": ["web-*"]}, [201, 202]),
        ({"hostname": ["db-1", "base"]}, [203, 204]),
        ({"node": ["pve2"]}, [202, 203]),
        ({"tags": ["web"]}, [201, 202]),
        ({"tags": ["web", "prod"]}, [201]),
        ({"status": "running"}, [201, 203]),
        ({"pool": ["prod"], "node": ["pve2"]}, [203]),
        ({"template": True}, [204]),
        ({"template": False, "status": "stopped"}, [202]),
        ({"hostname": ["nope"]}, []),
        ({"vmid": []}, []),
    ],
)
def test_filters(pve_cluster, info, filters, expected):
    assert vmids(info(**filters)) == expected
    assert pve_cluster.requests_seen() == [("GET", "/cluster/resources")]


def test_container_is_shown_whole(info):
    (container,) = info(vmid=[201])["containers"]
    assert container.pop("uptime") >= 0
    assert container.pop("memory_used") >= 0
    assert container == {
        "vmid": 201,
        "name": "web-1",
        "node": "pve1",
        "status": "running",
        "tags": ["prod", "web"],
        "pool": "prod",
        "lock": None,
        "template": False,
        "ha_state": None,
        "cpus": 1.0,
        "memory": 512 * 1024**2,
        "disk": 8 * 1024**3,
        "disk_used": 0,
    }


def test_nodes_are_shown(pve_cluster, info):
    pve_cluster.pve.set_node_offline("pve2")
    result = info(status="unknown")
    assert result["nodes"] == [{"name": "pve1", "online": True}, {"name": "pve2", "online": False}]
    assert vmids(result) == [202, 203]


def test_configs_take_one_request_each(pve_cluster, info):
    result = info(config=True, hostname=["web-*"])
    assert [container["config"]["hostname"] for container in result["containers"]] == ["web-1", "web-2"]
    assert sorted(path for _unused, path in pve_cluster.requests_seen()) == [
        "/cluster/resources",
        "/nodes/pve1/lxc/201/config",
        "/nodes/pve2/lxc/202/config",
    ]


def test_config_that_cannot_be_read_is_a_warning(pve_cluster, info):
    pve_cluster.pve.set_node_offline("pve2")
    result = info(config=True)
    assert "config" not in result["containers"][1]
    assert result["containers"][0]["config"]["hostname"] == "web-1"
    assert "container 202" in result["warnings"][0]


def test_current_takes_one_request_for_each_node(pve_cluster, info):
    assert vmids(info(current=True)) == [201, 202, 203, 204]
    assert sorted(path for _unused, path in pve_cluster.requests_seen()) == [
        "/cluster/resources",
        "/nodes/pve1/lxc",
        "/nodes/pve2/lxc",
    ]


def test_number_of_requests_does_not_grow_with_the_containers(pve_cluster, info):
    for vmid in range(1000, 2000):
        pve_cluster.pve.add_ct(vmid, f"ct-{vmid}", node="pve2")
    assert len(vmids(info())) == 1004
    assert len(pve_cluster.requests_seen()) == 1


def test_only_what_the_user_may_see(pve_cluster, info):
    login = pve_cluster.add_user("some@pve", [("/vms/203", ["VM.Audit"])])
    assert vmids(info(**login)) == [203]


def test_concurrency_must_be_a_number_of_requests(info):
    failed = info(concurrency=0)
    assert (failed["error"], failed["field"]) == ("invalid_spec", "concurrency")
