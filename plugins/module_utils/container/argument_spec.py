# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List the options of ``crun_container``, and which of them can be compared."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.identity import KEYS as SOURCE_KEYS
from ansible_collections.pvecri.runtime.plugins.module_utils.container.terms import State
from ansible_collections.pvecri.runtime.plugins.module_utils.options.argument_spec import (
    container_argument_spec,
    source_argument_spec,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.options.paths import paths_argument_spec

Spec = dict[str, dict[str, t.Any]]

#: Options that say how a container lives, besides those of `container_argument_spec`.
LIVING: tuple[str, ...] = (
    "network",
    "published_ports",
    "dns_servers",
    "dns_search",
    "dns_options",
    "etc_hosts",
    "log",
    "health_check",
    "restart_policy",
    "stop_timeout",
)
#: What a bundle that was made elsewhere leaves to say: nothing of its configuration is changed.
WITH_BUNDLE = frozenset({*LIVING, "stop_signal"})

#: Comparable keys whose values are lists or dictionaries.
COLLECTIONS = (
    "entrypoint",
    "command",
    "env",
    "secret_env",
    "supplementary_groups",
    "labels",
    "annotations",
    "uid_maps",
    "gid_maps",
    "mounts",
    "devices",
    "resources",
    "rlimits",
    "sysctls",
    "hooks",
    "published_ports",
    "dns_servers",
    "dns_search",
    "dns_options",
    "etc_hosts",
)


def argument_spec() -> Spec:
    """Return the options of the module."""
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": [str(state) for state in State], "default": "started"},
        "bundle": {"type": "path"},
        "recreate": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
        "comparisons": {"type": "dict", "default": {}},
        "detach": {"type": "bool", "default": True},
        "timeout": {"type": "str"},
        "rerun": {"type": "str", "choices": ["always", "failed", "never"]},
        "signal": {"type": "str"},
        "wait_timeout": {"type": "str", "default": "5m"},
        "network": {"type": "str"},
        "published_ports": _texts(),
        "dns_servers": _texts(),
        "dns_search": _texts(),
        "dns_options": _texts(),
        "etc_hosts": {"type": "dict", "default": {}},
        "log": {
            "type": "dict",
            "options": {
                "path": {"type": "path"},
                "max_size": {"type": "str"},
                "max_files": {"type": "int", "default": 1},
            },
        },
        "health_check": {
            "type": "dict",
            "options": {
                "disabled": {"type": "bool", "default": False},
                "command": {"type": "list", "elements": "str"},
                "interval": {"type": "str"},
                "timeout": {"type": "str"},
                "start_period": {"type": "str"},
                "retries": {"type": "int"},
            },
        },
        "restart_policy": {"type": "str"},
        "stop_timeout": {"type": "str"},
        **paths_argument_spec(),
        **source_argument_spec(),
        **container_argument_spec(),
    }


def _texts() -> dict[str, t.Any]:
    return {"type": "list", "elements": "str", "default": []}


#: For AnsibleModule: a container is made from one thing.
MUTUALLY_EXCLUSIVE = [("image", "tarball", "directory", "bundle")]


def comparable_keys() -> tuple[str, ...]:
    """Return the keys that ``comparisons`` may name: the options that shape a container."""
    return (*SOURCE_KEYS, *container_argument_spec(), *LIVING)
