# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network namespace per host: a veth pair to the machine, and its NAT out into the world.

Hosts reach each other and the machine through their gateways; nothing is translated between them.
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import dataclass
from pathlib import Path

from test_hosts.ground import RUN, HostError, run, write_file

# Reserved for tests of network devices (RFC 2544): no real network has it.
NETWORK = ipaddress.ip_network("198.18.0.0/16")
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
SAVED_FORWARD = RUN / "ip_forward"


@dataclass(frozen=True, slots=True)
class Link:
    """The network of one host; index is its number on the machine."""

    name: str
    index: int

    @property
    def netns(self) -> str:
        """Return the name of the namespace."""
        return f"pvh-{self.name}"

    @property
    def device(self) -> str:
        """Return the name of the machine's end."""
        return f"pvh{self.index}"

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        """Return the subnet of both ends."""
        return ipaddress.IPv4Network((int(NETWORK.network_address) + 4 * self.index, 30))

    @property
    def gateway(self) -> str:
        """Return the address of the machine's end."""
        return str(self.subnet[1])

    @property
    def address(self) -> str:
        """Return the host's address."""
        return str(self.subnet[2])

    def rules(self) -> list[list[str]]:
        """Return the rules of the machine's packet filter: table, chain, and what iptables takes."""
        mark = ["-m", "comment", "--comment", f"pvecri test host {self.name}"]
        nat = ["-s", str(self.subnet), "!", "-d", str(NETWORK), *mark, "-j", "MASQUERADE"]
        return [
            ["nat", "POSTROUTING", *nat],
            ["filter", "FORWARD", "-i", self.device, *mark, "-j", "ACCEPT"],
            ["filter", "FORWARD", "-o", self.device, *mark, "-j", "ACCEPT"],
        ]


def free_index(taken: t.Collection[int]) -> int:
    """Return the first number that no host has and whose subnet no route of the machine touches."""
    routes = run("ip", "-4", "-o", "route", "show", "table", "all").stdout.splitlines()
    nets = [ipaddress.ip_network(w, strict=False) for line in routes for w in line.split()[:2] if "." in w]
    for index in range(NETWORK.num_addresses // 4):
        subnet = Link("", index).subnet
        if index not in taken and not any(net.prefixlen and net.overlaps(subnet) for net in nets):
            return index
    raise HostError(f"no subnet of {NETWORK} is free; take hosts down: scripts/hosts list")


def make(link: Link) -> None:
    """Make a host's network anew, as a boot finds it."""
    remove(link)
    run("ip", "netns", "add", link.netns)
    inside = ["ip", "-n", link.netns]
    run("ip", "link", "add", link.device, "type", "veth", "peer", "name", "eth0", "netns", link.netns)
    run("ip", "address", "add", f"{link.gateway}/30", "dev", link.device)
    run("ip", "link", "set", link.device, "up")
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "address", "add", f"{link.address}/30", "dev", "eth0")
    run(*inside, "link", "set", "eth0", "up")
    run(*inside, "route", "add", "default", "via", link.gateway)
    for table, chain, *rule in link.rules():
        # First in the chain: a rule that drops all must not come before it.
        run("iptables", "-w", "-t", table, "-I", chain, *rule)


def remove(link: Link) -> None:
    """Remove a host's network; what is not there is no error."""
    for table, chain, *rule in link.rules():
        while run("iptables", "-w", "-t", table, "-D", chain, *rule, check=False).returncode == 0:
            pass
    run("ip", "link", "delete", link.device, check=False)
    run("ip", "netns", "delete", link.netns, check=False)


def forward() -> None:
    """Let the machine route; its own setting is kept for the day when the last host goes."""
    if not SAVED_FORWARD.exists():
        write_file(SAVED_FORWARD, FORWARD.read_text())
    FORWARD.write_text("1\n")


def stop_forwarding() -> None:
    """Restore the machine's own setting."""
    if SAVED_FORWARD.exists():
        FORWARD.write_text(SAVED_FORWARD.read_text())
        SAVED_FORWARD.unlink()
