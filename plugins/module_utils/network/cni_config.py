# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find and read CNI network configurations, and build the request of each plugin; pure but for reading.

Terms and keys are those of the CNI specification 1.0.0, sections 1 ("Network
configuration format") and 3 ("Execution protocol").
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.files import open_regular
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Json

CONF_DIR = "/etc/cni/net.d"
DEFAULT_NETWORK = "pvecri"
DEFAULT_BRIDGE = "pvecri0"
DEFAULT_SUBNET = "10.124.0.0/16"

#: What plugins of Debian 12 and 13 understand.
CNI_VERSION = "1.0.0"

#: Limits that a network's configuration can set for everybody (plugin ``bandwidth``).
_RATES = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_INTERFACE_MAX = 15


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkConfig:
    """One network: a list of plugins to run, one after the other."""

    name: str
    cni_version: str
    plugins: tuple[Json, ...]
    disable_check: bool = False
    #: File it was read from, or None for one built here.
    path: str | None = None

    def plain(self) -> Json:
        """Return the network configuration list as JSON data."""
        return {
            "cniVersion": self.cni_version,
            "name": self.name,
            **({"disableCheck": True} if self.disable_check else {}),
            "plugins": list(self.plugins),
        }

    def version_at_least(self, *wanted: int) -> bool:
        """Compare ``cniVersion`` number by number."""
        try:
            return tuple(int(part) for part in self.cni_version.split(".")) >= wanted
        except ValueError:
            return False


def default_config(
    *, name: str = DEFAULT_NETWORK, bridge: str = DEFAULT_BRIDGE, subnets: t.Sequence[str] = (DEFAULT_SUBNET,)
) -> NetworkConfig:
    """Return a network of our own: a bridge with NAT, addresses of ``subnets``, and published ports."""
    if not subnets:
        raise InvalidSpec("subnets", "at least one is needed")
    if not _NAME.fullmatch(bridge) or len(bridge) > _INTERFACE_MAX:
        raise InvalidSpec(
            "bridge", f"'{bridge}' is no name of an interface", hint="Use at most 15 characters"
        )
    ranges, routes = [], []
    for index, subnet in enumerate(subnets):
        try:
            network = ipaddress.ip_network(subnet)
        except ValueError as exc:
            raise InvalidSpec(f"subnets[{index}]", f"'{subnet}' is no network: {exc}") from exc
        ranges.append([{"subnet": str(network)}])
        routes.append({"dst": "0.0.0.0/0" if network.version == 4 else "::/0"})
    plugins: tuple[Json, ...] = (
        {
            "type": "bridge",
            "bridge": bridge,
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    )
    return parse_config({"cniVersion": CNI_VERSION, "name": name, "plugins": list(plugins)}, "default")


def parse_config(data: t.Any, origin: str, path: str | None = None) -> NetworkConfig:
    """Check a network configuration list, or a single plugin's configuration, and return it.

    ``origin`` names it in errors.  Raises InvalidSpec.
    """
    if not isinstance(data, dict):
        raise InvalidSpec(origin, "is no JSON object")
    if "plugins" not in data and "type" in data:
        # A single configuration: a list of one.
        data = {**data, "plugins": [{k: v for k, v in data.items() if k not in {"name", "cniVersion"}}]}
    name, plugins = data.get("name"), data.get("plugins")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidSpec(f"{origin}.name", f"{name!r} is no name of a network")
    if not isinstance(plugins, list) or not plugins:
        raise InvalidSpec(f"{origin}.plugins", "is no list of plugins")
    for index, plugin in enumerate(plugins):
        kind = plugin.get("type") if isinstance(plugin, dict) else None
        # A type is the name of a program: it must not lead anywhere else.
        if not isinstance(kind, str) or not _NAME.fullmatch(kind):
            raise InvalidSpec(f"{origin}.plugins[{index}].type", f"{kind!r} is no name of a plugin")
    return NetworkConfig(
        name,
        str(data.get("cniVersion") or "0.2.0"),
        tuple(plugins),
        data.get("disableCheck") in {True, "true"},
        path,
    )


def find_config(name: str | None = None, conf_dir: str = CONF_DIR) -> NetworkConfig:
    """Return the network of that name, or the first of the directory, in the order of file names.

    Without a file of its own, our network is the default one.  Files that cannot be read
    are passed over, unless nothing else is found.  Raises NotFound.
    """
    problems: list[str] = []
    for file in config_files(conf_dir):
        try:
            with open_regular(file) as stream:
                config = parse_config(json.load(stream), file, file)
        except (OSError, ValueError, RecursionError, InvalidSpec) as exc:
            problems.append(f"{file}: {exc}")
            continue
        if name is None or config.name == name:
            return config
    if name == DEFAULT_NETWORK:
        return default_config()
    wanted = f"network '{name}'" if name else "network configuration"
    detail = f" ({'; '.join(problems)})" if problems else ""
    raise NotFound(f"there is no {wanted} in {conf_dir}{detail}", hint="Put a .conflist file there")


def config_files(conf_dir: str) -> list[str]:
    """Return the files of a directory that may hold a network, in the order in which they count."""
    try:
        entries = os.listdir(conf_dir)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = sorted(entry for entry in entries if entry.endswith((".conflist", ".conf", ".json")))
    return [os.path.join(conf_dir, name) for name in names]


def plugin_request(
    config: NetworkConfig,
    plugin: Json,
    capabilities: t.Mapping[str, t.Any],
    previous: Json | None,
) -> Json:
    """Return what a plugin reads from its input (section 3, "Deriving execution configuration")."""
    request = {key: value for key, value in plugin.items() if key != "capabilities"}
    request["cniVersion"] = config.cni_version
    request["name"] = config.name
    declared = plugin.get("capabilities") or {}
    runtime = {key: capabilities[key] for key, wanted in declared.items() if wanted and key in capabilities}
    if runtime:
        request["runtimeConfig"] = runtime
    if previous is not None:
        request["prevResult"] = previous
    return request


def is_idle(plugin: Json, capabilities: t.Mapping[str, t.Any]) -> bool:
    """Say whether a plugin provably does nothing for an attachment, so that it need not be run.

    Of the reference plugins, ``portmap`` without ports and ``bandwidth`` without rates pass
    on the result before them as it is (each a process that costs some 3 ms), and have
    nothing to take back.  Any other plugin is unknown to us, and run.
    """
    if plugin["type"] == "portmap":
        return not capabilities.get("portMappings")
    if plugin["type"] == "bandwidth":
        return not capabilities.get("bandwidth") and not any(plugin.get(key) for key in _RATES)
    return False
