# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a bundle as it lies on disk: no process, no write, no mount."""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord, read_record
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState

CONFIG_FILE = "config.json"


@dataclasses.dataclass(slots=True, kw_only=True)
class Bundle:
    """A bundle as it lies on disk."""

    name: str
    path: str
    #: None when it is damaged; ``problems`` says how.
    record: BundleRecord | None
    #: Why it cannot be used as it is; empty is good.
    problems: list[str] = dataclasses.field(default_factory=list)
    #: What its maker should be told.
    warnings: list[str] = dataclasses.field(default_factory=list)
    _config: dict[str, t.Any] | None = None

    @property
    def rootfs_path(self) -> str:
        """Absolute path of the root file system; empty unless mounted."""
        return os.path.join(self.path, self.record.rootfs if self.record else "rootfs")

    @property
    def config(self) -> dict[str, t.Any]:
        """The parsed config.json; raises WrongState when it is missing or damaged."""
        if self._config is None:
            path = os.path.join(self.path, CONFIG_FILE)
            try:
                with open(path, "rb") as stream:
                    self._config = json.load(stream)
            except (OSError, ValueError) as exc:
                raise WrongState(
                    f"{path} cannot be read: {exc}", hint="Make the bundle again, or remove it"
                ) from exc
        return t.cast("dict[str, t.Any]", self._config)

    @property
    def is_mounted(self) -> bool:
        """Whether everything that the bundle needs is mounted; true when it needs nothing."""
        return self.record is not None and all(map(is_mount, mount_points(self.path, self.record)))

    @property
    def needs_mounts(self) -> bool:
        """Whether there is anything to mount: not for a directory that is used as it is."""
        return self.record is not None and bool(self.record.layers or self.record.mounts)


def mount_points(path: str, record: BundleRecord) -> list[str]:
    """Return every path that must be a mount point while the bundle at ``path`` is mounted."""
    points = [os.path.join(path, record.rootfs)] if record.layers else []
    return points + [os.path.join(path, mount.target) for mount in record.mounts]


def is_mount(path: str) -> bool:
    """Say whether something is mounted on ``path`` itself."""
    if os.path.ismount(path):
        return True
    if not os.path.lexists(path):
        return False
    # A bind mount of the same file system looks like a directory; only statx(2) tells.
    from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls  # noqa: PLC0415

    return syscalls.is_mount_point(path)


def load_bundle(name: str, path: str) -> Bundle | None:
    """Return the bundle at ``path`` with what is wrong with it, or None when there is none."""
    if not os.path.isdir(path):
        return None
    try:
        record = read_record(path)
    except FileNotFoundError:
        return Bundle(name=name, path=path, record=None, problems=["its record pvecri.json is missing"])
    except WrongState as exc:
        return Bundle(name=name, path=path, record=None, problems=[str(exc)])
    return Bundle(name=name, path=path, record=record, problems=list(_problems(path, record)))


def _problems(path: str, record: BundleRecord) -> t.Iterator[str]:
    if not os.path.isfile(os.path.join(path, CONFIG_FILE)):
        yield "its config.json is missing"
    layers = [*record.layers, *(layer for mount in record.mounts for layer in mount.layers)]
    for layer in dict.fromkeys(layers):
        if not os.path.isdir(layer):
            yield f"the layer {layer} is missing"
    if not record.layers and not os.path.isdir(os.path.join(path, record.rootfs)):
        yield f"the root file system {record.rootfs} is missing"
    for mount in record.mounts:
        if mount.source and not os.path.exists(mount.source):
            yield f"{mount.source}, of which a part is mounted, is missing"
    gone = [secret for secret in record.volatile if not os.path.exists(secret)]
    if gone:
        yield f"secrets are gone, as after a reboot: {', '.join(gone)}"
