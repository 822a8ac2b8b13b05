# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that give up waiting, plugins that hang, a full disk: nothing half-made, and nobody else waits."""

from __future__ import annotations

import json
import os
import pathlib
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import conmon_pid
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import PLUGIN_DIRS
from ansible_collections.pvecri.runtime.tests.support import cri_client
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

#: A plugin that waits for a file to go before it lets an ADD pass.
_GATE = """#!/usr/bin/python3
import json, os, sys, time
request = json.load(sys.stdin)
if os.environ["CNI_COMMAND"] == "ADD":
    while os.path.exists({gate!r}):
        time.sleep(0.01)
    print(json.dumps(request["prevResult"]))
"""

#: A crun that does the same before it creates a container.
_SLOW_CRUN = """#!/bin/sh
case " $* " in *" create "*) while [ -e {gate} ]; do sleep 0.02; done;; esac
exec {crun} "$@"
"""


class Gates:
    """Files that hold up networks and creates while they exist."""

    def __init__(self, top: pathlib.Path) -> None:
        self.network = top / "network"
        self.create = top / "create"


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Gates:
    return Gates(tmp_path_factory.mktemp("gates"))


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, gates: Gates) -> t.Iterator[Endpoint]:
    top = tmp_path_factory.mktemp("bin")
    top.chmod(0o755)
    crun = os.environ.get("PVECRI_TEST_CRUN", "/usr/bin/crun")
    for name, text in (
        ("gate", _GATE.format(gate=str(gates.network))),
        ("crun", _SLOW_CRUN.format(gate=gates.create, crun=crun)),
    ):
        (top / name).write_text(text)
        (top / name).chmod(0o755)
    settings = {"network": {"plugin_dirs": [str(top), *PLUGIN_DIRS]}, "runtime": {"crun": str(top / "crun")}}
    with running_endpoint(settings=settings) as made:
        path = pathlib.Path(made.cni_conf, "10-test.conflist")
        plain = json.loads(path.read_text())
        plain["plugins"].append({"type": "gate"})
        path.write_text(json.dumps(plain))
        yield made


@pytest.fixture(autouse=True)
def _clean(endpoint: Endpoint, gates: Gates) -> t.Iterator[None]:
    yield
    for gate in (gates.network, gates.create):
        gate.unlink(missing_ok=True)
    endpoint.remove_all()
    assert endpoint.leftovers() == []


def gives_up(call: t.Callable[..., t.Any]) -> None:
    with refused("DEADLINE_EXCEEDED"):
        call(timeout_s=0.3)


def test_a_run_goes_on_without_its_client_and_a_repeat_joins(endpoint: Endpoint, gates: Gates) -> None:
    config = endpoint.pod("web")
    gates.network.touch()
    for _attempt in range(3):
        gives_up(lambda **options: endpoint.cri.run_pod(config, **options))
    assert endpoint.cri.list_pods() == []
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(endpoint.cri.run_pod, config) for _caller in range(4)]
        time.sleep(0.1)
        gates.network.unlink()
        found = {call.result() for call in calls}
    assert found == {endpoint.cri.run_pod(config)}
    assert [pod.id for pod in endpoint.cri.list_pods()] == list(found)


def test_a_run_that_nobody_asks_for_again_is_finished(endpoint: Endpoint, gates: Gates) -> None:
    config = endpoint.pod("web")
    gates.network.touch()
    gives_up(lambda **options: endpoint.cri.run_pod(config, **options))
    gates.network.unlink()
    (pod,) = eventually(endpoint.cri.list_pods)
    assert endpoint.cri.run_pod(config) == pod.id


def test_a_create_goes_on_without_its_client_and_a_repeat_joins(endpoint: Endpoint, gates: Gates) -> None:
    config = endpoint.pod("web")
    pod = endpoint.cri.run_pod(config)
    container = endpoint.container("app")
    gates.create.touch()
    gives_up(lambda **options: endpoint.cri.create(pod, container, config, **options))
    gives_up(lambda **options: endpoint.cri.create(pod, container, config, **options))
    assert endpoint.cri.list_containers() == []
    gates.create.unlink()
    made = endpoint.cri.create(pod, container, config)
    assert [each.id for each in endpoint.cri.list_containers()] == [made]
    endpoint.cri.start(made)


def test_nobody_waits_for_a_plugin_that_hangs(endpoint: Endpoint, gates: Gates) -> None:
    pod_id, container_id = endpoint.run_container()
    gates.network.touch()
    with ThreadPoolExecutor(8) as pool:
        hanging = [pool.submit(endpoint.cri.run_pod, endpoint.pod()) for _pod in range(8)]
        time.sleep(0.2)
        begin = time.monotonic()
        host = endpoint.pod(host_network=True)
        other, inside = endpoint.run_container(pod=host)
        assert endpoint.cri.exec_sync(container_id, ["echo", "hi"], 10).stdout == b"hi\n"
        assert endpoint.cri.pod_status(pod_id, verbose=True)
        assert endpoint.cri.container_status(container_id, verbose=True)
        assert endpoint.cri.status(verbose=True)
        assert endpoint.cri.image_fs_info()
        assert len(endpoint.cri.list_containers()) == 2
        endpoint.cri.stop(container_id, 0)
        endpoint.cri.remove(container_id)
        endpoint.cri.stop_pod(other)
        endpoint.cri.remove_pod(other)
        assert inside
        assert time.monotonic() - begin < 20
        assert not any(call.done() for call in hanging)
        gates.network.unlink()
        assert len({call.result() for call in hanging}) == 8


def test_a_daemon_that_is_killed_in_the_middle_leaves_nothing_to_its_client(
    endpoint: Endpoint, gates: Gates
) -> None:
    config = endpoint.pod("web")
    gates.network.touch()
    gives_up(lambda **options: endpoint.cri.run_pod(config, **options))
    endpoint.kill()
    gates.network.unlink()
    endpoint.start()
    pod = endpoint.cri.run_pod(config)
    container = endpoint.container("app")
    gates.create.touch()
    gives_up(lambda **options: endpoint.cri.create(pod, container, config, **options))
    endpoint.kill()
    gates.create.unlink()
    endpoint.start()
    made = endpoint.cri.create(pod, container, config)
    endpoint.cri.start(made)
    assert [each.id for each in endpoint.cri.list_pods()] == [pod]
    assert [each.id for each in endpoint.cri.list_containers()] == [made]


def test_containers_survive_the_daemons_stop_and_keep_their_logs(endpoint: Endpoint) -> None:
    config = endpoint.pod("web")
    script = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done"
    _pod, lives = endpoint.run_container(["sh", "-c", script], pod=config)
    pod = endpoint.cri.list_pods()[0].id
    ended = endpoint.cri.create(pod, endpoint.container("ended", ["sh", "-c", "sleep 0.3; exit 9"]), config)
    endpoint.cri.start(ended)
    before = conmon_pid(Layout(endpoint.paths, lives))
    assert endpoint.stop() == 0
    time.sleep(0.6)
    endpoint.start()
    assert conmon_pid(Layout(endpoint.paths, lives)) == before
    status = endpoint.cri.container_status(ended)
    assert (status.state, status.exit_code, status.reason) == (pb.CONTAINER_EXITED, 9, "Error")
    # The monitor of the new daemon sees what ends from here on.
    log = pathlib.Path(endpoint.cri.container_status(lives).log_path)
    numbers = [int(line.split()[-1]) for line in log.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 10
    os.kill(before or 0, 9)
    eventually(lambda: endpoint.cri.container_status(lives).state == pb.CONTAINER_EXITED)
    status = endpoint.cri.container_status(lives)
    assert (status.reason, status.exit_code) == ("MonitorLost", 137)


def test_requests_before_recovery_is_done_are_to_be_sent_again(endpoint: Endpoint) -> None:
    endpoint.kill()
    endpoint.spawn()
    codes = set()
    deadline = time.monotonic() + 20
    while "OK" not in codes:
        assert time.monotonic() < deadline
        try:
            endpoint.cri.list_containers(timeout_s=5)
            codes.add("OK")
        except grpc.RpcError as exc:
            codes.add(cri_client.status_of(exc))
    assert codes <= {"UNAVAILABLE", "OK"}


def test_a_bundle_that_is_deleted_under_its_container_harms_nobody_else(endpoint: Endpoint) -> None:
    _pod, container = endpoint.run_container()
    _other_pod, other = endpoint.run_container()
    bundle = os.path.join(endpoint.paths.bundles, container)
    endpoint.host.run(["umount", "-l", f"{bundle}/rootfs"])
    endpoint.host.run(["rm", "-rf", bundle])
    endpoint.restart()
    assert endpoint.cri.container_status(container).state == pb.CONTAINER_RUNNING
    assert endpoint.cri.exec_sync(other, ["echo", "hi"], 10).stdout == b"hi\n"
    endpoint.cri.stop(container, 0)
    endpoint.cri.remove(container)
    assert [each.id for each in endpoint.cri.list_containers()] == [other]
