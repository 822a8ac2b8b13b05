# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know how much images and containers take on disk, without counting when somebody asks.

A layer never changes once it is whole, so each is counted once; what is known outlives
the daemon in a file.  What containers write is counted again after a while, the less
often the longer it takes.  The counting is done by du(1) at the lowest priority, so
that it costs the daemon nothing.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from pvecri.api import cri_pb2
from pvecri.images.disk_usage import Usage, count

#: Containers are counted again after so many seconds at the earliest.
_INTERVAL_S = 10.0
#: Of the time that passes, counting takes at most one part in so many.
_SHARE = 20
#: Layers that one call of du counts.
_BATCH = 100
#: How long the very first question waits for the first count.
_FIRST_WAIT_S = 2.0
_CACHE_FILE = "image-usage.json"


_NOTHING = Usage()


@dataclasses.dataclass(slots=True)
class _Figure:
    usage: Usage = _NOTHING
    time_ns: int = 0


class FsUsage:
    """The running figures; `encoded` answers at once and has them renewed beside."""

    def __init__(self, paths: Paths, store: ImageStore, runner: Runner, log: logging.Logger) -> None:
        self.paths = paths
        self.store = store
        self.runner = runner
        self.log = log
        self._cache_file = os.path.join(paths.state_dir, _CACHE_FILE)
        self._layers: dict[str, Usage] | None = None
        self._images = _Figure()
        self._containers = _Figure()
        self._guard = threading.Lock()
        self._is_counting = False
        self._counted = threading.Event()
        self._stamp: t.Any = None
        self._next_at = 0.0

    def encoded(self) -> bytes:
        """Return an ImageFsInfoResponse with the newest figures."""
        self.refresh()
        if not self._counted.is_set():
            self._counted.wait(_FIRST_WAIT_S)
        return self._message().SerializeToString()

    def refresh(self) -> None:
        """Begin to count what has changed, if anything has and nobody is counting."""
        if time.monotonic() < self._next_at and self._stamp == self.store.stamp():
            return
        with self._guard:
            if self._is_counting:
                return
            self._is_counting = True
        try:
            threading.Thread(target=self._work, name="image-usage", daemon=True).start()
        except RuntimeError as exc:
            self.log.warning("disk usage not counted", extra={"error": str(exc)})
            self._is_counting = False

    def count(self) -> None:
        """Count now, and wait for it."""
        begin = time.monotonic()
        stamp = self.store.stamp()
        self._images = _Figure(self._count_images(), time.time_ns())
        folder = os.path.join(self.paths.state_dir, "bundles")
        counted = count(self.runner, [folder]) if os.path.isdir(folder) else {}
        self._containers = _Figure(counted.get(folder, _NOTHING), time.time_ns())
        self._stamp = stamp
        end = time.monotonic()
        self._next_at = end + max(_INTERVAL_S, _SHARE * (end - begin))
        self._counted.set()

    def _work(self) -> None:
        try:
            self.count()
        except (CoreError, OSError) as exc:
            self.log.warning("disk usage not counted", extra={"error": str(exc)})
            self._next_at = time.monotonic() + _INTERVAL_S
            self._counted.set()
        finally:
            with self._guard:
                self._is_counting = False

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
        for usage in known.values():
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
        containers = os.path.join(self.paths.state_dir, "bundles")
        # kubelet takes two names for two file systems: one file system has one.
        if _device(containers) == _device(images):
            containers = images
        message = cri_pb2.ImageFsInfoResponse()
        _fill(message.image_filesystems.add(), images, self._images)
        _fill(message.container_filesystems.add(), containers, self._containers)
        return message


def _fill(message: cri_pb2.FilesystemUsage, path: str, figure: _Figure) -> None:
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
