# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import model
from ansible_collections.pvecri.runtime.plugins.module_utils.container import request as requests
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import (
    ContainerRequest,
    HealthRequest,
    LogRequest,
    NetworkRequest,
    Port,
    RestartPolicy,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec


@pytest.mark.parametrize(
    ("texts", "ports"),
    [
        ([], ()),
        (["8080:80"], (Port(host_port=8080, container_port=80),)),
        (["53:53/udp"], (Port(host_port=53, container_port=53, protocol="udp"),)),
        (["127.0.0.1:8080:80"], (Port(host_port=8080, container_port=80, host_ip="127.0.0.1"),)),
        (["[::1]:8080:80/sctp"], (Port(host_port=8080, container_port=80, host_ip="::1", protocol="sctp"),)),
        (
            ["8080-8081:80-81"],
            (Port(host_port=8080, container_port=80), Port(host_port=8081, container_port=81)),
        ),
        (
            ["53:53", "53:53/udp", "127.0.0.2:53:53"],
            (
                Port(host_port=53, container_port=53),
                Port(host_port=53, container_port=53, protocol="udp"),
                Port(host_port=53, container_port=53, host_ip="127.0.0.2"),
            ),
        ),
    ],
)
def test_parse_ports(texts, ports):
    assert requests.parse_ports(texts) == ports


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("80", "is not a published port"),
        ("a:b", "is not a published port"),
        ("8080:80/icmp", "'icmp' is not a protocol"),
        ("0:80", "not a port between"),
        ("8080:70000", "not a port between"),
        ("81-80:81-80", "not a port between"),
        ("8080-8082:80-81", "differ in length"),
        ("999.0.0.1:1:1", "not an IP address"),
    ],
)
def test_parse_ports_refused(text, problem):
    with pytest.raises(InvalidSpec, match=problem) as caught:
        requests.parse_ports(["1:1", text])
    assert caught.value.field == "published_ports[1]"


def test_parse_ports_twice():
    with pytest.raises(InvalidSpec, match="published twice") as caught:
        requests.parse_ports(["8080:80", "8079-8081:1-3"])
    assert caught.value.field == "published_ports[1]"


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("no", RestartPolicy()),
        ("always", RestartPolicy(name="always")),
        ("unless-stopped", RestartPolicy(name="unless-stopped")),
        ("on-failure", RestartPolicy(name="on-failure")),
        ("on-failure:5", RestartPolicy(name="on-failure", max_retries=5)),
    ],
)
def test_parse_restart_policy(text, policy):
    assert requests.parse_restart_policy(text) == policy


@pytest.mark.parametrize("text", ["", "sometimes", "always:3", "on-failure:", "on-failure:-1", "no:1"])
def test_parse_restart_policy_refused(text):
    with pytest.raises(InvalidSpec) as caught:
        requests.parse_restart_policy(text)
    assert caught.value.field == "restart_policy"


@pytest.mark.parametrize(
    ("mode", "cni", "joined", "is_path", "is_own"),
    [
        ("host", None, None, False, False),
        ("none", None, None, False, True),
        ("podman", "podman", None, False, True),
        ("container:db", None, "db", False, False),
        ("/run/netns/x", None, None, True, False),
    ],
)
def test_network_modes(mode, cni, joined, is_path, is_own):
    network = NetworkRequest(mode=mode)
    assert (network.cni_name, network.joined, network.is_path, network.is_own) == (
        cni,
        joined,
        is_path,
        is_own,
    )
    assert requests.check_network(network, "web") is network


PORTS = (Port(host_port=1, container_port=1),)


@pytest.mark.parametrize(
    ("network", "field", "text"),
    [
        (NetworkRequest(mode="container:web"), "network", "cannot join its own"),
        (NetworkRequest(mode="container:"), "network", "names no network"),
        (NetworkRequest(mode="a b"), "network", "names no network"),
        (NetworkRequest(mode=""), "network", "names no network"),
        (NetworkRequest(mode="host", ports=PORTS), "published_ports", "listens on the host's ports itself"),
        (NetworkRequest(mode="none", ports=PORTS), "published_ports", "Name a CNI network"),
        (NetworkRequest(mode="container:db", ports=PORTS), "published_ports", "container that is joined"),
        (NetworkRequest(dns_servers=("1.1.1.1", "dns")), "dns_servers[1]", "not an IP address"),
        (NetworkRequest(hosts=(("db", "there"),)), "etc_hosts.db", "not an IP address"),
    ],
)
def test_check_network_refused(network, field, text):
    with pytest.raises(InvalidSpec, match=text) as caught:
        requests.check_network(network, "web")
    assert caught.value.field == field


def test_plain_request_of_nothing_is_empty():
    assert requests.plain_request(ContainerRequest(spec=model.ContainerSpec(name="web"))) == {}


def test_plain_request_holds_everything_by_its_key():
    request = ContainerRequest(
        spec=model.ContainerSpec(
            name="web",
            env=(("T", "hush"), ("A", "1")),
            secret_env=frozenset({"T"}),
            labels=(("l", "1"),),
            resources=model.Resources(memory_bytes=1, cpu_quota_us=2, cpu_period_us=3, cpu_shares=4),
            shm_size_bytes=5,
        ),
        network=NetworkRequest(
            mode="podman",
            ports=(Port(host_port=8080, container_port=80, host_ip="127.0.0.1"),),
            dns_servers=("10.0.0.1",),
            hosts=(("db", "10.0.0.2"),),
        ),
        log=LogRequest(path="/l", max_size_bytes=10),
        health_check=HealthRequest(command=("true",), retries=2),
        restart=RestartPolicy(name="on-failure", max_retries=2),
        stop_timeout_s=3.0,
    )
    plain = requests.plain_request(request)
    digest = plain["secret_env"][0][1]["sha256"]
    assert plain == {
        "env": [["A", "1"]],
        "secret_env": [["T", {"sha256": digest, "size": 4}]],
        "resources": {"memory": 1, "cpu_quota": 2, "cpu_period": 3, "cpu_shares": 4},
        "shm_size": 5,
        "labels": [["l", "1"]],
        "network": "podman",
        "published_ports": [
            {"host_port": 8080, "container_port": 80, "host_ip": "127.0.0.1", "key": "127.0.0.1:8080/tcp"}
        ],
        "dns_servers": ["10.0.0.1"],
        "etc_hosts": [["db", "10.0.0.2"]],
        "log": {"path": "/l", "max_size_bytes": 10},
        "health_check": {"command": ["true"], "retries": 2},
        "restart_policy": {"name": "on-failure", "max_retries": 2},
        "stop_timeout": 3.0,
    }
    assert "hush" not in json.dumps(plain)


def test_plain_request_with_secrets_alone_has_no_env():
    spec = model.ContainerSpec(name="web", env=(("T", "hush"),), secret_env=frozenset({"T"}))
    plain = requests.plain_request(ContainerRequest(spec=spec, network=None))
    assert list(plain) == ["secret_env"]
