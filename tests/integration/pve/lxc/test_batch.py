# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many containers in one task: requests, failures, memory of the intent."""

from __future__ import annotations

import re

import pytest

from ansible_collections.pvecri.runtime.tests.support.pve_lxc import CONFIG, TEMPLATE, rewire, writes

SHARED = {"ostemplate": TEMPLATE, "storage": "local-lvm", "memory": 256, "state": "started"}


def names(count):
    return [{"hostname": f"w{number}"} for number in range(count)]


def fill(cluster, count, **config):
    """Put containers into the cluster as a batch of this module would have made them."""
    from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec

    for number in range(count):
        spec = parse_spec({"hostname": f"w{number}", "memory": 256})
        cluster.pve.add_ct(
            1000 + number,
            f"w{number}",
            node=f"pve{number % 2 + 1}",
            status="running",
            config={"memory": 256, "tags": f"pvecri;{spec.intent_tag()}", **config},
        )


def test_batch_creates_all_and_spreads_them(cluster, run):
    result = run(containers=[*names(3), {"hostname": "big", "memory": 1024, "state": "present"}], **SHARED)
    assert result["changed"]
    assert [c["hostname"] for c in result["containers"]] == ["w0", "w1", "w2", "big"]
    assert [c["container"]["status"] for c in result["containers"]] == ["running"] * 3 + ["stopped"]
    assert [c["container"]["config"]["memory"] for c in result["containers"]] == [256] * 3 + [1024]
    assert {c["container"]["node"] for c in result["containers"]} == {"pve1", "pve2"}
    assert all(c["actions"][0] == "create" for c in result["containers"])
    assert all(c["container"]["tags"] == ["pvecri"] for c in result["containers"])
    assert len(result["diff"]) == 4
    assert result["diff"][0]["before_header"] == "container w0"


def test_batch_again_costs_one_request_and_one_per_node(cluster, run):
    run(containers=names(6), **SHARED)
    cluster.forget_requests()
    result = run(containers=names(6), **SHARED)
    assert not result["changed"]
    assert result["diff"] == []
    assert sorted(cluster.requests_seen()) == [
        ("GET", "/cluster/resources"),
        ("GET", "/nodes/pve1/lxc"),
        ("GET", "/nodes/pve2/lxc"),
    ]
    shown = result["containers"][0]
    assert (shown["changed"], shown["failed"], shown["actions"]) == (False, False, [])
    assert shown["vmid"] == shown["container"]["vmid"]
    assert shown["container"]["status"] == "running"
    assert shown["container"]["tags"] == ["pvecri"]


@pytest.mark.parametrize("count", [10, 1000])
def test_batch_of_any_size_costs_the_same(cluster, run, count):
    fill(cluster, count)
    cluster.forget_requests()
    result = run(containers=names(count), memory=256, state="started")
    assert (result["changed"], len(result["containers"])) == (False, count)
    assert len(cluster.requests_seen()) == 3


def test_batch_changes_only_what_differs(cluster, run):
    fill(cluster, 6)
    entries = names(6)
    entries[2]["memory"] = 512
    cluster.forget_requests()
    result = run(containers=entries, memory=256, state="started")
    assert [c["changed"] for c in result["containers"]] == [False, False, True, False, False, False]
    assert writes(cluster) == [("PUT", "/1002/config")]
    assert not run(containers=entries, memory=256, state="started")["changed"]


@pytest.mark.parametrize(
    "meddle",
    [
        lambda ct: ct.config.update(memory=4096),
        lambda ct: setattr(ct, "status", "stopped"),
        lambda ct: ct.config.update(hostname="other"),
        lambda ct: ct.config.update(tags="pvecri"),
        lambda ct: setattr(ct, "node", "pve2"),
        lambda ct: ct.config.update(cores=7),
        lambda ct: setattr(ct, "ha_state", "started"),
        lambda ct: setattr(ct, "lock", "backup"),
    ],
)
def test_batch_sees_what_lists_show(cluster, run, meddle):
    entry = {"vmid": 300, "hostname": "a", "node": "pve1", "cores": 1, "ha": {"managed": False}}
    run(containers=[entry], ostemplate=TEMPLATE, storage="local-lvm", memory=256, state="started")
    cluster.forget_requests()
    meddle(cluster.pve.ct(300))
    run(check=True, containers=[entry], memory=256, state="started")
    assert any(path.endswith("/config") for _unused, path in cluster.requests_seen())


def test_batch_full_sees_everything(cluster, run):
    fill(cluster, 2)
    cluster.pve.ct(1001).config["onboot"] = 1
    shared = {"memory": 256, "state": "started"}
    entries = [{**entry, "onboot": False} for entry in names(2)]
    assert run(containers=entries, verify="full", **shared)["containers"][1]["changed"]
    cluster.pve.ct(1001).config["onboot"] = 1
    assert run(containers=entries, verify="full", check=True, **shared)["changed"]
    assert run(containers=entries, verify="intent", **shared)["changed"], "no intent was remembered yet"
    cluster.pve.ct(1001).config["onboot"] = 1
    assert not run(containers=entries, verify="intent", **shared)["changed"], "beyond what lists show"
    assert run(containers=entries, verify="full", **shared)["changed"]


def test_remembering_the_intent_is_no_change(cluster, run):
    cluster.pve.add_ct(300, "a", config={"tags": "pvecri", "memory": 256})
    result = run(check=True, containers=[{"hostname": "a"}], memory=256)
    assert (result["changed"], result["containers"][0]["actions"]) == (False, [])
    result = run(containers=[{"hostname": "a"}], memory=256)
    assert not result["changed"]
    assert result["containers"][0]["actions"] == []
    assert re.fullmatch(r"pvecri;pvecri-spec-[0-9a-f]{12}", cluster.pve.ct(300).config["tags"])
    run(hostname="a", memory=512)
    assert cluster.pve.ct(300).config["tags"] == "pvecri", "a change by another task makes it forget"


def test_intent_can_be_asked_for_with_one_container(cluster, run):
    options = {"hostname": "a", "verify": "intent", **SHARED}
    assert run(**options)["container"]["config"]["memory"] == 256
    cluster.forget_requests()
    result = run(**options)
    assert (result["changed"], result["container"]["status"]) == (False, "running")
    assert len(cluster.requests_seen()) == 2
    cluster.pve.cts[0].lock = "backup"
    assert run(fails=True, lock_timeout=0, **{**options, "memory": 512})["error"] == "wrong_state"
    assert run(hostname="b", state="absent", verify="intent")["container"] is None


def test_batch_goes_on_past_failures(cluster, run):
    cluster.pve.add_ct(300, "locked", config={"tags": "pvecri"}, lock="backup")
    cluster.pve.add_ct(301, "theirs")
    entries = [{"hostname": "locked", "lock_timeout": 0}, {"hostname": "theirs"}, {"hostname": "fine"}]
    result = run(fails=True, containers=entries, **SHARED)
    assert result["error"] == "some_failed"
    assert "2 of 3 containers failed: container locked: " in result["msg"]
    assert result["changed"]
    assert [c["failed"] for c in result["containers"]] == [True, True, False]
    assert [c.get("error") for c in result["containers"]] == ["wrong_state", "wrong_state", None]
    assert cluster.pve.cts[-1].status == "running"


def test_batch_names_only_the_first_failures(cluster, run):
    result = run(fails=True, containers=names(5), state="started")
    assert "5 of 5 containers failed" in result["msg"]
    assert result["msg"].endswith("and 2 more")


def test_batch_removes_all(cluster, run):
    fill(cluster, 5)
    entries = [*names(5), {"vmid": 4000}, {"hostname": "never"}]
    entries[4] = {"vmid": 1004}
    result = run(containers=entries, state="absent")
    assert [c["changed"] for c in result["containers"]] == [True] * 5 + [False] * 2
    assert cluster.pve.cts == []
    assert not run(containers=entries, state="absent")["changed"]


def test_batch_restarts_each_time(cluster, run):
    fill(cluster, 2)
    for _unused in range(2):
        assert [
            c["actions"] for c in run(containers=names(2), state="restarted", memory=256)["containers"]
        ] == [
            ["reboot"],
            ["reboot"],
        ]


def test_batch_in_check_mode(cluster, run):
    fill(cluster, 1)
    cluster.forget_requests()
    result = run(check=True, containers=names(3), **SHARED)
    assert [c["changed"] for c in result["containers"]] == [False, True, True]
    assert writes(cluster) == []


def test_batch_looks_for_a_template_once(cluster, run):
    run(containers=names(8), **SHARED)
    looked = [path for _unused, path in cluster.requests_seen() if path.endswith("/storage/local/content")]
    assert 1 <= len(looked) <= 2


def test_batch_uses_the_ids_of_its_range_once_each(cluster, run):
    result = run(containers=names(8), vmid_range={"first": 500, "last": 507}, concurrency=8, **SHARED)
    assert sorted(c["vmid"] for c in result["containers"]) == list(range(500, 508))


def test_batch_keeps_to_its_concurrency(cluster, run):
    fill(cluster, 12)
    cluster.pve.time_scale = 0.01
    busy, most = [0], [0]
    put = cluster.pve._lxc_config_put

    async def slow(user, values):
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        await cluster.pve.pause(3)
        try:
            return await put(user, values)
        finally:
            busy[0] -= 1

    rewire(cluster, "PUT", CONFIG, slow)
    run(containers=names(12), memory=300, state="started", concurrency=3)
    assert 2 <= most[0] <= 3


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"containers": [{"hostname": "a"}, {"hostname": "a"}]}, "containers"),
        ({"containers": [{"vmid": 100}, {"vmid": 100}]}, "containers"),
        ({"containers": [{"hostname": "a", "memory": 1}]}, "containers[0].memory"),
        ({"containers": [{"hostname": "a"}, {}]}, "containers[1].vmid"),
        ({"containers": [{"hostname": "a"}], "concurrency": 0}, "concurrency"),
        ({"containers": [{"hostname": "a"}], "concurrency": 99}, "concurrency"),
    ],
)
def test_batch_refuses(cluster, run, options, field):
    result = run(fails=True, **options)
    assert (result["error"], result["field"]) == ("invalid_spec", field)
    assert cluster.requests_seen() == []


@pytest.mark.parametrize(
    "options", [{}, {"containers": [], "vmid": 100}, {"containers": [], "hostname": "a"}]
)
def test_what_is_meant_must_be_clear(run, options):
    assert run(fails=True, **options)["msg"]


def test_secrets_of_entries_are_shown_nowhere(run):
    result = run(containers=[{"hostname": "a", "password": "very secret"}], **SHARED)
    assert "very secret" not in str(result)


def test_batch_tells_what_was_done_before_a_failure(cluster, run):
    cluster.pve.fail("POST", "/nodes/pve1/lxc/300/status/start", 500, "no such device")
    entries = [{"vmid": 300, "hostname": "a", "node": "pve1"}, {"vmid": 301, "hostname": "b", "node": "pve2"}]
    result = run(fails=True, containers=entries, **SHARED)
    assert result["changed"]
    broken, fine = result["containers"]
    assert (broken["changed"], broken["failed"], broken["actions"][0]) == (True, True, "create")
    assert (broken["vmid"], broken["placement"]["node"]) == (300, "pve1")
    assert (fine["changed"], fine["failed"]) == (True, False)
    failed, other = (diff["after_header"] for diff in result["diff"])
    assert "(failed after: create" in failed
    assert "failed" not in other


def test_batch_in_check_mode_claims_nothing_of_what_fails(cluster, run):
    cluster.pve.add_ct(300, "theirs")
    result = run(check=True, fails=True, containers=[{"vmid": 300}, {"hostname": "new"}], **SHARED)
    assert [(c["changed"], c["failed"]) for c in result["containers"]] == [(False, True), (True, False)]
    assert len(result["diff"]) == 1
