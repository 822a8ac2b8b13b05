# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn the option ``mounts`` into the model, and check what belongs to which type."""

from __future__ import annotations

import base64
import binascii
import posixpath
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap, Mount, MountKind
from ansible_collections.pvecri.runtime.plugins.module_utils.options.values import Params, texts_of
from ansible_collections.pvecri.runtime.plugins.module_utils.units import parse_mode, parse_size

#: What only some types have; anything else set there would be silently without effect.
_ONLY_FOR: t.Final = {
    "source": (MountKind.BIND, MountKind.VOLUME, MountKind.IMAGE),
    "content": (MountKind.FILE,),
    "secret": (MountKind.SECRET,),
    "size": (MountKind.TMPFS,),
    "mode": (MountKind.TMPFS, MountKind.SECRET, MountKind.FILE),
    "uid": (MountKind.TMPFS, MountKind.SECRET, MountKind.FILE),
    "gid": (MountKind.TMPFS, MountKind.SECRET, MountKind.FILE),
    "sub_path": (MountKind.VOLUME, MountKind.IMAGE),
    "uid_maps": (MountKind.BIND, MountKind.VOLUME),
    "gid_maps": (MountKind.BIND, MountKind.VOLUME),
    "recursive_read_only": (MountKind.BIND, MountKind.VOLUME),
    "create_source": (MountKind.BIND,),
}

_REQUIRED: t.Final = {
    MountKind.BIND: "source",
    MountKind.VOLUME: "source",
    MountKind.IMAGE: "source",
    MountKind.FILE: "content",
    MountKind.SECRET: "secret",
}


def mounts_from(items: t.Sequence[Params] | None) -> tuple[Mount, ...]:
    """Return the mounts in the order given; raises InvalidSpec with the option's path."""
    mounts: list[Mount] = []
    seen: dict[str, int] = {}
    for i, item in enumerate(items or ()):
        field = f"mounts[{i}]"
        mount = _mount(item, field)
        if mount.destination in seen:
            raise InvalidSpec(
                f"{field}.destination",
                f"'{mount.destination}' is the destination of mounts[{seen[mount.destination]}] as well",
            )
        seen[mount.destination] = i
        mounts.append(mount)
    return tuple(mounts)


def _mount(item: Params, field: str) -> Mount:
    kind = MountKind(item.get("type") or "bind")
    for option, kinds in _ONLY_FOR.items():
        if _is_given(item.get(option)) and kind not in kinds:
            raise InvalidSpec(
                f"{field}.{option}",
                f"does not go with type '{kind}'",
                hint=f"It is for {', '.join(sorted(kinds))}",
            )
    needed = _REQUIRED.get(kind)
    if needed and item.get(needed) is None:
        raise InvalidSpec(f"{field}.{needed}", f"is required for type '{kind}'")
    read_only = bool(item.get("read_only")) or bool(item.get("recursive_read_only"))
    return Mount(
        kind=kind,
        destination=_destination(item["destination"], f"{field}.destination"),
        source=_source(item, kind, field),
        content=_content(item, kind, field),
        # What came out of an image is shared by all who use it, and a secret is not edited in place.
        read_only=read_only or kind in (MountKind.IMAGE, MountKind.SECRET),
        recursive_read_only=bool(item.get("recursive_read_only")),
        propagation=item.get("propagation") or "rprivate",
        options=texts_of(item.get("options"), f"{field}.options"),
        sub_path=_sub_path(item.get("sub_path"), f"{field}.sub_path"),
        size_bytes=None if item.get("size") is None else parse_size(item["size"], f"{field}.size"),
        mode=None if item.get("mode") is None else parse_mode(item["mode"], f"{field}.mode"),
        uid=_id(item.get("uid"), f"{field}.uid"),
        gid=_id(item.get("gid"), f"{field}.gid"),
        uid_maps=id_maps_from(item.get("uid_maps")),
        gid_maps=id_maps_from(item.get("gid_maps")),
        create_source=bool(item.get("create_source")),
    )


def _is_given(value: t.Any) -> bool:
    return value is not None and value is not False and value != []


def _destination(path: str, field: str) -> str:
    if not path.startswith("/"):
        raise InvalidSpec(field, f"'{path}' is not an absolute path")
    trimmed = path.rstrip("/") or "/"
    clean = "/" + posixpath.normpath(trimmed).lstrip("/")
    if clean != trimmed or "\0" in path:
        raise InvalidSpec(field, f"'{path}' is not a clean path", hint=f"Write '{clean}'")
    if clean == "/":
        raise InvalidSpec(field, "the rootfs itself cannot be mounted over")
    return clean


def _source(item: Params, kind: MountKind, field: str) -> str | None:
    source: str | None = item.get("source")
    if kind == MountKind.BIND and not str(source).startswith("/"):
        raise InvalidSpec(
            f"{field}.source",
            f"'{source}' is not an absolute path",
            hint="Named volumes have type 'volume'",
        )
    return source


def _content(item: Params, kind: MountKind, field: str) -> bytes | None:
    option = {MountKind.FILE: "content", MountKind.SECRET: "secret"}.get(kind)
    if option is None:
        return None
    text: str = item[option]
    if item.get("encoding") != "base64":
        return text.encode()
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        # The text may be a secret: the error does not repeat it.
        raise InvalidSpec(f"{field}.{option}", "is not base64") from exc


def _sub_path(path: str | None, field: str) -> str | None:
    if path is None:
        return None
    clean = posixpath.normpath(path)
    if path.startswith("/") or clean.startswith("..") or clean == "." or "\0" in path:
        raise InvalidSpec(field, f"'{path}' is not a relative path inside the source")
    return clean


def _id(value: int | None, field: str) -> int | None:
    if value is not None and not 0 <= value < (1 << 32) - 1:
        raise InvalidSpec(field, f"{value} is not an id", hint=f"Ids are 0 to {(1 << 32) - 2}")
    return value


def id_maps_from(items: t.Sequence[Params] | None) -> tuple[IdMap, ...]:
    """Return id maps in the order given."""
    return tuple(
        IdMap(container_id=item["container_id"], host_id=item["host_id"], size=item["size"])
        for item in items or ()
    )
