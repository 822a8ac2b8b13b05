# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find templates on storages, and download those of Proxmox's list by name.

Source: GET and POST /nodes/{node}/aplinfo in the Proxmox VE 9 API schema.  Files
are called ``NAME_VERSION_ARCHITECTURE.tar.zst``.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient

_FILE = re.compile(r"(?P<name>[^_]+)_(?P<version>[^_]+)_(?P<arch>[^_.]+)\.tar(?:\.\w+)?")


def templates_on(client: PveClient, node: str, storage: str) -> set[str]:
    """Return the volume ids of the templates that a storage has on a node."""
    entries = client.get(("nodes", node, "storage", storage, "content"), content="vztmpl")
    return {str(entry["volid"]) for entry in entries}


def version_key(version: str) -> list[tuple[int, str]]:
    """Return what versions are ordered by: numbers as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"[.\-~+]", version)]


def newest(files: t.Iterable[str], name: str, architecture: str) -> str | None:
    """Return the newest file of a template's name for an architecture.  Pure."""
    found = [(match, file) for file in files if (match := _FILE.fullmatch(file))]
    fit = [
        (version_key(match["version"]), file)
        for match, file in found
        if match["name"] == name and match["arch"] in (architecture, "all")
    ]
    return max(fit)[1] if fit else None


def fetch(client: PveClient, node: str, storage: str, name: str, *, architecture: str) -> str:
    """Return the volume id of the newest template of a name, downloaded if the storage has none.

    Raises NotFound for a name that neither storage nor list knows, and TaskFailed.
    """
    prefix = f"{storage}:vztmpl/"
    present = {volid.removeprefix(prefix) for volid in templates_on(client, node, storage)}
    file = newest(present, name, architecture)
    if file is None:
        listed = [str(entry.get("template")) for entry in client.get(("nodes", node, "aplinfo"))]
        file = newest(listed, name, architecture)
        if file is None:
            names = sorted({match["name"] for entry in listed if (match := _FILE.fullmatch(entry))})
            raise NotFound(
                f"ostemplate: neither storage '{storage}' on node '{node}' nor Proxmox's list has a template "
                f"'{name}' for {architecture}; the list has {', '.join(names) or 'none at all'}",
                hint="Check the name; 'pveam update' on the node renews the list",
            )
        upid = client.post(("nodes", node, "aplinfo"), storage=storage, template=file)
        tasks.wait_task(client, upid, client.connection.task_timeout_s)
    return prefix + file
