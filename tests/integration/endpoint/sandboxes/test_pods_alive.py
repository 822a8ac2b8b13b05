# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What containers find in their pods, through the whole daemon."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from pvecri.api import cri_pb2 as pb


@pytest.fixture(scope="module")
def endpoint() -> t.Iterator[Endpoint]:
    with running_endpoint() as made:
        yield made


def _pod(endpoint: Endpoint, *, pid: pb.NamespaceMode = pb.CONTAINER, **fields: t.Any) -> t.Any:
    """Return a pod; by default its containers do not share process ids."""
    config = endpoint.pod(**fields)
    config.linux.security_context.namespace_options.pid = pid
    return config


def _container(endpoint: Endpoint, pod: t.Any, name: str = "app") -> t.Any:
    """Return a container with its pod's modes, as kubelet gives them to both."""
    config = endpoint.container(name)
    options = config.linux.security_context.namespace_options
    options.CopyFrom(pod.linux.security_context.namespace_options)
    return config


def _run(endpoint: Endpoint, pod: t.Any) -> tuple[str, str]:
    """Run a pod with one container; return the ids of both."""
    pod_id = endpoint.cri.run_pod(pod)
    container_id = endpoint.cri.create(pod_id, _container(endpoint, pod), pod)
    endpoint.cri.start(container_id)
    return pod_id, container_id


def _says(endpoint: Endpoint, container_id: str, script: str) -> str:
    answer = endpoint.cri.exec_sync(container_id, ["sh", "-c", script])
    assert answer.exit_code == 0, answer.stderr
    return t.cast("str", answer.stdout.decode().strip())


@pytest.fixture(autouse=True)
def _clean(endpoint: Endpoint) -> t.Iterator[None]:
    yield
    endpoint.remove_all()
    assert endpoint.leftovers() == []
    assert endpoint.tracebacks() == []


def test_containers_find_the_pods_files_and_share_its_memory(endpoint: Endpoint) -> None:
    config = _pod(endpoint, name="web", hostname="web-0")
    config.dns_config.servers.append("10.96.0.10")
    config.dns_config.searches.extend(["a.example", "b.example"])
    config.dns_config.options.append("ndots:5")
    config.linux.sysctls["net.ipv4.ip_unprivileged_port_start"] = "80"
    config.linux.sysctls["kernel.shm_rmid_forced"] = "1"
    pod_id, first = _run(endpoint, config)
    second = endpoint.cri.create(pod_id, _container(endpoint, config, "second"), config)
    endpoint.cri.start(second)
    (ip,) = [endpoint.cri.pod_status(pod_id).network.ip]
    assert _says(endpoint, first, "cat /etc/resolv.conf").splitlines() == [
        "nameserver 10.96.0.10",
        "search a.example b.example",
        "options ndots:5",
    ]
    assert _says(endpoint, first, "hostname; cat /etc/hostname") == "web-0\nweb-0"
    assert re.search(rf"^{ip}\s+web-0$", _says(endpoint, first, "cat /etc/hosts"), re.MULTILINE)
    shown = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced"
    assert _says(endpoint, first, shown) == "80\n1"
    _says(endpoint, first, "echo shared >/dev/shm/a; chmod 666 /dev/shm/a")
    assert (
        _says(endpoint, second, "cat /dev/shm/a; df -k /dev/shm | tail -1 | awk '{print $2}'")
        == "shared\n65536"
    )
    assert ip in _says(endpoint, second, "ip -4 address show eth0")
    # Each sees its own processes alone.
    assert _says(endpoint, second, "cat /proc/1/cmdline | tr '\\0' ' '") == "sleep 1000"
    info = json.loads(endpoint.cri.pod_status(pod_id, verbose=True).info["info"])
    assert info["cniResult"]["ips"][0]["address"].startswith(ip)


def test_a_shared_pid_namespace(endpoint: Endpoint) -> None:
    config = _pod(endpoint, name="shared", pid=pb.POD)
    pod_id, first = _run(endpoint, config)
    second = endpoint.cri.create(pod_id, _container(endpoint, config, "second"), config)
    endpoint.cri.start(second)
    assert _says(endpoint, first, "cat /proc/1/cmdline | tr '\\0' ' '") == "/pause"
    assert _says(endpoint, second, "ps | grep -c 'sleep 1000$'") == "2"
    # An orphan of one container is reaped by the pod's first process.
    _says(endpoint, first, "(sleep 0.1 &) ; true")
    assert _says(endpoint, second, "sleep 0.5; ps | grep -c '[Z]  '; true") == "0"
    endpoint.cri.stop(first)
    assert endpoint.cri.container_status(second).state == pb.CONTAINER_RUNNING


def test_a_user_namespace(endpoint: Endpoint) -> None:
    config = _pod(endpoint, name="user")
    maps = config.linux.security_context.namespace_options.userns_options
    for ids in (maps.uids, maps.gids):
        ids.add(container_id=0, host_id=300000, length=65536)
    pod_id, container = _run(endpoint, config)
    assert _says(endpoint, container, "cat /proc/self/uid_map").split() == ["0", "300000", "65536"]
    assert _says(
        endpoint, container, "id -u; stat -c %u /etc/hosts /dev/shm /bin/busybox /etc/resolv.conf"
    ).split() == [
        "0",
        *["0"] * 4,
    ]
    status = endpoint.cri.pod_status(pod_id)
    assert status.linux.namespaces.options.userns_options.mode == pb.POD
    # Its root has the network in hand, for it owns it, and nothing beyond.
    assert _says(endpoint, container, "touch /dev/shm/x /x; stat -c %u /dev/shm/x /x") == "0\n0"
    pid = json.loads(endpoint.cri.container_status(container, verbose=True).info["info"])["pid"]
    assert pathlib.Path(f"/proc/{pid}/status").read_text().partition("Uid:")[2].split()[0] == "300000"


def test_a_user_namespace_in_the_hosts_network(endpoint: Endpoint) -> None:
    config = _pod(endpoint, name="mixed", host_network=True)
    maps = config.linux.security_context.namespace_options.userns_options
    for ids in (maps.uids, maps.gids):
        ids.add(container_id=0, host_id=300000, length=65536)
    _pod_id, container = _run(endpoint, config)
    assert _says(endpoint, container, "cat /proc/self/uid_map").split() == ["0", "300000", "65536"]
    own = os.readlink(f"/proc/{endpoint.host.pid}/ns/net")
    assert (
        _says(endpoint, container, "readlink /proc/self/ns/net; ls /sys/class/net | grep lo") == f"{own}\nlo"
    )


def test_the_hosts_namespaces(endpoint: Endpoint) -> None:
    config = endpoint.pod(name="host", host_network=True)
    options = config.linux.security_context.namespace_options
    options.pid = options.ipc = pb.NODE
    pod_id, container = _run(endpoint, config)
    assert endpoint.cri.pod_status(pod_id).network.ip == ""
    for kind in ("pid", "ipc", "net", "uts"):
        own = os.readlink(f"/proc/{endpoint.host.pid}/ns/{kind}")
        assert _says(endpoint, container, f"readlink /proc/self/ns/{kind}") == own, kind


def test_a_pod_lives_through_the_daemons_death(endpoint: Endpoint) -> None:
    config = _pod(endpoint, name="lasting", pid=pb.POD)
    config.port_mappings.add(container_port=80, host_port=8080)
    pod_id, container = _run(endpoint, config)
    before = endpoint.cri.pod_status(pod_id)
    endpoint.kill()
    endpoint.start()
    after = endpoint.cri.pod_status(pod_id)
    assert (after.state, after.network, after.created_at) == (before.state, before.network, before.created_at)
    assert endpoint.cri.container_status(container).state == pb.CONTAINER_RUNNING
    other = endpoint.pod(name="other")
    other.port_mappings.add(container_port=80, host_port=8080)
    with refused("ALREADY_EXISTS"):
        endpoint.cri.run_pod(other)
    assert endpoint.cri.run_pod(config) == pod_id


def test_a_pod_whose_first_process_dies_is_not_ready(endpoint: Endpoint) -> None:
    config = _pod(endpoint, name="beheaded", pid=pb.POD)
    pod_id, container = _run(endpoint, config)
    info = json.loads(endpoint.cri.pod_status(pod_id, verbose=True).info["info"])
    assert info["pid"] > 1
    os.kill(info["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        states = endpoint.cri.pod_status(pod_id).state, endpoint.cri.container_status(container).state
        if states == (pb.SANDBOX_NOTREADY, pb.CONTAINER_EXITED):
            break
        time.sleep(0.02)
    assert states == (pb.SANDBOX_NOTREADY, pb.CONTAINER_EXITED)
    with refused("FAILED_PRECONDITION"):
        endpoint.cri.create(pod_id, _container(endpoint, config, "late"), config)


def test_a_pod_whose_first_process_died_is_not_ready_after_a_start(endpoint: Endpoint) -> None:
    config = _pod(endpoint, name="headless", pid=pb.POD)
    pod_id, container = _run(endpoint, config)
    info = json.loads(endpoint.cri.pod_status(pod_id, verbose=True).info["info"])
    assert info["pid"] > 1
    endpoint.kill()
    os.kill(info["pid"], signal.SIGKILL)
    endpoint.start()
    assert endpoint.cri.pod_status(pod_id).state == pb.SANDBOX_NOTREADY
    assert endpoint.cri.container_status(container).state == pb.CONTAINER_EXITED


def test_a_wrong_config_is_an_invalid_argument_that_names_its_field(endpoint: Endpoint) -> None:
    config = _pod(endpoint)
    config.linux.sysctls["kernel.core_pattern"] = "|/bin/sh"
    with refused("INVALID_ARGUMENT", "config.linux.sysctls[kernel.core_pattern]"):
        endpoint.cri.run_pod(config)
