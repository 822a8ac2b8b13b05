# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Published ports: what makes sense, and what is in each other's way."""

from __future__ import annotations

import socket
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.network import cni_ports
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_ports import PortMapping


def mapping(host_port: int = 80, container_port: int = 8080, **more: t.Any) -> PortMapping:
    return PortMapping(host_port=host_port, container_port=container_port, **more)


@pytest.mark.parametrize(
    "plain",
    [
        {"hostPort": 80, "containerPort": 8080, "protocol": "tcp"},
        {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
    ],
)
def test_plain_and_back(plain: dict[str, t.Any]) -> None:
    assert PortMapping.from_plain(plain).plain() == plain


def test_from_plain_of_other_forms() -> None:
    assert PortMapping.from_plain({"hostPort": "80", "containerPort": "81", "protocol": "TCP"}) == mapping(
        80, 81
    )
    assert PortMapping.from_plain({"hostPort": 80, "containerPort": 81, "hostIP": None}) == mapping(80, 81)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (mapping(0), "ports[0].host_port"),
        (mapping(65536), "ports[0].host_port"),
        (mapping(1, 0), "ports[0].container_port"),
        (mapping(protocol="icmp"), "ports[0].protocol"),
        (mapping(host_ip="localhost"), "ports[0].host_ip"),
    ],
)
def test_check_refuses(wrong: PortMapping, field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        cni_ports.check_mappings([wrong])
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (mapping(), mapping(container_port=1), True),
        (mapping(), mapping(81), False),
        (mapping(), mapping(protocol="udp"), False),
        (mapping(), mapping(host_ip="127.0.0.1"), True),
        (mapping(host_ip="0.0.0.0"), mapping(host_ip="127.0.0.1"), True),
        (mapping(host_ip="127.0.0.1"), mapping(host_ip="127.0.0.1"), True),
        (mapping(host_ip="127.0.0.1"), mapping(host_ip="127.0.0.2"), False),
    ],
)
def test_overlaps(one: PortMapping, other: PortMapping, expected: bool) -> None:
    assert one.overlaps(other) is expected
    assert other.overlaps(one) is expected


def test_check_refuses_a_port_twice() -> None:
    cni_ports.check_mappings([mapping(), mapping(81), mapping(protocol="udp")])
    with pytest.raises(InvalidSpec, match="twice") as caught:
        cni_ports.check_mappings([mapping(), mapping(81), mapping(host_ip="127.0.0.1")])
    assert caught.value.field == "ports[2]"


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_check_free() -> None:
    port = free_port()
    cni_ports.check_free([mapping(port)], [("web", [mapping(port, protocol="udp")])])
    with pytest.raises(Conflict, match="'web'"):
        cni_ports.check_free([mapping(port)], [("web", [mapping(port)])])


@pytest.mark.parametrize(("kind", "protocol"), [(socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")])
def test_check_free_sees_processes(kind: int, protocol: str) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            taken.listen()
        port = taken.getsockname()[1]
        for address in ("", "127.0.0.1"):
            with pytest.raises(Conflict, match="process of the host"):
                cni_ports.check_free([mapping(port, protocol=protocol, host_ip=address)], [])
        cni_ports.check_free([mapping(port, protocol=protocol, host_ip="127.0.0.2")], [])
        cni_ports.check_free([mapping(port, protocol="sctp")], [])


def test_check_free_wants_an_address_of_the_host() -> None:
    for address in ("192.0.2.1", "2001:db8::1"):
        with pytest.raises(InvalidSpec, match="does not have the address"):
            cni_ports.check_free([mapping(free_port(), host_ip=address)], [])


def test_check_free_passes_on_other_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def bind(self, _address: t.Any) -> None:
            raise PermissionError(13, "no")

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(PermissionError):
        cni_ports.check_free([mapping(81)], [])
