# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lead containers through their lives, the odd ways included."""

from __future__ import annotations

import json
import threading
import time

import pytest

from ansible_collections.pvecri.runtime.tests.integration.endpoint.containers.conftest import USERS
from pvecri.api import cri_pb2 as pb

OOM = "x=a; while true; do x=$x$x; done"


def test_states_times_and_logs(lab):
    pod = lab.pod()
    container = lab.create(pod, "echo out; echo err >&2; printf part; exit 3", labels={"a": "b"})
    created = lab.status(container)
    assert created.state == pb.CONTAINER_CREATED
    assert created.created_at > 0
    assert (created.started_at, created.finished_at) == (0, 0)
    lab.cri.start(container)
    status = lab.ended(container)
    assert (status.exit_code, status.reason) == (3, "Error")
    assert status.created_at < status.started_at <= status.finished_at
    with open(status.log_path, encoding="ascii") as stream:
        lines = sorted(line.rstrip("\n").split(" ", 1)[1] for line in stream)
    assert lines == ["stderr F err", "stdout F out", "stdout P part"]
    assert lab.ended(lab.run(pod, "exit 0")).reason == "Completed"


def test_signal_ends_with_128_more(lab):
    container = lab.run(script="exec sleep 1000")
    lab.sh(container, "true")
    lab.cri.stop(container, 0)
    assert (lab.status(container).exit_code, lab.status(container).reason) == (137, "Error")


def test_stop_signal_of_image_and_request(with_users):
    lab = with_users
    pod = lab.pod()
    script = (
        "trap 'exit 7' USR1; trap 'exit 8' INT; trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"
    )
    for fields, code, shown in (
        ({}, 9, pb.SIGNAL_SIGTERM),
        ({"image": USERS}, 7, pb.SIGNAL_SIGUSR1),
        ({"image": USERS, "stop_signal": pb.SIGNAL_SIGINT}, 8, pb.SIGNAL_SIGINT),
    ):
        container = lab.run(pod, script, **fields)
        assert lab.status(container).stop_signal == shown
        while lab.log(container) != ["up"]:
            time.sleep(0.01)
        lab.cri.stop(container, 30)
        assert lab.status(container).exit_code == code


def test_stop_kills_after_its_time(lab):
    container = lab.run(script="trap '' TERM; echo up; while :; do sleep 0.05; done")
    while not lab.log(container):
        time.sleep(0.01)
    lab.cri.stop(container, 1)
    assert lab.status(container).exit_code == 137


def test_second_stop_hastens_the_first(lab):
    container = lab.run(script="trap '' TERM; echo up; while :; do sleep 0.05; done")
    while not lab.log(container):
        time.sleep(0.01)
    first = threading.Thread(target=lab.cri.stop, args=(container, 600))
    first.start()
    time.sleep(0.2)
    assert first.is_alive()
    lab.cri.stop(container, 0, timeout_s=20)
    first.join(20)
    assert not first.is_alive()
    assert lab.status(container).exit_code == 137


def test_stop_remove_and_start_out_of_turn(lab):
    pod = lab.pod()
    container = lab.create(pod)
    with lab.refused("FAILED_PRECONDITION", "is created, not running"):
        lab.cri.exec_sync(container, ["true"])
    lab.cri.start(container)
    with lab.refused("FAILED_PRECONDITION", "is running, not created"):
        lab.cri.start(container)
    lab.cri.stop(container)
    lab.cri.stop(container)
    with lab.refused("FAILED_PRECONDITION", "is exited, not created"):
        lab.cri.start(container)
    log = lab.status(container).log_path
    lab.cri.remove(container)
    lab.cri.remove(container)
    lab.cri.stop(container)
    with open(log, encoding="ascii"):
        pass
    with lab.refused("NOT_FOUND"):
        lab.cri.container_status(container)
    with lab.refused("NOT_FOUND"):
        lab.cri.start(container)


def test_created_container_can_be_stopped_and_removed(lab):
    pod = lab.pod()
    stopped, removed = lab.create(pod), lab.create(pod)
    lab.cri.stop(stopped, 30)
    assert lab.status(stopped).state == pb.CONTAINER_EXITED
    assert lab.status(stopped).exit_code == 137
    assert lab.status(stopped).started_at == 0
    lab.cri.remove(removed)
    lab.cri.remove(stopped)


def test_running_container_can_be_removed(lab):
    container = lab.run()
    lab.cri.remove(container)
    assert lab.cri.list_containers() == []


def test_repeated_create_gives_the_same(lab):
    pod = lab.pod()
    config = lab.endpoint.container("twice")
    first = lab.cri.create(pod, config)
    assert lab.cri.create(pod, config) == first
    lab.cri.start(first)
    assert lab.cri.create(pod, config) == first
    with lab.refused("ALREADY_EXISTS", "twice"):
        lab.cri.create(pod, lab.endpoint.container("twice", ["true"]))
    lab.cri.remove(first)
    assert lab.cri.create(pod, config) != first


def test_create_in_a_pod_that_is_not_ready(lab):
    pod = lab.pod()
    created = lab.create(pod)
    lab.cri.stop_pod(pod)
    with lab.refused("FAILED_PRECONDITION", "not ready"):
        lab.create(pod)
    with lab.refused("FAILED_PRECONDITION"):
        lab.cri.start(created)
    with lab.refused("NOT_FOUND"):
        lab.create("a" * 64)


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"image": "registry.test/none:1"}, "NOT_FOUND", "config.image.image"),
        ({"command": ["no-such-program"]}, "INVALID_ARGUMENT", "config.command"),
        ({"working_dir": "/etc/passwd"}, "INVALID_ARGUMENT", "config.working_dir"),
        ({"CDI_devices": [pb.CDIDevice(name="x.org/y=z")]}, "INVALID_ARGUMENT", "config.CDI_devices[0]"),
    ],
)
def test_create_that_fails_leaves_nothing(lab, fields, code, word):
    pod = lab.pod()
    with lab.refused(code, word):
        lab.create(pod, name="again", **fields)
    assert lab.cri.list_containers() == []
    lab.cri.remove(lab.create(pod, name="again"))


def test_oom_is_told(lab):
    linux = {"resources": pb.LinuxContainerResources(memory_limit_in_bytes=16 << 20)}
    status = lab.ended(lab.run(script=OOM, linux=linux))
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


def test_verbose_status(lab):
    container = lab.run()
    info = json.loads(lab.cri.container_status(container, verbose=True).info["info"])
    assert info["pid"] > 0
    assert info["runtimeSpec"]["process"]["args"] == ["sh", "-c", "sleep 1000"]
    assert info["selection"]["runtime"] == "crun"
    assert "default" in info["selection"]["reason"]
    assert info["config"]["command"] == ["sh", "-c", "sleep 1000"]
    assert info["problems"] == []
    lab.cri.stop(container)
    info = json.loads(lab.cri.container_status(container, verbose=True).info["info"])
    assert (info["pid"], info["state"]) == (0, "stopped")


def test_ended_while_the_daemon_was_away(lab):
    pod = lab.pod()
    ends, stays = lab.run(pod, "sleep 0.5; exit 5"), lab.run(pod)
    lab.endpoint.kill()
    time.sleep(0.7)
    lab.endpoint.start()
    status = lab.ended(ends)
    assert (status.exit_code, status.reason) == (5, "Error")
    assert lab.status(stays).state == pb.CONTAINER_RUNNING
    assert lab.sh(stays, "echo alive") == "alive"
