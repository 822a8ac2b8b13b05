# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make an inventory of the containers of a Proxmox VE cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pve
short_description: Inventory of Proxmox VE containers
version_added: "0.1.0"
author:
  - The pvecri authors (@pvecri)
description:
  - Lists the LXC containers of a whole Proxmox VE cluster from one API request, and one more for each
    container whose addresses are asked for.
  - Reads a YAML file whose name ends in C(pve.yml) or C(pve.yaml).
  - Each host is called after its container. Containers that share a name, or have none, get their number
    appended.
  - Each host has the variables C(pve_vmid), C(pve_name), C(pve_node), C(pve_status), C(pve_tags),
    C(pve_pool), C(pve_lock), C(pve_template), C(pve_ha_state), C(pve_cpus), C(pve_memory) and C(pve_disk),
    and C(ansible_pct_vmid) for the connection plugin P(pvecri.runtime.pct#connection).
  - All hosts are in the group C(pve_containers).
extends_documentation_fragment:
  - pvecri.runtime.pve
  - constructed
  - inventory_cache
options:
  plugin:
    description:
      - Name of the plugin.
    type: str
    required: true
    choices: [pvecri.runtime.pve]
  templates:
    description:
      - Whether to list templates too.
    type: bool
    default: false
  addresses:
    description:
      - Read the addresses of each running container into C(pve_addresses), by interface, and its first
        address that is neither loopback nor link-local into C(ansible_host).
    type: bool
    default: false
  concurrency:
    description:
      - Number of API requests to have under way at once.
    type: int
    default: 8
"""

EXAMPLES = r"""
# containers.pve.yml: log in by PVE_HOST, PVE_USER, PVE_TOKEN_ID and PVE_TOKEN_SECRET
plugin: pvecri.runtime.pve
keyed_groups:
  - key: pve_tags
    prefix: tag
  - key: pve_node
    prefix: node
groups:
  running: pve_status == 'running'
# Work in them through pct on their node
compose:
  ansible_connection: "'pvecri.runtime.pct'"
  ansible_host: pve_node
"""

import collections
import ipaddress
import os
import typing as t

from ansible.errors import AnsibleParserError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import cluster, parallel
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.options import (
    client_from_params,
    connection_argument_spec,
)

#: What is shown of a container; the rest changes from minute to minute.
_VARIABLES = (
    *("vmid", "name", "node", "status", "tags", "pool", "lock", "template"),
    *("ha_state", "cpus", "memory", "disk"),
)

_GROUP = "pve_containers"

Entry = dict[str, t.Any]


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Read a cluster and fill the inventory with it."""

    NAME = "pvecri.runtime.pve"
    inventory: t.Any

    def verify_file(self, path: str) -> bool:
        """Say whether the file is meant for this plugin."""
        return bool(super().verify_file(path)) and path.endswith(("pve.yml", "pve.yaml"))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        """Fill ``inventory`` from the cluster, or from the cache if it has it."""
        super().parse(inventory, loader, path)
        self._read_config_data(path)
        self._fill(self._cached(path, cache))

    def _cached(self, path: str, cache: bool) -> list[Entry]:
        use_cache = self.get_option("cache")
        key = self.get_cache_key(path)
        if use_cache and cache:
            try:
                return list(self._cache[key])
            except KeyError:
                pass
        try:
            entries = self._read()
        except CoreError as exc:
            raise AnsibleParserError(f"{path}: {exc}") from exc
        if use_cache:
            self._cache[key] = entries
        return entries

    def _read(self) -> list[Entry]:
        client = client_from_params(self._connection_params())
        view = cluster.read_cluster(client)
        templates = self.get_option("templates")
        wanted = [guest for guest in view.containers() if templates or not guest.is_template]
        entries = [{name: guest.as_dict()[name] for name in _VARIABLES} for guest in wanted]
        if self.get_option("addresses"):
            limit = self.get_option("concurrency")
            found = parallel.each(wanted, lambda guest: read_addresses(client, guest), limit=limit)
            for entry, addresses in zip(entries, found, strict=True):
                # A container that stops meanwhile, or may not be asked, is a host without addresses.
                entry["addresses"] = {} if isinstance(addresses, CoreError) else addresses
        return entries

    def _connection_params(self) -> dict[str, t.Any]:
        """Return the connection options; those not in the file come from the environment, as in modules."""
        params: dict[str, t.Any] = {}
        for name, spec in connection_argument_spec().items():
            value, origin = self.get_option_and_origin(name)
            variables = spec["fallback"][1] if "fallback" in spec else []
            given = next((os.environ[variable] for variable in variables if variable in os.environ), None)
            params[name] = value
            if origin == "default" and given is not None:
                try:
                    params[name] = _typed(spec["type"], given)
                except (TypeError, ValueError) as exc:
                    raise InvalidSpec(name, f"its environment variable holds '{given}'") from exc
        return params

    def _fill(self, entries: list[Entry]) -> None:
        self.inventory.add_group(_GROUP)
        names = collections.Counter(entry["name"] for entry in entries)
        strict = self.get_option("strict")
        for entry in entries:
            name = entry["name"]
            host = name if name and names[name] == 1 else f"{name or 'ct'}-{entry['vmid']}"
            self.inventory.add_host(host, group=_GROUP)
            variables = {f"pve_{key}": value for key, value in entry.items()}
            variables["ansible_pct_vmid"] = entry["vmid"]
            address = first_address(entry.get("addresses", {}))
            if address is not None:
                variables["ansible_host"] = address
            for key, value in variables.items():
                self.inventory.set_variable(host, key, value)
            self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)


def _typed(kind: str, text: str) -> t.Any:
    """Return an environment variable's text as its option's type."""
    return boolean(text) if kind == "bool" else int(text) if kind == "int" else text


def read_addresses(client: PveClient, guest: cluster.Guest) -> dict[str, list[str]]:
    """Return the addresses of a running container by interface, without prefix lengths."""
    if guest.status != "running":
        return {}
    found: dict[str, list[str]] = {}
    for interface in client.get((*guest.path, "interfaces")) or []:
        listed = [interface.get("inet"), interface.get("inet6")]
        listed += [entry.get("ip-address") for entry in interface.get("ip-addresses") or []]
        plain = [str(address).partition("/")[0] for address in listed if address]
        found[str(interface["name"])] = list(dict.fromkeys(plain))
    return found


def first_address(addresses: t.Mapping[str, t.Sequence[str]]) -> str | None:
    """Return the first address that others can reach the container at, IPv4 first."""
    usable = []
    for text in (text for listed in addresses.values() for text in listed):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            # Whatever the container reports: its other addresses serve.
            continue
        if not (address.is_loopback or address.is_link_local):
            usable.append(address)
    return str(min(usable, key=lambda address: address.version)) if usable else None
