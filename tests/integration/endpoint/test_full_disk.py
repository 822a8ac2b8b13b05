# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk without space: the endpoint says so for what needs some, and goes on when there is some again."""

from __future__ import annotations

import typing as t

import grpc
import pytest

from ansible_collections.pvecri.runtime.tests.support import cri_client
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, missing
from ansible_collections.pvecri.runtime.tests.support.private_host import PrivateHost
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb


@pytest.fixture
def endpoint() -> t.Iterator[Endpoint]:
    """An endpoint whose state directory is a small file system."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with PrivateHost() as host:
        made = Endpoint(host=host)
        host.run(["mkdir", "-p", made.state_dir])
        host.run(["mount", "-t", "tmpfs", "-o", "size=48m", "small", made.state_dir])
        with made:
            yield made


def fill(endpoint: Endpoint) -> None:
    path = f"{endpoint.state_dir}/filler"
    endpoint.host.run(["sh", "-c", f"cat /dev/zero >{path}"], check=False)


def refused(call: t.Callable[[], t.Any]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return cri_client.status_of(caught.value)


def test_a_full_disk_is_told_and_nothing_is_lost(endpoint: Endpoint) -> None:
    config = endpoint.pod("web")
    pod, container = endpoint.run_container(pod=config)
    fill(endpoint)
    big = endpoint.pod("big", annotations={"text": "x" * 200_000})
    assert refused(lambda: endpoint.cri.run_pod(big)) == "RESOURCE_EXHAUSTED"
    wanted = endpoint.container("second")
    assert refused(lambda: endpoint.cri.create(pod, wanted, config)) == "RESOURCE_EXHAUSTED"
    # What needs no space works.
    assert endpoint.cri.exec_sync(container, ["echo", "hi"], 10).stdout == b"hi\n"
    assert endpoint.cri.container_status(container).state == pb.CONTAINER_RUNNING
    assert [each.id for each in endpoint.cri.list_pods()] == [pod]
    assert not endpoint.cri.status().status.conditions[0].message
    endpoint.kill()
    endpoint.start()
    assert endpoint.cri.container_status(container).state == pb.CONTAINER_RUNNING
    endpoint.host.run(["rm", f"{endpoint.state_dir}/filler"])
    second = endpoint.cri.create(pod, wanted, config)
    endpoint.cri.start(second)
    endpoint.cri.run_pod(big)
    assert len(endpoint.cri.list_pods()) == 2


def test_on_a_full_disk_things_can_be_removed(endpoint: Endpoint) -> None:
    pods = [endpoint.run_container()[0] for _pod in range(3)]
    fill(endpoint)
    for pod in pods:
        endpoint.cri.stop_pod(pod)
        fill(endpoint)
        endpoint.cri.remove_pod(pod)
        fill(endpoint)
    assert endpoint.cri.list_pods() == []
    endpoint.host.run(["rm", f"{endpoint.state_dir}/filler"])
    endpoint.restart()
    assert endpoint.cri.list_pods() == []
    assert [what for what in endpoint.leftovers() if endpoint.state_dir != what.removeprefix("mount ")] == []


def test_a_full_disk_keeps_nobody_from_the_start(endpoint: Endpoint) -> None:
    pod, container = endpoint.run_container()
    endpoint.stop()
    fill(endpoint)
    endpoint.start()
    assert endpoint.cri.container_status(container).state == pb.CONTAINER_RUNNING
    endpoint.cri.stop_pod(pod)
    endpoint.cri.remove_pod(pod)
    endpoint.host.run(["rm", f"{endpoint.state_dir}/filler"])
    other = endpoint.run_container()[0]
    endpoint.restart()
    assert [each.id for each in endpoint.cri.list_pods()] == [other]


def test_on_a_full_disk_exit_codes_are_known(endpoint: Endpoint) -> None:
    command = ["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"]
    _pod, container = endpoint.run_container(command)
    eventually(
        lambda: (
            endpoint.cri.exec_sync(container, ["grep", "SigCgt.*[4-7c-f]...$", "/proc/1/status"], 10).stdout
        )
    )
    fill(endpoint)
    endpoint.cri.stop(container, 20)
    endpoint.host.run(["rm", f"{endpoint.state_dir}/filler"])

    def ended() -> t.Any:
        status = endpoint.cri.container_status(container)
        return status if status.state == pb.CONTAINER_EXITED else None

    assert eventually(ended).exit_code == 7
