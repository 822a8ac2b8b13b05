# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lost answers, moves by others, high availability that takes its time."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    CommandTimeout,
    Conflict,
    NotFound,
    TaskFailed,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_new
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc import Container
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_session import Session
from ansible_collections.pvecri.runtime.tests.support.pve_lxc import (
    CONFIG,
    IMAGE,
    TEMPLATE,
    WEB,
    rewire,
)

LXC = "/nodes/{node}/lxc/{vmid}"


@pytest.fixture
def container(cluster):
    return cluster.pve.add_ct(300, "web-1", config={"tags": "pvecri"})


class Lossy:
    """Carry out the n-th request that changes something, and break the connection instead of answering."""

    def __init__(self, cluster, number):
        self.number, self.lost = number, None
        self.count = 0
        self._answer = cluster.pve._answer
        cluster.pve._answer = self.answer

    async def answer(self, request, *rest):
        answer = await self._answer(request, *rest)
        if request.method == "GET":
            return answer
        self.count += 1
        if self.count == self.number:
            self.lost = f"{request.method} {request.path}"
            request.transport.close()
            raise ConnectionResetError("the answer is lost")
        return answer


APP = {"hostname": "app", "ostemplate": IMAGE, "storage": "local-lvm", "env": {"A": "1"}, "state": "started"}


class TestLostAnswers:
    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_of_a_create_are_made_up_for_by_looking(self, cluster, run, number):
        lossy = Lossy(cluster, number)
        result = run(**APP)
        assert lossy.lost
        assert result["container"]["status"] == "running"
        assert result["container"]["env"]["A"] == "1"
        assert len(cluster.pve.cts) == 1
        assert not run(**APP)["changed"]

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_of_a_clone(self, cluster, run, container, number):
        lossy = Lossy(cluster, number)
        options = {"hostname": "copy", "clone": "300", "memory": 64, "state": "started"}
        result = run(**options)
        assert lossy.lost
        assert (result["container"]["status"], len(cluster.pve.cts)) == ("running", 2)

    @pytest.mark.parametrize("number", [1, 2])
    def test_of_a_removal(self, cluster, run, container, number):
        container.status = "running"
        lossy = Lossy(cluster, number)
        assert run(vmid=300, state="absent")["changed"]
        assert lossy.lost
        assert cluster.pve.cts == []

    def test_of_a_start_whose_task_goes_on(self, cluster, run, container):
        cluster.pve.time_scale = 0.01
        container.start_secs = 30
        lossy = Lossy(cluster, 1)
        assert run(vmid=300, state="started")["container"]["status"] == "running"
        assert lossy.lost

    def test_of_a_start_whose_task_fails(self, cluster, run, container):
        cluster.pve.time_scale = 0.01
        container.start_secs = 30
        container.start_error = "no such bridge"
        lossy = Lossy(cluster, 1)
        assert "no such bridge" in run(fails=True, vmid=300, state="started")["msg"]
        assert lossy.lost

    def test_of_a_create_that_did_not_happen(self, cluster, run):
        async def drop(user, values):
            raise ConnectionResetError("gone")

        rewire(cluster, "POST", "/nodes/{node}/lxc", drop)
        result = run(fails=True, **APP)
        assert result["error"] == "api_error"


class TestOthers:
    def test_container_that_moves_while_we_plan_is_followed(self, cluster, run, container):
        put, moved = cluster.pve._lxc_config_put, []

        async def move_first(user, values):
            if not moved:
                moved.append(1)
                container.node = "pve2"
            return await put(user, values)

        rewire(cluster, "PUT", CONFIG, move_first)
        result = run(vmid=300, memory=1024)
        assert result["changed"]
        assert (result["container"]["node"], container.config["memory"]) == ("pve2", 1024)

    def test_container_that_is_removed_while_we_plan_is_an_error(self, cluster, run, container):
        async def remove_first(user, values):
            cluster.pve._drop(container)
            cluster.pve._find_ct(values["node"], values["vmid"])

        rewire(cluster, "PUT", CONFIG, remove_first)
        result = run(fails=True, vmid=300, memory=1024)
        assert "does not exist" in result["msg"]

    def test_container_that_is_removed_while_locked(self, cluster, run, container):
        container.lock = "destroyed"
        status, polls = cluster.pve._lxc_status_current, []

        async def remove_at_second_look(user, values):
            polls.append(1)
            if len(polls) == 2:
                cluster.pve._drop(container)
            return await status(user, values)

        rewire(cluster, "GET", f"{LXC}/status/current", remove_at_second_look)
        assert run(vmid=300, state="absent")["changed"]

    def test_start_by_somebody_else_is_as_good(self, cluster, run, container):
        start = cluster.pve._lxc_start

        async def too_late(user, values):
            container.status = "running"
            return await start(user, values)

        rewire(cluster, "POST", f"{LXC}/status/start", too_late)
        assert run(vmid=300, state="started")["container"]["status"] == "running"

    def test_list_that_still_names_the_old_node(self, cluster, run, container):
        """Between the list and the look at it a container may move; the second list is right."""
        listed, calls = cluster.pve.ct_resources, []

        def old_first(user, kind=None):
            calls.append(1)
            entries = listed(user, kind)
            if len(calls) == 1:
                entries = [{**entry, "node": "pve2"} for entry in entries]
            return entries

        cluster.pve.ct_resources = old_first
        assert run(vmid=300)["container"]["node"] == "pve1"

    def test_list_that_names_what_is_gone(self, cluster, run, container):
        listed = cluster.pve.ct_resources(None)
        cluster.pve.cts.clear()
        cluster.pve.ct_resources = lambda user, kind=None: [dict(entry) for entry in listed]
        assert not run(vmid=300, state="absent")["changed"]

    def test_node_in_trouble_is_no_missing_container(self, cluster, run, container):
        cluster.pve.fail("GET", "/nodes/pve1/lxc/300/config", 500, "got timeout")
        result = run(fails=True, vmid=300, state="absent")
        assert "got timeout" in result["msg"]


class TestHighAvailability:
    @pytest.mark.parametrize(
        ("status", "wanted", "text"),
        [
            ("stopped", "started", "has not started container 300"),
            ("running", "stopped", "has not stopped container 300"),
        ],
    )
    def test_that_takes_too_long_is_told(self, cluster, run, container, status, wanted, text):
        container.status, container.ha_state = status, status
        cluster.pve.time_scale = 1
        cluster.pve.ha_delay = 300
        result = run(fails=True, who={"task_timeout": 0.2}, vmid=300, state=wanted)
        assert (result["error"], text in result["msg"]) == ("timeout", True)

    def test_reboot_that_does_not_come_back(self, cluster, container):
        container.status, container.ha_state = "running", "started"

        async def never(user, values):
            container.status = "stopped"

        rewire(cluster, "POST", f"{LXC}/status/reboot", never)
        with pytest.raises(CommandTimeout, match="has not restarted"):
            Container(cluster.client(task_timeout_s=0.1), "pve1", 300).reboot(timeout_s=1, ha_managed=True)

    def test_migration_that_does_not_arrive(self, cluster, run, container):
        async def never(user, values):
            return None

        rewire(cluster, "POST", f"{LXC}/migrate", never)
        result = run(fails=True, who={"task_timeout": 0.2}, vmid=300, node="pve2")
        assert (result["error"], "has not arrived on node 'pve2'" in result["msg"]) == ("timeout", True)

    def test_target_that_goes_offline_meanwhile(self, cluster, run, container):
        async def lose(user, values):
            cluster.pve.set_node_offline("pve2")

        rewire(cluster, "POST", f"{LXC}/migrate", lose)
        assert run(fails=True, vmid=300, node="pve2")["status"] == 595


class TestCreation:
    def test_own_id_that_is_gone_again_is_tried_again(self, cluster, run):
        """Another play's create took the id, failed, and gave it back."""
        create, seen = cluster.pve._lxc_create, []

        async def taken_once(user, values):
            if not seen:
                seen.append(1)
                cluster.pve.add_ct(int(values["vmid"]), "other")
            return await create(user, values)

        nextid, looks = cluster.pve._nextid, []

        async def look(values, user):
            looks.append(1)
            if len(looks) == 1:
                try:
                    return await nextid(values, user)
                finally:
                    cluster.pve.cts.clear()
            return await nextid(values, user)

        rewire(cluster, "POST", "/nodes/{node}/lxc", taken_once)
        rewire(cluster, "GET", "/cluster/nextid", look)
        assert run(vmid=300, **WEB)["container"]["vmid"] == 300

    def test_id_of_a_virtual_machine_made_meanwhile(self, cluster, run):
        cluster.lxc.before_create = lambda node, vmid: cluster.pve.add_vm(vmid, "vm")
        result = run(fails=True, vmid=300, **WEB)
        assert "in use by another guest" in result["msg"]

    def test_creation_by_another_play_that_does_not_end(self, cluster):
        def stuck(node, vmid):
            cluster.pve.add_ct(vmid, "web-1", lock="create", config={"tags": "pvecri"})

        cluster.lxc.before_create = stuck
        session = Session(client=cluster.client(task_timeout_s=0.3))
        with pytest.raises(CommandTimeout, match="still being created by somebody else"):
            lxc_new.create(session, parse_spec({"vmid": 300, **WEB}))

    def test_other_errors_of_a_create_are_told(self, cluster, run):
        cluster.pve.fail("POST", "/nodes/pve1/lxc", 500, "storage is on fire")
        assert "storage is on fire" in run(fails=True, node="pve1", **WEB)["msg"]

    def test_node_that_breaks_while_it_is_joined(self, cluster):
        def taken(node, vmid):
            cluster.pve.add_ct(vmid, "web-1", config={"tags": "pvecri"})
            cluster.pve.fail("GET", f"/nodes/pve1/lxc/{vmid}/config", 595, "No route to host")

        cluster.lxc.before_create = taken
        with pytest.raises(ApiError, match="could not be reached"):
            lxc_new.create(Session(client=cluster.client()), parse_spec({"vmid": 300, "node": "pve1", **WEB}))

    def test_container_that_cannot_be_read_while_it_is_joined_is_waited_for(self, cluster):
        def taken(node, vmid):
            if cluster.pve.ct(vmid) is None:
                cluster.pve.add_ct(vmid, "web-1", config={"tags": "pvecri"})
                cluster.pve.fail("GET", f"/nodes/pve1/lxc/{vmid}/config", 500, "busy", times=1)

        cluster.lxc.before_create = taken
        made = lxc_new.create(
            Session(client=cluster.client()), parse_spec({"vmid": 300, "node": "pve1", **WEB})
        )
        assert (made.container.vmid, made.is_new) == (300, False)

    def test_template_that_no_node_has(self, cluster, run):
        result = run(fails=True, hostname="a", ostemplate="local:vztmpl/none.tar.zst")
        assert (result["error"], "has no local:vztmpl/none.tar.zst" in result["msg"]) == ("not_found", True)

    def test_template_by_path_is_left_to_the_server(self, cluster, run, root):
        result = run(who=root, hostname="a", node="pve1", storage="local-lvm", ostemplate="/srv/x.tar.zst")
        assert result["changed"]

    def test_ids_run_out_before_a_request(self, cluster):
        spec = parse_spec(
            {"hostname": "a", "vmid_range": {"first": 300, "last": 301}, "ostemplate": TEMPLATE}
        )
        session = Session(client=cluster.client())
        session.claimed |= {300, 301}
        with pytest.raises(Conflict, match="every id from 300 to 301"):
            lxc_new.create(session, spec)

    def test_origin_is_needed(self, cluster):
        with pytest.raises(NotFound):
            lxc_new.find_origin(Session(client=cluster.client()), parse_spec({"vmid": 300}))


def test_candidate_ids_depend_on_name_and_range_alone():
    def ids(name, first=100, last=9999, taken=()):
        spec = parse_spec({"hostname": name, "vmid_range": {"first": first, "last": last}})
        return list(lxc_new.candidate_ids(spec, taken))

    assert ids("a") == ids("a")
    assert ids("a")[0] != ids("b")[0]
    assert sorted(ids("a", 500, 520)) == list(range(500, 521))
    first = ids("a", 500, 520)[0]
    assert ids("a", 500, 520, taken={first}) == ids("a", 500, 520)[1:]
    assert list(lxc_new.candidate_ids(parse_spec({"vmid": 300}), {300})) == [300]


def test_shutdown_that_fails_for_another_reason_is_told(cluster, container):
    container.status = "running"
    container.lock = "backup"
    with pytest.raises(TaskFailed, match="locked"):
        Container(cluster.client(), "pve1", 300).shutdown(timeout_s=1, force=False)
