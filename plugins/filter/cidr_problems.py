# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: cidr_problems
short_description: Tell what is wrong with networks that pods are to get addresses from
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Looks at a list of networks as the CNI plugin C(host-local) does, which refuses a wrong one only when the
    first pod starts.
positional: _input
options:
  _input:
    description: The networks, for example C([10.88.0.0/16]).
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Refuse networks that pods cannot get addresses from
  ansible.builtin.assert:
    that: cri_endpoint_pod_cidrs | pvecri.runtime.cidr_problems | length == 0
"""

RETURN = r"""
_value:
  description: What is wrong, and what to write instead. Empty if nothing is.
  type: list
  elements: str
  sample: ["10.88.0.5/16 is an address in a network, not a network. Write 10.88.0.0/16"]
"""

import ipaddress
import re
import typing as t

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What the plugin reads: no masks and no zones.
_CIDR: t.Final = re.compile(r"[0-9A-Fa-f:.]+/[0-9]{1,3}")
#: A network has an address of its own, one for the bridge and one for broadcasts; a pod needs another.
_HOST_BITS: t.Final = 2


def cidr_problems(cidrs: object) -> list[str]:
    """Return what is wrong with a list of networks for pods, nothing if they can be used."""
    if not isinstance(cidrs, list):
        return [f"a list of networks is wanted, this is {cidrs!r}. Write it in brackets: [10.88.0.0/16]"]
    if not cidrs:
        return ["it is empty, and pods need addresses. Name a network, for example [10.88.0.0/16]"]
    problems: list[str] = []
    networks: list[Network] = []
    for cidr in cidrs:
        network = _network(cidr)
        if isinstance(network, str):
            problems.append(network)
            continue
        # Networks of the two families never overlap, which they raise an error for.
        other = next(
            (one for one in networks if one.version == network.version and one.overlaps(network)), None
        )
        if other is not None:
            problems.append(f"{network} and {other} overlap. Leave one of them out")
        networks.append(network)
    return problems


def _network(cidr: object) -> Network | str:
    """Return a network, or what is wrong with it."""
    if not isinstance(cidr, str) or not _CIDR.fullmatch(cidr):
        return f"{cidr!r} is no network. Write its address and the length of its prefix, as in 10.88.0.0/16"
    try:
        network = ipaddress.ip_network(cidr, strict=False)
    except ValueError as exc:
        return f"{cidr!r} is no network ({exc}). Write it as in 10.88.0.0/16"
    longest = network.max_prefixlen - _HOST_BITS
    if network.prefixlen > longest:
        return f"{cidr} has no room for pods. Its prefix may be {longest} long at most"
    if str(network.network_address) != str(ipaddress.ip_address(cidr.partition("/")[0])):
        return f"{cidr} is an address in a network, not a network. Write {network}"
    return network


class FilterModule:
    """Give Ansible the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return filters by name."""
        return {"cidr_problems": cidr_problems}
