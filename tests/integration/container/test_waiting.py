# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run jobs to their end, and wait for services to be healthy."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout, Conflict
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked


def job(script, **params):
    return {"command": ["sh", "-c", script], "detach": False, **params}


def test_job_returns_what_it_said(box):
    done = box.ensure(**job("echo out; echo err >&2; printf 'no end'"))
    assert done["changed"] is True
    assert (done["rc"], done["stdout"], done["stderr"]) == (0, "out\nno end", "err\n")
    assert (done["stdout_lines"], done["stderr_lines"]) == (["out", "no end"], ["err"])
    assert done["container"]["state"] == "stopped"
    assert done["container"]["exit_code"] == 0


def test_job_that_succeeded_is_not_repeated(box):
    task = job("echo once >> /count; cat /count")
    first = box.ensure(**task)
    again = box.ensure(**task)
    assert again["changed"] is False
    assert (again["rc"], again["stdout"]) == (0, "once\n") == (first["rc"], first["stdout"])
    assert box.ensure(**task, rerun="always")["stdout"] == "once\nonce\n"
    changed = box.ensure(**job("echo another"))
    assert (changed["changed"], changed["stdout"]) == (True, "another\n")


def test_job_that_failed_is_repeated(box):
    task = job("echo tried; test -e /ok")
    for _attempt in range(2):
        refused = box.refuse(**task)
        assert refused["error"] == "container_failed"
        assert refused["msg"] == "container 'c' ended with exit code 1"
        assert (refused["rc"], refused["stdout"], refused["changed"]) == (1, "tried\n", True)
        assert refused["container"]["exit_code"] == 1
    assert box.refuse(**task, rerun="never")["changed"] is False


def test_job_out_of_time(box):
    task = job("echo begun; trap 'echo asked; exit 4' TERM; while :; do sleep 0.05; done", timeout="300ms")
    refused = box.refuse(**task)
    assert refused["error"] == "timeout"
    assert "did not end within 0.3 s and was stopped" in refused["msg"]
    assert (refused["rc"], refused["stdout_lines"][0]) == (4, "begun")
    assert box.look()[0]["state"] == "stopped"
    assert box.processes() == []


def test_job_out_of_time_is_stopped_under_the_lock_of_its_container(box, monkeypatch):
    lock = os.path.join(box.paths.locks, "container-c.lock")
    held = []
    stop = Engine.stop

    def stopped(engine, name):
        try:
            with locked(lock, timeout_s=0):
                held.append(False)
        except Conflict:
            held.append(True)
        stop(engine, name)

    monkeypatch.setattr(Engine, "stop", stopped)
    assert box.refuse(**job("sleep 1000", timeout="100ms", stop_timeout=0))["error"] == "timeout"
    assert held == [True]


@pytest.mark.parametrize("what", ["made anew", "removed"])
def test_job_out_of_time_spares_what_another_task_made_of_its_name(box, monkeypatch, what):
    wait = CrunRuntime.wait

    def overtaken(runtime, name, timeout_s=None):
        monkeypatch.setattr(CrunRuntime, "wait", wait)
        if what == "removed":
            box.change("absent")
        else:
            box.ensure(hostname="another")
        raise CommandTimeout("late")

    monkeypatch.setattr(CrunRuntime, "wait", overtaken)
    refused = box.refuse(**job("sleep 1000", timeout="100ms", stop_timeout=0))
    assert refused["error"] == "container_failed"
    assert "removed or made anew by another task" in refused["msg"]
    assert refused["rc"] is None
    if what == "removed":
        assert box.look() == []
    else:
        assert box.look()[0]["state"] == "running"


def test_job_that_another_task_removes_while_it_is_waited_for(box):
    task = box.whole(**job("sleep 1000", stop_timeout=0))
    child = box.start_apart(task)
    box.await_running()
    box.change("absent")
    result = json.loads(child.communicate(timeout=60)[0])
    assert result["failed"] is True
    assert result["error"] == "container_failed"
    # What it sees last: the end, or that nothing is left of it.
    assert "exit code 137" in result["msg"] or "removed or made anew by another task" in result["msg"]


def test_job_killed_for_memory_says_so(box):
    script = "x=$(head -c 64m /dev/zero | tr '\\0' x); echo ${#x}"
    refused = box.refuse(**job(script, resources={"memory": "16MiB", "memory_swap": "16MiB"}))
    assert refused["rc"] != 0
    if refused["container"]["oom_killed"]:
        assert "want of memory" in refused["msg"]


def test_job_that_runs_already_is_waited_for(box):
    task = box.whole(**job("echo begun; while ! test -e /go; do sleep 0.02; done; echo done"))
    child = box.start_apart(task)
    box.await_running()
    child.kill()
    child.communicate()
    opener = threading.Timer(0.3, lambda: box.execute("touch", "/go"))
    opener.start()
    done = box.ensure(**{k: v for k, v in task.items() if k in {"command", "detach"}})
    opener.join()
    assert (done["changed"], done["rc"], done["stdout"]) == (False, 0, "begun\ndone\n")


def test_job_in_check_mode_does_not_run(box):
    planned = box.ensure(**job("echo hi"), check=True)
    assert planned["changed"] is True
    assert "rc" not in planned
    box.ensure(**job("echo hi"))
    assert box.ensure(**job("echo hi"), check=True)["changed"] is False


def test_detached_job_that_is_done(box):
    task = {"command": ["true"], "rerun": "failed"}
    box.ensure(**task)
    box.engine.runtime.wait("c", 10)
    assert box.ensure(**task)["changed"] is False
    assert box.ensure(command=["true"])["changed"] is True


def check(*command, **more):
    return {"command": list(command), "interval": "200ms", **more}


def test_healthy_waits(box):
    script = "sleep 0.3; touch /healthy; while :; do sleep 0.05; done"
    task = {
        "state": "healthy",
        "command": ["sh", "-c", script],
        "stop_timeout": "0",
        "health_check": check("sh", "-c", "echo looking; test -e /healthy", retries=50),
    }
    planned = box.ensure(**task, check=True)
    assert planned["changed"] is True
    assert "health" not in planned
    done = box.ensure(**task)
    assert done["changed"] is True
    assert done["health"] == {"status": "healthy", "rc": 0, "output": "looking\n"}
    again = box.ensure(**task)
    assert (again["changed"], again["health"]["status"]) == (False, "healthy")


def test_unhealthy_says_why(box):
    refused = box.refuse(
        state="healthy", health_check=check("sh", "-c", "echo out; echo err >&2; exit 3", retries=2)
    )
    assert refused["error"] == "unhealthy"
    assert "is unhealthy" in refused["msg"]
    assert refused["health_log"] == {"rc": 3, "output": "out\nerr\n"}
    assert box.look()[0]["state"] == "running"


def test_healthy_has_a_time_limit(box):
    began = time.monotonic()
    refused = box.refuse(state="healthy", wait_timeout="300ms", health_check=check("false", retries=999))
    assert "did not become healthy within 0.3 s" in refused["msg"]
    assert time.monotonic() - began < 30


def test_check_that_hangs_counts_as_failed(box):
    refused = box.refuse(
        state="healthy", health_check=check("sleep", "60", timeout="100ms", interval="100ms", retries=1)
    )
    assert refused["health_log"] == {"rc": None, "output": "no answer within 0.1 s"}
    assert "sleep 60" not in box.execute("ps", "-o", "args")


def test_check_that_is_no_program_is_reported(box):
    refused = box.refuse(state="healthy", health_check=check("/no/such/program", retries=1))
    assert "/no/such/program" in refused["msg"]


def test_container_that_ends_while_its_health_is_waited_for(box):
    refused = box.refuse(
        state="healthy",
        command=["sh", "-c", "echo cannot start >&2; sleep 0.2; exit 9"],
        health_check=check("false", retries=99),
    )
    assert refused["error"] == "wrong_state"
    assert "it ended with exit code 9" in refused["msg"]
    assert "cannot start" in refused["msg"]


def test_health_check_of_the_image(box, image):
    task = {"image": f"oci:{image.path}:latest", "state": "healthy"}
    refused = box.refuse(**task)
    assert refused["error"] == "unhealthy"
    box.execute("touch", "/healthy")
    assert box.ensure(**task)["health"]["status"] == "healthy"
    assert box.change("healthy")["health"]["status"] == "healthy"
    disabled = box.refuse(**task, health_check={"disabled": True})
    assert disabled["field"] == "health_check"
    overruled = box.ensure(**task, health_check={"command": ["true"]})
    assert overruled["health"]["rc"] == 0


@pytest.mark.parametrize("state", ["created", "paused", "stopped"])
def test_healthy_from_every_state(box, state):
    box.ensure(state=state, health_check=check("true"))
    done = box.change("healthy")
    assert (done["changed"], done["container"]["state"]) == (True, "running")
