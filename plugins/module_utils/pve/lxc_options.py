# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List the options that describe one LXC container, for a task and for an entry of ``containers``.

plugins/doc_fragments/pve_lxc_container.py documents them.  None has a default
here: an entry of ``containers`` inherits what it does not name from the task,
and only `lxc_parse` knows what an option means that nobody named.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import (
    Comparison,
    SourceKind,
    State,
)

#: Collections whose entries can be compared in more than one way.
COLLECTIONS = ("networks", "mounts", "devices", "features", "tags", "env")

ARCHITECTURES = ("amd64", "i386", "arm64", "armhf", "riscv32", "riscv64")
OSTYPES = (
    "debian",
    "devuan",
    "ubuntu",
    "centos",
    "fedora",
    "opensuse",
    "archlinux",
    "alpine",
    "gentoo",
    "nixos",
    "unmanaged",
)
CLONE_TYPES = ("full", "linked", "opportunistic")
CONSOLE_MODES = ("tty", "console", "shell")
HA_STATES = ("started", "stopped", "disabled", "ignored")


def container_options() -> dict[str, dict[str, t.Any]]:
    """Return the argument spec of one container."""
    return {**_identity(), **_creation(), **_configuration(), **_conduct()}


def _identity() -> dict[str, dict[str, t.Any]]:
    return {
        "vmid": {"type": "int"},
        "vmid_range": {
            "type": "dict",
            "options": {
                "first": {"type": "int", "required": True},
                "last": {"type": "int", "required": True},
            },
        },
        "hostname": {"type": "str"},
        "node": {"type": "str"},
        "state": {"type": "str", "choices": [state.value for state in State]},
    }


def _creation() -> dict[str, dict[str, t.Any]]:
    return {
        "ostemplate": {"type": "str"},
        "image": {"type": "str"},
        "image_storage": {"type": "str"},
        "image_authfile": {"type": "path"},
        "image_tls_verify": {"type": "bool"},
        "clone": {"type": "str"},
        "clone_type": {"type": "str", "choices": list(CLONE_TYPES)},
        "clone_snapshot": {"type": "str"},
        "storage": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "ssh_public_keys": {"type": "list", "elements": "str", "no_log": False, "aliases": ["pubkey"]},
        "unprivileged": {"type": "bool"},
        "ignore_unpack_errors": {"type": "bool"},
        "bwlimit": {"type": "int"},
    }


def _configuration() -> dict[str, dict[str, t.Any]]:
    return {
        "description": {"type": "str"},
        "tags": {"type": "list", "elements": "str"},
        "onboot": {"type": "bool"},
        "protection": {"type": "bool"},
        "startup": {"type": "raw"},
        "cores": {"type": "int"},
        "cpulimit": {"type": "float", "aliases": ["cpus"]},
        "cpuunits": {"type": "int"},
        "memory": {"type": "int"},
        "swap": {"type": "int"},
        "arch": {"type": "str", "choices": list(ARCHITECTURES)},
        "ostype": {"type": "str", "choices": list(OSTYPES)},
        "cmode": {"type": "str", "choices": list(CONSOLE_MODES)},
        "console": {"type": "bool"},
        "tty": {"type": "int"},
        "debug": {"type": "bool"},
        "timezone": {"type": "str"},
        "nameserver": {"type": "list", "elements": "str"},
        "searchdomain": {"type": "list", "elements": "str"},
        "hookscript": {"type": "str"},
        "rootfs": {"type": "raw", "aliases": ["disk"]},
        "mounts": {"type": "dict"},
        "networks": {"type": "dict", "aliases": ["netif"]},
        "devices": {"type": "dict"},
        "features": {"type": "raw"},
        "env": {"type": "dict"},
        "entrypoint": {"type": "raw"},
        "lxc": {"type": "dict"},
        "ha": {
            "type": "dict",
            "options": {
                "managed": {"type": "bool", "default": True},
                "state": {"type": "str", "choices": list(HA_STATES)},
                "max_restart": {"type": "int"},
                "max_relocate": {"type": "int"},
                "group": {"type": "str"},
                "comment": {"type": "str"},
                "failback": {"type": "bool"},
            },
        },
        "pool": {"type": "str"},
        "unset": {"type": "list", "elements": "str"},
        "comparisons": {
            "type": "dict",
            "options": {
                name: {"type": "str", "choices": [how.value for how in Comparison]} for name in COLLECTIONS
            },
        },
    }


def _conduct() -> dict[str, dict[str, t.Any]]:
    return {
        "adopt": {"type": "bool"},
        "migrate": {"type": "bool"},
        "force": {"type": "bool"},
        "apply_pending": {"type": "bool"},
        "purge": {"type": "bool"},
        "destroy_unreferenced_disks": {"type": "bool"},
        "shutdown_timeout": {"type": "int"},
        "lock_timeout": {"type": "int"},
    }


def merged_options(task: t.Mapping[str, t.Any], entry: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the options of an entry of ``containers``, with those of the task where it names none.

    An entry that names what it is made from takes none of the task's sources.
    """
    sources = {kind.value for kind in SourceKind}
    own = {name: value for name, value in entry.items() if value is not None}
    inherited = {name: value for name, value in task.items() if name in entry and value is not None}
    if sources & own.keys():
        inherited = {name: value for name, value in inherited.items() if name not in sources}
    return {**dict.fromkeys(entry), **inherited, **own}
