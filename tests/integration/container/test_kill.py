# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill the module at every step of its way, and see the next run complete what it left.

The module runs in a process of its own, in which an audit hook counts what changes
the host (files made, renamed or removed, programs started, mounts) and kills the
process right before the n-th such act.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime

KILLER = """
import os, signal, sys

_COUNTED = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "subprocess.Popen", "ctypes.call_function", "socket.bind",
}
_left = [int(os.environ["KILL_BEFORE"])]
_trace = os.open(os.environ["KILL_TRACE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _hook(event, args):
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if not writes and event not in _COUNTED:
        return
    if not any("pvecri-" in str(arg) for arg in args) and event not in {"subprocess.Popen"}:
        return
    os.write(_trace, f"{event} {args!r}"[:200].encode() + b"\\n")
    _left[0] -= 1
    if _left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(_hook)
"""

#: Every so many acts are tried; set PVECRI_TEST_EVERY_KILL=1 to try them all.
STRIDE = 1 if os.environ.get("PVECRI_TEST_EVERY_KILL") else 13


@pytest.fixture
def kill(box):
    """Return a function that runs a task and kills it before its n-th act; None: it ended before that."""
    folder = box.top / "hook"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(KILLER)

    def run(task, number):
        trace = folder / f"trace{number}"
        child = box.start_apart(
            task,
            env={
                "PYTHONPATH": ":".join([str(folder), *sys.path]),
                "KILL_BEFORE": str(number),
                "KILL_TRACE": str(trace),
            },
        )
        out, err = child.communicate(timeout=60)
        if child.returncode == -signal.SIGKILL:
            return trace.read_text().splitlines()[-1]
        assert '"failed": true' not in out, out
        assert out, err
        return None

    return run


SCENARIOS = {
    "make": ([], {}),
    "recreate": ([{}], {"env": {"A": "1"}}),
    "update": ([{"resources": {"memory": "64MiB"}}], {"resources": {"memory": "96MiB"}}),
    "relog": ([{}], {"stop_timeout": "1s", "etc_hosts": {"a": "10.0.0.1"}}),
    "restart": ([{}], {"state": "restarted"}),
    "stop": ([{}], {"state": "stopped"}),
    "remove": ([{}], {"state": "absent"}),
    "job": ([], {"command": ["sh", "-c", "echo done"], "detach": False}),
}


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_killed_anywhere(box, kill, scenario):
    before, change = SCENARIOS[scenario]
    # Other acts in each scenario, since all begin alike.
    number = 1 + 3 * list(SCENARIOS).index(scenario) % STRIDE
    first = number
    while True:
        for params in before:
            box.ensure(**params)
        task = box.whole(**change)
        act = kill(task, number)
        repaired = box.run("crun_container", task, diff=True)
        assert not repaired["failed"], (number, act, repaired)
        assert_as_asked(box, repaired, change, (number, act))
        again = box.run("crun_container", {**task, "state": quiet(task)})
        assert not again["failed"], (number, act, again)
        assert again["changed"] is False, (number, act, again["actions"])
        box.change("absent", stop_timeout="0")
        assert (number, act, box.leftovers()) == (number, act, [])
        assert (number, act, box.mounts()) == (number, act, [])
        assert (number, act, box.processes()) == (number, act, [])
        if act is None:
            break
        number += STRIDE
    assert number > first, "nothing was ever counted"


def quiet(task):
    """Return the state that a task has reached, for a run that must find nothing to do."""
    state = task.get("state", "started")
    return "started" if state == "restarted" else state


def assert_as_asked(box, result, change, what):
    state = change.get("state", "started")
    container = result["container"]
    expected = {"stopped": "stopped", "absent": None}.get(state, "running")
    if not change.get("detach", True):
        assert (result["rc"], result["stdout"]) == (0, "done\n"), what
        expected = "stopped"
    assert container.get("state") == expected, what
    if expected == "running":
        assert box.execute("echo", "works") == "works\n", what
        if "resources" in change:
            assert memory_limit(box) == 96 << 20, what
        if "env" in change:
            assert "A=1" in box.execute("env"), what
    assert container.get("problems", []) == [], what


def memory_limit(box):
    from ansible_collections.pvecri.runtime.plugins.module_utils.container.stats import read_stats
    from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree

    return read_stats(box.engine.state("c").cgroup, CgroupTree())["memory_limit_bytes"]


def test_an_update_that_was_cut_short_is_taken_back_as_well(box, kill):
    """With the new limit in the kernel and the old one on record, a run that wants the old one acts."""
    old, new = {"resources": {"memory": "64MiB"}}, {"resources": {"memory": "96MiB"}}
    was_between = False
    for number in range(1, 60):
        box.ensure(**old)
        act = kill(box.whole(**new), number)
        was_between = was_between or memory_limit(box) == 96 << 20
        box.ensure(**old)
        assert memory_limit(box) == 64 << 20, (number, act)
        assert box.ensure(**old)["changed"] is False
        if act is None:
            break
    assert was_between


def test_killed_at_any_time(box):
    """Killed while crun or conmon is at work, too: these go on, and the next run takes what they made."""
    task = box.whole()
    done = box.start_apart(task)
    begun = time.monotonic()
    done.communicate(timeout=60)
    whole = time.monotonic() - begun
    for part in range(1, 11):
        box.change("absent", stop_timeout="0")
        child = box.start_apart(task)
        time.sleep(whole * (0.5 + part / 20))
        child.kill()
        child.communicate(timeout=60)
        repaired = box.ensure()
        assert repaired["container"]["state"] == "running", part
        assert repaired["container"]["problems"] == [], part
        assert box.execute("echo", "works") == "works\n"
        assert len(box.processes()) == 1, part
        assert box.ensure()["changed"] is False
    box.change("absent", stop_timeout="0")
    box.assert_clean()


def test_start_that_a_killed_run_is_still_doing(box, monkeypatch):
    box.ensure(state="created")
    start = CrunRuntime.start

    def twice(runtime, name):
        start(runtime, name)
        start(runtime, name)

    monkeypatch.setattr(CrunRuntime, "start", twice)
    assert box.ensure()["container"]["state"] == "running"
    monkeypatch.setattr(CrunRuntime, "start", lambda runtime, name: runtime.kill("nobody"))
    box.change("stopped")
    assert "no container 'nobody'" in box.refuse()["msg"]
