# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run pve_lxc_backup against fakepve with stateful backups (tests/support/pve_backups.py)."""

from __future__ import annotations

import pytest

MODULE = "pve_lxc_backup"
DAY = 86400


@pytest.fixture
def container(pve_cluster):
    shared = {"type": "nfs", "active": 1, "content": "backup", "files": set(), "shared": 1, "volumes": {}}
    pve_cluster.pve.storages["backups"] = shared
    return pve_cluster.pve.add_ct(201, "db-1", node="pve2", status="running", config={"tags": "pvecri"})


@pytest.fixture
def backup(pve_cluster, run_module, container):
    """Return a function that runs the module on container 201 and storage backups."""

    def run(*, check=False, diff=True, **params):
        task = {**pve_cluster.options(), "vmid": 201, "storage": "backups", **params}
        return run_module(MODULE, {k: v for k, v in task.items() if v is not None}, check=check, diff=diff)

    return run


def volumes(cluster, storage="backups"):
    return cluster.pve.storages[storage]["volumes"]


def writes(cluster):
    return [(method, path) for method, path in cluster.requests_seen() if method != "GET"]


def posted(cluster):
    return next(body.decode() for method, path, body in cluster.pve.requests if path.endswith("/vzdump"))


class TestPresent:
    def test_backup_is_made_and_listed(self, pve_cluster, backup):
        result = backup(notes="line 1\nline 2 \\n", protected=True)
        assert result["changed"]
        made = result["backup"]
        assert made["volid"].startswith("backups:backup/vzdump-lxc-201-")
        assert (made["vmid"], made["size"], made["notes"], made["protected"]) == (
            201,
            1024 * 1024,
            "line 1\nline 2 \\n",
            True,
        )
        assert result["backups"] == [made]
        assert result["diff"]["after"]["backup"]["notes"] == "line 1\nline 2 \\n"
        assert writes(pve_cluster) == [("POST", "/nodes/pve2/vzdump")]

    def test_backup_is_made_every_time_without_max_age(self, backup):
        assert backup()["backup"] != backup()["backup"]

    def test_backup_that_is_young_enough_serves(self, pve_cluster, backup):
        volid = pve_cluster.backups.add("backups", 201, age_s=DAY - 100)
        result = backup(max_age=DAY)
        assert (result["changed"], result["backup"]["volid"]) == (False, volid)
        assert writes(pve_cluster) == []
        assert backup(max_age=DAY - 200)["changed"]

    def test_job_of_an_interrupted_play_is_joined(self, pve_cluster, backup, container):
        pve_cluster.pve.time_scale = 1.0
        container.config["lock"] = "backup"

        async def job():
            await pve_cluster.pve.pause(1)
            pve_cluster.backups.add("backups", 201)
            container.config.pop("lock")

        start = pve_cluster.pve.task("pve2", "vzdump", 201, "root@pam", job, lock=False)
        pve_cluster.call(start)
        result = backup(max_age=DAY)
        assert not result["changed"]
        assert len(volumes(pve_cluster)) == len(result["backups"]) == 1
        assert writes(pve_cluster) == []

    def test_young_backup_gets_notes_and_protection(self, pve_cluster, backup):
        pve_cluster.backups.add("backups", 201)
        changed = backup(max_age=DAY, notes="keep me", protected=True)
        assert changed["diff"] == {
            "before": {"backup.notes": "", "backup.protected": False},
            "after": {"backup.notes": "keep me", "backup.protected": True},
        }
        (volume,) = volumes(pve_cluster).values()
        assert (volume["notes"], volume["protected"]) == ("keep me", True)
        again = backup(max_age=DAY, notes="keep me", protected=True)
        assert (again["changed"], again["backup"]["notes"]) == (False, "keep me")

    def test_notes_that_look_like_a_template_are_stored_as_they_are(self, backup):
        assert backup(notes="for {{guestname}}")["backup"]["notes"] == "for {{guestname}}"

    @pytest.mark.parametrize(("compress", "sent"), [("none", "compress=0"), ("zstd", "compress=zstd")])
    def test_options_are_sent(self, pve_cluster, backup, compress, sent):
        backup(compress=compress, mode="stop", bwlimit=1000)
        assert all(part in posted(pve_cluster) for part in (sent, "mode=stop", "bwlimit=1000", "remove=0"))

    def test_check_mode_makes_none(self, pve_cluster, backup):
        result = backup(check=True)
        assert (result["changed"], result["backup"], result["backups"]) == (True, None, [])
        assert writes(pve_cluster) == []
        pve_cluster.backups.add("backups", 201)
        assert backup(check=True, max_age=DAY, notes="x")["backup"]["notes"] == ""

    def test_rival_job_is_told_apart_by_the_log(self, pve_cluster, backup):
        pve_cluster.backups.rival = True
        result = backup()
        first, _unused = sorted(volumes(pve_cluster))
        assert result["backup"]["volid"] == f"backups:{first}"
        assert len(result["backups"]) == 2

    @pytest.mark.parametrize("fault", [{"lose_archive": True}, {"size_bytes": 0}])
    def test_backup_that_is_not_listed_is_a_failure(self, pve_cluster, backup, fault):
        vars(pve_cluster.backups).update(fault)
        failed = backup()
        assert failed["error"] == "task_failed"
        assert "does not list it" in failed["msg"]
        assert failed["task_log"]

    def test_warnings_of_the_job_are_shown(self, pve_cluster, backup):
        pve_cluster.backups.exitstatus = "WARNINGS: 1"
        pve_cluster.backups.log = ("WARN: notes could not be stored",)
        result = backup()
        assert result["changed"]
        assert result["warnings"] == ["notes could not be stored"]

    def test_failed_job_returns_its_log(self, pve_cluster, backup):
        pve_cluster.backups.exitstatus = "job errors"
        pve_cluster.backups.log = ("ERROR: Backup of VM 201 failed - no space left on device",)
        failed = backup()
        assert (failed["error"], failed["exitstatus"]) == ("task_failed", "job errors")
        assert "ERROR: Backup of VM 201 failed - no space left on device" in failed["task_log"]

    def test_clock_of_this_host_serves_without_the_privilege(self, pve_cluster, run_module, backup):
        pve_cluster.backups.add("backups", 201)
        login = pve_cluster.add_user(
            "ops@pve",
            [
                ("/vms", ["VM.Audit", "VM.Backup"]),
                ("/storage", ["Datastore.Audit", "Datastore.AllocateSpace"]),
            ],
        )
        result = backup(max_age=DAY, **login)
        assert not result["changed"]
        assert "this host's clock" in result["warnings"][0]
        assert "Sys.Audit" in result["warnings"][0]

    @pytest.mark.parametrize(
        ("params", "error", "text"),
        [
            ({"vmid": None}, None, "vmid"),
            ({"vmid": 999}, "not_found", "999"),
            ({"storage": "nope"}, "invalid_spec", "backups, local"),
            ({"storage": "local-lvm"}, "invalid_spec", "does not hold backups"),
            ({"node": "pve1"}, "conflict", "is on node 'pve2'"),
            ({"max_age": -1}, "invalid_spec", "max_age"),
        ],
    )
    def test_failures_name_their_cause(self, backup, params, error, text):
        failed = backup(**params)
        assert (failed["failed"], failed.get("error")) == (True, error)
        assert text in failed["msg"]


class TestPruned:
    @pytest.fixture
    def three(self, pve_cluster, container):
        return [pve_cluster.backups.add("backups", 201, age_s=age) for age in (3 * DAY, 2 * DAY, 0)]

    def test_old_backups_go_once(self, pve_cluster, backup, three):
        other = pve_cluster.backups.add("backups", 202)
        result = backup(state="pruned", keep={"last": 1})
        assert result["removed"] == three[:2]
        assert [entry["volid"] for entry in result["backups"]] == three[2:]
        assert set(result["diff"]["before"]) == {f"backups.{volid}" for volid in three[:2]}
        assert other.partition(":")[2] in volumes(pve_cluster)
        assert not backup(state="pruned", keep={"last": 1})["changed"]

    def test_rules_go_through_as_they_are(self, backup, three):
        assert backup(state="pruned", keep={"daily": 2})["removed"] == three[:1]

    def test_protected_backups_stay(self, pve_cluster, backup, three):
        volumes(pve_cluster)[three[0].partition(":")[2]]["protected"] = True
        assert backup(state="pruned", keep={"last": 1})["removed"] == three[1:2]

    def test_check_mode_removes_none(self, pve_cluster, backup, three):
        result = backup(state="pruned", keep={"last": 1}, check=True)
        assert (result["changed"], result["removed"]) == (True, three[:2])
        assert len(volumes(pve_cluster)) == 3
        assert writes(pve_cluster) == []

    def test_container_that_is_gone_keeps_its_backups_prunable(self, pve_cluster, backup, three, container):
        pve_cluster.pve.cts.remove(container)
        assert backup(state="pruned", keep={"last": 1})["removed"] == three[:2]

    def test_removal_that_did_not_happen_is_a_failure(self, pve_cluster, backup, three):
        pve_cluster.backups.keep_volumes = True
        failed = backup(state="pruned", keep={"last": 1})
        assert failed["error"] == "task_failed"
        assert f"still lists {three[0]}, {three[1]}" in failed["msg"]

    @pytest.mark.parametrize("keep", [None, {}, {"last": 0}])
    def test_rules_must_keep_something(self, pve_cluster, backup, three, keep):
        failed = backup(state="pruned", keep=keep)
        assert "keep" in failed["msg"]
        assert len(volumes(pve_cluster)) == 3


class TestAbsent:
    def test_backup_is_removed_once(self, pve_cluster, backup):
        volid = pve_cluster.backups.add("backups", 201)
        kept = pve_cluster.backups.add("backups", 201)
        result = backup(state="absent", backup=volid, vmid=None)
        assert (result["changed"], result["removed"], result["backup"]["volid"]) == (True, [volid], volid)
        assert [entry["volid"] for entry in result["backups"]] == [kept]
        again = backup(state="absent", backup=volid)
        assert (again["changed"], again["removed"], again["backup"]) == (False, [], None)

    def test_check_mode_removes_none(self, pve_cluster, backup):
        volid = pve_cluster.backups.add("backups", 201)
        result = backup(state="absent", backup=volid, check=True)
        assert (result["changed"], len(result["backups"])) == (True, 1)
        assert writes(pve_cluster) == []

    def test_protected_backup_is_refused(self, pve_cluster, backup):
        volid = pve_cluster.backups.add("backups", 201, protected=True)
        assert backup(state="absent", backup=volid)["error"] == "wrong_state"

    @pytest.mark.parametrize(
        "volid", ["latest", "backups:backup/vzdump-qemu-100-2026_01_31-02_00_00.vma.zst", "backups:iso/x.iso"]
    )
    def test_what_is_no_backup_of_a_container_is_not_taken_for_absent(self, backup, volid):
        result = backup(state="absent", backup=volid, vmid=None)
        assert (result["failed"], result["field"]) == (True, "backup")

    def test_backup_of_another_storage_is_refused(self, backup):
        failed = backup(state="absent", backup="local:backup/vzdump-lxc-201-x.tar.zst")
        assert (failed["error"], failed["field"]) == ("invalid_spec", "backup")


class TestRestored:
    @pytest.mark.parametrize("tags", ["", "pvecri;pvecri-cri"])
    def test_container_of_others_is_not_overwritten(self, pve_cluster, backup, container, tags):
        pve_cluster.backups.add("backups", 201)
        container.status = "stopped"
        container.config["tags"] = tags
        params = {"state": "restored", "target_storage": "local-lvm", "force": True}
        for check in (True, False):
            failed = backup(check=check, **params)
            assert (failed["failed"], failed["error"]) == (True, "wrong_state")
            assert "adopt: true" in failed["msg"]
        assert writes(pve_cluster) == []
        assert not backup(**{**params, "force": False})["changed"]
        assert backup(adopt=True, **params)["changed"]

    def test_container_comes_back_once(self, pve_cluster, backup, container):
        volid = pve_cluster.backups.add("backups", 201)
        params = {"state": "restored", "target_storage": "local-lvm", "node": "pve1"}
        pve_cluster.pve.cts.remove(container)
        result = backup(**params)
        assert result["changed"]
        assert result["backup"]["volid"] == volid
        assert result["diff"]["after"] == {"container.restored_from": volid}
        restored = pve_cluster.pve.ct(201)
        assert (restored.node, restored.status) == ("pve1", "stopped")
        assert not backup(state="restored", target_storage="local-lvm")["changed"]

    def test_copy_of_the_newest_runs_beside_the_original(self, pve_cluster, backup, container):
        pve_cluster.backups.add("backups", 201, age_s=DAY)
        newest = pve_cluster.backups.add("backups", 201)
        params = {
            "state": "restored",
            "vmid": 9201,
            "source_vmid": 201,
            "target_storage": "local-lvm",
            "unique": True,
            "start": True,
        }
        result = backup(**params)
        assert result["backup"]["volid"] == newest
        assert [entry["vmid"] for entry in result["backups"]] == [201, 201]
        assert pve_cluster.pve.ct(9201).status == "running"
        assert pve_cluster.pve.ct(201) is container
        assert not backup(**params)["changed"]

    def test_run_that_was_killed_before_the_start_is_finished(self, pve_cluster, backup):
        pve_cluster.backups.add("backups", 201)
        pve_cluster.pve.add_ct(9201, "copy", node="pve1")
        result = backup(state="restored", vmid=9201, source_vmid=201, start=True)
        assert result["changed"]
        assert result["diff"]["after"] == {"container.status": "running"}
        assert pve_cluster.pve.ct(9201).status == "running"

    def test_restore_that_is_still_running_is_joined(self, pve_cluster, backup):
        volid = pve_cluster.backups.add("backups", 201)
        pve_cluster.pve.time_scale = 0.01
        pve_cluster.pve.ct_secs["create"] = 40
        client = pve_cluster.client()
        client.post("/nodes/pve1/lxc", vmid=9201, ostemplate=volid, restore=True, storage="local-lvm")
        result = backup(state="restored", vmid=9201, source_vmid=201)
        assert not result["changed"]
        assert "lock" not in pve_cluster.pve.ct(9201).config

    def test_existing_container_is_overwritten_only_by_force(self, pve_cluster, backup, container):
        volid = pve_cluster.backups.add("backups", 201)
        container.status = "stopped"
        assert not backup(state="restored")["changed"]
        assert pve_cluster.pve.ct(201) is container
        result = backup(state="restored", force=True, backup=volid, target_storage="local-lvm")
        assert result["changed"]
        assert pve_cluster.pve.ct(201) is not container
        assert pve_cluster.pve.ct(201).node == "pve2"

    def test_container_on_another_node_than_named_is_left_alone(self, pve_cluster, backup, container):
        container.status = "stopped"
        pve_cluster.backups.add("backups", 201)
        result = backup(state="restored", force=True, node="pve1")
        assert result["error"] == "conflict"
        assert "'pve2'" in result["msg"]
        assert writes(pve_cluster) == []

    def test_running_container_is_never_overwritten(self, pve_cluster, backup, container):
        pve_cluster.backups.add("backups", 201)
        failed = backup(state="restored", force=True)
        assert failed["error"] == "wrong_state"
        assert "running" in failed["msg"]
        assert pve_cluster.pve.ct(201) is container

    def test_check_mode_restores_none(self, pve_cluster, backup):
        pve_cluster.backups.add("backups", 201)
        result = backup(state="restored", vmid=9201, source_vmid=201, check=True)
        assert result["changed"]
        assert pve_cluster.pve.ct(9201) is None
        assert writes(pve_cluster) == []

    def test_failed_restore_leaves_nothing_behind(self, pve_cluster, backup):
        volid = pve_cluster.backups.add("backups", 201)
        pve_cluster.pve.add_ceph_storage("rbd")
        pve_cluster.pve.storages["rbd"]["content"] = "rootdir"
        pve_cluster.pve.ceph["down"] = True
        failed = backup(state="restored", vmid=9201, backup=volid, target_storage="rbd")
        assert (failed["error"], pve_cluster.pve.ct(9201)) == ("task_failed", None)

    def test_container_that_does_not_stay_up_is_reported(self, pve_cluster, backup):
        pve_cluster.backups.add("backups", 201)
        copy = pve_cluster.pve.add_ct(9201, "copy", node="pve1")
        copy.start_error = "startup for container '9201' failed"
        failed = backup(state="restored", vmid=9201, source_vmid=201, start=True)
        assert failed["error"] == "task_failed"
        assert "startup for container" in failed["msg"]

    @pytest.mark.parametrize(
        ("params", "error", "text"),
        [
            ({"vmid": 300}, "conflict", "virtual machine"),
            ({"vmid": 9201}, "not_found", "no backup of container 9201"),
            ({"backup": "backups:backup/vzdump-lxc-201-none.tar.zst"}, "not_found", "vzdump-lxc-201-none"),
            ({"backup": "local:backup/x"}, "invalid_spec", "is not on storage 'backups'"),
        ],
    )
    def test_failures_name_their_cause(self, pve_cluster, backup, params, error, text):
        pve_cluster.pve.add_vm(300, "vm")
        pve_cluster.backups.add("backups", 201)
        pve_cluster.backups.add("backups", 300)
        failed = backup(state="restored", **params)
        assert failed["error"] == error
        assert text in failed["msg"]
