# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell of a sandbox what only people ask for."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from pvecri.api import cri_pb2
from pvecri.context import Context
from pvecri.plain import plain_message
from pvecri.sandboxes.cgroup import group_path
from pvecri.sandboxes.places import Places
from pvecri.state.records import SandboxRecord


def info(context: Context, record: SandboxRecord) -> dict[str, str]:
    """Return the ``info`` map of a verbose status: one JSON object under ``info``, as crictl shows it."""
    return {"info": json.dumps(describe(context, record), sort_keys=True)}


def describe(context: Context, record: SandboxRecord) -> dict[str, t.Any]:
    """Return what is known of a sandbox as plain data."""
    places = Places(context.paths, record.id)
    paths = {"net": record.netns, "ipc": record.ipcns, "uts": record.utsns, "user": record.userns}
    return {
        "sandboxID": record.id,
        "phase": str(record.phase),
        "message": record.message,
        "runtimeHandler": record.handler,
        "pid": _pause_pid(context, record),
        "cgroupParent": record.cgroup_parent,
        "cgroupPath": group_path(record.cgroup_parent) if record.cgroup_parent else "",
        "ownsCgroup": bool(record.extra.get("owns_cgroup")),
        "overhead": _resources(record, "overhead"),
        "resources": _resources(record, "resources"),
        "namespaces": {
            kind: {"path": path, "pinned": netns.is_pinned(path)} for kind, path in paths.items() if path
        },
        "uidMappings": record.extra.get("uid_maps", []),
        "gidMappings": record.extra.get("gid_maps", []),
        "files": {"hostname": places.hostname, "hosts": places.hosts, "resolvConf": places.resolv_conf},
        "shm": places.shm if record.ipcns else "/dev/shm",  # noqa: S108 - the place of the host's, by POSIX
        "cniResult": _cni_result(context, record),
        "config": _config(record),
    }


def _pause_pid(context: Context, record: SandboxRecord) -> int:
    if not record.has_pause:
        return 0
    state = context.crun.state(record.id)
    return state.pid or 0 if state is not None and state.is_alive else 0


def _cni_result(context: Context, record: SandboxRecord) -> dict[str, t.Any] | None:
    try:
        result = context.cni.result(record.id)
    except CoreError as exc:
        return {"error": str(exc)}
    return result.raw if result is not None else None


def _resources(record: SandboxRecord, name: str) -> dict[str, t.Any]:
    """Return what the last update said, else what the pod began with."""
    if name in record.extra:
        return plain_message(cri_pb2.LinuxContainerResources, bytes.fromhex(record.extra[name]))
    began: dict[str, t.Any] = _config(record).get("linux", {}).get(name, {})
    return began


def _config(record: SandboxRecord) -> dict[str, t.Any]:
    return plain_message(cri_pb2.PodSandboxConfig, record.config)
