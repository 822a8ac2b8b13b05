# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole pods: saved at one moment, restored whole or not at all."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import typing as t

from ansible_collections.pvecri.runtime.tests.support import cri_client
from ansible_collections.pvecri.runtime.tests.support.checkpoints import (
    COUNTER,
    checkpoint,
    count_of,
    counter,
    state,
    tar_text,
)
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint
from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb


def checkpoint_pod(endpoint: Endpoint, pod_id: str, path: str, **fields: t.Any) -> None:
    request = pb.CheckpointPodRequest(pod_sandbox_id=pod_id, output_path=path, **fields)
    endpoint.cri.call("CheckpointPod", request, timeout_s=60)


def restore_pod(endpoint: Endpoint, path: str, **fields: t.Any) -> t.Any:
    return endpoint.cri.call("RestorePod", pb.RestorePodRequest(checkpoint_path=path, **fields), timeout_s=60)


def two(endpoint: Endpoint) -> tuple[t.Any, str, list[str]]:
    """Run a pod of two counters, one of which writes into the shared memory."""
    pod, pod_id, first = counter(endpoint, "one")
    script = f"echo shared > /dev/shm/note; exec sh -c '{COUNTER}'"
    second = endpoint.cri.create(pod_id, endpoint.container("two", ["sh", "-c", script]), pod)
    endpoint.cri.start(second)
    eventually(lambda: count_of(endpoint, pod, "two") > 3)
    return pod, pod_id, [first, second]


def test_a_pod_goes_on_as_another(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    pod, pod_id, _containers = two(endpoint)
    checkpoint_pod(endpoint, pod_id, f"{tmp_path}/p.tar")
    begin = count_of(endpoint, pod, "one")
    eventually(lambda: count_of(endpoint, pod, "one") > begin + 2)
    options = json.loads(tar_text(f"{tmp_path}/p.tar", "pod.options"))
    assert options["version"] == 1
    assert sorted(options["containers"]) == ["one", "two"]
    assert options["annotations"]["org.criu.checkpoint.pod.name"] == pod.metadata.name
    assert json.loads(tar_text(f"{tmp_path}/p.tar", "pod.dump"))["metadata"]["name"] == pod.metadata.name
    copy = endpoint.pod()
    answer = restore_pod(endpoint, f"{tmp_path}/p.tar", config=copy)
    assert [each.name for each in answer.restored_containers] == ["one", "two"]
    for name in ("one", "two"):
        eventually(lambda name=name: count_of(endpoint, copy, name) > 4)
    ids = {each.name: each.container_id for each in answer.restored_containers}
    assert endpoint.cri.exec_sync(ids["one"], ["cat", "/dev/shm/note"]).stdout == b"shared\n"
    again = restore_pod(endpoint, f"{tmp_path}/p.tar", config=copy)
    assert again == answer


def test_a_pod_moves(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    pod, pod_id, containers = two(endpoint)
    checkpoint_pod(endpoint, pod_id, str(tmp_path), options={"leaveRunning": "false"})
    assert os.listdir(tmp_path) == ["pod-checkpoint.tar"]
    eventually(lambda: all(state(endpoint, each) == pb.CONTAINER_EXITED for each in containers))
    with refused("ALREADY_EXISTS", "with containers of its own"):
        restore_pod(endpoint, str(tmp_path))
    last = count_of(endpoint, pod, "one")
    endpoint.remove_all()
    shutil.rmtree(f"{endpoint.pod_logs}/{pod.metadata.name}")
    answer = restore_pod(endpoint, str(tmp_path))
    eventually(lambda: count_of(endpoint, pod, "one") > last + 2)
    first = pathlib.Path(endpoint.pod_logs, pod.metadata.name, "one.log").read_text().split("\n")[0]
    assert int(first.split()[-1]) in {last, last + 1}
    assert endpoint.cri.pod_status(answer.pod_sandbox_id).metadata == pod.metadata


def test_a_pod_is_restored_with_other_descriptions(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, pod_id, containers = two(endpoint)
    checkpoint_pod(endpoint, pod_id, f"{tmp_path}/p.tar", container_ids=containers[1:])
    copy = endpoint.pod()
    config = endpoint.container("two", labels={"x": "y"}, log_path="other.log")
    answer = restore_pod(
        endpoint,
        f"{tmp_path}/p.tar",
        config=copy,
        container_configs=[config],
        options={"start": "false"},
    )
    [one] = answer.restored_containers
    assert state(endpoint, one.container_id) == pb.CONTAINER_CREATED
    endpoint.cri.start(one.container_id)
    assert dict(endpoint.cri.container_status(one.container_id).labels) == {"x": "y"}
    eventually(lambda: count_of(endpoint, copy, "other") > 4)


def test_a_pod_is_restored_whole_or_not_at_all(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, pod_id, _containers = two(endpoint)
    checkpoint_pod(endpoint, pod_id, f"{tmp_path}/p.tar")
    before = {each.id for each in endpoint.cri.list_pods()}, len(endpoint.cri.list_containers())
    wrong = endpoint.container("two", tty=True)
    with refused("INVALID_ARGUMENT", "config.tty"):
        restore_pod(endpoint, f"{tmp_path}/p.tar", config=endpoint.pod(), container_configs=[wrong])
    with refused("INVALID_ARGUMENT", "no container 'three'"):
        restore_pod(
            endpoint,
            f"{tmp_path}/p.tar",
            config=endpoint.pod(),
            container_configs=[endpoint.container("three")],
        )
    assert ({each.id for each in endpoint.cri.list_pods()}, len(endpoint.cri.list_containers())) == before


def test_a_repeat_that_fails_takes_nothing_away(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, pod_id, _containers = two(endpoint)
    checkpoint_pod(endpoint, pod_id, f"{tmp_path}/p.tar")
    copy = endpoint.pod()
    answer = restore_pod(endpoint, f"{tmp_path}/p.tar", config=copy)
    other = endpoint.container("two", labels={"x": "y"})
    with refused("ALREADY_EXISTS"):
        restore_pod(endpoint, f"{tmp_path}/p.tar", config=copy, container_configs=[other])
    for each in answer.restored_containers:
        assert state(endpoint, each.container_id) == pb.CONTAINER_RUNNING


def test_what_pods_are_refused(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    path = f"{tmp_path}/p.tar"
    _pod, pod_id, container_id = counter(endpoint)
    other = endpoint.cri.run_pod(endpoint.pod())
    for status, message, fields in (
        ("INVALID_ARGUMENT", "options[speed]: is unknown", {"options": {"speed": "1"}}),
        ("INVALID_ARGUMENT", "neither true nor false", {"options": {"leaveRunning": "1"}}),
        ("NOT_FOUND", "", {"container_ids": ["f" * 64]}),
    ):
        with refused(status, message):
            checkpoint_pod(endpoint, pod_id, path, **fields)
    with refused("INVALID_ARGUMENT", "one of another pod"):
        checkpoint_pod(endpoint, other, path, container_ids=[container_id])
    with refused("FAILED_PRECONDITION", "is running"):
        checkpoint_pod(endpoint, other, path)
    endpoint.cri.stop_pod(other)
    with refused("FAILED_PRECONDITION", "is stopped"):
        checkpoint_pod(endpoint, other, path)
    checkpoint(endpoint, container_id, path)
    with refused("INVALID_ARGUMENT", "no checkpoint of a pod"):
        restore_pod(endpoint, path)
    with refused("INVALID_ARGUMENT", "options[x]"):
        restore_pod(endpoint, path, options={"x": "1"})
    with refused("INVALID_ARGUMENT", "checkpoint_path: is missing"):
        restore_pod(endpoint, "")
    assert cri_client.unique("x")


def test_a_pod_whose_containers_see_each_other(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    pod, copy = endpoint.pod(), endpoint.pod()
    for each in (pod, copy):
        each.linux.security_context.namespace_options.pid = pb.POD
    pod_id = endpoint.cri.run_pod(pod)
    for name in ("one", "two"):
        config = endpoint.container(name, ["sh", "-c", COUNTER])
        config.linux.security_context.namespace_options.pid = pb.POD
        endpoint.cri.start(endpoint.cri.create(pod_id, config, pod))
    eventually(lambda: count_of(endpoint, pod, "two") > 3)
    checkpoint_pod(endpoint, pod_id, f"{tmp_path}/p.tar")
    answer = restore_pod(endpoint, f"{tmp_path}/p.tar", config=copy)
    eventually(lambda: count_of(endpoint, copy, "one") > 4 and count_of(endpoint, copy, "two") > 4)
    seen = endpoint.cri.exec_sync(answer.restored_containers[0].container_id, ["ps"]).stdout.decode()
    assert seen.count("while true") == 2
    assert "/pause" in seen
