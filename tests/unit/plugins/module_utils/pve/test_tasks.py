# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the wait for tasks on a clock of its own: how each ends, and what is said of it."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import tasks

UPID = "UPID:pve1:000003E8:00001B58:6B024734:vzstart:100:ops@pve!play:"
RUNNING = {"status": "running"}


def unreachable(status=595):
    return errors.ApiError("no route", status=status, method="GET", path="/x")


class Cluster:
    """Answer status requests from a list, the last entry for ever; sleeping moves the clock."""

    def __init__(self, *statuses, log=(), log_error=None):
        self.statuses = list(statuses)
        self.log = list(log)
        self.log_error = log_error
        self.now = 0.0
        self.slept = []
        self.asked = []

    def get(self, path, **params):
        self.asked.append((tuple(path), params))
        if path[-1] == "log":
            if self.log_error:
                raise self.log_error
            lines = [{"n": n + 1, "t": text} for n, text in enumerate(self.log)]
            return lines[params["start"] :][: params["limit"]]
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(status, Exception):
            raise status
        return status

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def wait(self, timeout_s=60.0, **options):
        return tasks.wait_task(self, UPID, timeout_s, clock=lambda: self.now, sleep=self.sleep, **options)


def stopped(exitstatus):
    return {"status": "stopped", "exitstatus": exitstatus}


def test_task_that_is_done_is_not_waited_for():
    cluster = Cluster(stopped("OK"))
    assert cluster.wait() == tasks.TaskResult(UPID, "OK")
    assert cluster.slept == []
    assert cluster.asked == [(("nodes", "pve1", "tasks", UPID, "status"), {})]


def test_waits_grow_from_milliseconds_to_a_second():
    cluster = Cluster(*[RUNNING] * 15, stopped("OK"))
    cluster.wait()
    assert cluster.slept[0] == pytest.approx(0.03)
    assert cluster.slept == sorted(cluster.slept)
    assert cluster.slept[-1] == 1.0


def test_warnings_are_a_success_with_their_texts():
    log = [
        "INFO: x",
        "WARN: old mount option",
        "WARNING: no space soon",
        "WARN: old mount option",
        "TASK WARNINGS: 2",
    ]
    result = Cluster(stopped("WARNINGS: 2"), log=log).wait()
    assert result.exitstatus == "WARNINGS: 2"
    assert result.warnings == ("old mount option", "no space soon")


@pytest.mark.parametrize(
    "options", [{"log": ["nothing to see"]}, {"log_error": errors.MissingPrivilege("no")}]
)
def test_warnings_without_a_text_still_warn(options):
    assert Cluster(stopped("WARNINGS: 1"), **options).wait().warnings == (
        "task vzstart of 100 on node 'pve1' ended with WARNINGS: 1",
    )


def test_failure_is_raised_at_once_with_the_tail_of_the_log():
    cluster = Cluster(
        RUNNING, stopped("startup for container '100' failed"), log=[f"line {n}" for n in range(100)]
    )
    with pytest.raises(errors.TaskFailed, match="vzstart of 100 on node 'pve1' failed: startup") as caught:
        cluster.wait()
    assert caught.value.details() == {
        "error": "task_failed",
        "upid": UPID,
        "exitstatus": "startup for container '100' failed",
        "task_log": [f"line {n}" for n in range(75, 100)],
    }
    assert len(cluster.slept) == 1


def test_failure_is_not_hidden_by_a_log_that_cannot_be_read():
    with pytest.raises(errors.TaskFailed, match="could not be read") as caught:
        Cluster(stopped("boom"), log_error=unreachable()).wait()
    assert caught.value.log_tail == []


@pytest.mark.parametrize("status", [{"status": "stopped"}, {"status": "stopped", "exitstatus": None}, {}])
def test_task_without_exit_status_failed(status):
    with pytest.raises(errors.TaskFailed, match="unknown"):
        Cluster(status).wait()


def test_time_out_says_that_the_task_goes_on():
    cluster = Cluster(RUNNING)
    with pytest.raises(
        errors.TaskTimeout, match=r"within 5 s; it was not stopped and goes on as UPID"
    ) as caught:
        cluster.wait(5.0)
    assert caught.value.details() == {"error": "timeout", "upid": UPID}
    assert isinstance(caught.value, errors.CommandTimeout)
    assert cluster.now == pytest.approx(5.0), "it waits no longer than told"


def test_time_out_of_nothing_still_looks_once():
    assert Cluster(stopped("OK")).wait(0.0).exitstatus == "OK"
    with pytest.raises(errors.TaskTimeout):
        Cluster(RUNNING).wait(0.0)


def test_short_loss_of_the_node_is_waited_out():
    cluster = Cluster(RUNNING, unreachable(), unreachable(None), unreachable(596), stopped("OK"))
    assert cluster.wait().exitstatus == "OK"


def test_long_loss_of_the_node_is_an_error_that_names_the_task():
    with pytest.raises(errors.ApiError, match="lost sight of task vzstart") as caught:
        Cluster(RUNNING, unreachable()).wait(600, loss_timeout_s=3.0)
    assert UPID in str(caught.value)
    assert (caught.value.status, caught.value.maybe_done) == (595, True)


def test_time_out_comes_before_the_loss_when_it_is_shorter():
    with pytest.raises(errors.TaskTimeout):
        Cluster(unreachable()).wait(1.0, loss_timeout_s=30.0)


@pytest.mark.parametrize("error", [unreachable(500), errors.MissingPrivilege("no")])
def test_refusal_is_not_waited_out(error):
    cluster = Cluster(RUNNING, error)
    with pytest.raises(type(error)):
        cluster.wait()
    assert len(cluster.slept) == 1


def test_read_log_asks_for_page_after_page(monkeypatch):
    monkeypatch.setattr(tasks, "_LOG_PAGE", 10)
    cluster = Cluster(RUNNING, log=[str(n) for n in range(25)])
    assert tasks.read_log(cluster, UPID) == [str(n) for n in range(25)]
    assert [params["start"] for _unused, params in cluster.asked] == [0, 10, 20]


@pytest.mark.parametrize(
    ("text", "node", "kind", "subject", "user"),
    [
        (UPID, "pve1", "vzstart", "100", "ops@pve!play"),
        ("UPID:n:0:0:0:download::root@pam:", "n", "download", "", "root@pam"),
        ("UPID:n:0:0:0:imgdel:100@local:x:root@pam:", "n", "imgdel", "100@local:x", "root@pam"),
    ],
)
def test_upid_parse(text, node, kind, subject, user):
    assert tasks.Upid.parse(text) == tasks.Upid(text, node, kind, subject, user)


@pytest.mark.parametrize("text", ["", "UPID:", "OK", None, 7, "UPID::0:0:0:x:1:u:", "XPID:n:0:0:0:x:1:u:"])
def test_upid_parse_refuses_what_is_none(text):
    with pytest.raises(errors.InvalidSpec):
        tasks.Upid.parse(text)


def test_upid_reads_well_without_a_subject():
    assert str(tasks.Upid.parse("UPID:n:0:0:0:download::root@pam:")) == "task download on node 'n'"
