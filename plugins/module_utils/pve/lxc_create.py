# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the requests that create or clone a container.  Pure.

Source: POST /nodes/{node}/lxc and POST /nodes/{node}/lxc/{vmid}/clone in the
Proxmox VE 9 API schema.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_keys as keys
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import props
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_compare import join_env, new_volume
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import TAG, Disk, LxcSpec

#: What Proxmox VE gives a rootfs that nobody sized.
DEFAULT_ROOTFS_BYTES = 4 * props.GIB

#: Stands in the notes of a clone until it has its own tags: a clone request takes none.
CLONE_NOTE = "pvecri: clone in progress of"

#: Taken from the image whatever a request says, so they are set afterwards.
_FROM_IMAGE = frozenset({"env", "entrypoint", "cmode"})


def create_params(
    spec: LxcSpec, vmid: int, *, ostemplate: str, storage: str | None = None, is_oci: bool = False
) -> dict[str, t.Any]:
    """Return the parameters of the create request.

    ``storage`` is where volumes go that name none.  Never sent: ``start`` (its
    failure would not fail the task), and for an OCI image what the image overrides.
    Raises InvalidSpec for a volume without a storage.
    """
    creation = spec.creation
    storage = creation.storage or storage
    params: dict[str, t.Any] = {
        "vmid": vmid,
        "ostemplate": ostemplate,
        "unprivileged": creation.unprivileged is not False,
        "rootfs": _rootfs(spec.rootfs, storage),
        "tags": ";".join(sorted({TAG, *(spec.tags or ())})),
    }
    params |= {key: keys.rendered(value) for key, value in spec.scalars.items() if value != ""}
    if spec.startup:
        params["startup"] = props.render(spec.startup, props.STARTUP)
    if features := props.meaning(spec.features or {}, props.FEATURES):
        params["features"] = props.render(features, props.FEATURES)
    if env := {name: value for name, value in (spec.env or {}).items() if value is not None}:
        params["env"] = join_env(env)
    for entry, disk in spec.mounts.items():
        if disk is not None:
            volume = disk.volume or new_volume(disk, storage, f"mounts.{entry}")
            params[entry] = props.render({**disk.props, "volume": volume}, props.MOUNT)
    for schema, entries in ((props.NET, spec.networks), (props.DEVICE, spec.devices)):
        params |= {entry: props.render(value, schema) for entry, value in entries.items() if value}
    if storage:
        params["storage"] = storage
    if spec.pool:
        params["pool"] = spec.pool
    params |= _once(spec)
    if is_oci:
        params = {key: value for key, value in params.items() if key not in _FROM_IMAGE}
    return params


def _rootfs(disk: Disk | None, storage: str | None) -> str:
    if disk is None or (disk.volume is None and disk.size_bytes is None):
        disk = Disk(
            storage=disk.storage if disk else None,
            size_bytes=DEFAULT_ROOTFS_BYTES,
            props=disk.props if disk else {},
        )
    volume = disk.volume or new_volume(disk, storage, "rootfs")
    return props.render({**disk.props, "volume": volume}, props.ROOTFS)


def _once(spec: LxcSpec) -> dict[str, t.Any]:
    """Return what only a create request can say."""
    creation = spec.creation
    return {
        name: value
        for name, value in (
            ("password", creation.password),
            ("ssh-public-keys", "\n".join(creation.ssh_public_keys) or None),
            ("ignore-unpack-errors", creation.ignore_unpack_errors),
            ("bwlimit", creation.bwlimit),
        )
        if value is not None
    }


def clone_params(spec: LxcSpec, vmid: int, *, source_is_template: bool, origin: int) -> dict[str, t.Any]:
    """Return the parameters of the clone request.

    ``origin`` is the id of the original.  The notes mark the clone as ours until
    it has the tag.  Raises InvalidSpec for a linked clone that cannot be.
    """
    source = spec.creation.source
    if source is None:
        raise InvalidSpec("clone", "is missing")
    full = source.clone_type == "full" or (source.clone_type == "opportunistic" and not source_is_template)
    if not full and not source_is_template:
        raise InvalidSpec(
            "clone_type",
            f"container {origin} is no template, so a linked clone of it cannot be made",
            hint="Convert it with state=template first, or ask for a full clone",
        )
    if not full and spec.creation.storage and source.clone_type == "linked":
        raise InvalidSpec("storage", "has no meaning for a linked clone: it stays on the template's storage")
    return {
        "newid": vmid,
        # A storage can only be named for a full clone, and asks for one.
        "full": full or bool(spec.creation.storage),
        "hostname": spec.hostname,
        "storage": spec.creation.storage,
        "snapname": source.snapshot,
        "pool": spec.pool or None,
        "bwlimit": spec.creation.bwlimit,
        "description": f"{CLONE_NOTE} {origin}",
    }
