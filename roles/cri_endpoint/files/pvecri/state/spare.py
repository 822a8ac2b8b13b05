# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a second copy of each record beside what it tells of, for the day when the database is lost.

A sandbox's stands in its directory and is written before a client hears of the
sandbox; a container's is part of its bundle's record.  What has no such copy was never
told to anybody.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from pvecri.state import codec
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord

#: Key of a bundle record's ``extra``.
_CONTAINER_KEY = "container"

_RECORD_FILE = "record.json"
_BOOT = "boot_id"


def sandbox_directory(paths: Paths, sandbox_id: str) -> str:
    """Return the directory of a sandbox's files that outlive a reboot."""
    return os.path.join(paths.state_dir, "sandboxes", sandbox_id)


def save_sandbox(paths: Paths, record: SandboxRecord) -> None:
    """Write the copy of a sandbox's record; its directory is there."""
    path = os.path.join(sandbox_directory(paths, record.id), _RECORD_FILE)
    plain = {**codec.to_plain(record), _BOOT: procfs.boot_id()}
    write_atomic(path, json.dumps(plain, separators=(",", ":")).encode(), mode=0o600)


def load_sandbox(paths: Paths, sandbox_id: str) -> SandboxRecord | None:
    """Return the copy of a sandbox's record, or None without one; raises ValueError when it is damaged.

    It is STOPPED when the host was restarted since.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        with open(os.path.join(sandbox_directory(paths, sandbox_id), _RECORD_FILE), "rb") as stream:
            plain = json.load(stream)
        record, unknown = codec.from_plain(SandboxRecord, plain)
        if record.id != sandbox_id:
            raise ValueError(f"it is that of sandbox {record.id}")
        if unknown.get(_BOOT) != procfs.boot_id():
            return dataclasses.replace(record, phase=Phase.STOPPED, message="the host was restarted")
        return record
    return None


def container_extra(record: ContainerRecord) -> dict[str, object]:
    """Return what a bundle's ``extra`` is to hold of its container."""
    return {_CONTAINER_KEY: codec.to_plain(record)}


def load_container(bundle: BundleRecord) -> ContainerRecord | None:
    """Return the copy of a container's record, or None without one; raises ValueError when it is damaged."""
    plain = bundle.extra.get(_CONTAINER_KEY)
    if plain is None:
        return None
    record, _unknown = codec.from_plain(ContainerRecord, plain)
    if record.id != bundle.name:
        raise ValueError(f"it is that of container {record.id}")
    return record
