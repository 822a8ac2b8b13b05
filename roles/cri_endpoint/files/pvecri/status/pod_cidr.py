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
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import (
    config_files,
    parse_config,
)

_FIELD = "runtime_config.network_config.pod_cidr"
_FILE = "10-pvecri.conflist"
_KEPT = "pod-cidr"
#: What a template says for the range of each address family.
_NAMES: t.Final = {4: "{pod_cidr}", 6: "{pod_cidr_6}"}


def parse_ranges(pod_cidr: str) -> dict[int, str]:
    """Return the range of each address family (4, 6) in ``10.1.0.0/24`` or ``10.1.0.0/24,fd00::/64``.

    The order is kept: the first is the primary one.  Raises InvalidSpec.
    """
    found: dict[int, str] = {}
    for part in pod_cidr.split(","):
        try:
            network = ipaddress.ip_network(part.strip())
        except ValueError as exc:
            raise InvalidSpec(_FIELD, f"'{part}' is no range of addresses: {exc}") from exc
        if network.version in found:
            raise InvalidSpec(_FIELD, f"'{pod_cidr}' has two ranges of one address family")
        found[network.version] = str(network)
    return found


def keep(state_dir: str, pod_cidr: str) -> None:
    """Remember the ranges over a restart: kubelet tells them once."""
    write_atomic(os.path.join(state_dir, _KEPT), pod_cidr.encode())


def kept(state_dir: str) -> tuple[str, ...]:
    """Return the ranges that were told last; none when there are none, or none that make sense."""
    try:
        with open(os.path.join(state_dir, _KEPT), encoding="ascii") as stream:
            return tuple(parse_ranges(stream.read()).values())
    except (OSError, ValueError, InvalidSpec):
        return ()


def write_network(ranges: t.Mapping[int, str], template: str, conf_dir: str) -> str | None:
    """Write the network of the node's ranges and return its path.

    None when there is no template, or somebody else's configuration is there: it counts.
    Raises InvalidSpec for a bad template, or a range that it wants and there is not.
    """
    path = os.path.join(conf_dir, _FILE)
    if not template or any(other != path for other in config_files(conf_dir)):
        return None
    try:
        with open(template, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidSpec("network.conf_template", f"'{template}' cannot be read: {exc}") from exc
    for version, name in _NAMES.items():
        if name in text:
            if version not in ranges:
                raise InvalidSpec(_FIELD, f"no IPv{version} range, which '{template}' asks for")
            text = text.replace(name, ranges[version])
    try:
        parse_config(json.loads(text), template)
    except ValueError as exc:
        raise InvalidSpec("network.conf_template", f"'{template}' is no JSON: {exc}") from exc
    os.makedirs(conf_dir, exist_ok=True)
    write_atomic(path, text.encode(), durable=True)
    return path
