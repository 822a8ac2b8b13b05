# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which namespaces a container has of its own, joins, or shares with the host."""

from __future__ import annotations

import itertools
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    IdMap,
    Json,
    NamespaceMode,
    Namespaces,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.paths import check_absolute
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import MAX_ID

#: The kernel reads at most this many lines (user_namespaces(7)).
_MAX_ID_MAPS: t.Final = 340


def is_joined(mode: NamespaceMode) -> bool:
    """Say whether the mode is the path of a namespace to join."""
    return mode not in ("private", "host")


def build_namespaces(namespaces: Namespaces) -> list[Json]:
    """Return ``linux.namespaces``; the host's are those that are not listed."""
    if namespaces.mount == "host":
        raise InvalidSpec("namespaces.mount", "a container cannot run in the host's mount namespace")
    result: list[Json] = []
    for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup", "user"):
        mode: NamespaceMode = getattr(namespaces, kind)
        if mode == "private":
            result.append({"type": kind})
        elif is_joined(mode):
            field = f"namespaces.{kind}"
            if not mode.startswith("/"):
                raise InvalidSpec(
                    field,
                    f"'{mode}' is no mode",
                    hint="Use 'private', 'host' or the path of a namespace file",
                )
            result.append({"type": kind, "path": check_absolute(mode, field)})
    return result


def has_user_namespace(namespaces: Namespaces) -> bool:
    """Say whether the container's ids differ from the host's."""
    return namespaces.user != "host"


def build_id_maps(spec: ContainerSpec) -> Json:
    """Return ``uidMappings`` and ``gidMappings`` of ``linux``, nothing without a new user namespace.

    A namespace that is joined has its maps already; those of the request only tell them.
    """
    mode = spec.namespaces.user
    if is_joined(mode):
        for field, maps in (("uid_maps", spec.uid_maps), ("gid_maps", spec.gid_maps)):
            if maps:
                check_id_maps(maps, field)
        return {}
    if mode == "host":
        for field, maps in (("uid_maps", spec.uid_maps), ("gid_maps", spec.gid_maps)):
            if maps:
                raise InvalidSpec(
                    field, f"id maps need a new user namespace, but namespaces.user is '{mode}'"
                )
        return {}
    return {
        "uidMappings": check_id_maps(spec.uid_maps, "uid_maps"),
        "gidMappings": check_id_maps(spec.gid_maps, "gid_maps"),
    }


def check_id_maps(maps: t.Sequence[IdMap], field: str, *, need_root: bool = True) -> list[Json]:
    """Return id maps in the specification's shape.

    Raises InvalidSpec for none, for ranges that overlap on either side, for ids
    beyond 32 bits and, if ``need_root``, when nothing is mapped to 0: the runtime
    itself becomes that user to prepare the container.
    """
    if not maps:
        raise InvalidSpec(field, "a private user namespace needs at least one range of ids")
    if len(maps) > _MAX_ID_MAPS:
        raise InvalidSpec(field, f"{len(maps)} ranges are more than the kernel takes ({_MAX_ID_MAPS})")
    for i, line in enumerate(maps):
        if line.size < 1:
            raise InvalidSpec(f"{field}[{i}].size", "a range holds at least one id")
        for key in ("container_id", "host_id"):
            first = getattr(line, key)
            if first < 0 or first + line.size - 1 > MAX_ID:
                raise InvalidSpec(f"{field}[{i}].{key}", f"the range leaves the ids 0 to {MAX_ID}")
    for key in ("container_id", "host_id"):
        _check_overlap(maps, key, field)
    if need_root and not any(line.container_id == 0 for line in maps):
        raise InvalidSpec(field, "no range begins at the container's id 0, its root")
    return [{"containerID": m.container_id, "hostID": m.host_id, "size": m.size} for m in maps]


def _check_overlap(maps: t.Sequence[IdMap], key: str, field: str) -> None:
    ordered = sorted((getattr(line, key), line.size, i) for i, line in enumerate(maps))
    for (first, size, i), (following, _size, j) in itertools.pairwise(ordered):
        if first + size > following:
            raise InvalidSpec(
                f"{field}[{max(i, j)}].{key}", f"the range overlaps that of {field}[{min(i, j)}]"
            )


def is_mapped(container_id: int, maps: t.Sequence[IdMap]) -> bool:
    """Say whether an id of the container exists under these maps."""
    return any(line.container_id <= container_id < line.container_id + line.size for line in maps)
