# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know the single-valued config keys of an LXC container: spelling, default, meaning.

Source: PUT /nodes/{node}/lxc/{vmid}/config in the Proxmox VE 9 API schema, and
how a server writes back what it was sent.
"""

from __future__ import annotations

import enum
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.props import as_bool, format_number, words

#: Indexed keys with the number of entries that Proxmox VE knows of each.
INDEXED = {"net": 32, "mp": 256, "dev": 256, "unused": 256}

_INDEXED = re.compile(r"(?P<name>net|mp|dev|unused)(?P<index>0|[1-9]\d*)")


class Type(enum.Enum):
    """How one key's value is compared."""

    TEXT = "text"
    #: Text to which the server adds a line break.
    NOTES = "notes"
    INT = "int"
    NUMBER = "number"
    BOOL = "bool"
    #: Parted by blanks; the order counts.
    LIST = "list"


#: Single-valued keys with their type.
SCALARS: dict[str, Type] = {
    "hostname": Type.TEXT,
    "description": Type.NOTES,
    "onboot": Type.BOOL,
    "protection": Type.BOOL,
    "cores": Type.INT,
    "cpulimit": Type.NUMBER,
    "cpuunits": Type.INT,
    "memory": Type.INT,
    "swap": Type.INT,
    "arch": Type.TEXT,
    "ostype": Type.TEXT,
    "cmode": Type.TEXT,
    "console": Type.BOOL,
    "tty": Type.INT,
    "debug": Type.BOOL,
    "timezone": Type.TEXT,
    "nameserver": Type.LIST,
    "searchdomain": Type.LIST,
    "hookscript": Type.TEXT,
    "entrypoint": Type.TEXT,
}

#: Values that mean the same as an unset key.
DEFAULTS: dict[str, t.Any] = {
    "onboot": False,
    "protection": False,
    "console": True,
    "debug": False,
    "tty": 2,
    "cmode": "tty",
    "cpulimit": 0.0,
    "memory": 512,
    "swap": 512,
    "arch": "amd64",
}

#: Keys that a request may not reset.
UNDELETABLE = frozenset({"memory", "rootfs", "ostype", "unprivileged", "hostname", "lxc", "template", "lock"})

#: Keys that a request may reset besides indexed ones.
DELETABLE = (frozenset(SCALARS) | {"startup", "features", "env", "tags"}) - UNDELETABLE


def split_index(key: str) -> tuple[str, int] | None:
    """Return name and number of an indexed key such as ``net0``; None for anything else."""
    found = _INDEXED.fullmatch(key)
    if not found or int(found["index"]) >= INDEXED[found["name"]]:
        return None
    return found["name"], int(found["index"])


def is_indexed(key: str, name: str) -> bool:
    """Say whether ``key`` is ``name`` with a valid number."""
    parts = split_index(key)
    return parts is not None and parts[0] == name


def index_order(key: str) -> tuple[str, int]:
    """Return a sort key that puts mp2 before mp10 and rootfs before both."""
    return split_index(key) or (key if key != "rootfs" else "", -1)


def typed(key: str, value: t.Any) -> t.Any:
    """Return a config value as the server or a user spells it in its canonical form.

    Text that does not fit the type (a newer server's) is returned as it is.
    """
    kind = SCALARS[key]
    try:
        if kind is Type.BOOL:
            return as_bool(value, key)
        if kind is Type.INT:
            return int(float(value))
        if kind is Type.NUMBER:
            return float(value)
    except (ValueError, TypeError, InvalidSpec):
        return value
    if kind is Type.LIST:
        return " ".join(words(value))
    text = str(value)
    # PVE trims blanks at both ends of entrypoint and puts a line break after notes.
    return text.rstrip() if kind is Type.NOTES else text.strip()


def rendered(value: t.Any) -> str | int:
    """Return a canonical value as the API takes it."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return format_number(value)
    return value if isinstance(value, int) else str(value)


def equal(key: str, wanted: t.Any, present: t.Any) -> bool:
    """Say whether the value ``wanted`` is what the server has; None is an unset key."""
    if present is None:
        return bool(wanted in ("", None) or DEFAULTS.get(key) == wanted)
    return bool(typed(key, present) == wanted)
