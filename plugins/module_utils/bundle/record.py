# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a bundle's record: what was asked for, and what it was made of.

``pvecri.json`` stands beside ``config.json``, readable by root alone.  It holds no
secret: secret values appear as their SHA-256 only.
"""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths

RECORD_FILE = "pvecri.json"
SCHEMA = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostMount:
    """A mount below the bundle that the container's own mounts refer to.

    With ``layers`` it shows an image read-only; else ``source`` is a directory of the
    host.  ``sub_path`` is what is shown of it, looked up so that no link leads out.
    """

    #: Path below the bundle directory.
    target: str
    layers: tuple[str, ...] = ()
    source: str = ""
    sub_path: str = ""
    #: Place in the specification, for messages.
    field: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BundleRecord:
    """What ``pvecri.json`` holds."""

    name: str
    #: Tells this making of the bundle from an earlier one of the same name.
    instance: str
    #: Seconds since the epoch.
    created: float
    #: Hash of request, source and what else shaped the bundle: equal means nothing to do.
    spec_hash: str
    #: The specification as `model.to_plain` gives it.
    request: dict[str, t.Any]
    #: ``as_plain()`` of the source: kind, reference or path.
    source: dict[str, t.Any]
    #: What the source was when the bundle was made: image id, digest and name, or layer ids.
    identity: dict[str, t.Any]
    #: Path of the root file system: ``rootfs`` below the bundle, or an absolute path.
    rootfs: str = "rootfs"
    #: Absolute layer directories, the topmost first; empty when the rootfs is used directly.
    layers: tuple[str, ...] = ()
    mounts: tuple[HostMount, ...] = ()
    #: Volatile files (absolute paths) that a reboot takes away, such as secrets.
    volatile: tuple[str, ...] = ()
    #: Named volumes that the bundle uses.
    volumes: tuple[str, ...] = ()
    #: Ids of every image that the bundle needs.
    images: tuple[str, ...] = ()
    network_namespace: str | None = None
    #: Data of whoever asked for the bundle, as plain JSON.
    extra: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    schema: int = SCHEMA

    def write(self, directory: str) -> None:
        """Replace the record in a bundle directory."""
        data = json.dumps(dataclasses.asdict(self), separators=(",", ":")).encode()
        write_atomic(os.path.join(directory, RECORD_FILE), data, mode=0o600)


def read_record(directory: str) -> BundleRecord:
    """Return the record of a bundle directory.

    Raises FileNotFoundError when there is none, and WrongState when it is damaged
    or was written by a newer version.
    """
    path = os.path.join(directory, RECORD_FILE)
    with open(path, "rb") as stream:
        data = stream.read()
    try:
        raw = json.loads(data)
        schema = raw["schema"]
        if schema > SCHEMA:
            raise WrongState(f"{path} was written by a newer version", hint="Update the collection")
        raw["mounts"] = tuple(
            HostMount(**{**mount, "layers": tuple(mount["layers"])}) for mount in raw["mounts"]
        )
        for key in ("layers", "volatile", "volumes", "images"):
            raw[key] = tuple(raw[key])
        return BundleRecord(**raw)
    except (ValueError, TypeError, KeyError) as exc:
        raise WrongState(f"{path} is damaged: {exc}", hint="Make the bundle again, or remove it") from exc


def image_users(paths: Paths, image_id: str) -> list[str]:
    """Return the bundles of every owner whose records name the image, as ``owner/name``.

    Bundles in the making count.  A record that cannot be read counts as a user of
    every image: what cannot be known is not deleted.
    """
    users = []
    for place, record in _records(paths):
        if record is None:
            users.append(f"{place} (damaged)")
        elif image_id in record.images:
            users.append(f"{place.partition('/')[0]}/{record.name}")
    return users


def used_layers(paths: Paths) -> set[str]:
    """Return the ids of the layers in the store that bundles of any owner need.

    Raises WrongState when a record cannot be read: then nobody knows.
    """
    layers: set[str] = set()
    for place, record in _records(paths):
        if record is None:
            raise WrongState(f"the record of bundle {place} is damaged", hint="Remove the bundle")
        used = [*record.layers, *(layer for mount in record.mounts for layer in mount.layers)]
        layers.update(os.path.basename(os.path.dirname(layer)) for layer in used)
    return layers


def _records(paths: Paths) -> t.Iterator[tuple[str, BundleRecord | None]]:
    """Yield ``owner/directory`` and record of every bundle; None for a record that cannot be read."""
    for owner in Owner:
        folder = dataclasses.replace(paths, owner=owner).bundles
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            continue
        for name in names:
            try:
                yield f"{owner}/{name}", read_record(os.path.join(folder, name))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except WrongState:
                yield f"{owner}/{name}", None
