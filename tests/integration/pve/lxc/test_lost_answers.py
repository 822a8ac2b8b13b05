# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry requests out and lose their answers: nothing is done twice, and what was done is told."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_reconcile import reconcile
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_session import Session
from ansible_collections.pvecri.runtime.tests.support.pve_lxc import CONFIG, WEB, ct, writes


class ForgetfulClient(PveClient):
    """Lose the answer of the write with the number ``loses``, counted from 1."""

    loses = 0
    written = 0

    def _send(self, method, route, values, auth, **more):
        answer = super()._send(method, route, values, auth, **more)
        self.written += method != "GET"
        if method != "GET" and self.written == self.loses:
            raise errors.ApiTimeout("lost", method=method, path=route, maybe_done=True)
        return answer


@pytest.fixture
def make(cluster):
    """Return a function that makes web-1 what is asked for, losing one answer."""

    def run(loses=0, **options):
        client = ForgetfulClient(cluster.connection())
        client.loses = loses
        cluster.forget_requests()
        return reconcile(Session(client=client), parse_spec({**WEB, **options}))

    return run


MOUNT = {"mp0": {"mp": "/data", "storage": "local-lvm", "size": "1G"}}


@pytest.mark.parametrize(
    ("before", "options", "action"),
    [
        ("present", {"mounts": MOUNT}, "configure"),
        ("present", {"rootfs": "local-lvm:9"}, "resize"),
        ("present", {"node": "pve2"}, "migrate"),
        ("present", {"ha": {"managed": True}}, "ha_add"),
        ("present", {"pool": "prod"}, "pool"),
        ("present", {"state": "started"}, "start"),
        ("present", {"state": "template"}, "to_template"),
        ("started", {"state": "restarted"}, "reboot"),
        ("started", {"state": "stopped"}, "shutdown"),
    ],
)
def test_step_is_done_once_and_told(cluster, make, before, options, action):
    cluster.pve.pools["prod"] = set()
    make(state=before, node="pve1")
    if before == "started":
        ct(cluster).started_at -= 100
    result = make(loses=1, **{"state": "present", **options})
    assert result.actions == [action]
    assert result.changed
    assert len(writes(cluster)) == 1
    assert not make(**{**options, "state": "present"}).changed


@pytest.mark.parametrize("loses", [1, 2])
def test_container_is_made_and_started_once(cluster, make, loses):
    result = make(loses, state="started", mounts=MOUNT)
    assert result.actual.is_running
    assert writes(cluster) == [("POST", ""), ("POST", f"/{result.actual.vmid}/status/start")]
    assert not [key for key in ct(cluster).config if key.startswith("unused")]


def test_container_is_removed_once(cluster, make):
    make(state="started")
    result = make(loses=2, state="absent")
    assert result.actions == ["shutdown", "destroy"]
    assert [method for method, _path in writes(cluster)] == ["POST", "DELETE"]
    assert ct(cluster) is None


def test_answer_that_is_lost_each_time_is_an_error_at_last(cluster, make):
    make()
    cluster.pve.fail("PUT", CONFIG.format(node=ct(cluster).node, vmid=ct(cluster).vmid), 596, "timed out")
    with pytest.raises(errors.ApiError, match="whether it was carried out is unknown") as caught:
        make(memory=2048)
    assert caught.value.status == 596
    assert len(writes(cluster)) == 2
