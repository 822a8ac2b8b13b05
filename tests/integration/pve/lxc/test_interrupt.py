# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill the module with SIGKILL at each of its requests, and run it again; run two at once."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from ansible_collections.pvecri.runtime.tests.support.pve_lxc import IMAGE, TEMPLATE, WEB

MODULE = pathlib.Path(__file__).parents[4] / "plugins/modules/pve_lxc_container.py"


class Play:
    """One run of the module in a process of its own."""

    def __init__(self, cluster, params, directory):
        arguments = {
            **cluster.options(),
            **params,
            "_ansible_remote_tmp": str(directory),
            "_ansible_keep_remote_files": False,
        }
        path = directory / f"args-{id(self)}.json"
        path.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        self.process = subprocess.Popen(
            [sys.executable, str(MODULE), str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def result(self):
        out, err = self.process.communicate(timeout=60)
        assert out, err.decode()
        return json.loads(out)

    def die(self):
        self.process.communicate(timeout=60)
        return self.process.returncode


class Reaper:
    """Kill a play when the fake gets its n-th request, before or after carrying it out."""

    def __init__(self, cluster, number, *, after):
        self.number, self.after, self.play = number, after, None
        self.seen = []
        self._answer = cluster.pve._answer
        self._cluster = cluster
        cluster.pve._answer = self.answer

    async def answer(self, request, *rest):
        self.seen.append((request.method, request.path))
        if len(self.seen) != self.number:
            return await self._answer(request, *rest)
        answer = await self._answer(request, *rest) if self.after else None
        os.kill(self.play.process.pid, signal.SIGKILL)
        if answer is None:
            await asyncio.sleep(0)
            raise ConnectionResetError("the client is gone")
        return answer

    def stop(self):
        self._cluster.pve._answer = self._answer


APP = {
    "hostname": "app",
    "ostemplate": IMAGE,
    "storage": "local-lvm",
    "env": {"MODE": "mine"},
    "networks": {"net0": "name=eth0,bridge=vmbr0"},
    "pool": "prod",
    "ha": {},
    "state": "started",
}
CLONE = {"hostname": "copy", "clone": "9000", "memory": 2048, "state": "started"}


def prepare(cluster):
    """Make the world new, so that each kill starts from the same."""
    pve = cluster.pve
    pve.cts.clear()
    cluster.lxc.ha.clear()
    pve.pools = {"prod": set()}
    origin = pve.add_ct(9000, "base", template=True, config={"tags": "golden", "description": "Base\n"})
    origin.config["rootfs"] = "local-lvm:base-9000-disk-0,size=4G"
    pve.add_ct(300, "old", status="running", config={"tags": "pvecri", "protection": 1})


def count_requests(cluster, run, params):
    prepare(cluster)
    cluster.forget_requests()
    run(**params)
    return len(cluster.requests_seen())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "params",
    [
        APP,
        CLONE,
        {"vmid": 300, "state": "absent", "protection": False},
        {"vmid": 300, "node": "pve2", "memory": 99},
    ],
    ids=["create", "clone", "absent", "move"],
)
def test_killed_at_any_request_the_next_run_completes_it(cluster, run, tmp_path, params, after):
    total = count_requests(cluster, run, params)
    expected = state(cluster)
    for number in range(1, total + 1):
        prepare(cluster)
        reaper = Reaper(cluster, number, after=after)
        reaper.play = Play(cluster, params, tmp_path)
        died = reaper.play.die()
        reaper.stop()
        assert died == -signal.SIGKILL, f"request {number} of {total} was never sent"
        result = run(**params)
        assert state(cluster) == expected, f"killed at request {number}: {reaper.seen[-1]}"
        assert not run(**params)["changed"]
        if params.get("state") != "absent":
            assert result["container"]["hostname"] == params.get("hostname", "old")


def state(cluster):
    """Return what matters of all containers: none too many, none half made."""
    return sorted(
        (
            ct.name,
            ct.node,
            ct.status,
            ct.pool,
            ct.ha_state,
            ct.config.get("tags"),
            ct.config.get("env"),
            ct.config.get("memory"),
            ct.config.get("description"),
            ct.lock,
        )
        for ct in cluster.pve.cts
    )


def test_killed_while_the_create_task_runs_the_next_run_joins_it(cluster, run, tmp_path):
    """The task goes on without its play; until it ends the container has neither name nor tag."""
    cluster.pve.time_scale = 0.1
    cluster.pve.ct_secs["create"] = 10
    # The 1st and 2nd request look for it, then the template and the privileges, then the create.
    reaper = Reaper(cluster, 6, after=True)
    reaper.play = Play(cluster, WEB, tmp_path)
    assert reaper.play.die() == -signal.SIGKILL
    reaper.stop()
    posted = [path for method, path in reaper.seen if method == "POST"]
    assert len(posted) == 1, reaper.seen
    assert cluster.pve.cts[0].lock == "create"
    result = run(state="started", **WEB)
    assert len(cluster.pve.cts) == 1
    assert result["container"]["status"] == "running"


def test_two_plays_at_once_make_one_container(cluster, tmp_path):
    cluster.pve.time_scale = 0.02
    cluster.pve.ct_secs["create"] = 10
    params = {**WEB, "state": "started"}
    plays = [Play(cluster, params, tmp_path) for _unused in range(3)]
    results = [play.result() for play in plays]
    assert [result.get("msg") for result in results] == [None] * 3
    assert len({result["container"]["vmid"] for result in results}) == 1
    assert [ct.name for ct in cluster.pve.cts] == ["web-1"]
    assert cluster.pve.cts[0].status == "running"


def test_two_plays_at_once_make_different_containers_of_one_range(cluster, tmp_path):
    cluster.pve.time_scale = 0.01
    cluster.pve.ct_secs["create"] = 5
    entries = [[{"hostname": f"{letter}{number}"} for number in range(6)] for letter in "ab"]
    plays = [
        Play(
            cluster,
            {
                "containers": some,
                "ostemplate": TEMPLATE,
                "storage": "local-lvm",
                "vmid_range": {"first": 600, "last": 611},
            },
            tmp_path,
        )
        for some in entries
    ]
    results = [play.result() for play in plays]
    assert [result.get("msg") for result in results] == [None] * 2
    assert sorted(ct.vmid for ct in cluster.pve.cts) == list(range(600, 612))
    assert len({ct.name for ct in cluster.pve.cts}) == 12


def test_two_plays_at_once_remove_one_container(cluster, tmp_path):
    cluster.pve.time_scale = 0.02
    cluster.pve.ct_secs["destroy"] = 10
    cluster.pve.add_ct(300, "web-1", status="running", config={"tags": "pvecri"})
    plays = [
        Play(cluster, {"vmid": 300, "state": "absent", "lock_timeout": 20}, tmp_path) for _unused in range(2)
    ]
    results = [play.result() for play in plays]
    assert [result.get("msg") for result in results] == [None] * 2
    assert cluster.pve.cts == []
