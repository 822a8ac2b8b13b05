# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the limits of a container: in its configuration, and under its feet."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, Json, Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts, gather_host_facts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host_request import with_request
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.resources import build_resources
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.update import live_resources

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner


def live_changes(runner: Runner, old: Resources, new: Resources) -> Json | None:
    """Return ``linux.resources`` that turns ``old`` into ``new`` in a running container.

    None: only a new container can have them.  Raises InvalidSpec and Unsupported for
    limits that no container can have here.
    """
    return live_resources(old, new, _host(runner, new))


def merge(first: Json, second: Json) -> Json:
    """Return both changes in one; where they disagree the second counts."""
    merged = dict(first)
    for key, value in second.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def configured(runner: Runner, config: Json, new: Resources) -> Json:
    """Return a copy of ``config`` with the limits ``new``; its device rules stay."""
    linux = dict(config.get("linux") or {})
    devices = {key: v for key, v in (linux.get("resources") or {}).items() if key == "devices"}
    linux["resources"] = {**devices, **build_resources(new, _host(runner, new))}
    return {**config, "linux": linux}


def _host(runner: Runner, resources: Resources) -> HostFacts:
    # Only the devices that the limits name are looked up for this.
    return with_request(gather_host_facts(runner), ContainerSpec(name="limits", resources=resources))
