# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put images where Proxmox VE makes containers of them, once per digest, and take them away again.

An image becomes an archive in the directory of the storage of templates.  It stays for the
next container as long as the image is in the store; of those that no container has, a few.
Files that this endpoint has not written are never touched.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import errno
import logging
import os
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import image_users
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, NotFound, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.images.archive_writer import write_archive
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import host_platform
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.storage_config import template_directory
from pvecri.disk.usage import Usage
from pvecri.pve import archive_index, failures
from pvecri.pve.archive_index import Archive
from pvecri.pve.native_image import NativeImage
from pvecri.pve.template_volume import stamp_of

#: Archives that are kept though no container has their image: making one again costs little.
IDLE_MAX = 10
#: How old the note of an archive's last use may be, in seconds.
_NOTE_S = 3600.0
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class Node(failures.Node, t.Protocol):
    """The part of `PveNode` that is needed."""

    @property
    def template_storage(self) -> str:
        """Name of the storage of templates."""

    @property
    def endpoint_id(self) -> str:
        """What tells this endpoint from any other."""


class Templates:
    """The archives of this endpoint's images."""

    def __init__(self, node: Node, store: ImageStore, paths: Paths, log: logging.Logger) -> None:
        self._node = node
        self._store = store
        self._paths = paths
        self._log = log
        self._file = os.path.join(paths.state_dir, "lxc", "archives.json")
        self._lock = threading.Lock()
        self._archives: dict[str, Archive] | None = None
        self._jobs: dict[str, concurrent.futures.Future[str]] = {}

    # ---- making -------------------------------------------------------------------------------------------

    def place(self, image: Image) -> str:
        """Return the volume id of an image on the storage of templates; it is put there if need be.

        Whoever asks for an image that is being written waits for it.  The caller's bundle keeps
        image and archive.  Raises Unsupported for an image that this node cannot run, NotFound,
        WrongState, Unavailable, and CoreError for the lack of space.
        """
        if isinstance(image, NativeImage):
            return _present(image)
        _check_platform(image)
        with failures.named(self._node, f"image {_name(image)} cannot be given to Proxmox VE"):
            storage = self._node.template_storage
            directory = template_directory(self._node.config_dir, self._node.name, storage)
            archive = self._found(image.id, directory)
            with self._lock:
                # Whoever collects takes it out of the list first.
                if archive is not None and self._known().get(image.id) == archive:
                    self._note_use(archive)
                    return archive.volid
                job = self._jobs.get(image.id)
                is_mine = job is None
                if job is None:
                    job = self._jobs[image.id] = concurrent.futures.Future()
            if is_mine:
                self._work(job, image, storage, directory)
            return job.result()

    def _found(self, image_id: str, directory: str) -> Archive | None:
        """Return the archive that is there; the lock is not held while the storage is asked."""
        with self._lock:
            archive = self._known().get(image_id)
        return (
            archive if archive is not None and archive.directory == directory and archive.is_there else None
        )

    def _work(self, job: concurrent.futures.Future[str], image: Image, storage: str, directory: str) -> None:
        """Write an archive; its end is the end of the job."""
        failure: BaseException | None = None
        archive = None
        try:
            archive = self._written(image, storage, directory)
        except BaseException as exc:
            # Whatever it is, it belongs to those who wait as well.
            failure = exc
        with self._lock:
            del self._jobs[image.id]
        if archive is None or failure is not None:
            job.set_exception(failure or CoreError("no archive was written"))
        else:
            job.set_result(archive.volid)

    def _written(self, image: Image, storage: str, directory: str) -> Archive:
        begin = time.monotonic()
        if not os.path.exists(self._file):
            # From now on a start looks for what a killed daemon left.
            with self._lock:
                self._save()
        name = archive_index.file_name(image, self._node.endpoint_id)
        path = os.path.join(directory, name)
        try:
            self._write(image, path)
        except CoreError as exc:
            if not _lacks_space(exc) or not self._drop_idle(0, keep=image.id):
                raise
            self._log.info("idle archives made room", extra={"image": image.id})
            self._write(image, path)
        stamp = stamp_of(path)
        if stamp is None:
            raise NotFound(f"{path} has vanished while it was being put there", hint="Try again")
        archive = Archive(
            image_id=image.id,
            storage=storage,
            directory=directory,
            file=name,
            stamp=stamp,
            used_at=time.time(),
        )
        with self._lock:
            known = self._known()
            old = known.get(image.id)
            known[image.id] = archive
            self._save()
        if old is not None and old.path != path:
            _unlink(old)
        facts = {"image": _name(image), "volume": archive.volid, "bytes": archive.size}
        self._log.info("archive written", extra={**facts, "seconds": round(time.monotonic() - begin, 3)})
        return archive

    def _write(self, image: Image, path: str) -> None:
        status = os.statvfs(os.path.dirname(path))
        free = status.f_bavail * status.f_frsize
        if free < image.size_bytes:
            raise CoreError(
                f"the archive of image {_name(image)} needs {image.size_bytes} bytes; "
                f"{os.path.dirname(path)} has {free} left",
                hint="Free space there, or configure another storage of templates",
            ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_archive(image, self._store.files_of(image), path)

    def _note_use(self, archive: Archive) -> None:
        now = time.time()
        if abs(now - archive.used_at) > _NOTE_S:
            self._known()[archive.image_id] = dataclasses.replace(archive, used_at=now)
            self._save()

    # ---- removing -----------------------------------------------------------------------------------------

    def collect(self) -> int:
        """Remove archives whose image has gone, and all but a few of those that no container has.

        An image of which a bundle exists keeps its archive.  Returns how many went.
        """
        with self._lock:
            known = list(self._known().values())
        if not known:
            return 0
        stored = {image.id for image in self._store.list()}
        gone = {archive.image_id for archive in known if archive.image_id not in stored}
        return self._drop(lambda archives: [each for each in archives if each.image_id in gone]) + (
            self._drop_idle(IDLE_MAX)
        )

    def _drop_idle(self, kept: int, *, keep: str = "") -> int:
        """Remove archives that no container has, but the ``kept`` last used; return how many went."""

        def idle(archives: list[Archive]) -> list[Archive]:
            latest = sorted(archives, key=lambda each: each.used_at, reverse=True)
            return [each for each in latest if each.image_id != keep][kept:]

        return self._drop(idle)

    def _drop(self, choose: t.Callable[[list[Archive]], list[Archive]]) -> int:
        """Remove what is chosen of the archives that nothing needs; return how many went."""
        with self._lock:
            known = self._known()
            chosen = choose([each for each in known.values() if not self._is_needed(each)])
            for archive in chosen:
                del known[archive.image_id]
            if chosen:
                self._save()
        for archive in chosen:
            # The lock is not held: nobody must wait for a storage that does not answer.
            _unlink(archive)
            self._log.info("archive removed", extra={"image": archive.image_id, "volume": archive.volid})
        return len(chosen)

    def _is_needed(self, archive: Archive) -> bool:
        return archive.image_id in self._jobs or bool(image_users(self._paths, archive.image_id))

    def sweep(self) -> None:
        """Clear away what a killed daemon left, and what nothing needs; for the begin of a daemon."""
        try:
            self._sweep()
        except (CoreError, OSError) as exc:
            self._log.warning("archives of images not swept", extra={"error": str(exc)})

    def _sweep(self) -> None:
        if not os.path.exists(self._file):
            return  # None was ever written, and Proxmox VE need not be asked for its storages.
        with failures.named(self._node, "the storage of templates cannot be looked at"):
            directory = template_directory(
                self._node.config_dir, self._node.name, self._node.template_storage
            )
        self._drop(
            lambda archives: [each for each in archives if each.directory != directory or not each.is_there]
        )
        whole, half = archive_index.file_names(self._node.endpoint_id)
        with self._lock:
            listed = {archive.file for archive in self._known().values()}
            writing = bool(self._jobs)
            for name in [] if writing else os.listdir(directory):
                if half.fullmatch(name) or (whole.fullmatch(name) and name not in listed):
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(directory, name))
        self.collect()

    # ---- looking ------------------------------------------------------------------------------------------

    def usage(self) -> Usage:
        """Return what the archives take; waits for nobody who works on the storage."""
        known = self._archives
        if known is None:
            with self._lock:
                known = self._known()
        archives = list(known.values())
        return Usage(sum(archive.size for archive in archives), len(archives))

    def _known(self) -> dict[str, Archive]:
        if self._archives is None:
            self._archives = archive_index.load(self._file, self._log)
        return self._archives

    def _save(self) -> None:
        archive_index.save(self._file, self._known().values())


def _present(image: NativeImage) -> str:
    if not os.path.isfile(image.path):
        raise NotFound(f"the template {image.volid} is gone from its storage", hint="Pull the image again")
    return image.volid


def _unlink(archive: Archive) -> None:
    """Remove a file of ours; one that somebody put in its place stays."""
    if archive.is_there:
        with contextlib.suppress(OSError):
            os.unlink(archive.path)


def _check_platform(image: Image) -> None:
    """Refuse an image that this node cannot run: Proxmox VE takes it, and says that it is its own."""
    host, config = host_platform(), image.config
    if (config.os, config.architecture) != (host.os, host.architecture):
        raise Unsupported(
            f"config.image.image: {_name(image)} is for {config.os}/{config.architecture}, this node is "
            f"{host.os}/{host.architecture}",
            hint="Name an image for this node's platform",
        )


def _name(image: Image) -> str:
    return image.names[0] if image.names else f"sha256:{image.id}"


def _lacks_space(error: BaseException) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _NO_SPACE
