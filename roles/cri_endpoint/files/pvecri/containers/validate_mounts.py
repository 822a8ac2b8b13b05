# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the mounts of a container; pure."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.mount_options import check_options
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.namespaces import check_id_maps
from pvecri.api import cri_pb2
from pvecri.checks import INNER_PATH_MAX, check_enum, check_relative, clean_path, id_maps

_CheckImage = t.Callable[[cri_pb2.ImageSpec, str], None]


def validate(mounts: t.Sequence[cri_pb2.Mount], field: str, check_image: _CheckImage) -> None:
    """Raise InvalidSpec for a mount that cannot be, or for two at one place."""
    seen: dict[str, int] = {}
    for index, mount in enumerate(mounts):
        here = f"{field}[{index}]"
        path = clean_path(mount.container_path, f"{here}.container_path", most=INNER_PATH_MAX)
        if path == "/":
            raise InvalidSpec(f"{here}.container_path", "the rootfs itself cannot be mounted over")
        if path in seen:
            raise InvalidSpec(f"{here}.container_path", f"{field}[{seen[path]}] is mounted there already")
        seen[path] = index
        _source(mount, here, check_image)
        _access(mount, here)
        for name, maps in (("uidMappings", mount.uidMappings), ("gidMappings", mount.gidMappings)):
            if maps:
                check_id_maps(id_maps(maps), f"{here}.{name}", need_root=False)
        if bool(mount.uidMappings) != bool(mount.gidMappings):
            raise InvalidSpec(f"{here}.uidMappings", "need gidMappings beside them, and the other way round")
        check_options(mount.mount_options, f"{here}.mount_options", set())


def _source(mount: cri_pb2.Mount, here: str, check_image: _CheckImage) -> None:
    if not mount.HasField("image") or not mount.image.image:
        if mount.image_sub_path:
            raise InvalidSpec(f"{here}.image_sub_path", "needs an image")
        clean_path(mount.host_path, f"{here}.host_path", allow_up=False)
        return
    if mount.host_path:
        raise InvalidSpec(f"{here}.host_path", "does not go with an image")
    if mount.uidMappings or mount.gidMappings:
        raise InvalidSpec(
            f"{here}.uidMappings", "do not go with an image: it is shown with the pod's own maps"
        )
    if mount.propagation != cri_pb2.PROPAGATION_PRIVATE:
        raise InvalidSpec(f"{here}.propagation", "of an image can only be PROPAGATION_PRIVATE")
    check_image(mount.image, f"{here}.image")
    if mount.image_sub_path:
        check_relative(mount.image_sub_path, f"{here}.image_sub_path")


def _access(mount: cri_pb2.Mount, here: str) -> None:
    check_enum(mount.propagation, cri_pb2.MountPropagation, f"{here}.propagation")
    if not mount.recursive_read_only:
        return
    if not mount.readonly:
        raise InvalidSpec(f"{here}.recursive_read_only", "needs readonly")
    if mount.propagation != cri_pb2.PROPAGATION_PRIVATE:
        raise InvalidSpec(f"{here}.recursive_read_only", "needs the propagation PROPAGATION_PRIVATE")
