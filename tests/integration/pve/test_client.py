# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drive fakepve with the client: logins, tasks, faults.

fakepve differs from Proxmox VE here: it refuses a start of a running container
itself where Proxmox VE lets the task fail, answers a wrong login at once instead
of after 3 s, and can ask for a second factor but not accept one (see the unit
tests of the session for that).
"""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import cluster, tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient

CT = "/nodes/pve1/lxc/100"


@pytest.fixture
def container(pve_cluster):
    return pve_cluster.pve.add_ct(100, "web")


@pytest.fixture(params=["token", "password"])
def client(request, pve_cluster, container):
    return pve_cluster.client() if request.param == "token" else PveClient(pve_cluster.by_password())


def test_read_write_and_task(pve_cluster, client, container):
    client.put(f"{CT}/config", memory=1024, onboot=True, cores=None)
    assert (container.config["memory"], container.config["onboot"]) == (1024, 1)
    result = tasks.wait_task(client, client.post(f"{CT}/status/start"), 30)
    assert result.exitstatus == "OK"
    assert container.status == "running"


def test_ticket_that_was_revoked_is_bought_again(pve_cluster, container):
    client = PveClient(pve_cluster.by_password())
    client.get("/version")
    pve_cluster.pve.revoke_tickets()
    client.put(f"{CT}/config", memory=1024)
    assert container.config["memory"] == 1024


@pytest.mark.parametrize(
    "login",
    [
        {"token_id": None, "password": "wrong"},
        {"token_secret": "wrong"},
        {"token_id": "nope"},
        {"token_id": None, "password": "wrong", "user": "nobody@pam"},
    ],
)
def test_wrong_login(pve_cluster, login):
    with pytest.raises(errors.LoginFailed, match="Check user and realm") as caught:
        pve_cluster.client(**login).get("/version")
    assert "wrong" not in str(caught.value)


def test_second_factor_is_asked_for(pve_cluster):
    pve_cluster.pve.tfa = True
    with pytest.raises(errors.LoginFailed, match="second factor"):
        PveClient(pve_cluster.by_password()).get("/version")


def test_pinned_certificate(pve_cluster):
    assert pve_cluster.client(ca_path=None, fingerprint=pve_cluster.fingerprint).get("/version")
    with pytest.raises(errors.ApiError, match="another certificate"):
        pve_cluster.client(ca_path=None, fingerprint="00" * 32).get("/version")


@pytest.mark.parametrize(
    ("request_", "error", "text"),
    [
        (("PUT", f"{CT}/config", {"memory": 1, "swap": -1}), errors.InvalidSpec, "memory, swap"),
        (("GET", "/cluster/nextid", {"vmid": 100}), errors.InvalidSpec, "vmid"),
        (("POST", "/nodes/pve1/lxc", {"vmid": 1}), errors.InvalidSpec, "ostemplate"),
        (("GET", "/nodes/pve1/lxc/999/config", {}), errors.ApiError, "999.conf' does not exist"),
        (("GET", "/nodes/nope/lxc", {}), errors.ApiError, "no node of that name"),
        (("DELETE", f"{CT}/config", {}), errors.ApiError, "not implemented"),
    ],
)
def test_refusals(client, request_, error, text):
    with pytest.raises(error, match=text):
        client.request(*request_)


def test_names_that_are_no_identifiers(client, pve_cluster):
    # fakepve has no such parameter here, and says so: what matters is that the name arrives.
    with pytest.raises(errors.InvalidSpec, match="ssh-public-keys"):
        client.put(f"{CT}/config", **{"ssh-public-keys": "x"})


def test_failed_task(pve_cluster, client, container):
    container.start_error = "startup for container '100' failed"
    with pytest.raises(errors.TaskFailed, match="startup for container") as caught:
        tasks.wait_task(client, client.post(f"{CT}/status/start"), 30)
    assert caught.value.log_tail[-1] == "TASK ERROR: startup for container '100' failed"


def test_task_that_takes_too_long_goes_on(pve_cluster, client, container):
    pve_cluster.pve.time_scale = 0.01
    container.start_secs = 40
    upid = client.post(f"{CT}/status/start")
    with pytest.raises(errors.TaskTimeout) as caught:
        tasks.wait_task(client, upid, 0.05)
    assert caught.value.upid == upid
    assert tasks.wait_task(client, upid, 30).exitstatus == "OK"
    assert container.status == "running"


def test_node_that_goes_away_during_a_task_and_comes_back(pve_cluster, client, container):
    pve_cluster.pve.time_scale = 0.01
    container.start_secs = 10
    upid = client.post(f"{CT}/status/start")
    pve_cluster.pve.set_node_offline("pve1")
    waits = itertools.count()

    def sleep(_seconds):
        if next(waits) == 2:
            pve_cluster.pve.set_node_offline("pve1", offline=False)
            pve_cluster.call(pve_cluster.pve.pause(15))

    assert tasks.wait_task(client, upid, 30, sleep=sleep).exitstatus == "OK"


def test_lost_quorum(pve_cluster, client, container):
    pve_cluster.pve.lose_quorum()
    assert client.get(f"{CT}/config")["memory"] == 512
    with pytest.raises(errors.ApiError, match="without quorum the configuration is read-only"):
        client.post("/nodes/pve1/lxc", vmid=101, ostemplate="local:vztmpl/x.tar.zst", rootfs="local-lvm:1")
    assert pve_cluster.pve.ct(101) is None


def test_offline_node(pve_cluster, client):
    pve_cluster.pve.set_node_offline("pve1")
    with pytest.raises(errors.ApiError, match="node 'pve1' could not be reached") as caught:
        client.get(f"{CT}/config")
    assert caught.value.is_unreachable


def test_hanging_node(pve_cluster, container):
    pve_cluster.pve.time_scale = 1.0
    pve_cluster.pve.slow_network(60, node="pve1")
    with pytest.raises(errors.ApiTimeout):
        pve_cluster.client(api_timeout_s=0.2).get(f"{CT}/config")


def test_connections_that_drop(pve_cluster, container):
    client = PveClient(pve_cluster.connection(), sleep=lambda _seconds: None)
    client.get("/version")
    pve_cluster.pve.flaky_network(drop_rate=1.0)
    with pytest.raises(errors.ApiError, match="no connection to") as caught:
        client.put(f"{CT}/config", memory=1024)
    assert caught.value.maybe_done
    pve_cluster.pve.flaky_network(drop_rate=0.0)
    assert client.get(f"{CT}/config")["memory"] == 512


def test_page_of_a_proxy(pve_cluster, client):
    pve_cluster.pve.fail("GET", "/version", 502, "<html>Bad Gateway</html>", html=True)
    with pytest.raises(errors.ApiError, match="status 502: Bad Gateway"):
        client.get("/version")


def test_cluster_view(pve_cluster, client):
    view = cluster.read_cluster(client)
    assert view.container(100).name == "web"
    assert sorted(view.nodes) == ["pve1", "pve2"]
    assert all(node.is_online for node in view.nodes.values())
    assert {storage.name for storage in view.storages} == {"local", "local-lvm"}
