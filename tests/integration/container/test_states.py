# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take real containers from every state to every other."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.procfs import is_same_process

STATES = {
    "created": "created",
    "started": "running",
    "paused": "paused",
    "stopped": "stopped",
    "absent": None,
}


@pytest.mark.parametrize("after", list(STATES))
@pytest.mark.parametrize("before", list(STATES))
def test_state_to_state(box, before, after):
    box.ensure(state=before)
    # What runs, is paused or has been stopped is a container that exists.
    expected = STATES[before] if after == "created" and before != "absent" else STATES[after]
    is_changed = expected != STATES[before]

    planned = box.ensure(state=after, check=True)
    assert planned["changed"] is is_changed
    assert planned["container"].get("state") == expected
    assert box.ensure(state=before, check=True)["changed"] is False

    done = box.ensure(state=after)
    assert done["changed"] is is_changed
    assert done["actions"] == planned["actions"]
    assert done["diff"] == planned["diff"]
    if is_changed:
        assert done["diff"]["before"]["state"] == (STATES[before] or "absent")
        assert done["diff"]["after"]["state"] == (expected or "absent")
    assert done["container"].get("state") == expected
    container = done["container"]
    if expected in {"created", "running", "paused"}:
        assert is_same_process(container["pid"], 0)
    elif expected == "stopped":
        assert container["pid"] is None
        assert container["started_at"] is None or container["exit_code"] is not None
    else:
        box.assert_clean()

    assert box.ensure(state=after)["changed"] is False


@pytest.mark.parametrize("before", ["created", "started", "paused", "stopped", "absent"])
def test_restarted(box, before):
    pid = box.ensure(state=before)["container"].get("pid")
    done = box.ensure(state="restarted")
    assert done["changed"] is True
    assert done["container"]["state"] == "running"
    assert done["container"]["pid"] != pid
    assert box.ensure(state="restarted", check=True)["changed"] is True


@pytest.mark.parametrize("state", ["created", "started", "paused", "stopped", "restarted"])
def test_state_alone_needs_a_container(box, state):
    result = box.run("crun_container", {"name": "c", "state": state, **box.places()})
    assert result["failed"]
    assert result["error"] == "not_found"
    assert f"no container 'c' to be {state}" in result["msg"]
    box.assert_clean()


def test_state_alone_of_a_container(box):
    pid = box.ensure()["container"]["pid"]
    assert box.change("started")["changed"] is False
    assert box.change("paused")["container"]["pid"] == pid
    assert box.change("stopped")["container"]["exit_code"] == 0
    assert box.change("stopped")["changed"] is False
    assert box.change("started")["container"]["state"] == "running"
    assert box.change("absent")["container"] == {}
    assert box.change("absent")["changed"] is False
    box.assert_clean()


def test_root_file_system_outlives_the_processes(box):
    box.ensure()
    box.execute("sh", "-c", "echo mine > /kept")
    for state in ("restarted", "stopped", "started"):
        box.change(state)
    assert box.execute("cat", "/kept") == "mine\n"


def test_a_container_that_was_killed_is_started_again(box):
    first = box.ensure()["container"]
    os.kill(first["pid"], 9)
    box.engine.runtime.wait("c", 10)
    (seen,) = box.look()
    assert (seen["state"], seen["exit_code"]) == ("stopped", 137)
    again = box.ensure()
    assert again["changed"] is True
    assert again["container"]["state"] == "running"
    assert again["container"]["pid"] != first["pid"]


def test_stopping_takes_signal_and_time(box):
    stubborn = ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"]
    box.ensure(command=stubborn, stop_timeout="200ms")
    assert box.change("stopped")["container"]["exit_code"] == 137
    polite = ["sh", "-c", "trap 'exit 7' USR1; while :; do sleep 0.05; done"]
    box.ensure(command=polite, stop_signal="USR1")
    assert box.change("stopped")["container"]["exit_code"] == 7


def test_stopping_takes_what_the_task_says(box):
    box.ensure(command=["sh", "-c", "trap '' TERM; trap 'exit 3' INT; while :; do sleep 0.05; done"])
    assert box.change("stopped", stop_signal="SIGINT")["container"]["exit_code"] == 3
    box.change("started")
    assert box.change("absent", stop_timeout="0")["changed"] is True
    box.assert_clean()


def test_stop_signal_of_the_image_counts(box, image):
    command = ["sh", "-c", "trap 'exit 5' INT; while :; do sleep 0.05; done"]
    box.ensure(image=f"oci:{image.path}:latest", command=command)
    assert box.change("stopped")["container"]["exit_code"] == 5


def test_signal(box):
    command = ["sh", "-c", "trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done"]
    pid = box.ensure(command=command)["container"]["pid"]
    planned = box.change(signal="HUP", check=True)
    sent = box.change(signal="hup")
    assert planned["changed"] is sent["changed"] is True
    assert sent["diff"]["after"] == {"signal": "HUP"}
    assert sent["container"]["pid"] == pid
    box.await_log(["up", "hup"])
    box.change("stopped", stop_timeout="0")
    assert box.change("stopped", signal="HUP")["changed"] is False


@pytest.mark.parametrize(
    ("params", "field", "text"),
    [
        ({"signal": "NOPE"}, "signal", "NOPE"),
        ({"restart_policy": "now"}, "restart_policy", "is not a restart policy"),
        ({"published_ports": ["80"]}, "published_ports[0]", "is not a published port"),
        ({"published_ports": ["80:80"]}, "published_ports", "network=none"),
        ({"network": "a b"}, "network", "names no network"),
        ({"network": "container:c"}, "network", "its own"),
        ({"stop_timeout": "soon"}, "stop_timeout", "is not a duration"),
        ({"wait_timeout": "-1"}, "wait_timeout", "is not a duration"),
        ({"timeout": "5s"}, "timeout", "detach=false"),
        ({"timeout": "0", "detach": False}, "timeout", "more than 0"),
        ({"detach": False, "state": "paused"}, "detach", "waits for no end"),
        ({"detach": False, "restart_policy": "always"}, "restart_policy", "detach=false"),
        ({"comparisons": {"envv": "strict"}}, "comparisons.envv", "no such key"),
        ({"comparisons": {"cwd": "allow_more_present"}}, "comparisons.cwd", "single value"),
        ({"log": {"path": "relative"}}, "log.path", "absolute"),
        ({"log": {"max_size": "1"}}, "log.max_size", "too few"),
        ({"log": {"max_files": 2}}, "log.max_files", "needs log.max_size"),
        ({"log": {"max_size": "1MiB", "max_files": -1}}, "log.max_files", "at least"),
        ({"health_check": {"command": []}}, "health_check.command", "is empty"),
        ({"health_check": {"retries": 0}}, "health_check.retries", "at least 1"),
        ({"health_check": {"interval": "0"}}, "health_check.interval", "more than 0"),
        ({"state": "healthy"}, "health_check", "neither the task nor the image"),
        ({"dns_servers": ["here"]}, "dns_servers[0]", "not an IP address"),
        ({"etc_hosts": {"db": "there"}}, "etc_hosts.db", "not an IP address"),
        ({"resources": {"memory_swap": "64MiB"}}, "resources.memory_swap", "memory"),
        ({"resources": {"cpu_shares": -1}}, "resources.cpu_shares", ""),
        ({"user": "nobody-here"}, "user", "nobody-here"),
        ({"name": "../c"}, "name", "not a name"),
    ],
)
def test_bad_input_changes_nothing(box, params, field, text):
    result = box.refuse(**params)
    assert result["error"] == "invalid_spec"
    assert field in result["field"]
    assert text in result["msg"]
    assert [path for path in box.leftovers() if "/network/" not in path] == []
    assert box.processes() == box.mounts() == []


def test_a_request_that_cannot_be_fulfilled_does_not_cost_the_container(box):
    pid = box.ensure()["container"]["pid"]
    for bad in (
        {"user": "nobody-here"},
        {"network": "no-such-network"},
        {"network": "container:nobody"},
        {"image": "oci:/nowhere:latest"},
        {"tarball": "/nowhere.tar"},
        {"directory": "/nowhere"},
        {"mounts": [{"source": "/nowhere", "destination": "/data"}]},
    ):
        result = box.refuse(**bad)
        assert result["msg"], bad
        (seen,) = box.look()
        assert (seen["pid"], seen["state"]) == (pid, "running"), bad
    assert box.ensure()["changed"] is False


def test_unknown_options_and_wrong_types(box):
    for bad in ({"imagee": "x"}, {"detach": "perhaps"}, {"env": "A"}, {"state": "gone"}):
        result = box.refuse(**bad)
        assert next(iter(bad)) in result["msg"]
    result = box.refuse(image="oci:/x", tarball="/y")
    assert "mutually exclusive" in result["msg"]


def test_log_path_and_rotation(box):
    path = box.top / "mylog" / "out.log"
    command = ["sh", "-c", "i=0; while [ $i -lt 900 ]; do echo line $i of a longer log; i=$((i+1)); done"]
    box.ensure(command=command, detach=False, log={"path": str(path), "max_size": "16KiB", "max_files": 3})
    files = sorted(file.name for file in path.parent.iterdir())
    assert "out.log" in files
    assert all(file.stat().st_size <= 17000 for file in path.parent.iterdir())
    (seen,) = box.look(log_lines=2)
    assert seen["log"] == ["line 898 of a longer log", "line 899 of a longer log"]
    box.change("absent")
    assert path.exists()
    assert box.leftovers() == []


def test_names_keep_containers_apart(box):
    for name in ("a", "b.c", "D_e-1"):
        box.ensure(name=name)
    assert [seen["name"] for seen in box.look()] == ["D_e-1", "a", "b.c"]
    box.change("absent", name="a")
    assert [seen["name"] for seen in box.look()] == ["D_e-1", "b.c"]


def test_info_filters(box, image):
    box.ensure(name="web-1", labels={"app": "shop", "n": "1"})
    box.ensure(name="web-2", labels={"app": "shop"}, state="stopped")
    box.ensure(name="db", image=f"oci:{image.path}:latest")

    def names(**params):
        return [seen["name"] for seen in box.look(**params)]

    assert names() == ["db", "web-1", "web-2"]
    assert names(name=["web-*"]) == ["web-1", "web-2"]
    assert names(name=["db", "nobody"]) == ["db"]
    assert names(labels={"app": "shop"}) == ["web-1", "web-2"]
    assert names(labels={"n": None}) == ["web-1"]
    assert names(labels={"app": "shop", "n": "2"}) == []
    assert names(labels={"from": "image"}) == ["db"]
    assert names(states=["stopped", "paused"]) == ["web-2"]
    assert names(name=["web-*"], states=["running"], labels={"app": "shop"}) == ["web-1"]


def test_info_stats_and_log(box, monkeypatch):
    box.ensure(resources={"memory": "64MiB"})
    box.ensure(name="still", state="stopped")
    box.await_log(["up"])
    running, still = box.look(stats=True, log_lines=5)
    assert running["stats"]["memory_limit_bytes"] == 64 << 20
    assert 0 < running["stats"]["memory_working_set_bytes"] <= running["stats"]["memory_bytes"]
    assert running["stats"]["cpu_usage_ns"] > 0
    assert running["stats"]["pids"] >= 1
    assert running["log"] == ["up"]
    assert (still["stats"], still["log"]) == (None, [])
    assert "log" not in box.look()[0]
    assert "stats" not in box.look()[0]


def test_info_and_unchanged_runs_start_no_process(box, image, monkeypatch):
    task = {"image": f"oci:{image.path}:latest", "resources": {"memory": "64MiB"}}
    box.ensure(**task)
    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen.__init__", refuse_process)
        assert box.ensure(**task)["changed"] is False
        assert box.change("started")["changed"] is False
        assert len(box.look(stats=True, log_lines=3)) == 1


def refuse_process(*_args, **_more):
    raise AssertionError("a process was started")


def test_info_of_a_bad_number(box):
    result = box.run("crun_container_info", {**box.places(), "log_lines": -1})
    assert (result["failed"], result["field"]) == (True, "log_lines")


def test_check_mode_touches_nothing(box):
    for state in ("created", "started", "stopped", "paused", "restarted", "absent"):
        box.ensure(state=state, check=True)
    assert not os.path.exists(box.paths.state_dir)
    assert not os.path.exists(box.paths.run_dir)
    assert list(pathlib.Path(box.top).iterdir()) == []
