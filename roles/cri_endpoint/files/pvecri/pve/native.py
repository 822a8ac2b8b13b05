# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve templates of Proxmox LXC as images: ``lxc/NAME:VERSION``, pulled, listed, removed like others.

A pull takes what the configuration names an address for, else what the storage has or
Proxmox's own list of appliances offers.  Everything but a pull goes by files alone and
works while Proxmox VE does not answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import image_users
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    Conflict,
    CoreError,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import remove_tree
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import host_platform
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ImageConfig, Paths
from pvecri.disk.usage import Usage
from pvecri.errors import Unavailable
from pvecri.images.names import Asked, unique
from pvecri.images.native_names import NativeName
from pvecri.pve import failures, native_index, template_content, template_download
from pvecri.pve.native_image import NativeImage
from pvecri.pve.native_index import Record
from pvecri.pve.native_pull import Bringer, Brought
from pvecri.pve.presence import Presence
from pvecri.pve.template_download import Progress
from pvecri.pve.template_volume import stamp_of
from pvecri.pve.templates import Node

#: What a template's container runs unless it is told: a whole system.
_CONFIG = ImageConfig(
    entrypoint=("/sbin/init",),
    env=(("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),),
    cwd="/",
)


class Sources(t.Protocol):
    """The part of the configuration that is needed."""

    @property
    def templates(self) -> t.Mapping[str, t.Any]:
        """Addresses and checksums (``url``, ``sha512``) by image."""


class NativeTemplates:
    """The templates that clients have pulled."""

    def __init__(self, node: Node, paths: Paths, sources: Sources, log: logging.Logger) -> None:
        self._node = node
        self._paths = paths
        self._log = log
        self._bringer = Bringer(node, sources.templates)
        self._top = os.path.join(paths.state_dir, "lxc", "native")
        self._file = os.path.join(paths.state_dir, "lxc", "native.json")
        self._lock = threading.Lock()
        #: Held while a file is brought: two names may stand for one.
        self._pulling = threading.Lock()
        self._list: native_index.Listed | None = None
        self._images: dict[str, tuple[Record, NativeImage]] = {}
        #: Counts changes of the list.
        self._version = 0
        self.presence = Presence(self._listed)

    # ---- looking ------------------------------------------------------------------------------------------

    def stamp(self) -> t.Hashable:
        """Return what changes whenever a template comes or goes, or gets or loses a name; never waits.

        That a file has gone behind our back is seen a little later.
        """
        if self._list is not None and self._list.records:
            self.presence.look_soon()
        return self._version, self.presence.version

    def images(self) -> list[NativeImage]:
        """Return the templates that are whole, by the order of their coming."""
        return [self._image(record) for record in self._listed() if not self.presence.is_gone(record)]

    def _listed(self) -> list[Record]:
        with self._lock:
            return list(self._known().values())

    def find(self, asked: Asked, field: str) -> NativeImage | None:
        """Return the template that a client names by name or id, or None where it means another image.

        Raises NotFound for a template's name that none has.
        """
        images = self.images()
        if asked.native:
            for image in images:
                if asked.native in image.names or asked.native in digests_of(image):
                    return image
            raise NotFound(f"{field}: there is no template {asked.native} on this host", hint="Pull it first")
        if asked.id:
            return next((image for image in images if image.id == asked.id), None)
        if asked.prefix:
            return unique([image for image in images if image.id.startswith(asked.prefix)], asked, field)
        return None

    def usage(self) -> Usage:
        """Return what the templates that this endpoint has fetched take."""
        own = [record for record in self._listed() if record.is_own and not self.presence.is_gone(record)]
        return Usage(sum(record.size for record in own), len(own))

    def describe(self, image_id: str) -> dict[str, t.Any]:
        """Return what a verbose status says of a template; nothing of one that has gone."""
        with self._lock:
            record = self._known().get(image_id)
        if record is None:
            return {}
        return {
            "template": record.volid,
            "path": record.path,
            "names": list(record.names),
            "size": record.size,
            "fetchedByEndpoint": record.is_own,
            "usedBy": image_users(self._paths, image_id),
        }

    def _image(self, record: Record) -> NativeImage:
        known = self._images.get(record.id)
        if known is not None and known[0] == record:
            return known[1]
        image = NativeImage(
            id=record.id,
            digest=f"sha256:{record.id}",
            digests=(f"sha256:{record.id}",),
            names=record.names,
            config=dataclasses.replace(_CONFIG, architecture=record.architecture),
            layer_dirs=(self._layer(record.id),),
            size_bytes=record.size,
            volid=record.volid,
            path=record.path,
        )
        self._images[record.id] = (record, image)
        return image

    def _layer(self, image_id: str) -> str:
        return os.path.join(self._top, image_id, "diff")

    # ---- pulling ------------------------------------------------------------------------------------------

    def pull(
        self,
        name: NativeName,
        *,
        timeout_s: float,
        no_progress_s: float,
        stop: threading.Event,
        on_idle: t.Callable[[bool], None] = lambda _is_idle: None,
    ) -> NativeImage:
        """Bring a template onto the storage unless it is there, and return it.

        Raises NotFound, RegistryUnavailable while Proxmox VE or the address does not answer,
        TaskFailed, CommandTimeout, Unsupported, and CoreError for the lack of space.
        """
        what = name.canonical
        progress = Progress(
            what=what,
            log=self._log,
            timeout_s=timeout_s,
            no_progress_s=no_progress_s,
            stop=stop,
            on_idle=on_idle,
        )
        begin = time.monotonic()
        self._log.info("pull begins", extra={"image": what})
        try:
            with self._pulling, failures.named(self._node, f"{what} cannot be pulled"):
                record = self._by_digest(name) if name.digest else self._brought(name, progress)
        except Unavailable as exc:
            self._log.warning("pull failed", extra={"image": what, "error": str(exc)})
            raise template_download.unavailable(exc.message, hint=exc.hint) from exc
        except CoreError as exc:
            self._log.warning("pull failed", extra={"image": what, "error": str(exc)})
            raise
        facts = {"image": what, "id": record.id, "volume": record.volid, "bytes": record.size}
        self._log.info("pull ended", extra={**facts, "seconds": round(time.monotonic() - begin, 3)})
        return self._image(record)

    def _by_digest(self, name: NativeName) -> Record:
        """Return what is here: neither Proxmox VE nor an address can be asked for a digest."""
        for image in self.images():
            if name.canonical in digests_of(image):
                with self._lock:
                    return self._known()[image.id]
        raise NotFound(
            f"there is no template {name.canonical} on this host, and templates are not fetched by digest",
            hint="Name its version",
        )

    def _brought(self, name: NativeName, progress: Progress) -> Record:
        brought = self._bringer.bring(name, progress, self._fetching)
        for record in self._present(brought.directory):
            if record.file == brought.file:
                return self._kept(dataclasses.replace(record, names=brought.names))
        # A file of an address is this endpoint's by its name; one of the list also if it came after a kill.
        with self._lock:
            is_own = brought.is_new or bool(brought.sha512) or brought.file in self._whole().fetching
        return self._kept(self._looked_at(brought, is_own=is_own))

    @contextlib.contextmanager
    def _fetching(self, file: str) -> t.Iterator[None]:
        """Note that a file will be this endpoint's; it is forgotten when the fetch fails."""
        with self._lock:
            self._whole().fetching.add(file)
            self._save()
        try:
            yield
        except BaseException:
            with self._lock:
                self._whole().fetching.discard(file)
                self._save()
            raise

    def _present(self, directory: str) -> list[Record]:
        return [each for each in self._listed() if each.directory == directory and each.is_there]

    def _looked_at(self, brought: Brought, *, is_own: bool) -> Record:
        """Return the record of a file that is there, its users and groups noted."""
        path = os.path.join(brought.directory, brought.file)
        stamp = stamp_of(path)
        if stamp is None:
            raise NotFound(f"{path} is not there although it was fetched", hint="Pull it again")
        image_id = template_content.digest_of(path, "sha256")
        layer = self._layer(image_id)
        os.makedirs(os.path.join(layer, "etc"), mode=0o755, exist_ok=True)
        for name, content in template_content.user_files(path).items():
            with open(os.path.join(layer, name), "wb") as stream:
                stream.write(content)
        return Record(
            id=image_id,
            names=brought.names,
            storage=brought.storage,
            directory=brought.directory,
            file=brought.file,
            stamp=stamp,
            architecture=host_platform().architecture,
            is_own=is_own,
            sha512=brought.sha512,
        )

    def _kept(self, record: Record) -> Record:
        """Put a record on the list, with the names that it has there, and take its names from others."""
        with self._lock:
            known = self._known()
            old = known.get(record.id)
            if old is not None:
                names = dict.fromkeys((*old.names, *record.names))
                is_own = record.is_own or (old.is_own and old.path == record.path)
                record = dataclasses.replace(record, names=tuple(names), is_own=is_own)
            fetching = self._whole().fetching
            if record != old or record.file in fetching:
                fetching.discard(record.file)
                known[record.id] = record
                self._settle(record)
        self.presence.look()
        return record

    def _settle(self, record: Record) -> None:
        """Write the list, in which a name stands for one template."""
        known = self._known()
        for other in list(known.values()):
            left = tuple(name for name in other.names if name not in record.names)
            if other.id != record.id and left != other.names:
                known[other.id] = dataclasses.replace(other, names=left)
        self._save()

    def _save(self) -> None:
        native_index.save(self._file, self._whole())
        self._version += 1

    # ---- removing -----------------------------------------------------------------------------------------

    def owns(self, image_id: str) -> bool:
        """Say whether an id is that of a template, be its file there or not."""
        with self._lock:
            return image_id in self._known()

    def remove(self, image_id: str) -> bool:
        """Forget a template, with its file if this endpoint has fetched it; return whether it was known.

        Raises Conflict while a bundle needs it.
        """
        with self._lock:
            record = self._known().get(image_id)
        if record is None:
            return False
        users = image_users(self._paths, image_id)
        if users:
            raise Conflict(
                f"template {record.volid} is in use by {', '.join(users)}",
                hint="Remove these bundles first",
            )
        # The lock is not held: those who list images must not wait for the storage.
        if record.is_own and record.is_there:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(record.path)
        with self._lock:
            self._known().pop(image_id, None)
            self._save()
        self._forget_layer(image_id)
        facts = {"image": image_id, "volume": record.volid, "with_file": record.is_own}
        self._log.info("template removed", extra=facts)
        return True

    def remove_missing(self, asked: Asked) -> None:
        """Forget what a client names although its file is gone."""
        ids = [
            record.id
            for record in self._listed()
            if asked.id == record.id
            or asked.native in record.names
            or (asked.native and asked.native.endswith(f"@sha256:{record.id}"))
        ]
        for image_id in ids:
            self.remove(image_id)

    def sweep(self) -> None:
        """Clear away what a killed daemon left; for the begin of a daemon."""
        try:
            known = self._listed()
            ids = {record.id for record in known}
            for name in os.listdir(self._top) if os.path.isdir(self._top) else []:
                if name not in ids and not image_users(self._paths, name):
                    self._forget_layer(name)
            with self._pulling:
                for path in self._bringer.half_done({record.file for record in known}):
                    os.unlink(path)
            self.presence.look()
        except (CoreError, OSError) as exc:
            self._log.warning("templates not swept", extra={"error": str(exc)})

    def _forget_layer(self, image_id: str) -> None:
        path = os.path.dirname(self._layer(image_id))
        if os.path.isdir(path):
            remove_tree(path)

    def _known(self) -> dict[str, Record]:
        return self._whole().records

    def _whole(self) -> native_index.Listed:
        if self._list is None:
            try:
                self._list = native_index.load(self._file)
            except WrongState as exc:
                # Images of registries must not suffer from it.
                kept = f"{self._file}.damaged"
                self._log.error("templates are forgotten", extra={"error": str(exc), "kept": kept})
                os.replace(self._file, kept)
                self._list = native_index.Listed()
        return self._list


def digests_of(image: NativeImage) -> list[str]:
    """Return the names of a template by its digest, one for each name without its version."""
    return list(dict.fromkeys(f"{name.rpartition(':')[0]}@{image.digest}" for name in image.names))
