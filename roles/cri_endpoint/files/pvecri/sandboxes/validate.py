# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a PodSandboxConfig and say what it asks for; pure.

Every refusal is an InvalidSpec that names the field by its path in the CRI definition,
as ``config.linux.sysctls[net.core.somaxconn]``.  Names become arguments of CNI
plugins, parts of paths and lines of files: what could mean more than a name is refused.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_ports import (
    PortMapping,
    check_mappings,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import Policy
from pvecri.api import cri_pb2
from pvecri.checks import check_map, check_name, check_plain, clean_path
from pvecri.sandboxes import quantity, validate_linux
from pvecri.sandboxes.pod import Dns, Pod

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_SEARCH = re.compile(r"\.|[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")
_OPTION = re.compile(r"[!-~]{1,255}")

#: utsname(2).
_HOSTNAME_MAX = 64
#: resolv.conf(5) reads no more servers; the others are Kubernetes's bounds.
_SERVERS_MAX, _SEARCHES_MAX, _SEARCHES_LENGTH = 3, 32, 2048
_PORT_MAX = 65535
_PROTOCOLS = {cri_pb2.TCP: "tcp", cri_pb2.UDP: "udp", cri_pb2.SCTP: "sctp"}


def validate(config: cri_pb2.PodSandboxConfig, handler: str, policy: Policy, *, is_systemd: bool) -> Pod:
    """Return the pod that a request describes; raises InvalidSpec."""
    policy.check_handler(handler or None)
    if config.HasField("windows"):
        raise InvalidSpec("config.windows", "this is no host of Windows containers")
    names = _metadata(config.metadata)
    if config.log_directory:
        check_plain(config.log_directory, "config.log_directory")
        clean_path(config.log_directory, "config.log_directory", allow_up=False)
    annotations = dict(config.annotations)
    check_map(annotations, "config.annotations")
    check_map(config.labels, "config.labels")
    linux = validate_linux.validate(config.linux, is_systemd=is_systemd)
    # Checked in any case: it may become valid by another field only.
    ports = _ports(config.port_mappings)
    return Pod(
        **names,
        hostname=_hostname(config.hostname),
        dns=_dns(config.dns_config),
        ports=() if linux["has_host_network"] else ports,
        bandwidth=quantity.bandwidth(annotations),
        annotations=annotations,
        **linux,
    )


def sandbox_key(metadata: cri_pb2.PodSandboxMetadata) -> str:
    """Return the one text of a pod's metadata.

    No part begins or ends with an underscore, so doubled ones are part of a name and
    single ones stand between the parts.
    """
    parts = (metadata.name, metadata.namespace, metadata.uid, str(metadata.attempt))
    return "_".join(part.replace("_", "__") for part in parts)


def _metadata(metadata: cri_pb2.PodSandboxMetadata) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {}
    for part in ("name", "namespace", "uid"):
        value: str = getattr(metadata, part)
        field = f"config.metadata.{part}"
        check_name(value, field)
        found[part] = value
    return {"key": sandbox_key(metadata), **found}


def _hostname(hostname: str) -> str:
    """Check a host name (RFC 1123, section 2.1; hostname(7))."""
    if len(hostname) > _HOSTNAME_MAX:
        raise InvalidSpec("config.hostname", f"is longer than the {_HOSTNAME_MAX} bytes that Linux takes")
    if hostname and not all(_LABEL.fullmatch(label) for label in hostname.split(".")):
        raise InvalidSpec(
            "config.hostname", "is no host name", hint="Letters, digits and '-' between dots, none empty"
        )
    return hostname


def _dns(config: cri_pb2.DNSConfig) -> Dns:
    field = "config.dns_config"
    for index, server in enumerate(config.servers):
        try:
            if not _OPTION.fullmatch(server):
                raise ValueError(server)
            ipaddress.ip_address(server)
        except ValueError as exc:
            raise InvalidSpec(f"{field}.servers[{index}]", "is no address") from exc
    for index, search in enumerate(config.searches):
        if not _SEARCH.fullmatch(search):
            raise InvalidSpec(f"{field}.searches[{index}]", "is no name of a domain")
    for index, option in enumerate(config.options):
        if not _OPTION.fullmatch(option):
            raise InvalidSpec(f"{field}.options[{index}]", "is no option: one word of ASCII")
    for part, most in (("servers", _SERVERS_MAX), ("searches", _SEARCHES_MAX)):
        count = len(getattr(config, part))
        if count > most:
            raise InvalidSpec(f"{field}.{part}", f"{count} are more than resolvers read ({most})")
    if len(" ".join(config.searches)) > _SEARCHES_LENGTH:
        raise InvalidSpec(f"{field}.searches", f"are longer than {_SEARCHES_LENGTH} bytes together")
    return Dns(servers=tuple(config.servers), searches=tuple(config.searches), options=tuple(config.options))


def _ports(mappings: t.Sequence[cri_pb2.PortMapping]) -> tuple[PortMapping, ...]:
    """Return the mappings that lead from a port of the host; the others only tell of a container's port."""
    found: list[PortMapping] = []
    for index, mapping in enumerate(mappings):
        field = f"config.port_mappings[{index}]"
        if mapping.protocol not in _PROTOCOLS:
            raise InvalidSpec(f"{field}.protocol", f"{mapping.protocol} is none of TCP, UDP and SCTP")
        if not 0 < mapping.container_port <= _PORT_MAX:
            raise InvalidSpec(f"{field}.container_port", f"{mapping.container_port} is no port")
        if not 0 <= mapping.host_port <= _PORT_MAX:
            raise InvalidSpec(f"{field}.host_port", f"{mapping.host_port} is no port")
        if mapping.host_ip:
            try:
                ipaddress.ip_address(mapping.host_ip)
            except ValueError as exc:
                raise InvalidSpec(f"{field}.host_ip", "is no address") from exc
        if mapping.host_port == 0:
            continue
        plain = PortMapping(
            host_port=mapping.host_port,
            container_port=mapping.container_port,
            protocol=_PROTOCOLS[mapping.protocol],
            host_ip=mapping.host_ip,
        )
        if any(plain.overlaps(other) for other in found):
            raise InvalidSpec(
                f"{field}.host_port", f"port {plain.host_port}/{plain.protocol} is published twice"
            )
        found.append(plain)
    check_mappings(found)
    return tuple(found)
