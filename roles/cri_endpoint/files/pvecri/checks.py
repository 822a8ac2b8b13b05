# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check texts, paths, ids and enumerations of a request; pure.

proto3 hands on numbers that no enumeration has, and any text in any field.
"""

from __future__ import annotations

import posixpath
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap
from pvecri.api import cri_pb2

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")
_SELINUX = re.compile(r"[A-Za-z0-9_.:,-]*")
_PATH_MAX: t.Final = 4096
_NAME_MAX: t.Final = 255
#: What is made in a root file system has a path on the host as well, which is longer.
INNER_PATH_MAX: t.Final = 3585
_KEY_MAX: t.Final = 317
_MAP_TOTAL: t.Final = 256 * 1024

#: (uid_t)-1 is no id.
_ID_MAX: t.Final = (1 << 32) - 2

#: What one argument or variable may be long (MAX_ARG_STRLEN, execve(2)), with its closing NUL.
ARGUMENT_MAX: t.Final = 128 * 1024

#: What LinuxContainerResources calls the limits that the core calls otherwise.
_LIMITS: t.Final = {
    "memory": "memory_limit_in_bytes",
    "memory_swap": "memory_swap_limit_in_bytes",
}


class Enum(t.Protocol):
    """An enumeration as protobuf's generated code has it."""

    def values(self) -> t.Iterable[t.Any]:
        """Return the numbers."""

    def Name(self, number: t.Any) -> str:
        """Return the name of a number."""

    def keys(self) -> t.Iterable[str]:
        """Return the names."""


def check_enum(value: int, kind: Enum, field: str) -> None:
    """Raise InvalidSpec for a number that the enumeration does not have."""
    if value not in kind.values():
        raise InvalidSpec(field, f"{value} is none of {', '.join(kind.keys())}")


def check_name(name: str, field: str) -> None:
    """Raise InvalidSpec for what is no name of a pod's or container's metadata."""
    if not name:
        raise InvalidSpec(field, "is missing")
    if not _NAME.fullmatch(name):
        raise InvalidSpec(
            field,
            "is no name",
            hint="Up to 253 letters, digits, '-', '_' and '.', a letter or digit at both ends",
        )


def check_text(text: str, field: str, *, most: int = ARGUMENT_MAX) -> None:
    """Raise InvalidSpec for a NUL, or for more bytes than a program can be given."""
    if "\0" in text:
        raise InvalidSpec(field, "holds a NUL character")
    if len(text.encode()) >= most:
        raise InvalidSpec(field, f"is longer than {most - 1} bytes")


def check_plain(text: str, field: str, *, most: int = _PATH_MAX) -> None:
    """Raise InvalidSpec for a text with control characters, or one that is too long."""
    if _CONTROL.search(text):
        raise InvalidSpec(field, "holds control characters")
    if len(text.encode()) >= most:
        raise InvalidSpec(field, f"is longer than {most - 1} bytes")


def clean_path(path: str, field: str, *, allow_up: bool = True, most: int = _PATH_MAX) -> str:
    """Return an absolute path in its shortest form, ".." resolved by its words; raises InvalidSpec."""
    if not path:
        raise InvalidSpec(field, "is missing")
    check_text(path, field, most=most)
    if any(len(part.encode()) > _NAME_MAX for part in path.split("/")):
        raise InvalidSpec(field, f"has a name that is longer than {_NAME_MAX} bytes")
    if not path.startswith("/"):
        raise InvalidSpec(field, f"'{path}' is not an absolute path")
    if not allow_up and ".." in path.split("/"):
        raise InvalidSpec(field, f"'{path}' must not have '..'")
    return "/" + posixpath.normpath(path).lstrip("/")


def check_relative(path: str, field: str) -> str:
    """Return a relative path that leads nowhere but down, in its shortest form; raises InvalidSpec."""
    check_plain(path, field)
    if path.startswith("/"):
        raise InvalidSpec(field, f"'{path}' is not a relative path")
    if ".." in path.split("/"):
        raise InvalidSpec(field, f"'{path}' must not have '..'")
    return posixpath.normpath(path)


def check_map(values: t.Mapping[str, str], field: str) -> None:
    """Raise InvalidSpec for labels or annotations that are none."""
    total = 0
    for key, value in values.items():
        if not key or len(key) > _KEY_MAX or _CONTROL.search(key):
            raise InvalidSpec(field, f"{key[:_KEY_MAX]!r} is no key", hint=f"One to {_KEY_MAX} characters")
        if "\0" in value:
            raise InvalidSpec(f"{field}[{key}]", "holds a NUL character")
        total += len(key.encode()) + len(value.encode())
    if total > _MAP_TOTAL:
        raise InvalidSpec(field, f"are {total} bytes together, more than {_MAP_TOTAL}")


def check_id(value: int, field: str) -> None:
    """Raise InvalidSpec for what is no id of a user or group."""
    if not 0 <= value <= _ID_MAX:
        raise InvalidSpec(field, f"{value} is no id", hint=f"0 to {_ID_MAX}")


def id_maps(maps: t.Iterable[cri_pb2.IDMapping]) -> tuple[IdMap, ...]:
    """Return id maps in the core's terms."""
    return tuple(
        IdMap(container_id=line.container_id, host_id=line.host_id, size=line.length) for line in maps
    )


def check_selinux(options: cri_pb2.SELinuxOption, field: str) -> None:
    """Raise InvalidSpec for what is no part of an SELinux context."""
    for part in ("user", "role", "type", "level"):
        if not _SELINUX.fullmatch(getattr(options, part)):
            raise InvalidSpec(f"{field}.{part}", "is no part of an SELinux context")


def check_profile(profile: cri_pb2.SecurityProfile, field: str, *, is_path: bool) -> None:
    """Raise InvalidSpec for a profile of seccomp (a path) or AppArmor (a name) that cannot be."""
    check_enum(profile.profile_type, cri_pb2.SecurityProfile.ProfileType, f"{field}.profile_type")
    if profile.profile_type == cri_pb2.SecurityProfile.Localhost:
        check_localhost(profile.localhost_ref, f"{field}.localhost_ref", is_path=is_path)
    elif profile.localhost_ref:
        raise InvalidSpec(f"{field}.localhost_ref", "goes with the type Localhost only")


def check_localhost(name: str, field: str, *, is_path: bool) -> None:
    """Raise InvalidSpec for what names no profile of this host."""
    if not name:
        raise InvalidSpec(field, "the type Localhost needs the name of a profile")
    check_plain(name, field)
    if is_path:
        clean_path(name, field, allow_up=False)


def resource_field(core_field: str, field: str) -> str:
    """Return the path below ``field`` of what the core calls ``resources.memory`` and the like."""
    name, dot, rest = core_field.removeprefix("resources.").partition(".")
    if name == "unified":
        return f"{field}.unified[{rest}]"
    if name == "hugepages":
        return f"{field}.hugepage_limits[{rest}]"
    return f"{field}.{_LIMITS.get(name, name)}{dot}{rest}"
