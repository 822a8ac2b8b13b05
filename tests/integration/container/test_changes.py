# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change what is asked of real containers, and see what that costs them."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.rootfs import unmount_below
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.tests.support import images


def memory_limit(box, name="c"):
    state = box.engine.state(name)
    tree = CgroupTree()
    file = "memory.max" if tree.is_v2 else "memory.limit_in_bytes"
    with open(tree.path(state.cgroup, "memory", file), encoding="ascii") as stream:
        return int(stream.read())


def test_limits_change_under_a_running_container(box):
    pid = box.ensure(resources={"memory": "64MiB"})["container"]["pid"]
    planned = box.ensure(resources={"memory": "128MiB"}, check=True)
    done = box.ensure(resources={"memory": "128MiB"})
    assert (
        planned["diff"]
        == done["diff"]
        == {
            "before": {"resources.memory": 64 << 20},
            "after": {"resources.memory": 128 << 20},
        }
    )
    assert done["container"]["pid"] == pid
    assert memory_limit(box) == 128 << 20
    assert box.ensure(resources={"memory": "128MiB"})["changed"] is False
    # A restart keeps them.
    box.change("restarted")
    assert memory_limit(box) == 128 << 20
    lifted = box.ensure()
    assert lifted["changed"] is True
    assert memory_limit(box) > 1 << 40


@pytest.mark.parametrize("state", ["created", "paused", "stopped"])
def test_limits_change_in_every_state(box, state):
    pid = box.ensure(state=state, resources={"memory": "64MiB"})["container"]["pid"]
    done = box.ensure(state=state, resources={"memory": "32MiB"})
    assert done["changed"] is True
    assert done["container"]["pid"] == pid
    assert done["container"]["state"] == state
    box.ensure(resources={"memory": "32MiB"})
    assert memory_limit(box) == 32 << 20


def test_limits_of_a_container_that_is_only_named(box):
    pid = box.ensure(resources={"memory": "64MiB", "pids_limit": 50})["container"]["pid"]
    done = box.change(resources={"memory": "96MiB", "pids_limit": 50})
    assert done["changed"] is True
    assert done["container"]["pid"] == pid
    assert memory_limit(box) == 96 << 20
    assert box.change(resources={"memory": "96MiB", "pids_limit": 50})["changed"] is False
    assert box.ensure(resources={"memory": "96MiB", "pids_limit": 50})["changed"] is False


def test_impossible_limits_leave_the_container_alone(box):
    pid = box.ensure(resources={"memory": "64MiB"})["container"]["pid"]
    refused = box.refuse(resources={"memory": "64MiB", "memory_swap": "32MiB"})
    assert refused["error"] == "invalid_spec"
    (seen,) = box.look()
    assert seen["pid"] == pid
    assert memory_limit(box) == 64 << 20
    assert box.ensure(resources={"memory": "64MiB"})["changed"] is False


def test_labels_and_times_change_in_the_record_alone(box):
    pid = box.ensure(labels={"a": "1", "b": "2"})["container"]["pid"]
    done = box.ensure(labels={"a": "1", "c": "3"}, stop_timeout="3s", health_check={"retries": 2})
    assert done["container"]["labels"] == {"a": "1", "c": "3"}
    assert done["container"]["pid"] == pid
    assert done["diff"] == {
        "before": {"labels.b": "2"},
        "after": {"labels.c": "3", "stop_timeout": 3.0, "health_check.retries": 2},
    }
    with open(os.path.join(done["container"]["bundle"], "config.json"), encoding="utf-8") as stream:
        annotations = json.load(stream)["annotations"]
    assert annotations["c"] == "3"
    assert "b" not in annotations


def test_labels_of_the_image_come_back(box, image):
    task = {"image": f"oci:{image.path}:latest"}
    assert box.ensure(**task, labels={"from": "task"})["container"]["labels"] == {"from": "task"}
    done = box.ensure(**task)
    assert done["container"]["labels"] == {"from": "image"}
    with open(os.path.join(done["container"]["bundle"], "config.json"), encoding="utf-8") as stream:
        assert json.load(stream)["annotations"]["from"] == "image"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"env": {"A": "2"}}, "env.A"),
        ({"env": {}}, "env.A"),
        ({"env": {"A": "1"}, "cwd": "/tmp"}, "cwd"),
        ({"env": {"A": "1"}, "mounts": [{"type": "tmpfs", "destination": "/scratch"}]}, "mounts./scratch"),
        ({"env": {"A": "1"}, "security": {"read_only_rootfs": True}}, "security.read_only_rootfs"),
        ({"env": {"A": "1"}, "network": "host"}, "network"),
    ],
)
def test_what_needs_a_new_container_gets_one(box, change, key):
    before = box.ensure(env={"A": "1"})["container"]
    planned = box.ensure(**change, check=True)
    done = box.ensure(**change)
    assert planned["diff"] == done["diff"]
    assert {*done["diff"]["before"], *done["diff"]["after"]} == {key, "state"} - {"state"}
    assert done["container"]["pid"] != before["pid"]
    assert done["container"]["state"] == "running"
    assert box.ensure(**change)["changed"] is False


def test_a_new_log_restarts_and_keeps_the_root_file_system(box):
    pid = box.ensure()["container"]["pid"]
    box.execute("touch", "/kept")
    path = str(box.top / "new.log")
    done = box.ensure(log={"path": path})
    assert done["container"]["pid"] != pid
    assert box.execute("ls", "/kept") == "/kept\n"
    box.await_log(["up"])
    assert box.ensure(log={"path": path})["changed"] is False


def test_recreate_never_names_what_it_would_need(box):
    pid = box.ensure(env={"A": "1"})["container"]["pid"]
    refused = box.refuse(env={"A": "2"}, cwd="/tmp", recreate="never")
    assert refused["error"] == "wrong_state"
    assert "env.A, cwd" in refused["msg"]
    assert box.look()[0]["pid"] == pid
    # What disturbs nothing is done.
    done = box.ensure(env={"A": "1"}, resources={"memory": "64MiB"}, recreate="never")
    assert (done["changed"], done["container"]["pid"]) == (True, pid)


def test_recreate_always(box):
    pid = box.ensure()["container"]["pid"]
    done = box.ensure(recreate="always")
    assert done["changed"] is True
    assert done["container"]["pid"] != pid


def test_comparisons(box):
    box.ensure(env={"A": "1", "B": "2"}, labels={"a": "1"})
    assert (
        box.ensure(env={"A": "1"}, labels={"a": "1"}, comparisons={"env": "allow_more_present"})["changed"]
        is False
    )
    assert box.ensure(env={"C": "3"}, comparisons={"*": "ignore"})["changed"] is False
    done = box.ensure(env={"X": "1"}, comparisons={"env": "ignore", "labels": "strict"})
    assert done["diff"]["before"] == {"labels.a": "1"}
    # The record still says what the container has.
    assert box.ensure(env={"A": "1", "B": "2"})["changed"] is False


def test_secrets_are_nowhere_but_in_the_container(box):
    task = {
        "secret_env": {"TOKEN": "hunter2-env"},
        "mounts": [{"type": "secret", "destination": "/run/secret", "secret": "hunter2-file"}],
    }
    results = [box.ensure(**task), box.ensure(**task)]
    assert [result["changed"] for result in results] == [True, False]
    assert box.execute("cat", "/run/secret") == "hunter2-file"
    changed = {**task, "secret_env": {"TOKEN": "hunter2-new"}}
    results += [box.ensure(**changed, check=True), box.ensure(**changed)]
    assert results[-1]["diff"]["after"]["secret_env.TOKEN"].startswith("VALUE HIDDEN")
    for result in results:
        result.pop("invocation", None)
        assert "hunter2" not in json.dumps(result)
    record = os.path.join(results[-1]["container"]["bundle"], "pvecri.json")
    with open(record, encoding="utf-8") as stream:
        assert "hunter2" not in stream.read()


def test_secrets_that_a_reboot_took_come_back(box):
    task = {"mounts": [{"type": "secret", "destination": "/run/secret", "secret": "hunter2"}]}
    box.ensure(**task)
    box.change("stopped")
    secrets = os.path.join(box.paths.run_dir, "secrets")
    unmount_below(secrets)
    shutil.rmtree(secrets)
    refused = box.run("crun_container", {"name": "c", **box.places()})
    assert refused["failed"]
    assert "secrets of container 'c' are gone" in refused["msg"]
    assert box.ensure(**task)["container"]["state"] == "running"
    assert box.execute("cat", "/run/secret") == "hunter2"


def test_image_is_compared_by_content(box, tmp_path):
    layout = images.busybox_image(tmp_path / "layout", config={"Cmd": ["sleep", "1000"]})
    first = box.ensure(image=f"oci:{layout.path}:latest", stop_timeout="0")
    assert first["container"]["image"]["reference"] == f"oci:{layout.path}:latest"
    assert first["container"]["image"]["digest"].startswith("sha256:")
    # The same image by another name is no change.
    layout.add_image("other", [images.busybox_layer()], {"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin"]})
    assert box.ensure(image=f"oci:{layout.path}:other", stop_timeout="0")["changed"] is False
    # Another image by the same name is one.
    layout.add_image("latest", [images.busybox_layer()], {"Cmd": ["sleep", "2000"], "Env": ["PATH=/bin"]})
    planned = box.ensure(image=f"oci:{layout.path}:latest", stop_timeout="0", check=True)
    assert planned["changed"] is True
    assert "not in the image store" in planned["diff"]["after"]["image"]
    done = box.ensure(image=f"oci:{layout.path}:latest", stop_timeout="0")
    assert done["changed"] is True
    assert done["container"]["image"]["digest"] in done["diff"]["after"]["image"]
    assert done["container"]["image"]["id"] != first["container"]["image"]["id"]


def test_image_that_left_the_store_is_not_missed(box, image):
    task = {"image": f"oci:{image.path}:latest"}
    pid = box.ensure(**task)["container"]["pid"]
    for entry in box.engine.store.list():
        for name in entry.names:
            box.engine.store._own.untag(name)
    done = box.ensure(**task)
    assert (done["changed"], done["container"]["pid"]) == (False, pid)


def test_source_changes_its_kind(box, image):
    box.ensure()
    done = box.ensure(image=f"oci:{image.path}:latest")
    assert {"directory.path", "command"} <= done["diff"]["before"].keys()
    assert "image" in done["diff"]["after"]
    assert box.ensure(image=f"oci:{image.path}:latest")["changed"] is False


def test_a_change_can_keep_a_container_stopped(box):
    box.ensure()
    done = box.ensure(state="stopped", env={"A": "1"})
    assert done["container"]["state"] == "stopped"
    assert box.ensure(state="stopped", env={"A": "1"})["changed"] is False
    assert box.ensure(env={"A": "1"})["container"]["state"] == "running"
