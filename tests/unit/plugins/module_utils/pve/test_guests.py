# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold finding one container, and waiting for what works on it."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import guests
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import ClusterView, Guest

WEB = Guest(101, "pve1", name="web")
TWIN = Guest(102, "pve2", name="web")
NEW = Guest(103, "pve1")
VIEW = ClusterView({guest.vmid: guest for guest in (WEB, TWIN, NEW)}, {}, ())
UPID = "UPID:pve1:000003E8:00001B58:6B024734:vzdump:101:ops@pve:"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"vmid": 101}, WEB),
        ({"vmid": 101, "name": "web", "node": "pve1"}, WEB),
        ({"vmid": 103, "name": "any"}, NEW),
        ({"name": "web", "node": "pve2"}, TWIN),
    ],
)
def test_locate(wanted, expected):
    assert guests.locate(VIEW, **wanted) == expected


@pytest.mark.parametrize(
    ("wanted", "error", "text"),
    [
        ({}, errors.InvalidSpec, "vmid"),
        ({"vmid": 7}, errors.NotFound, "no container 7"),
        ({"vmid": 101, "node": "pve2"}, errors.Conflict, "is on node 'pve1'"),
        ({"vmid": 101, "name": "db"}, errors.Conflict, "is called 'web'"),
        ({"name": "web"}, errors.Conflict, "101 on pve1, 102 on pve2"),
        ({"name": "db"}, errors.NotFound, "named 'db' is visible"),
        ({"name": "web", "node": "pve3"}, errors.NotFound, "on node 'pve3'"),
    ],
)
def test_locate_refuses(wanted, error, text):
    with pytest.raises(error, match=text):
        guests.locate(VIEW, **wanted)


class Locked:
    """A container whose lock goes away when its task has been seen to end."""

    def __init__(self, *locks, tasks=(), exitstatus="OK", tasks_error=None):
        self.locks = list(locks)
        self.tasks = list(tasks)
        self.exitstatus = exitstatus
        self.tasks_error = tasks_error
        self.asked = []

    def get(self, path, **params):
        self.asked.append(path[-1])
        if path[-1] == "current":
            return {"lock": self.locks.pop(0) if len(self.locks) > 1 else self.locks[0]}
        if path[-1] == "tasks":
            if self.tasks_error:
                raise self.tasks_error
            assert params == {"source": "active", "vmid": 101}
            return self.tasks
        if path[-1] == "log":
            return []
        return {"status": "stopped", "exitstatus": self.exitstatus}


@pytest.mark.parametrize("lock", [None, "", "mounted"])
def test_wait_unlocked_when_there_is_nothing_to_wait_for(lock):
    client = Locked(lock)
    assert guests.wait_unlocked(client, WEB, 5) is False
    assert set(client.asked) == {"current"}


@pytest.mark.parametrize(
    ("listed", "is_at_work"),
    [
        ({}, True),
        # So the list of active tasks says it of one that runs, and of one that has just ended.
        ({"status": "RUNNING"}, True),
        ({"endtime": 5, "status": "OK"}, False),
        ({"status": "OK"}, False),
        ({"endtime": 5}, False),
    ],
)
def test_running_tasks_are_those_that_have_not_ended(listed, is_at_work):
    client = Locked(None, tasks=[{"upid": UPID, **listed}])
    assert guests.running_tasks(client, WEB) == ([UPID] if is_at_work else [])


@pytest.mark.parametrize("exitstatus", ["OK", "WARNINGS: 1", "job failed"])
def test_wait_unlocked_waits_for_the_task_however_it_ends(exitstatus):
    client = Locked("backup", None, tasks=[{"upid": UPID, "status": "RUNNING"}], exitstatus=exitstatus)
    assert guests.wait_unlocked(client, WEB, 5) is True


def test_wait_unlocked_when_the_task_ends_between_two_looks():
    assert guests.wait_unlocked(Locked("backup", None), WEB, 5) is False


@pytest.mark.parametrize(
    "client",
    [
        Locked("snapshot"),
        Locked("snapshot", tasks=[{"upid": UPID, "endtime": 5, "status": "OK"}]),
        Locked("snapshot", tasks=[{"upid": UPID}]),
        Locked("snapshot", tasks_error=errors.MissingPrivilege("no")),
    ],
    ids=["no task", "only old tasks", "lock outlives its task", "tasks cannot be listed"],
)
def test_wait_unlocked_reports_a_lock_that_no_task_explains(client):
    with pytest.raises(errors.WrongState, match="pct unlock 101") as caught:
        guests.wait_unlocked(client, WEB, 5)
    assert "locked (snapshot)" in str(caught.value)


def test_wait_unlocked_time_is_shared_by_all_tasks():
    ticks = iter([0.0, 100.0])
    client = Locked("backup", tasks=[{"upid": UPID}])
    client.exitstatus = None
    original = client.get
    client.get = lambda path, **params: (
        {"status": "running"} if path[-1] == "status" else original(path, **params)
    )
    with pytest.raises(errors.TaskTimeout):
        guests.wait_unlocked(client, WEB, 5, clock=lambda: next(ticks))
