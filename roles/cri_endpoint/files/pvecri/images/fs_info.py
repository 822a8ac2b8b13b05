# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know how much images and containers take on disk, without counting when somebody asks.

A layer never changes once it is whole, so each is counted once; what is known outlives
the daemon in a file.  What containers write is counted again after a while (`WritableLayers`),
the less often the longer it takes.  The counting is done by du(1) at the lowest priority, so
that it costs the daemon nothing.
"""

from __future__ import annotations

import json
import logging
import os
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from pvecri.api import cri_pb2
from pvecri.disk.layers import Figure, WritableLayers
from pvecri.disk.pacing import Paced
from pvecri.disk.usage import Usage, count

#: Layers that one call of du counts.
_BATCH = 100
#: How long the very first question waits for the first count.
_FIRST_WAIT_S = 2.0
_CACHE_FILE = "image-usage.json"


_NOTHING = Usage()


class FsUsage:
    """The running figures; `encoded` answers at once and has them renewed beside."""

    def __init__(
        self,
        paths: Paths,
        store: ImageStore,
        runner: Runner,
        log: logging.Logger,
        containers: WritableLayers,
        *,
        packed: t.Sequence[t.Callable[[], Usage]] = (),
    ) -> None:
        """Set up; ``packed`` tell what files of images take that lie on a storage of Proxmox VE."""
        self.paths = paths
        self.store = store
        self.runner = runner
        self._cache_file = os.path.join(paths.state_dir, _CACHE_FILE)
        self._layers: dict[str, Usage] | None = None
        self._images = Figure(_NOTHING, 0)
        self._containers = containers
        self._packed = packed
        self._stamp: t.Any = None
        self._paced = Paced("image usage", self._count, log)

    def encoded(self) -> bytes:
        """Return an ImageFsInfoResponse with the newest figures."""
        self.refresh()
        if not self._images.time_ns:
            self._paced.wait(_FIRST_WAIT_S)
        if not self._containers.total().time_ns:
            self._containers.paced.wait(_FIRST_WAIT_S)
        return self._message().SerializeToString()

    def refresh(self) -> None:
        """Begin to count what has changed, if anything has and nobody is counting."""
        if self._paced.is_due or self._stamp != self._now():
            self._paced.begin()
        if self._containers.paced.is_due:
            self._containers.paced.begin()

    def count(self) -> None:
        """Count now, and wait for it."""
        self._paced.count()
        self._containers.paced.count()

    def _count(self, _is_whole: bool) -> None:
        stamp = self._now()
        self._images = Figure(self._count_images(), time.time_ns())
        self._stamp = stamp

    def _now(self) -> t.Any:
        """Return what changes with the images."""
        return self.store.stamp(), [tell() for tell in self._packed]

    # ---- counting -----------------------------------------------------------------------------------------

    def _count_images(self) -> Usage:
        known = self._known()
        listed = self.store.layers()
        folder = os.path.join(self.paths.storage, "overlay")
        missing = [name for name in listed if name not in known]
        for start in range(0, len(missing), _BATCH):
            paths = [os.path.join(folder, name) for name in missing[start : start + _BATCH]]
            for path, usage in count(self.runner, [path for path in paths if os.path.isdir(path)]).items():
                known[os.path.basename(path)] = usage
        gone = known.keys() - listed.keys()
        for name in gone:
            del known[name]
        if missing or gone:
            self._keep(known)
        lists = os.path.join(self.paths.storage, "overlay-images")
        total = count(self.runner, [lists]).get(lists, _NOTHING) if os.path.isdir(lists) else _NOTHING
        for usage in (*known.values(), *(tell() for tell in self._packed)):
            total = total.plus(usage)
        return total

    def _known(self) -> dict[str, Usage]:
        if self._layers is None:
            try:
                with open(self._cache_file, "rb") as stream:
                    self._layers = {
                        name: Usage(int(size), int(count))
                        for name, (size, count) in json.load(stream).items()
                    }
            except (OSError, ValueError, TypeError, AttributeError):
                self._layers = {}
        return self._layers

    def _keep(self, known: dict[str, Usage]) -> None:
        os.makedirs(self.paths.state_dir, exist_ok=True)
        write_atomic(self._cache_file, json.dumps(known, separators=(",", ":")).encode(), mode=0o600)

    # ---- answering ----------------------------------------------------------------------------------------

    def _message(self) -> cri_pb2.ImageFsInfoResponse:
        images = self.paths.storage
        containers = self._containers.whole
        # kubelet takes two names for two file systems: one file system has one.
        if _device(containers) == _device(images):
            containers = images
        message = cri_pb2.ImageFsInfoResponse()
        _fill(message.image_filesystems.add(), images, self._images)
        _fill(message.container_filesystems.add(), containers, self._containers.total())
        return message


def _fill(message: cri_pb2.FilesystemUsage, path: str, figure: Figure) -> None:
    message.timestamp = figure.time_ns or time.time_ns()
    message.fs_id.mountpoint = path
    message.used_bytes.value = figure.usage.size_bytes
    message.inodes_used.value = figure.usage.inodes


def _device(path: str) -> int:
    """Return the device of a path, or of what it will be made in."""
    while True:
        try:
            return os.stat(path).st_dev
        except FileNotFoundError:
            path = os.path.dirname(path)
