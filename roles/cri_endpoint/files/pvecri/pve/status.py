# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say of a container what people look for at Proxmox VE, by the names of a verbose status."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import guest
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from pvecri.pve import identity

if t.TYPE_CHECKING:
    from pvecri.pve.node import PveNode


def describe(node: PveNode, paths: Paths, record: LxcRecord) -> dict[str, t.Any]:
    """Return plain data: what is on record, and what Proxmox VE says now; why not, when it does not."""
    return {
        "vmid": record.vmid,
        "node": record.node,
        "stage": record.stage.value,
        "storage": record.storage,
        "template": record.template,
        "unprivileged": record.unprivileged,
        "tasks": {what: upid for what, upid in record.upids.items() if upid},
        "configDigest": record.config_digest,
        "include": guest(paths, record.vmid).config,
        "problem": record.problem,
        "now": _now(node, record),
    }


def _now(node: PveNode, record: LxcRecord) -> dict[str, t.Any]:
    try:
        seen = node.container(record.vmid).read()
    except (CoreError, OSError) as exc:
        return {"error": str(exc)}
    return {
        "status": seen.status,
        "lock": seen.lock or "",
        "configDigest": seen.digest or "",
        "isOurs": identity.is_ours(seen.config, record),
        "rootfs": str(seen.config.get("rootfs") or ""),
        "snapshot": str(seen.config.get("parent") or ""),
    }
