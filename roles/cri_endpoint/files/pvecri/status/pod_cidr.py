# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a CNI configuration for the node's range of pod addresses, from a template.

Clusters whose network add-on brings its own configuration need no template.
"""

from __future__ import annotations

import ipaddress
import json
import os

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import (
    config_files,
    parse_config,
)

_FIELD = "runtime_config.network_config.pod_cidr"
_FILE = "10-pvecri.conflist"


def write_network(pod_cidr: str, template: str, conf_dir: str) -> str | None:
    """Write the network of a range (``10.1.0.0/24``, or one per family with a comma) and return its path.

    None when there is no template, or somebody else's configuration is there: it counts.
    Raises InvalidSpec for a bad range or template.
    """
    ranges = _ranges(pod_cidr)
    if not template:
        return None
    path = os.path.join(conf_dir, _FILE)
    if any(other != path for other in config_files(conf_dir)):
        return None
    try:
        with open(template, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidSpec("network.conf_template", f"'{template}' cannot be read: {exc}") from exc
    for name, value in ranges.items():
        text = text.replace("{" + name + "}", value)
    if "{pod_cidr" in text:
        raise InvalidSpec(_FIELD, f"'{pod_cidr}' lacks an address family that '{template}' asks for")
    try:
        parse_config(json.loads(text), template)
    except ValueError as exc:
        raise InvalidSpec("network.conf_template", f"'{template}' is no JSON: {exc}") from exc
    os.makedirs(conf_dir, exist_ok=True)
    write_atomic(path, text.encode(), durable=True)
    return path


def _ranges(pod_cidr: str) -> dict[str, str]:
    """Return the replacements: ``pod_cidr`` is the IPv4 range if there is one, else the IPv6 range."""
    found: dict[int, str] = {}
    for part in pod_cidr.split(","):
        try:
            network = ipaddress.ip_network(part.strip())
        except ValueError as exc:
            raise InvalidSpec(_FIELD, f"'{part}' is no range of addresses: {exc}") from exc
        if network.version in found:
            raise InvalidSpec(_FIELD, f"'{pod_cidr}' has two ranges of one address family")
        found[network.version] = str(network)
    result = {"pod_cidr": found.get(4) or found[6]}
    if 6 in found:
        result["pod_cidr_6"] = found[6]
    return result
