# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which ports of the host lead to a container, and see to it that nobody else has them."""

from __future__ import annotations

import dataclasses
import errno
import ipaddress
import socket
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Json


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """One port of the host that leads to one of the container."""

    host_port: int
    container_port: int
    #: tcp, udp or sctp
    protocol: str = "tcp"
    #: Address of the host to listen on; empty is all.
    host_ip: str = ""

    def plain(self) -> Json:
        """Return the mapping as the capability ``portMappings`` has it."""
        return {
            "hostPort": self.host_port,
            "containerPort": self.container_port,
            "protocol": self.protocol,
            **({"hostIP": self.host_ip} if self.host_ip else {}),
        }

    @classmethod
    def from_plain(cls, entry: t.Mapping[str, t.Any]) -> PortMapping:
        """Return the mapping that an entry of the capability ``portMappings`` stands for."""
        return cls(
            host_port=int(entry["hostPort"]),
            container_port=int(entry["containerPort"]),
            protocol=str(entry.get("protocol") or "tcp").lower(),
            host_ip=str(entry.get("hostIP") or ""),
        )

    def check(self, field: str) -> None:
        """Raise InvalidSpec unless ports, protocol and address make sense."""
        for part, port in (("host_port", self.host_port), ("container_port", self.container_port)):
            if not 0 < port < 65536:
                raise InvalidSpec(f"{field}.{part}", f"{port} is no port", hint="Ports are 1 to 65535")
        if self.protocol not in {"tcp", "udp", "sctp"}:
            raise InvalidSpec(f"{field}.protocol", f"'{self.protocol}' is none of tcp, udp and sctp")
        if self.host_ip:
            try:
                ipaddress.ip_address(self.host_ip)
            except ValueError as exc:
                raise InvalidSpec(f"{field}.host_ip", f"'{self.host_ip}' is no address") from exc

    def overlaps(self, other: PortMapping) -> bool:
        """Say whether both want the same port of the host."""
        if (self.host_port, self.protocol) != (other.host_port, other.protocol):
            return False
        any_address = {"", "0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to
        return self.host_ip == other.host_ip or bool({self.host_ip, other.host_ip} & any_address)


def check_mappings(mappings: t.Sequence[PortMapping]) -> None:
    """Raise InvalidSpec unless each mapping makes sense and no port is published twice."""
    for index, mapping in enumerate(mappings):
        mapping.check(f"ports[{index}]")
        if any(mapping.overlaps(other) for other in mappings[:index]):
            raise InvalidSpec(
                f"ports[{index}]", f"port {mapping.host_port}/{mapping.protocol} is published twice"
            )


def check_free(
    mappings: t.Sequence[PortMapping], taken: t.Iterable[tuple[str, t.Sequence[PortMapping]]]
) -> None:
    """Raise Conflict when another container or a process of the host has one of the ports.

    ``taken`` is the ports of each other container, by its name.  The plugin itself does
    not look: the first of two containers would get everything.
    """
    others = list(taken)
    for mapping in mappings:
        for name, theirs in others:
            if any(mapping.overlaps(other) for other in theirs):
                raise Conflict(
                    f"port {mapping.host_port}/{mapping.protocol} of the host "
                    f"is published by container '{name}'",
                    hint="Choose another port",
                )
        _check_listening(mapping)


def _check_listening(mapping: PortMapping) -> None:
    """Raise Conflict when a process of the host listens on the port."""
    kinds = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
    if mapping.protocol not in kinds:
        return
    family = socket.AF_INET6 if ":" in mapping.host_ip else socket.AF_INET
    with socket.socket(family, kinds[mapping.protocol] | socket.SOCK_CLOEXEC) as probe:
        if mapping.protocol == "tcp":
            # Connections that are closing do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((mapping.host_ip, mapping.host_port))
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                raise Conflict(
                    f"a process of the host uses port {mapping.host_port}/{mapping.protocol}",
                    hint="Choose another port, or end that process",
                ) from exc
            if exc.errno == errno.EADDRNOTAVAIL:
                raise InvalidSpec(
                    "port_mappings", f"the host does not have the address {mapping.host_ip}"
                ) from exc
            raise
