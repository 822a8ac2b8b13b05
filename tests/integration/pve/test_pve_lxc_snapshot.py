# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run pve_lxc_snapshot against fakepve: changed, unchanged, check, diff, failure, faults."""

from __future__ import annotations

import threading

import pytest

MODULE = "pve_lxc_snapshot"


@pytest.fixture
def container(pve_cluster):
    return pve_cluster.pve.add_ct(201, "db-1", node="pve2", status="running", config={"tags": "pvecri"})


@pytest.fixture
def snapshot(pve_cluster, run_module, container):
    """Return a function that runs the module on container 201."""

    def run(snapname="before-upgrade", *, check=False, diff=True, **params):
        where = {"vmid": 201} if "hostname" not in params else {}
        task = {**pve_cluster.options(), **where, "snapname": snapname, **params}
        return run_module(MODULE, task, check=check, diff=diff)

    return run


def writes(cluster):
    return [(method, path) for method, path in cluster.requests_seen() if method != "GET"]


def names(result):
    return [entry["name"] for entry in result["container"]["snapshots"]]


def test_snapshot_is_taken_once(pve_cluster, container, snapshot):
    first = snapshot(description="Taken by a play\nin two lines")
    assert first["changed"]
    assert (
        first["diff"]["after"]["snapshots.before-upgrade"]["description"] == "Taken by a play\nin two lines"
    )
    taken = first["container"]["snapshots"][0]
    assert (first["container"]["node"], taken["name"], taken["parent"]) == ("pve2", "before-upgrade", None)
    assert taken["time"] > 0
    assert list(container.snapshots) == ["before-upgrade"]

    pve_cluster.forget_requests()
    again = snapshot(description="Taken by a play\nin two lines")
    assert not again["changed"]
    assert again["diff"] == {"before": {}, "after": {}}
    assert names(again) == ["before-upgrade"]
    assert len(pve_cluster.requests_seen()) == 2, "one for the cluster, one for the snapshots"


def test_snapshot_by_host_name(snapshot):
    assert snapshot(hostname="db-1")["container"]["vmid"] == 201


def test_snapshot_gets_another_description(container, snapshot):
    snapshot(description="old")
    result = snapshot(description="new")
    assert result["changed"]
    assert result["diff"] == {
        "before": {"snapshots.before-upgrade.description": "old"},
        "after": {"snapshots.before-upgrade.description": "new"},
    }
    assert container.snapshots["before-upgrade"]["description"] == "new"
    assert not snapshot()["changed"], "no description asked for leaves it alone"


@pytest.mark.parametrize("state", ["present", "absent", "rolledback"])
def test_check_mode_sends_nothing_and_says_the_same(pve_cluster, snapshot, state):
    if state != "present":
        snapshot()
    pve_cluster.forget_requests()
    checked = snapshot(state=state, check=True)
    assert writes(pve_cluster) == []
    real = snapshot(state=state)
    assert checked["changed"] is real["changed"] is True
    assert checked["diff"]["after"] == real["diff"]["after"]


def test_snapshot_is_removed_once(container, snapshot):
    snapshot()
    assert snapshot(state="absent")["changed"]
    assert container.snapshots == {}
    assert not snapshot(state="absent")["changed"]


@pytest.mark.parametrize("start", [True, False])
def test_rollback(container, snapshot, start):
    snapshot()
    container.config["memory"] = 4096
    result = snapshot(state="rolledback", start=start)
    assert result["changed"]
    assert container.config["memory"] == 512
    assert container.status == ("running" if start else "stopped")


def test_rollback_to_nothing_names_what_there_is(snapshot):
    snapshot("other")
    failed = snapshot(state="rolledback")
    assert (failed["failed"], failed["error"]) == (True, "not_found")
    assert "there are: other" in failed["msg"]


def test_retention_removes_the_oldest(container, snapshot):
    for number in range(3):
        snapshot(f"nightly-{number}")
        container.snapshots[f"nightly-{number}"]["snaptime"] = number + 1
    snapshot("manual")
    result = snapshot("nightly-3", retention=2, retention_pattern="nightly-*")
    assert sorted(names(result)) == ["manual", "nightly-2", "nightly-3"]
    assert not snapshot("nightly-3", retention=2, retention_pattern="nightly-*")["changed"]


def test_unfinished_snapshot_of_a_killed_task_is_made_again(container, snapshot):
    container.snapshots["before-upgrade"] = {"snapstate": "prepare", "snaptime": 1}
    assert snapshot()["changed"]
    assert "snapstate" not in container.snapshots["before-upgrade"]
    assert not snapshot()["changed"]


def test_storage_without_snapshots_is_unsupported(container, snapshot):
    container.config["mp0"] = "local:201/vm-201-disk-1.raw,mp=/data,size=1G"
    failed = snapshot()
    assert failed["error"] == "unsupported"
    assert "storage with snapshots" in failed["msg"]


def test_failed_task_returns_its_log(pve_cluster, container, snapshot):
    pve_cluster.pve.add_ceph_storage("rbd")
    container.config["mp0"] = "rbd:vm-201-disk-1,mp=/data,size=1G"
    pve_cluster.pve.ceph_down()
    failed = snapshot()
    assert failed["error"] == "task_failed"
    assert "couldn't connect to the cluster" in failed["msg"]
    assert any("TASK ERROR" in line for line in failed["task_log"])
    assert failed["upid"].startswith("UPID:pve2:")
    assert container.snapshots == {}


def test_task_with_warnings_succeeds_and_warns(pve_cluster, container, snapshot):
    pve_cluster.pve.add_ceph_storage("rbd")
    container.config["mp0"] = "rbd:vm-201-disk-1,mp=/data,size=1G"

    async def warn(*_unused):
        from fakepve import TaskError

        raise TaskError("WARNINGS: 1")

    # fakepve knows no task that warns: one that ends with that status looks the same from outside.
    pve_cluster.pve.ceph_io = warn
    result = snapshot()
    assert not result["failed"]
    assert result["warnings"] == ["task vzsnapshot of 201 on node 'pve2' ended with WARNINGS: 1"]


def test_lock_of_a_running_task_is_waited_for(pve_cluster, container, snapshot):
    pve_cluster.pve.time_scale = 0.01
    pve_cluster.call(pve_cluster.pve.backup(201, secs=30))
    result = snapshot()
    assert result["changed"]
    assert list(container.snapshots) == ["before-upgrade"]


def test_lock_that_nobody_holds_is_reported(pve_cluster, container, snapshot):
    pve_cluster.pve.snapshot_lock(201)
    failed = snapshot()
    assert failed["error"] == "wrong_state"
    assert "pct unlock 201" in failed["msg"]
    assert container.snapshots == {}


def test_run_that_was_killed_after_its_request_is_joined(pve_cluster, container, snapshot):
    pve_cluster.pve.time_scale = 0.01
    pve_cluster.pve.ct_secs["snapshot"] = 50
    pve_cluster.client().post("/nodes/pve2/lxc/201/snapshot", snapname="before-upgrade")
    result = snapshot()
    assert names(result) == ["before-upgrade"]
    assert container.snapshots["before-upgrade"].get("snapstate") is None
    assert len([path for method, path in writes(pve_cluster) if method == "POST"]) == 1


def test_two_plays_at_once_end_with_one_snapshot(pve_cluster, container, tmp_path):
    # In threads of the core: the module's own fixture patches globals of the process.
    from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
    from ansible_collections.pvecri.runtime.plugins.module_utils.pve import cluster, snapshots

    pve_cluster.pve.time_scale = 0.01
    pve_cluster.pve.ct_secs["snapshot"] = 20
    outcomes = []

    def play():
        client = pve_cluster.client()
        guest = cluster.read_cluster(client).container(201)
        wanted = snapshots.Request("twice", "present")
        try:
            snapshots.reconcile(client, guest, wanted, snapshots.read(client, guest))
            outcomes.append("ok")
        except CoreError as exc:
            outcomes.append(exc.code)

    plays = [threading.Thread(target=play) for _unused in range(2)]
    for play_thread in plays:
        play_thread.start()
    for play_thread in plays:
        play_thread.join()
    assert list(container.snapshots) == ["twice"]
    assert container.snapshots["twice"].get("snapstate") is None
    assert "ok" in outcomes
    assert set(outcomes) <= {"ok", "task_failed"}


@pytest.mark.parametrize(
    ("params", "error", "text"),
    [
        ({"vmid": 999}, "not_found", "VM.Audit"),
        ({"node": "pve1"}, "conflict", "is on node 'pve2'"),
        ({"hostname": "nope"}, "not_found", "'nope'"),
        ({"snapname": "current"}, "invalid_spec", "reserved"),
        ({"retention": -1}, "invalid_spec", "retention"),
        ({"api_timeout": 1}, "invalid_spec", "api_timeout"),
    ],
)
def test_failures_name_their_cause(snapshot, params, error, text):
    failed = snapshot(**params)
    assert (failed["failed"], failed["error"]) == (True, error)
    assert text in failed["msg"]


def test_lost_quorum_says_so_and_leaves_nothing(pve_cluster, container, snapshot):
    pve_cluster.pve.lose_quorum()
    failed = snapshot()
    assert failed["error"] == "api_error"
    assert "quorum" in failed["msg"]
    assert container.snapshots == {}
    pve_cluster.pve.regain_quorum()
    assert snapshot()["changed"]


def test_node_that_is_offline_is_named(pve_cluster, snapshot):
    pve_cluster.pve.set_node_offline("pve2")
    failed = snapshot()
    assert (failed["error"], failed["status"]) == ("api_error", 595)
    assert "node 'pve2' could not be reached" in failed["msg"]


def test_missing_privilege_is_named(pve_cluster, run_module, container):
    login = pve_cluster.add_user("poor@pve", [("/vms", ["VM.Audit"])])
    failed = run_module(MODULE, {**pve_cluster.options(**login), "vmid": 201, "snapname": "ab"})
    assert (failed["error"], failed["privilege"], failed["path"]) == (
        "missing_privilege",
        "VM.Snapshot",
        "/vms/201",
    )


def test_secrets_stay_out_of_everything(pve_cluster, snapshot):
    result = snapshot(vmid=999)
    assert pve_cluster.options()["api_token_secret"] not in str(result)


class TestOwnership:
    @pytest.fixture(params=["", "pvecri;pvecri-cri"])
    def foreign(self, request, snapshot, container):
        snapshot()
        container.config["tags"] = request.param
        return container

    @pytest.mark.parametrize(
        "task",
        [
            {"state": "absent"},
            {"state": "rolledback"},
            {"snapname": "nightly-2", "retention": 1},
        ],
    )
    @pytest.mark.parametrize("check", [True, False])
    def test_nothing_of_others_is_lost(self, pve_cluster, snapshot, foreign, task, check):
        pve_cluster.forget_requests()
        failed = snapshot(check=check, **task)
        assert (failed["failed"], failed["error"]) == (True, "wrong_state")
        assert "adopt: true" in failed["msg"]
        assert writes(pve_cluster) == []
        tags = foreign.config["tags"]
        foreign.snapshots["before-upgrade"]["tags"] = tags
        assert snapshot(check=check, adopt=True, **task)["changed"]
        assert foreign.config.get("tags", "") == tags, "acting on it does not make it ours"

    def test_taking_one_needs_no_leave(self, foreign, snapshot):
        assert snapshot("mine")["changed"]
        assert snapshot("mine", description="text")["changed"]
        assert not snapshot("other", state="absent")["changed"]

    def test_containers_of_pods_are_named_by_id(self, container, snapshot):
        snapshot()
        container.config["tags"] = "pvecri;pvecri-cri"
        failed = snapshot(hostname="db-1", state="absent", adopt=True)
        assert (failed["failed"], failed["error"]) == (True, "wrong_state")
        assert "with its vmid" in failed["msg"]
