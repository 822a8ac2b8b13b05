# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run pve_lxc_container against fakepve, with tests/support/pve_lxc.py where Proxmox VE differs from it."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.tests.support.pve_lxc import (
    CONFIG,
    IMAGE,
    TEMPLATE,
    WEB,
    ct,
    rewire,
    writes,
)


def sent(cluster, suffix):
    """Return the body of the first POST to a path."""
    return next(b.decode() for m, p, b in cluster.pve.requests if m == "POST" and p.endswith(suffix))


class TestPresent:
    def test_create(self, cluster, run):
        result = run(**WEB)
        assert result["changed"]
        assert result["actions"] == ["create"]
        made = result["container"]
        assert (made["hostname"], made["status"], made["unprivileged"]) == ("web-1", "stopped", True)
        assert made["tags"] == ["pvecri", "shop"]
        assert made["description"] == "The shop"
        assert made["rootfs"] == {"volume": f"local-lvm:vm-{made['vmid']}-disk-0", "size": "8G"}
        assert made["networks"]["net0"]["bridge"] == "vmbr0"
        assert made["config"]["memory"] == 1024
        assert 100 <= made["vmid"] <= 9999
        assert result["placement"]["node"] == made["node"] == "pve1"
        assert "memory" in result["placement"]["reason"]
        assert result["diff"]["before"] == {}
        assert result["diff"]["after"]["memory"] == 1024
        assert writes(cluster) == [("POST", "")]

    def test_create_again_changes_nothing(self, cluster, run):
        first = run(**WEB)
        cluster.forget_requests()
        again = run(**WEB)
        assert not again["changed"]
        assert again["diff"] == {"before": {}, "after": {}}
        assert again["container"] == {**first["container"], "pool": None}
        assert len(cluster.requests_seen()) == 3

    def test_create_in_check_mode_touches_nothing(self, cluster, run):
        result = run(check=True, state="started", **WEB)
        assert result["changed"]
        assert result["actions"] == ["create", "start"]
        assert result["container"] is None
        assert result["diff"]["after"]["status"] == "running"
        assert writes(cluster) == []

    def test_known_place_costs_two_requests(self, cluster, run):
        made = run(**WEB)["container"]
        cluster.forget_requests()
        assert not run(**{**WEB, "vmid": made["vmid"], "node": made["node"]})["changed"]
        assert len(cluster.requests_seen()) == 2

    def test_update_sends_only_what_differs(self, cluster, run):
        before = run(**WEB)["container"]
        cluster.forget_requests()
        changes = {
            "memory": 2048,
            "rootfs": "local-lvm:16",
            "description": "",
            "networks": {"net0": "name=eth0,bridge=vmbr1,ip=dhcp", "net1": "name=eth1,bridge=vmbr0"},
        }
        result = run(**{**WEB, **changes})
        assert result["actions"] == ["configure", "resize"]
        body = next(b.decode() for m, p, b in cluster.pve.requests if m == "PUT" and p.endswith("/config"))
        sent = {part.partition("=")[0] for part in body.split("&")}
        assert sent == {"memory", "net0", "net1", "delete", "digest"}
        after = result["container"]
        mac = before["networks"]["net0"]["hwaddr"]
        assert after["networks"]["net0"] == {
            "name": "eth0",
            "bridge": "vmbr1",
            "hwaddr": mac,
            "ip": "dhcp",
            "type": "veth",
        }
        assert after["rootfs"]["size"] == "16G"
        assert after["description"] == ""
        assert result["diff"]["before"]["memory"] == 1024
        assert result["diff"]["after"]["memory"] == 2048
        assert not run(**{**WEB, **changes})["changed"]

    def test_update_in_check_mode_tells_what_it_would_do(self, cluster, run):
        run(**WEB)
        cluster.forget_requests()
        result = run(check=True, **{**WEB, "memory": 2048})
        assert (result["changed"], result["actions"]) == (True, ["configure"])
        assert result["container"]["config"]["memory"] == 1024
        assert writes(cluster) == []

    def test_options_that_are_not_named_stay(self, cluster, run):
        run(**WEB)
        ct(cluster).config["cpuunits"] = 50
        ct(cluster).config["net3"] = "name=eth3,hwaddr=02:00:00:00:00:01,type=veth"
        assert not run(hostname="web-1")["changed"]
        assert not run(**WEB)["changed"]
        result = run(hostname="web-1", unset=["cpuunits"], networks={"net3": None})
        assert result["actions"] == ["configure"]
        assert "cpuunits" not in result["container"]["config"]
        assert list(result["container"]["networks"]) == ["net0"]

    def test_mount_point_life(self, cluster, run):
        run(**WEB)
        result = run(hostname="web-1", mounts={"mp0": "local-lvm:1,mp=/data,backup=1"})
        volume = result["container"]["mounts"]["mp0"]["volume"]
        assert not run(hostname="web-1", mounts={"mp0": "local-lvm:1,mp=/data,backup=1"})["changed"]
        result = run(hostname="web-1", mounts={"mp0": {"size": 2, "mp": "/data", "backup": True}})
        assert result["actions"] == ["resize"]
        assert result["container"]["mounts"]["mp0"] == {
            "volume": volume,
            "size": "2G",
            "mp": "/data",
            "backup": "1",
        }
        result = run(hostname="web-1", mounts={"mp0": None})
        assert result["container"]["mounts"] == {}
        assert result["container"]["config"]["unused0"] == volume
        result = run(hostname="web-1", unset=["unused0"])
        assert "unused0" not in result["container"]["config"]

    def test_shrinking_fails_before_anything_is_done(self, cluster, run):
        run(**WEB)
        cluster.forget_requests()
        result = run(fails=True, **{**WEB, "rootfs": "local-lvm:4", "memory": 2048})
        assert (result["error"], result["field"]) == ("invalid_spec", "rootfs.size")
        assert writes(cluster) == []

    def test_volume_moves_to_another_storage_when_stopped(self, cluster, run):
        cluster.pve.storages["zfs"] = {"type": "zfspool", "active": 1, "content": "rootdir", "files": set()}
        run(state="started", **WEB)
        result = run(fails=True, hostname="web-1", rootfs="zfs:8")
        assert "Stop it first" in result["msg"]
        result = run(hostname="web-1", rootfs="zfs:8", state="stopped")
        assert result["actions"] == ["shutdown", "move_volume"]
        assert result["container"]["rootfs"]["volume"].startswith("zfs:subvol-")
        assert not run(hostname="web-1", rootfs="zfs:8")["changed"]

    def test_env_and_entrypoint(self, run):
        run(**WEB)
        result = run(hostname="web-1", env={"A": "1", "B": "x y "}, entrypoint=["/bin/run", "a b"])
        assert result["container"]["env"] == {"A": "1", "B": "x y"}
        assert result["container"]["config"]["entrypoint"] == "/bin/run 'a b'"
        assert not run(hostname="web-1", env={"B": "x y "}, entrypoint="/bin/run 'a b'")["changed"]
        result = run(hostname="web-1", env={"A": None}, unset=["entrypoint"])
        assert result["container"]["env"] == {"B": "x y"}
        assert result["diff"]["before"] == {"env.A": "1", "entrypoint": "/bin/run 'a b'"}

    def test_password_is_sent_once_and_shown_nowhere(self, cluster, run):
        result = run(password="very secret", ssh_public_keys=["ssh-ed25519 AAAA me"], **WEB)
        assert "very secret" not in str(result)
        assert not run(password="other secret", **WEB)["changed"]

    def test_pool_membership(self, cluster, run):
        cluster.pve.pools.update(a=set(), b=set())
        result = run(pool="a", **WEB)
        vmid = result["container"]["vmid"]
        assert (cluster.pve.pools["a"], result["container"]["pool"]) == ({vmid}, "a")
        assert not run(pool="a", **WEB)["changed"]
        result = run(hostname="web-1", pool="b")
        assert (cluster.pve.pools["a"], cluster.pve.pools["b"]) == (set(), {vmid})
        assert result["container"]["pool"] == "b"
        assert run(hostname="web-1", pool="")["container"]["pool"] is None
        assert cluster.pve.pools["b"] == set()

    def test_high_availability(self, cluster, run):
        result = run(ha={"max_restart": 2, "comment": "x"}, state="started", **WEB)
        vmid = result["container"]["vmid"]
        assert result["container"]["ha_managed"]
        assert cluster.lxc.ha[vmid]["state"] == "started"
        assert not run(ha={"max_restart": 2}, state="started", **WEB)["changed"]
        result = run(hostname="web-1", ha={"max_restart": 3})
        assert (result["actions"], cluster.lxc.ha[vmid]["max_restart"]) == (["ha_update"], 3)
        assert run(hostname="web-1", state="stopped")["container"]["status"] == "stopped"
        assert run(hostname="web-1", state="started")["container"]["status"] == "running"
        result = run(hostname="web-1", ha={"managed": False})
        assert (result["actions"], cluster.lxc.ha) == (["ha_remove"], {})

    def test_new_ha_resource_does_not_start_a_stopped_container(self, cluster, run):
        result = run(ha={}, **WEB)
        assert result["container"]["status"] == "stopped"
        assert cluster.lxc.ha[result["container"]["vmid"]]["state"] == "stopped"

    def test_pending_changes_are_intent_and_are_applied_when_asked(self, cluster, run):
        run(state="started", **WEB)
        result = run(hostname="web-1", env={"A": "1"})
        assert result["changed"]
        assert ct(cluster).pending == {"env": "A=1"}
        assert not run(hostname="web-1", env={"A": "1"})["changed"]
        result = run(hostname="web-1", env={"A": "1"}, apply_pending=True)
        assert result["actions"] == ["reboot"]
        assert ct(cluster).config["env"] == "A=1"
        assert result["container"]["pending"] == []

    def test_half_of_a_create_is_completed(self, cluster, run):
        """A run that was killed between creating and configuring leaves this behind."""
        pve = cluster.pve
        pve.add_ct(777, "web-1", config={"tags": "pvecri", "rootfs": "local-lvm:vm-777-disk-0,size=8G"})
        result = run(state="started", **WEB)
        assert result["actions"] == ["configure", "start"]
        assert result["container"]["vmid"] == 777
        assert len(pve.cts) == 1


class TestPower:
    @pytest.mark.parametrize(
        ("first", "then", "actions", "status"),
        [
            ("stopped", "started", ["start"], "running"),
            ("running", "started", [], "running"),
            ("running", "stopped", ["shutdown"], "stopped"),
            ("stopped", "stopped", [], "stopped"),
            ("running", "restarted", ["reboot"], "running"),
            ("stopped", "restarted", ["start"], "running"),
            ("running", "present", [], "running"),
        ],
    )
    def test_states(self, cluster, run, first, then, actions, status):
        cluster.pve.add_ct(300, "web-1", status=first, config={"tags": "pvecri"})
        result = run(vmid=300, state=then)
        assert (result["actions"], result["container"]["status"]) == (actions, status)
        assert result["changed"] is bool(actions)
        result = run(vmid=300, state=then, check=True)
        assert result["changed"] is (then == "restarted")

    def test_start_of_a_missing_container_fails(self, run):
        for named in ({"vmid": 300}, {"hostname": "gone"}, {"vmid": 300, "node": "pve1"}):
            result = run(fails=True, state="started", **named)
            assert (result["error"], "does not exist" in result["msg"]) == ("not_found", True)

    def test_container_that_does_not_stop_is_killed_only_when_asked(self, cluster, run):
        stubborn = cluster.pve.add_ct(300, "web-1", status="running", config={"tags": "pvecri"})
        stubborn.shutdown_secs = 999
        result = run(fails=True, vmid=300, state="stopped", shutdown_timeout=1)
        assert result["error"] == "wrong_state"
        assert "'force: true'" in result["msg"]
        assert run(vmid=300, state="stopped", shutdown_timeout=1, force=True)["changed"]
        assert stubborn.status == "stopped"

    def test_force_without_patience_stops_at_once(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", status="running", config={"tags": "pvecri"})
        cluster.forget_requests()
        run(vmid=300, state="stopped", shutdown_timeout=0, force=True)
        assert writes(cluster) == [("POST", "/300/status/stop")]

    def test_container_whose_first_process_ends_at_once(self, cluster, run):
        fallen = cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"})
        start = cluster.pve._start_steps

        async def die(ct, user, skiplock=False):
            await start(ct, user, skiplock)
            fallen.status = "stopped"

        cluster.pve._start_steps = die
        result = run(fails=True, vmid=300, state="started")
        assert "was started on node 'pve1' and is stopped again" in result["msg"]

    def test_failed_start_shows_its_log(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"}).start_error = "no such bridge 'vmbr9'"
        result = run(fails=True, vmid=300, state="started")
        assert result["error"] == "task_failed"
        assert "no such bridge" in result["exitstatus"]
        assert any("no such bridge" in line for line in result["task_log"])

    def test_warnings_of_a_task_are_warnings(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"})
        cluster.lxc.exitstatus["vzstart"] = "WARNINGS: 1"
        result = run(vmid=300, state="started")
        assert result["changed"]
        assert "WARNINGS: 1" in result["warnings"][0]

    def test_template(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", status="running", config={"tags": "pvecri"})
        result = run(vmid=300, state="template")
        assert result["actions"] == ["shutdown", "to_template"]
        assert result["container"]["template"]
        assert not run(vmid=300, state="template")["changed"]
        result = run(fails=True, vmid=300, state="started")
        assert "is a template and cannot run" in result["msg"]

    def test_waits_for_a_lock(self, cluster, run):
        cluster.pve.time_scale = 0.01
        locked = cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"})
        cluster.call(cluster.pve.backup(300, secs=30))
        assert locked.lock == "backup"
        assert run(vmid=300, memory=1024)["changed"]
        assert locked.config["memory"] == 1024

    def test_lock_that_stays_is_named(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"}, lock="snapshot-delete")
        cluster.forget_requests()
        result = run(fails=True, vmid=300, memory=1024, lock_timeout=0)
        assert result["error"] == "wrong_state"
        assert "locked (snapshot-delete)" in result["msg"]
        assert "pct unlock 300" in result["msg"]
        assert writes(cluster) == []
        assert not run(vmid=300)["changed"], "reading needs no lock to be gone"


class TestAbsent:
    def test_running_container_is_stopped_and_removed(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", status="running", config={"tags": "pvecri"})
        result = run(check=True, vmid=300, state="absent")
        assert (result["changed"], result["actions"]) == (True, ["shutdown", "destroy"])
        result = run(vmid=300, state="absent")
        assert (result["changed"], result["actions"], result["container"]) == (
            True,
            ["shutdown", "destroy"],
            None,
        )
        assert cluster.pve.cts == []
        assert not run(vmid=300, state="absent")["changed"]
        assert not run(hostname="web-1", state="absent")["changed"]
        assert not run(vmid=300, node="pve2", state="absent")["changed"]

    def test_container_that_does_not_stop_is_not_removed(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", status="running", config={"tags": "pvecri"}).shutdown_secs = 999
        result = run(fails=True, vmid=300, state="absent", shutdown_timeout=1)
        assert result["error"] == "wrong_state"
        assert cluster.pve.ct(300) is not None
        assert run(vmid=300, state="absent", shutdown_timeout=1, force=True)["changed"]
        assert cluster.pve.cts == []

    def test_protection_is_respected_until_it_is_taken_away(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri", "protection": 1})
        result = run(fails=True, vmid=300, state="absent")
        assert "is protected against removal" in result["msg"]
        result = run(vmid=300, state="absent", protection=False)
        assert result["actions"] == ["unprotect", "destroy"]

    def test_purge_of_an_ha_resource(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"}).ha_state = "stopped"
        result = run(fails=True, vmid=300, state="absent", purge=False)
        assert "'purge' is false" in result["msg"]
        assert run(vmid=300, state="absent")["changed"]

    def test_container_that_somebody_else_removes_meanwhile_is_absent(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"})
        destroy, seen = cluster.pve._lxc_destroy, []

        async def too_late(user, values):
            seen.append(await destroy(user, values))
            return await destroy(user, values)

        rewire(cluster, "DELETE", "/nodes/{node}/lxc/{vmid}", too_late)
        assert run(vmid=300, state="absent")["changed"]
        assert cluster.pve.cts == []
        assert len(seen) == 1


class TestOwnership:
    def test_others_containers_are_left_alone(self, cluster, run):
        cluster.pve.add_ct(300, "theirs", status="running")
        assert not run(vmid=300)["changed"]
        assert not run(vmid=300, state="started", memory=512)["changed"]
        cluster.forget_requests()
        for options in ({"memory": 1024}, {"state": "stopped"}, {"state": "absent"}, {"tags": ["a"]}):
            result = run(fails=True, vmid=300, **options)
            assert (result["error"], "'adopt: true'" in result["msg"]) == ("wrong_state", True)
        assert writes(cluster) == []

    def test_adoption_marks_the_container(self, cluster, run):
        cluster.pve.add_ct(300, "theirs", config={"tags": "db"})
        result = run(vmid=300, memory=1024, adopt=True)
        assert result["container"]["tags"] == ["db", "pvecri"]
        assert run(vmid=300, memory=2048)["changed"]

    def test_containers_of_pods_need_id_and_adoption(self, cluster, run):
        cluster.pve.add_ct(300, "pod", config={"tags": "pvecri;pvecri-cri"})
        for options in ({"vmid": 300}, {"hostname": "pod", "adopt": True}):
            result = run(fails=True, state="absent", **options)
            assert "belongs to a Kubernetes pod" in result["msg"]
        assert run(vmid=300, adopt=True, state="absent")["changed"]


class TestIdentity:
    def test_name_that_is_not_unique_is_an_error_that_lists_them(self, cluster, run):
        cluster.pve.add_ct(300, "twin")
        cluster.pve.add_ct(301, "twin", node="pve2")
        result = run(fails=True, hostname="twin")
        assert result["error"] == "conflict"
        assert "300 on node 'pve1', 301 on node 'pve2'" in result["msg"]
        cluster.pve.ct(301).config["tags"] = "pvecri"
        assert run(hostname="twin")["container"]["vmid"] == 301
        cluster.pve.ct(300).config["tags"] = "pvecri"
        assert run(fails=True, hostname="twin")["error"] == "conflict"

    def test_id_of_a_virtual_machine_is_an_error(self, cluster, run):
        cluster.pve.add_vm(300, "vm")
        result = run(fails=True, vmid=300, **WEB)
        assert "belongs to the virtual machine 'vm'" in result["msg"]

    def test_container_is_renamed_by_its_id(self, cluster, run):
        cluster.pve.add_ct(300, "old", config={"tags": "pvecri"})
        assert run(vmid=300, hostname="new")["diff"] == {
            "before": {"hostname": "old"},
            "after": {"hostname": "new"},
        }
        assert not run(vmid=300, hostname="new")["changed"]

    def test_lagging_cluster_list_does_not_make_a_second_container(self, cluster, run):
        """Proxmox VE tells the cluster names and states up to 10 s late; fakepve does not."""
        cluster.lxc.sync()
        made = run(state="started", **WEB)["container"]
        again = run(state="started", **WEB)
        assert not again["changed"]
        assert again["container"]["vmid"] == made["vmid"]
        cluster.lxc.sync()
        run(vmid=made["vmid"], hostname="renamed")
        assert not run(hostname="renamed")["changed"]
        result = run(**WEB)
        assert result["changed"], "the cluster's list still calls the other one web-1"
        assert len(cluster.pve.cts) == 2

    def test_container_on_another_node_than_named_is_found(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", node="pve2", config={"tags": "pvecri"})
        result = run(vmid=300, node="pve1", migrate=False)
        assert not result["changed"]
        assert result["container"]["node"] == "pve2"


class TestMigration:
    @pytest.mark.parametrize("status", ["running", "stopped"])
    def test_moves_and_keeps_its_state(self, cluster, run, status):
        moved = cluster.pve.add_ct(300, "web-1", status=status, config={"tags": "pvecri"})
        assert run(check=True, vmid=300, node="pve2")["actions"] == ["migrate"]
        result = run(vmid=300, node="pve2", memory=1024)
        assert result["actions"] == ["migrate", "configure"]
        assert (moved.node, moved.status, result["container"]["node"]) == ("pve2", status, "pve2")
        body = next(b.decode() for m, p, b in cluster.pve.requests if p.endswith("/migrate") and m == "POST")
        assert ("restart=1" in body) is (status == "running")
        assert not run(vmid=300, node="pve2")["changed"]

    def test_through_high_availability(self, cluster, run):
        moved = cluster.pve.add_ct(300, "web-1", status="running", config={"tags": "pvecri"})
        moved.ha_state = "started"
        assert run(vmid=300, node="pve2")["container"]["node"] == "pve2"

    def test_to_a_node_that_does_not_exist(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"})
        result = run(fails=True, vmid=300, node="pve9")
        assert "pve9" in result["msg"]
        assert cluster.pve.ct(300).node == "pve1"


class TestClone:
    @pytest.fixture
    def origin(self, cluster):
        origin = cluster.pve.add_ct(
            9000,
            "base",
            template=True,
            config={"tags": "golden", "description": "Base\n", "net0": "name=eth0,hwaddr=02:00:00:00:00:09"},
        )
        origin.config["rootfs"] = "local-lvm:base-9000-disk-0,size=4G"
        return origin

    @pytest.mark.parametrize("name", ["9000", "base"])
    def test_linked_clone_of_a_template(self, cluster, run, origin, name):
        result = run(hostname="db-1", clone=name, state="started", memory=2048, rootfs=8)
        assert result["actions"] == ["create", "configure", "resize", "start"]
        clone = result["container"]
        assert (clone["status"], clone["config"]["memory"]) == ("running", 2048)
        assert clone["tags"] == ["golden", "pvecri"]
        assert clone["description"] == "Base"
        assert clone["rootfs"]["size"] == "8G"
        assert clone["networks"]["net0"]["hwaddr"] != "02:00:00:00:00:09"
        body = next(b.decode() for m, p, b in cluster.pve.requests if p.endswith("/clone"))
        assert "full=0" in body
        assert not run(hostname="db-1", clone=name, state="started", memory=2048, rootfs=8)["changed"]

    def test_full_clone_to_a_storage_and_another_node(self, cluster, run, origin):
        result = run(hostname="db-1", clone="9000", clone_type="full", storage="local-lvm", node="pve2")
        assert result["actions"] == ["create", "migrate", "configure"]
        assert result["container"]["node"] == "pve2"

    def test_clone_that_was_killed_before_it_was_tagged_is_completed(self, cluster, run, origin):
        cluster.pve.add_ct(
            500, "db-1", config={"description": "pvecri: clone in progress of 9000\n", "tags": "golden"}
        )
        result = run(hostname="db-1", clone="9000", state="started")
        assert result["actions"] == ["configure", "start"]
        assert result["container"]["vmid"] == 500
        assert result["container"]["description"] == "Base"
        assert len(cluster.pve.cts) == 2

    def test_clone_of_an_original_that_is_gone_is_completed_too(self, cluster, run):
        cluster.pve.add_ct(500, "db-1", config={"description": "pvecri: clone in progress of 9000\n"})
        result = run(hostname="db-1", clone="9000")
        assert (result["actions"], result["container"]["description"]) == (["configure"], "")

    @pytest.mark.parametrize(
        ("options", "error", "text"),
        [
            ({"clone": "9001"}, "not_found", "no container 9001"),
            ({"clone": "nothing"}, "not_found", "no container is named 'nothing'"),
            ({"clone": "9000", "unprivileged": False}, "invalid_spec", "cannot differ"),
            ({"clone": "300", "clone_type": "linked"}, "invalid_spec", "is no template"),
            ({"clone": "twin"}, "conflict", "several containers are named 'twin'"),
        ],
    )
    def test_refusals(self, cluster, run, origin, options, error, text):
        cluster.pve.add_ct(300, "twin")
        cluster.pve.add_ct(301, "twin")
        cluster.forget_requests()
        result = run(fails=True, hostname="db-1", **options)
        assert (result["error"], text in result["msg"]) == (error, True), result["msg"]
        assert writes(cluster) == []

    def test_running_container_needs_a_snapshot(self, cluster, run):
        running = cluster.pve.add_ct(300, "live", status="running")
        result = run(fails=True, hostname="db-1", clone="300")
        assert "only possible from a snapshot" in result["msg"]
        running.snapshots["snap"] = {**running.config, "snaptime": 1}
        assert run(hostname="db-1", clone="300", clone_snapshot="snap")["changed"]


class TestImages:
    def test_env_and_entrypoint_are_merged_after_the_create(self, cluster, run):
        """fakepve keeps what the request says; Proxmox VE takes the image's, and so does the double."""
        options = {
            "hostname": "app",
            "ostemplate": IMAGE,
            "storage": "local-lvm",
            "env": {"MODE": "mine", "NEW": "1"},
            "networks": {"net0": "name=eth0,bridge=vmbr0,ip=dhcp"},
            "state": "started",
        }
        result = run(**options)
        assert result["actions"] == ["create", "configure", "start"]
        app = result["container"]
        assert app["env"] == {"PATH": "/bin", "MODE": "mine", "NEW": "1"}
        assert app["config"]["entrypoint"] == "/app"
        assert app["lxc"] == {"lxc.init.uid": ["1000"]}
        assert app["networks"]["net0"]["host-managed"] == "1"
        again = run(**options)
        assert not again["changed"], again["diff"]

    def test_ostype_that_the_image_overrides_is_set_afterwards(self, run):
        options = {"hostname": "app", "ostemplate": IMAGE, "storage": "local-lvm", "ostype": "debian"}
        assert run(**options)["container"]["config"]["ostype"] == "debian"
        assert not run(**options)["changed"]

    def test_privileged_is_refused_before_anything_is_asked(self, cluster, run):
        result = run(fails=True, hostname="app", ostemplate=IMAGE, unprivileged=False)
        assert result["field"] == "unprivileged"
        assert cluster.requests_seen() == []


class TestPlacement:
    def test_named_node_and_storage_need_no_view_of_the_cluster(self, cluster, run):
        run(vmid=300, node="pve2", **WEB)
        paths = [path for _unused, path in cluster.requests_seen()]
        assert cluster.pve.ct(300).node == "pve2"
        assert "/nodes/pve2/lxc" in paths

    def test_template_that_only_one_node_has_decides(self, cluster, run):
        """The content of a local storage differs from node to node; in fakepve it does not."""
        listed = cluster.pve._content_list

        async def content(values, user):
            return [] if values["node"] == "pve1" else await listed(values, user)

        rewire(cluster, "GET", "/nodes/{node}/storage/{storage}/content", content)
        result = run(hostname="a", ostemplate=TEMPLATE)
        assert result["container"]["node"] == result["placement"]["node"] == "pve2"
        assert result["placement"]["candidates"][0]["node"] == "pve1"

    def test_missing_template_is_named_before_a_disk_is_made(self, cluster, run):
        result = run(fails=True, hostname="a", node="pve1", ostemplate="local:vztmpl/none.tar.zst")
        assert result["error"] == "not_found"
        assert "node 'pve1' has no local:vztmpl/none.tar.zst" in result["msg"]
        assert TEMPLATE in result["msg"]
        assert writes(cluster) == []

    def test_template_by_name_is_downloaded_once(self, cluster, run):
        options = {"ostemplate": "debian-13-standard", "storage": "local-lvm", "node": "pve1"}
        run(hostname="a", **options)
        name = "debian-13-standard_13.1-10_amd64.tar.zst"
        assert f"vztmpl/{name}" in cluster.pve.storages["local"]["volumes"]
        assert f"ostemplate=local%3Avztmpl%2F{name}" in sent(cluster, "/lxc")
        run(hostname="b", **options)
        assert [path for _unused, path in writes(cluster) if path.endswith("/aplinfo")] == [
            "/nodes/pve1/aplinfo"
        ]
        assert not run(hostname="b", **options)["changed"]

    def test_template_by_name_that_the_storage_has_needs_no_download(self, cluster, run):
        run(hostname="a", ostemplate="debian-12-standard", storage="local-lvm")
        assert not any(path.endswith("/aplinfo") for _unused, path in cluster.requests_seen())

    def test_template_by_a_name_that_nobody_knows(self, cluster, run):
        result = run(fails=True, hostname="a", node="pve1", storage="local-lvm", ostemplate="debian-99")
        assert "the list has alpine-3.22-default, debian-13-standard" in result["msg"]
        assert writes(cluster) == []

    def test_no_room_anywhere_tells_why_for_each_node(self, run):
        result = run(fails=True, **{**WEB, "memory": 999999})
        assert result["error"] == "conflict"
        assert "pve1: has" in result["msg"]
        assert "pve2: has" in result["msg"]

    def test_no_storage_for_a_named_node(self, cluster, run):
        del cluster.pve.storages["local-lvm"]
        result = run(fails=True, hostname="a", node="pve1", ostemplate=TEMPLATE)
        assert (result["field"], "pve1" in result["msg"]) == ("storage", True)


class TestIds:
    def test_range_is_kept_to(self, run):
        for name in ("a", "b", "c"):
            made = run(hostname=name, ostemplate=TEMPLATE, vmid_range={"first": 5000, "last": 5002})
            assert 5000 <= made["container"]["vmid"] <= 5002
        result = run(fails=True, hostname="d", ostemplate=TEMPLATE, vmid_range={"first": 5000, "last": 5002})
        assert "every id from 5000 to 5002 is in use" in result["msg"]

    def test_id_that_nobody_may_see_is_passed_over(self, cluster, run):
        hidden = []

        def occupy(node, vmid):
            if not hidden:
                hidden.append(cluster.pve.add_ct(vmid, "hidden"))

        cluster.lxc.before_create = occupy
        cluster.pve.ct_resources = lambda user, kind=None: []
        result = run(
            hostname="web", ostemplate=TEMPLATE, storage="local-lvm", vmid_range={"first": 500, "last": 501}
        )
        assert {hidden[0].vmid, result["container"]["vmid"]} == {500, 501}

    def test_explicit_id_that_is_taken_meanwhile_by_another(self, cluster, run):
        cluster.lxc.before_create = lambda node, vmid: cluster.pve.add_ct(vmid, "other")
        result = run(fails=True, vmid=300, **WEB)
        assert result["error"] == "conflict"
        assert cluster.pve.ct(300).name == "other"

    def test_same_container_made_meanwhile_by_another_play_is_joined(self, cluster, run):
        theirs = []

        def be_faster(node, vmid):
            if not theirs:
                theirs.append(cluster.pve.add_ct(vmid, "web-1", config={"tags": "pvecri"}))

        cluster.lxc.before_create = be_faster
        result = run(state="started", **{**WEB, "rootfs": "local-lvm:8"})
        assert len(cluster.pve.cts) == 1
        assert result["container"]["vmid"] == theirs[0].vmid
        assert result["actions"] == ["configure", "start"]


class TestConflicts:
    def test_config_written_by_others_meanwhile_is_planned_anew(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"})
        put, meddled = cluster.pve._lxc_config_put, []

        async def meddle(user, values):
            if not meddled:
                meddled.append(cluster.pve.ct(300).config.update(cores=7, memory=1024))
            return await put(user, values)

        rewire(cluster, "PUT", CONFIG, meddle)
        result = run(vmid=300, memory=1024, cores=2)
        assert result["changed"]
        assert cluster.pve.ct(300).config["cores"] == 2

    def test_endless_interference_is_given_up(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"})
        put, count = cluster.pve._lxc_config_put, [0]

        async def meddle(user, values):
            count[0] += 1
            cluster.pve.ct(300).config["cpuunits"] = count[0]
            return await put(user, values)

        rewire(cluster, "PUT", CONFIG, meddle)
        result = run(fails=True, vmid=300, memory=1024)
        assert result["error"] == "conflict"
        assert "interfered with 5 times" in result["msg"]

    def test_change_that_the_server_does_not_keep_is_an_error(self, cluster, run):
        cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"})

        async def forget(user, values):
            return None

        rewire(cluster, "PUT", CONFIG, forget)
        result = run(fails=True, vmid=300, memory=1024)
        assert "accepted 'configure' and did not carry it out" in result["msg"]
        assert "memory" in result["msg"]
