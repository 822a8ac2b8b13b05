# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what a container's resolver reads: the texts of hosts, hostname and resolv.conf.  Pure.

The formats are those of hosts(5), hostname(5) and resolv.conf(5).
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import NetworkRequest

#: Where a container finds each file.
DESTINATIONS = {"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf"}

_LOOPBACK_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def hosts_text(
    hostname: str, addresses: t.Sequence[str], request: NetworkRequest, host_text: str = ""
) -> str:
    """Return /etc/hosts: the loopback names, the container's own name, and what is asked for.

    ``host_text`` is the host's own file, which a container in the host's network gets
    as its base.  Without an address of its own a container finds itself by a loopback one.
    """
    base = host_text or _LOOPBACK_HOSTS
    if base and not base.endswith("\n"):
        base += "\n"
    own = [f"{address}\t{hostname}" for address in (addresses or ["127.0.1.1"])]
    if host_text and any(hostname in line.split("#")[0].split()[1:] for line in host_text.splitlines()):
        own = []
    asked = [f"{address}\t{name}" for name, address in request.hosts]
    return base + "".join(f"{line}\n" for line in own + asked)


def resolv_text(request: NetworkRequest, network_dns: t.Mapping[str, t.Any], host_text: str) -> str:
    """Return /etc/resolv.conf: what is asked for, else what the network says, else what the host has.

    ``network_dns`` is ``dns`` of a CNI result.  A name server on a loopback address
    cannot be reached from a network of the container's own and is left out there.
    """
    host = _parse(host_text)
    if request.is_own:
        host["nameserver"] = [server for server in host["nameserver"] if not _is_loopback(server)]
    servers = list(request.dns_servers) or list(network_dns.get("nameservers") or ()) or host["nameserver"]
    search = list(request.dns_search) or list(network_dns.get("search") or ()) or host["search"]
    options = list(request.dns_options) or list(network_dns.get("options") or ()) or host["options"]
    lines = [f"nameserver {server}" for server in servers]
    if search:
        lines.append("search " + " ".join(search))
    if options:
        lines.append("options " + " ".join(options))
    return "".join(f"{line}\n" for line in lines)


def _parse(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            found["nameserver"].append(words[1])
        elif words[0] in {"search", "domain"}:
            # The last of them counts.
            found["search"] = words[1:]
        elif words[0] == "options":
            found["options"] += words[1:]
    return found


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False
