# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe what is asked of a container beyond its `ContainerSpec`: network, log, health, restarts."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    to_plain,
)

HOST = "host"
NONE = "none"
_JOIN = "container:"

#: How long a container may take to end by its stop signal before it is killed.
STOP_TIMEOUT_S = 10.0

_PROTOCOLS = ("tcp", "udp", "sctp")
# Texts, since most tasks need none of them compiled.
_PORT = (
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9.]+):)?"
    r"(?P<host>\d+(?:-\d+)?):(?P<inside>\d+(?:-\d+)?)(?:/(?P<protocol>[a-z]+))?"
)
_NETWORK_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
_RESTART = r"(?P<name>no|on-failure|always|unless-stopped)(?::(?P<count>\d+))?"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One published port: what reaches the host at ``host_port`` goes to ``container_port``."""

    host_port: int
    container_port: int
    protocol: str = "tcp"
    #: Address of the host that listens; empty is every address.
    host_ip: str = ""

    @property
    def key(self) -> str:
        """Return what only one container of a host can have: ``127.0.0.1:8080/tcp``."""
        return f"{self.host_ip}:{self.host_port}/{self.protocol}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRequest:
    """How a container reaches others.

    ``mode`` is ``host``, ``none``, the name of a CNI network, ``container:NAME`` or the
    absolute path of a network namespace.
    """

    mode: str = NONE
    ports: tuple[Port, ...] = ()
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    #: Further lines of /etc/hosts: name and address.
    hosts: tuple[tuple[str, str], ...] = ()

    @property
    def joined(self) -> str | None:
        """Return the name of the container whose namespace is joined, if any."""
        return self.mode.removeprefix(_JOIN) if self.mode.startswith(_JOIN) else None

    @property
    def is_path(self) -> bool:
        """Tell whether the namespace is given as a path."""
        return self.mode.startswith("/")

    @property
    def cni_name(self) -> str | None:
        """Return the name of the CNI network, if one is asked for."""
        if self.mode in {HOST, NONE} or self.joined is not None or self.is_path:
            return None
        return self.mode

    @property
    def is_own(self) -> bool:
        """Tell whether the container gets a network namespace of its own."""
        return self.mode == NONE or self.cni_name is not None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """Where the container's output goes; ``path`` None is a file in the collection's own directory."""

    path: str | None = None
    #: Bytes after which the file is rotated; None is never.
    max_size_bytes: int | None = None
    #: Files that are kept, the current one included.
    max_files: int = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HealthRequest:
    """What is said about the health check; None is as the image says, else the default."""

    disabled: bool = False
    command: tuple[str, ...] | None = None
    interval_s: float | None = None
    timeout_s: float | None = None
    start_period_s: float | None = None
    retries: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When systemd starts the container again: no, on-failure, always, unless-stopped."""

    name: str = "no"
    #: Restarts in a row after which systemd gives up; None is never. Only for on-failure.
    max_retries: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """Everything that a task asks of a container, except the state it shall be in."""

    spec: ContainerSpec
    #: None: as the bundle that was given says.
    network: NetworkRequest | None = NetworkRequest()
    log: LogRequest = LogRequest()
    health_check: HealthRequest = HealthRequest()
    restart: RestartPolicy = RestartPolicy()
    stop_timeout_s: float = STOP_TIMEOUT_S


def parse_ports(texts: t.Iterable[str]) -> tuple[Port, ...]:
    """Return the ports that ``[address:]host_port:container_port[/protocol]`` texts name.

    Both ports can be ranges of the same length.  Raises InvalidSpec naming the entry, also
    when two entries take the same port of the host.
    """
    ports: dict[str, Port] = {}
    for index, text in enumerate(texts):
        where = f"published_ports[{index}]"
        for port in _parse_port(str(text), where):
            if port.key in ports:
                raise InvalidSpec(where, f"port {port.key} of the host is published twice")
            ports[port.key] = port
    return tuple(ports.values())


def _parse_port(text: str, field: str) -> t.Iterator[Port]:
    match = re.fullmatch(_PORT, text)
    if match is None:
        raise InvalidSpec(
            field,
            f"{text!r} is not a published port",
            hint="Write [address:]host_port:container_port[/protocol]: 8080:80 or 127.0.0.1:53:53/udp",
        )
    protocol = match["protocol"] or "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidSpec(
            field, f"{protocol!r} is not a protocol", hint=f"Use one of: {', '.join(_PROTOCOLS)}"
        )
    address = (match["ip"] or "").strip("[]")
    if address:
        check_address(address, field)
    outside, inside = _parse_range(match["host"], field), _parse_range(match["inside"], field)
    if len(outside) != len(inside):
        raise InvalidSpec(field, f"the ranges of {text!r} differ in length")
    for host_port, container_port in zip(outside, inside, strict=True):
        yield Port(host_ip=address, host_port=host_port, container_port=container_port, protocol=protocol)


def _parse_range(text: str, field: str) -> range:
    first, _dash, last = text.partition("-")
    ports = range(int(first), int(last or first) + 1)
    if not ports or not 0 < ports[0] <= ports[-1] <= 65535:
        raise InvalidSpec(field, f"{text!r} is not a port between 1 and 65535, nor a range of such")
    return ports


def check_address(text: str, field: str) -> str:
    """Return ``text`` if it is an IPv4 or IPv6 address; raise InvalidSpec otherwise."""
    try:
        ipaddress.ip_address(text)
    except ValueError as exc:
        raise InvalidSpec(field, f"{text!r} is not an IP address") from exc
    return text


def parse_restart_policy(text: str) -> RestartPolicy:
    """Return the policy that ``no``, ``on-failure[:n]``, ``always`` or ``unless-stopped`` names."""
    match = re.fullmatch(_RESTART, text)
    if match is None or (match["count"] is not None and match["name"] != "on-failure"):
        raise InvalidSpec(
            "restart_policy",
            f"{text!r} is not a restart policy",
            hint="Use no, on-failure[:n], always or unless-stopped",
        )
    return RestartPolicy(name=match["name"], max_retries=int(match["count"]) if match["count"] else None)


def check_network(request: NetworkRequest, name: str) -> NetworkRequest:
    """Return ``request`` if it can be meant; raise InvalidSpec naming the option otherwise.

    Ports and name resolution belong to a network of the container's own.
    """
    mode = request.mode
    if request.joined == name:
        raise InvalidSpec("network", "a container cannot join its own network")
    candidate = request.joined if request.joined is not None else request.cni_name
    if candidate is not None and not re.fullmatch(_NETWORK_NAME, candidate):
        raise InvalidSpec(
            "network",
            f"{mode!r} names no network",
            hint="Use host, none, the name of a CNI network, container:NAME or the path of a namespace",
        )
    if request.ports and request.cni_name is None:
        hint = (
            "With network=host the container listens on the host's ports itself"
            if mode == HOST
            else "Name a CNI network in 'network', or publish them at the container that is joined"
        )
        raise InvalidSpec("published_ports", f"ports cannot be published with network={mode}", hint=hint)
    for index, server in enumerate(request.dns_servers):
        check_address(server, f"dns_servers[{index}]")
    for host, address in request.hosts:
        check_address(address, f"etc_hosts.{host}")
    return request


def plain_request(request: ContainerRequest) -> dict[str, t.Any]:
    """Return ``request`` as flat JSON data, by the names that a playbook has for its options.

    What equals its default is left out; secret text is there only as its digest.
    """
    plain: dict[str, t.Any] = to_plain(request.spec)
    plain.pop("name", None)
    _name_as_options(plain)
    asked = request.network or NetworkRequest()
    network: dict[str, t.Any] = to_plain(asked)
    if network.pop("ports", None):
        plain["published_ports"] = [{**to_plain(port), "key": port.key} for port in asked.ports]
    for key, value in (
        ("network", network.pop("mode", None)),
        ("etc_hosts", network.pop("hosts", None)),
        ("log", to_plain(request.log)),
        ("health_check", to_plain(request.health_check)),
        ("restart_policy", to_plain(request.restart)),
        *network.items(),
    ):
        if value:
            plain[key] = value
    if request.stop_timeout_s != STOP_TIMEOUT_S:
        plain["stop_timeout"] = request.stop_timeout_s
    return plain


#: What a missing key of a shaped request means, for keys that a task can say without a source.
DEFAULTS: dict[str, t.Any] = {
    "network": NONE,
    "restart_policy": {"name": "no"},
    "stop_timeout": STOP_TIMEOUT_S,
}


def without_defaults(request: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return a shaped request without keys that say nothing."""
    usual = dict(DEFAULTS)
    if "bundle" in request:
        # Without a word the network is the bundle's own.
        del usual["network"]
    return {key: value for key, value in request.items() if value not in ({}, [], usual.get(key))}


#: Names of fields of `Resources` that a playbook writes without their unit.
RESOURCE_OPTIONS = {
    "cpu_quota_us": "cpu_quota",
    "cpu_period_us": "cpu_period",
    "memory_bytes": "memory",
    "memory_reservation_bytes": "memory_reservation",
    "memory_swap_bytes": "memory_swap",
}


def _name_as_options(plain: dict[str, t.Any]) -> None:
    secret = plain.pop("secret_env", None)
    if secret:
        plain["secret_env"] = [[name, value] for name, value in plain["env"] if name in secret]
        plain["env"] = [[name, value] for name, value in plain["env"] if name not in secret]
        if not plain["env"]:
            del plain["env"]
    if "resources" in plain:
        plain["resources"] = {RESOURCE_OPTIONS.get(k, k): v for k, v in plain["resources"].items()}
    if "shm_size_bytes" in plain:
        plain["shm_size"] = plain.pop("shm_size_bytes")
