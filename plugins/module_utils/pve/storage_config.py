# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find where a storage keeps its templates on this very node.

Proxmox VE's own list says it, ``/etc/pve/storage.cfg``: one section a storage, a line
``TYPE: NAME`` and indented lines ``KEY VALUE`` below (PVE::SectionConfig).  Reading it needs
neither API nor a privilege on the storage.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound, Unsupported, WrongState

_HEAD = re.compile(r"(?P<type>[a-z][a-z0-9-]*):\s*(?P<name>[A-Za-z][A-Za-z0-9._-]*)\s*")
_CONTENT = "vztmpl"
#: Below the storage's path, unless ``content-dirs`` says otherwise.
_DIRECTORY = "template/cache"
#: Types whose path is a mount point that Proxmox VE makes.
_MOUNTED = frozenset({"nfs", "cifs", "cephfs", "glusterfs"})
_NO = frozenset({"", "0", "no", "off", "false"})
_YES = frozenset({"1", "yes", "on", "true"})


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """One section of the file."""

    name: str
    type: str
    options: t.Mapping[str, str]


def parse_storages(text: str) -> dict[str, Storage]:
    """Return the storages that the file lists, by name.  Pure.

    ``local`` is always there: Proxmox VE adds it where the file has none.
    """
    found = {"local": Storage("local", "dir", {"path": "/var/lib/vz", "content": "vztmpl,iso,backup"})}
    options: dict[str, str] | None = None
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] in " \t":
            if options is not None:
                key, _blank, value = line.strip().partition(" ")
                options[key] = value.strip()
            continue
        head = _HEAD.fullmatch(line)
        options = {} if head else None
        if head and options is not None:
            found[head["name"]] = Storage(head["name"], head["type"], options)
    return found


def template_directory(config_dir: str, node: str, storage: str) -> str:
    """Return the directory of a storage's templates on this node, which is ``node``; it is made if need be.

    Raises NotFound for a storage that is not listed, Unsupported for one that holds no templates
    or not here, and WrongState for one that is not mounted.
    """
    path = os.path.join(config_dir, "storage.cfg")
    try:
        with open(path, encoding="utf-8") as stream:
            listed = parse_storages(stream.read())
    except OSError as exc:
        raise WrongState(
            f"{path} cannot be read: {exc.strerror}", hint="Look at pve-cluster.service on this node"
        ) from exc
    found = listed.get(storage)
    if found is None:
        raise NotFound(
            f"storage '{storage}' does not exist; there are {', '.join(sorted(listed))}",
            hint="Name one of them as the storage of templates",
        )
    _refuse_unfit(found, node)
    return _directory(found)


def _refuse_unfit(storage: Storage, node: str) -> None:
    options = storage.options
    reason = ""
    if "disable" in options and options["disable"] not in _NO - {""}:
        reason = "is disabled"
    elif options.get("nodes") and node not in re.split(r"[,;\s]+", options["nodes"]):
        reason = f"is not for node '{node}'"
    elif not options.get("path"):
        reason = f"is of the type {storage.type}, which has no directory for templates"
    elif _CONTENT not in re.split(r"[,;\s]+", options.get("content", "")):
        reason = f"does not take content {_CONTENT}"
    if reason:
        raise Unsupported(
            f"storage '{storage.name}' {reason}",
            hint="Name another storage of templates, or change it under Datacenter → Storage",
        )


def _directory(storage: Storage) -> str:
    base = storage.options["path"]
    wanted = storage.options.get("is_mountpoint", "")
    point = base if storage.type in _MOUNTED or wanted in _YES else "" if wanted in _NO else wanted
    if point and not os.path.ismount(point):
        raise WrongState(
            f"storage '{storage.name}' is not mounted at {point}", hint="Look at it with 'pvesm status'"
        )
    if not os.path.isdir(base):
        raise WrongState(
            f"storage '{storage.name}': there is no {base}", hint="Look at it with 'pvesm status'"
        )
    below = _DIRECTORY
    for entry in storage.options.get("content-dirs", "").split(","):
        content, _equals, place = entry.strip().partition("=")
        if content == _CONTENT and place:
            below = place.strip("/")
    directory = os.path.join(base, below)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    return directory
