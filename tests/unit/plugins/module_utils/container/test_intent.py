# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.container import compare
from ansible_collections.pvecri.runtime.plugins.module_utils.container.intent import (
    Intent,
    image_part,
    resources_of,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import (
    ContainerRequest,
    HealthRequest,
    LogRequest,
    NetworkRequest,
    Port,
    RestartPolicy,
    plain_request,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    HealthCheck,
    ImageConfig,
    IoLimit,
    Resources,
)

RESOURCES = Resources(
    cpu_shares=2,
    cpu_quota_us=3000,
    cpu_period_us=4000,
    cpuset_cpus="0",
    memory_bytes=5,
    memory_reservation_bytes=6,
    memory_swap_bytes=7,
    pids_limit=8,
    io_limits=(IoLimit(device="/dev/a", read_bps=1), IoLimit(device="/dev/b", write_iops=2)),
    hugepages=(("2MB", 9),),
    unified=(("memory.high", "10"),),
)


def shaped(request):
    return compare.shape(plain_request(request))


def test_intent_gives_back_what_was_asked():
    request = ContainerRequest(
        spec=ContainerSpec(name="c", resources=RESOURCES, labels=(("b", "task"),), stop_signal="SIGUSR1"),
        network=NetworkRequest(
            mode="podman",
            ports=(Port(host_port=1, container_port=2, protocol="udp", host_ip="::1"),),
            dns_servers=("1.1.1.1",),
            dns_search=("a",),
            dns_options=("b",),
            hosts=(("db", "1.1.1.2"),),
        ),
        log=LogRequest(path="/l", max_size_bytes=3, max_files=2),
        health_check=HealthRequest(command=("x", "y"), retries=2),
        restart=RestartPolicy(name="on-failure", max_retries=2),
        stop_timeout_s=4.0,
    )
    image = image_part(
        ImageConfig(
            labels=(("a", "image"), ("b", "image")),
            stop_signal="SIGINT",
            health_check=HealthCheck(command=("z",), retries=9),
        )
    )
    intent = Intent(request=shaped(request), image=image)
    again = Intent.load({"container": intent.plain()})
    assert again == intent
    assert again.network == request.network
    assert again.log == request.log
    assert again.restart == request.restart
    assert again.stop_timeout_s == 4.0
    assert again.stop_signal == "SIGUSR1"
    assert again.labels == {"a": "image", "b": "task"}
    assert again.health_check == (request.health_check, HealthCheck(command=("z",), retries=9))
    assert resources_of(again.request["resources"]) == RESOURCES


def test_intent_of_nothing_special():
    intent = Intent(request={})
    assert intent.network == NetworkRequest()
    assert intent.log == LogRequest()
    assert intent.restart == RestartPolicy()
    assert (intent.stop_timeout_s, intent.stop_signal, intent.labels) == (10.0, "SIGTERM", {})
    assert intent.health_check == (HealthRequest(), None)
    assert resources_of({}) == Resources()
    assert image_part(ImageConfig()) == {}
    assert Intent.load({}) is None


def test_intent_takes_the_stop_signal_of_the_image():
    assert Intent(request={}, image={"stop_signal": "SIGINT"}).stop_signal == "SIGINT"


@pytest.mark.parametrize(
    ("request_", "network"),
    [({"bundle": {}}, None), ({"bundle": {}, "network": "host"}, NetworkRequest(mode="host"))],
)
def test_intent_leaves_the_network_to_a_bundle(request_, network):
    assert Intent(request=request_).network == network
