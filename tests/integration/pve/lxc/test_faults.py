# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on a cluster, and what a user is told."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.tests.support import pve_privileges as privileges
from ansible_collections.pvecri.runtime.tests.support.pve_lxc import (
    CONFIG,
    TEMPLATE,
    WEB,
    rewire,
    writes,
)

VIEW = "/nodes/pve1/lxc/300/config"


@pytest.fixture
def container(cluster):
    return cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"})


class TestApi:
    def test_refused_login(self, cluster, run):
        result = run(fails=True, who={"api_token_secret": "wrong"}, vmid=300)
        assert (result["error"], result["status"]) == ("login_failed", 401)

    def test_expired_ticket_is_renewed(self, cluster, run, root, container):
        get = cluster.pve._lxc_config_get

        async def expire(user, values):
            cluster.pve.revoke_tickets()
            return await get(user, values)

        rewire(cluster, "GET", CONFIG, expire)
        assert run(who=root, vmid=300, memory=1024)["changed"]

    def test_lost_quorum(self, cluster, run, container):
        cluster.pve.lose_quorum()
        assert not run(vmid=300)["changed"], "reading works without quorum"
        result = run(fails=True, vmid=300, memory=1024)
        assert "no quorum" in result["msg"]
        assert "Bring enough cluster nodes back online" in result["msg"]
        cluster.pve.regain_quorum()
        assert run(vmid=300, memory=1024)["changed"]

    def test_node_that_is_offline(self, cluster, run, container):
        cluster.pve.set_node_offline("pve1")
        result = run(fails=True, vmid=300, memory=1024)
        assert result["status"] == 595
        assert "'pve1' could not be reached" in result["msg"]
        cluster.pve.set_node_offline("pve1", offline=False)
        assert run(vmid=300, memory=1024)["changed"]

    def test_new_container_goes_past_an_offline_node(self, cluster, run):
        cluster.pve.set_node_offline("pve1")
        result = run(hostname="a", ostemplate=TEMPLATE)
        assert result["container"]["node"] == "pve2"
        assert {c["node"]: c["reason"] for c in result["placement"]["candidates"]}["pve1"] == "is offline"

    def test_hanging_node_is_given_up_on(self, cluster, run, container):
        cluster.pve.slow_network(60, node="pve1")
        cluster.pve.time_scale = 1
        result = run(fails=True, who={"api_timeout": 4}, vmid=300, node="pve1", memory=1024)
        cluster.pve.slow_network(0, node="pve1")
        assert result["error"] == "timeout"
        assert "within 4 s" in result["msg"]

    @pytest.mark.parametrize("status", [500, 595, 599])
    def test_server_error_while_writing_is_told_and_nothing_is_lost(self, cluster, run, container, status):
        cluster.pve.fail("PUT", VIEW, status, "something broke")
        result = run(fails=True, vmid=300, memory=1024)
        assert result["status"] == status
        assert "something broke" in result["msg"]
        cluster.pve.failures.clear()
        assert run(vmid=300, memory=1024)["changed"]

    def test_passing_server_error_is_not_repeated_blindly(self, cluster, run, container):
        cluster.pve.fail("PUT", VIEW, 500, "once", times=1)
        result = run(fails=True, vmid=300, memory=1024)
        assert "once" in result["msg"]
        assert writes(cluster) == [("PUT", "/300/config")]

    def test_page_of_a_proxy_is_recognised(self, cluster, run, container):
        cluster.pve.fail("GET", VIEW, 502, "<html>Bad Gateway</html>", html=True)
        result = run(fails=True, vmid=300)
        assert result["status"] == 502

    def test_lock_that_appears_while_we_plan_is_waited_for(self, cluster, run, container):
        put, seen = cluster.pve._lxc_config_put, []

        async def locked_once(user, values):
            if not seen:
                seen.append(1)
                cluster.pve.time_scale = 0.01
                await cluster.pve.backup(300, secs=20)
                await cluster.pve.pause(1)
            return await put(user, values)

        rewire(cluster, "PUT", CONFIG, locked_once)
        assert run(vmid=300, memory=1024)["changed"]
        assert container.config["memory"] == 1024

    def test_config_lock_of_another_task(self, cluster, run, container):
        cluster.call(cluster.pve.hold_config_lock(300, None))
        result = run(fails=True, vmid=300, memory=1024)
        assert "got timeout" in result["msg"]
        cluster.pve.release_config_lock(300)
        assert run(vmid=300, memory=1024)["changed"]

    def test_bad_value_of_the_server_names_the_parameter(self, run, container):
        result = run(fails=True, vmid=300, searchdomain=["-no.name-"])
        assert (result["error"], result["field"]) == ("invalid_spec", "searchdomain")


class TestTasks:
    def test_failed_create_leaves_nothing(self, cluster, run):
        cluster.pve.ceph_down()
        cluster.pve.add_ceph_storage("rbd")
        cluster.pve.ceph_down()
        cluster.pve.storages["rbd"]["active"] = 1
        result = run(fails=True, **{**WEB, "rootfs": "rbd:8", "node": "pve1"})
        assert result["error"] == "task_failed"
        assert "rbd error" in result["msg"]
        assert cluster.pve.cts == []
        cluster.pve.ceph_recover()
        assert run(**{**WEB, "rootfs": "rbd:8", "node": "pve1"})["changed"]

    @pytest.mark.parametrize("verify", ["full", "intent"])
    def test_failure_after_the_creation_tells_what_was_changed(self, cluster, run, verify):
        cluster.pve.fail("POST", "/nodes/pve1/lxc/300/status/start", 500, "no such device")
        options = {**WEB, "vmid": 300, "node": "pve1", "state": "started", "verify": verify}
        result = run(fails=True, **options)
        assert (result["changed"], result["error"], result["status"]) == (True, "api_error", 500)
        assert (result["actions"][0], result["vmid"]) == ("create", 300)
        assert result["placement"]["node"] == "pve1"
        assert "(failed after: create" in result["diff"][0]["after_header"]
        again = run(fails=True, **options)
        assert (again["changed"], again["actions"], again["diff"]) == (False, [], [])
        assert not run(check=True, fails=False, **options)["failed"], "nothing is done that could fail"
        cluster.pve.failures.clear()
        assert run(**options)["actions"] == ["start"]

    def test_failure_before_the_creation_changed_nothing(self, cluster, run):
        cluster.pve.fail("POST", "/nodes/pve1/lxc", 500, "no such device")
        result = run(fails=True, **WEB, vmid=300, node="pve1")
        assert (result["changed"], result["actions"], cluster.pve.cts) == (False, [], [])

    def test_failed_shutdown_of_a_container_that_is_stopped_is_none(self, cluster, run, container):
        container.status = "running"
        cluster.lxc.exitstatus["vzshutdown"] = "unexpected status"
        assert run(vmid=300, state="stopped")["container"]["status"] == "stopped"

    def test_failed_destroy_is_told(self, cluster, run, container):
        cluster.pve.fail("DELETE", "/nodes/pve1/lxc/300", 500, "storage is busy")
        assert "storage is busy" in run(fails=True, vmid=300, state="absent")["msg"]
        cluster.pve.failures.clear()
        assert run(vmid=300, state="absent")["changed"]

    def test_task_that_takes_too_long_goes_on_and_is_joined(self, cluster, run):
        cluster.pve.time_scale = 0.05
        cluster.pve.ct_secs["create"] = 40
        options = {**WEB, "state": "started"}
        result = run(fails=True, who={"task_timeout": 0.3}, **options)
        assert result["error"] == "timeout"
        assert "goes on as UPID" in result["msg"]
        result = run(**options)
        assert result["container"]["status"] == "running"
        assert len(cluster.pve.cts) == 1

    def test_creation_by_somebody_else_that_never_ends(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", lock="create", config={"tags": "pvecri"})
        result = run(fails=True, who={"task_timeout": 0.3}, vmid=300, lock_timeout=0, **WEB)
        assert "locked (create)" in result["msg"]
        assert "pct unlock 300" in result["msg"]


class TestPrivileges:
    """fakepve asks the same privileges as Proxmox VE for these; see test_privileges.py."""

    @pytest.fixture
    def ops(self, cluster):
        """Return a function that gives a user all roles less some privileges, and returns the login."""
        paths = {
            "/storage/{storage}": "/storage",
            "/sdn/zones/{zone}": "/sdn/zones",
            "/pool/{pool}": "/pool/prod",
        }
        cluster.pve.pools["prod"] = set()

        def ops(*without):
            roles = [
                (paths.get(role.path, role.path), set(role.privileges) - set(without))
                for role in privileges.roles()
            ]
            return cluster.add_user("ops@pve", roles)

        return ops

    def test_all_roles_are_enough_for_everything(self, cluster, run, ops):
        options = {**WEB, "state": "started", "pool": "prod", "ha": {}, "node": "pve1"}
        who = ops()
        assert run(who=who, **options)["changed"]
        assert not run(who=who, **options)["changed"]
        assert run(who=who, **{**options, "memory": 2048, "rootfs": 16, "node": "pve2"})["changed"]
        assert run(who=who, hostname="web-1", state="absent")["changed"]

    @pytest.mark.parametrize(
        ("missing", "options"),
        [
            ("VM.Config.Memory", {"memory": 2048}),
            ("VM.Config.CPU", {"cores": 4}),
            ("VM.Config.Network", {"networks": {"net1": "name=eth1,bridge=vmbr0"}}),
            ("SDN.Use", {"networks": {"net1": "name=eth1,bridge=vmbr0"}}),
            ("VM.Config.Disk", {"rootfs": 16}),
            ("Datastore.AllocateSpace", {"mounts": {"mp0": "local-lvm:1,mp=/d"}}),
            ("VM.Config.Options", {"description": "new"}),
            ("VM.Allocate", {"features": {"nesting": True}}),
            ("VM.Allocate", {"state": "absent"}),
            ("VM.PowerMgmt", {"state": "started"}),
            ("VM.Migrate", {"node": "pve2"}),
            ("Sys.Console", {"ha": {}}),
            ("Pool.Allocate", {"pool": "prod"}),
        ],
    )
    def test_missing_privilege_is_named_before_anything_is_done(
        self, cluster, run, ops, container, missing, options
    ):
        who = ops(missing)
        cluster.forget_requests()
        result = run(fails=True, who=who, vmid=300, **{"memory": 1024, **options})
        assert (result["error"], result["privilege"]) == ("missing_privilege", missing)
        assert writes(cluster) == []

    @pytest.mark.parametrize("missing", ["VM.Allocate", "VM.Config.Disk", "Datastore.AllocateSpace"])
    def test_missing_privilege_for_creating(self, cluster, run, ops, missing):
        who = ops(missing)
        result = run(fails=True, who=who, node="pve1", storage="local-lvm", **WEB)
        assert (result["error"], result["privilege"]) == ("missing_privilege", missing)
        assert writes(cluster) == []

    def test_missing_privilege_for_cloning(self, cluster, run, ops, container):
        result = run(fails=True, who=ops("VM.Clone"), hostname="c", clone="300")
        assert (result["privilege"], result["path"]) == ("VM.Clone", "/vms/300")

    @pytest.mark.parametrize(
        "options",
        [
            {"mounts": {"mp0": "/srv,mp=/srv"}},
            {"devices": {"dev0": "/dev/fuse"}},
            {"hookscript": "local:snippets/x.sh"},
            {"features": {"keyctl": True}},
        ],
    )
    def test_what_only_root_may_is_refused_to_its_token_and_done_by_itself(
        self, cluster, run, root, ops, container, options
    ):
        ops()
        cluster.forget_requests()
        for who in ({}, ops()):
            result = run(fails=True, who=who, vmid=300, **options)
            assert "only root@pam itself may set" in result["msg"]
        result = run(fails=True, **{**WEB, **options, "hostname": "new"})
        assert "only root@pam itself may set" in result["msg"]
        assert writes(cluster) == []
        assert run(who=root, vmid=300, **options)["changed"]
        assert not run(who=root, vmid=300, **options)["changed"]

    def test_hidden_variables_are_not_compared(self, cluster, run, ops, container):
        container.config["env"] = "A=1"
        result = run(who=ops("VM.Config.Options"), vmid=300, env={"A": "2"})
        assert not result["changed"]
        assert "was not compared: the user lacks VM.Config.Options" in result["warnings"][0]
        assert run(who=ops(), vmid=300, env={"A": "2"})["changed"]

    def test_user_of_one_pool(self, cluster, run):
        cluster.pve.pools["mine"] = set()
        cluster.pve.pool_info["mine"] = {"comment": None, "storage": {"local-lvm"}}
        vm = ["VM.Allocate", "VM.Audit", "VM.PowerMgmt"]
        vm += [f"VM.Config.{kind}" for kind in ("CPU", "Disk", "Memory", "Network", "Options")]
        who = cluster.add_user(
            "team@pve",
            [
                ("/pool/mine", [*vm, "Pool.Allocate", "Pool.Audit"]),
                ("/storage", ["Datastore.AllocateSpace", "Datastore.Audit"]),
                ("/sdn/zones", ["SDN.Use"]),
            ],
        )
        options = {**WEB, "node": "pve1", "pool": "mine", "state": "started"}
        assert run(who=who, **options)["changed"]
        assert not run(who=who, **options)["changed"]
        assert run(who=who, **{**options, "memory": 2048})["changed"]
        assert run(who=who, **{**options, "hostname": "second", "vmid": 4000})["changed"]
        result = run(fails=True, who=who, **{**options, "hostname": "other", "pool": None})
        assert result["error"] == "missing_privilege"

    def test_templates_that_may_be_used_but_not_listed(self, cluster, run, ops):
        cluster.pve.fail("GET", "/nodes/pve1/storage/local/content", 403, "Permission check failed")
        assert run(node="pve1", **WEB)["changed"]
