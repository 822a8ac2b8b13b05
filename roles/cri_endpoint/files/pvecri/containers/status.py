# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say of a container what people look for beyond its status."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from pvecri.api import cri_pb2
from pvecri.context import Context
from pvecri.plain import plain_message
from pvecri.state.records import RESTORED


def info(context: Context, container_id: str) -> dict[str, str]:
    """Return ``info`` of a verbose ContainerStatus: one JSON text; raises NotFound."""
    record = context.registry.container(container_id)
    state = context.runtimes.state(record.id)
    bundle = context.bundles.load(record.id)
    said: dict[str, t.Any] = {
        "pid": (state.pid or 0) if state else 0,
        "conmonPid": (state.conmon_pid or 0) if state else 0,
        "sandboxID": record.sandbox_id,
        "state": str(state.status) if state else "",
        "problems": [
            *(state.problems if state else ()),
            *(bundle.problems if bundle else ["its bundle is missing"]),
        ],
        "bundle": bundle.path if bundle else "",
        "rootfs": bundle.rootfs_path if bundle else "",
        "cgroup": (state.cgroup or "") if state else "",
        "selection": record.selection,
        "restored": record.extra.get(RESTORED),
        "proxmox": context.runtimes.describe(record.id) or None,
        "config": plain_message(cri_pb2.ContainerConfig, record.config),
        "runtimeSpec": None,
    }
    if bundle is not None:
        try:
            said["runtimeSpec"] = bundle.config
        except WrongState as exc:
            said["problems"].append(str(exc))
    return {"info": json.dumps(said)}
