# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what is wrong with a value of the configuration: each check returns a problem or None."""

from __future__ import annotations

import ipaddress
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths

Check = t.Callable[[t.Any], str | None]

#: sockaddr_un.sun_path has 108 bytes with its final zero.
_ADDRESS_MAX = 107
#: A socket is bound under a name that is a little longer before it gets its own.
SOCKET_PATH_MAX = _ADDRESS_MAX - len(".new")

_MODE_MAX = 0o777
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_HOST_MAX = 253
_GROUP = re.compile(r"[a-z_][a-z0-9_-]{0,31}\$?|[0-9]{1,10}")

# pve-storage-id, pve-poolid and the numbers of guests in the API's schema.
_STORAGE = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]*[a-zA-Z0-9]")
_POOL = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+){0,2}")
_VMID_MIN, _VMID_MAX, _ENDS = 100, 999_999_999, 2
#: How names of files end that Proxmox VE takes for templates.
_PACKED: t.Final = (".tar.zst", ".tar.xz", ".tar.gz")
_TEMPLATE = re.compile(r"lxc/[a-z0-9]+([._-][a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?")


def absolute_path(value: str) -> str | None:
    """Want a path from the root, without steps back."""
    if not value.startswith("/"):
        return f"'{value}' is no absolute path"
    if "\0" in value or ".." in value.split("/"):
        return "a path must not have '..' or a zero byte"
    return None


def optional_path(value: str) -> str | None:
    """Want an absolute path, or nothing."""
    return absolute_path(value) if value else None


def absolute_paths(value: t.Sequence[str]) -> str | None:
    """Want absolute paths, no two the same."""
    return _each(value, absolute_path)


def socket_path(value: str) -> str | None:
    """Want an absolute path that fits a socket's address."""
    length = len(os.fsencode(value))
    if length > SOCKET_PATH_MAX:
        return f"a socket's path has at most {SOCKET_PATH_MAX} bytes, this has {length}"
    if value.endswith("/"):
        return f"'{value}' names a directory"
    return absolute_path(value)


def run_directory(value: str) -> str | None:
    """Want a directory that leaves room for the sockets of containers below it."""
    longest = len(os.fsencode(Layout(Paths("/", value, Owner.CRI), "x").attach_socket))
    if longest > _ADDRESS_MAX:
        return f"the path is {longest - _ADDRESS_MAX} bytes too long for the sockets below it"
    return absolute_path(value)


def file_mode(value: int) -> str | None:
    """Want permission bits that let the owner in."""
    if not 0 <= value <= _MODE_MAX:
        return "permission bits are 0o000 to 0o777"
    if value & 0o600 != 0o600:
        return f"0o{value:03o} shuts out the endpoint's owner; it wants at least 0o600"
    return None


def group_name(value: str) -> str | None:
    """Want a name that a group can have, or its number."""
    return None if _GROUP.fullmatch(value) else f"'{value}' is no name of a group"


def host_or_address(value: str) -> str | None:
    """Want an IP address or the name of a host."""
    if is_address(value) or _is_name(value):
        return None
    return f"'{value}' is neither an address nor a host name"


def optional_host(value: str) -> str | None:
    """Want an IP address, the name of a host, or nothing."""
    return host_or_address(value) if value else None


def ip_address(value: str) -> str | None:
    """Want an IP address."""
    return None if is_address(value) else f"'{value}' is no IP address"


def is_address(value: str) -> bool:
    """Say whether a text is an IP address."""
    try:
        return not getattr(ipaddress.ip_address(value), "scope_id", None)
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Say whether only this host can reach an address or name."""
    return ipaddress.ip_address(host).is_loopback if is_address(host) else host.lower() == "localhost"


def _is_name(value: str) -> bool:
    # What looks like an address, and is none, is a slip.
    labels = value.split(".")
    return len(value) <= _HOST_MAX and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def image_reference(value: str) -> str | None:
    """Want what names an image."""
    try:
        ImageReference.parse(value)
    except InvalidSpec as exc:
        return exc.problem
    return None


def image_references(value: t.Sequence[str]) -> str | None:
    """Want what names images, no two the same."""
    return _each(value, image_reference)


def image_patterns(value: t.Sequence[str]) -> str | None:
    """Want patterns of names of images, with registry, no two the same."""
    return _each(value, _image_pattern)


def _image_pattern(value: str) -> str | None:
    if value and not value.startswith("/") and value.isprintable() and " " not in value:
        return None
    return f"'{value}' is no pattern of names of images, as in registry.example.org/checkpoints/*"


def optional_node_name(value: str) -> str | None:
    """Want the name of a node as Proxmox VE has them, or nothing."""
    return None if not value or _LABEL.fullmatch(value) else f"'{value}' is no name of a node"


def storage_name(value: str) -> str | None:
    """Want a storage's name as Proxmox VE has them, or nothing."""
    return None if not value or _STORAGE.fullmatch(value) else f"'{value}' is no name of a storage"


def pool_name(value: str) -> str | None:
    """Want the name of a resource pool, at most three levels deep, or nothing."""
    return None if not value or _POOL.fullmatch(value) else f"'{value}' is no name of a pool"


def vmid_range(value: t.Sequence[int]) -> str | None:
    """Want the first and the last number of containers."""
    if len(value) != _ENDS or not _VMID_MIN <= value[0] <= value[1] <= _VMID_MAX:
        return f"the first and the last number are wanted, from {_VMID_MIN} to {_VMID_MAX}"
    return None


def template_sources(value: t.Mapping[str, t.Any]) -> str | None:
    """Want images ``lxc/…`` with an address and its checksum."""
    for name, source in value.items():
        if not _TEMPLATE.fullmatch(name):
            return f"'{name}' is no image like lxc/NAME or lxc/NAME:TAG"
        if not isinstance(source, dict) or set(source) != {"url", "sha512"}:
            return f"'{name}' wants url and sha512, and nothing else"
        url, sha512 = source["url"], source["sha512"]
        if not isinstance(url, str) or not re.fullmatch(r"https?://[^\s/]+/\S+", url):
            return f"'{name}': url is no address that begins with https:// or http://"
        if not url.isascii() or not url.endswith(_PACKED):
            return f"'{name}': url is to end in {', '.join(_PACKED)}, and to be of ASCII characters"
        if not isinstance(sha512, str) or not re.fullmatch(r"[0-9a-f]{128}", sha512):
            return f"'{name}': sha512 has 128 hexadecimal digits in lower case"
    return None


def one_of(*values: str) -> Check:
    """Want one of some words."""

    def check(value: str) -> str | None:
        return None if value in values else f"'{value}' is none of {', '.join(values)}"

    return check


def at_least(least: float) -> Check:
    """Want a number from ``least`` on."""

    def check(value: float) -> str | None:
        return None if value >= least else f"{value} is less than {least}"

    return check


def between(least: float, most: float) -> Check:
    """Want a number within bounds."""

    def check(value: float) -> str | None:
        return None if least <= value <= most else f"{value} is not between {least} and {most}"

    return check


def _each(values: t.Sequence[str], check: Check) -> str | None:
    problem = next((found for value in values if (found := check(value))), None)
    if problem is None and len(set(values)) < len(values):
        return "a value stands in it twice"
    return problem
