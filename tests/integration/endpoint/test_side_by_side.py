# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run endpoints beside each other on one host: each has its own, and takes away just that."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from ansible_collections.pvecri.runtime.tests.support import endpoint_process
from ansible_collections.pvecri.runtime.tests.support.cri_client import AsyncCri, Cri, pb
from ansible_collections.pvecri.runtime.tests.support.endpoint import running_endpoint
from ansible_collections.pvecri.runtime.tests.support.private_host import PrivateHost


@pytest.fixture(scope="module")
def endpoint():
    with running_endpoint() as made:
        yield made


@pytest.fixture
def two():
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(running_endpoint())
        host = stack.enter_context(PrivateHost(network_of=first.host))
        second = stack.enter_context(running_endpoint(host=host, bridge="pvecri1", subnet="10.89.0.0/16"))
        yield first, second


def test_what_is_left_is_seen_and_what_is_removed_is_gone(endpoint):
    assert endpoint.leftovers() == []
    pod_id, container_id = endpoint.run_container()
    kinds = {line.split()[0] for line in endpoint.leftovers(within_s=0)}
    assert kinds == {"container", "mount", "process", "file", "address", "cgroup", "interface"}
    endpoint.cri.remove_pod(pod_id)
    assert endpoint.leftovers() == []
    assert not os.path.exists(f"/proc/{endpoint.pid}/root{endpoint.run_dir}/crun/cri/{container_id}")


def test_two_endpoints_share_a_network_and_nothing_else(two):
    first, second = two
    one, other = (endpoint.run_container()[0] for endpoint in two)
    assert [pod.id for pod in first.cri.list_pods()] == [one]
    assert [pod.id for pod in second.cri.list_pods()] == [other]
    assert first.cri.pod_status(one).network.ip.startswith("10.88.")
    assert second.cri.pod_status(other).network.ip.startswith("10.89.")
    first.cri.remove_pod(one)
    assert second.cri.pod_status(other).state == pb.SANDBOX_READY
    assert {container.state for container in second.cri.list_containers()} == {pb.CONTAINER_RUNNING}
    second.cri.remove_pod(other)
    assert [*first.leftovers(), *second.leftovers()] == []


def test_one_directory_is_for_one_daemon(endpoint):
    argv = endpoint_process.serve_argv(endpoint.config_file)
    second = endpoint.host.run(argv, env=endpoint_process.environment(), check=False, timeout=30)
    assert second.returncode == 1
    assert f"process {endpoint.pid} already serves {endpoint.state_dir}" in second.stderr
    assert endpoint.cri.version().runtime_name == "pvecri"


def test_a_killed_daemon_finds_its_pods_and_clients_find_it(endpoint):
    pod_id, container_id = endpoint.run_container()
    with Cri(endpoint.socket) as cri:
        before = cri.container_status(container_id)
        endpoint.kill()
        endpoint.start()
        # The same connection, on the socket of another process.
        assert cri.container_status(container_id) == before
        assert cri.exec_sync(container_id, ["echo", "here"]).stdout == b"here\n"
        cri.remove_pod(pod_id)
    assert endpoint.leftovers() == []


def test_stopping_is_clean_and_containers_go_on(endpoint):
    pod_id, container_id = endpoint.run_container()
    assert endpoint.stop() == 0
    assert not os.path.exists(endpoint.socket)
    assert endpoint.start() > 0
    assert endpoint.cri.container_status(container_id).state == pb.CONTAINER_RUNNING
    endpoint.cri.remove_pod(pod_id)
    assert not endpoint.tracebacks()


def test_asyncio_callers_are_served_together(endpoint):
    async def ask() -> list[str]:
        async with AsyncCri(endpoint.socket) as cri:
            pods = await asyncio.gather(*(cri.run_pod(endpoint.pod()) for _number in range(4)))
            await asyncio.gather(*(cri.remove_pod(pod) for pod in pods))
            return list(pods)

    assert len(set(asyncio.run(ask()))) == 4
    assert endpoint.leftovers() == []
