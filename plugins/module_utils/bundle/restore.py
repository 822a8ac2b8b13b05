# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring back the secrets that a reboot took away."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import contents
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import Bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.idmap import host_id
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.mounting import id_maps
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Mount,
    MountKind,
    Paths,
    to_plain,
)


def restore_secrets(paths: Paths, bundle: Bundle, spec: ContainerSpec) -> None:
    """Write the secrets of ``spec`` again, if the bundle was made from the same ones."""
    record = t.cast(BundleRecord, bundle.record)
    # By destination: the order of mounts means nothing.
    recorded = {item["destination"]: (n, item) for n, item in enumerate(record.request.get("mounts", ()))}
    maps = id_maps(record)
    directory = contents.secrets_dir(paths, record.name, record.instance)
    for mount in spec.mounts:
        number, plain = recorded.get(mount.destination, (-1, None))
        if mount.kind is not MountKind.SECRET or mount.content is None or plain != to_plain(mount):
            continue
        path = os.path.join(directory, str(number))
        if path not in record.volatile or os.path.exists(path):
            continue
        uid, gid = _owner(mount, bundle.config)
        contents.write_secret(
            paths,
            path,
            mount.content,
            mode=contents.SECRET_MODE if mount.mode is None else mount.mode,
            uid=host_id(uid, maps[0], "uid_maps"),
            gid=host_id(gid, maps[1], "gid_maps"),
        )


def _owner(mount: Mount, config: dict[str, t.Any]) -> tuple[int, int]:
    user = config.get("process", {}).get("user", {})
    uid = user.get("uid", 0) if mount.uid is None else mount.uid
    gid = user.get("gid", 0) if mount.gid is None else mount.gid
    return uid, gid
