# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep in memory what clients are told of the images, encoded once per change.

The store's files say by their times when an image came or went; until then an answer
is bytes that are there.  What is new is read and encoded, what stays is kept.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import (
    DEFAULT_REGISTRY,
    ImageReference,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from pvecri.api import cri_pb2
from pvecri.images.describe import cri_image, template_message
from pvecri.images.names import Asked, is_public, public_names, split_name, unique

if t.TYPE_CHECKING:
    from pvecri.pve.native import NativeTemplates


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One image, and the bytes that say so."""

    image: Image
    message: cri_pb2.Image
    #: The message as field 1 of an answer: of ``images`` in a list and of ``image`` in a status.
    encoded: bytes
    is_pinned: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """All images at one moment; what stands in it never changes."""

    stamp: t.Any
    by_id: dict[str, Entry]
    by_name: dict[str, Entry]
    #: By ``repository@digest``, for every digest that is known of the image.
    by_digest: dict[str, Entry]
    #: A whole ListImagesResponse.
    encoded: bytes
    #: Whether ``lxc/NAME`` is a template, rather than an image of the default registry.
    has_templates: bool = False

    def find(self, asked: Asked, field: str = "image.image") -> Entry | None:
        """Return what a client's words name; raises InvalidSpec for the begin of several ids."""
        if asked.id:
            return self.by_id.get(asked.id)
        if asked.native and self.has_templates:
            return self.by_name.get(asked.native) or self.by_digest.get(asked.native)
        entry = None
        if asked.reference is not None:
            name = asked.reference.pullable
            entry = self.by_name.get(name) or self.by_digest.get(name)
        if entry is None and asked.prefix:
            found = [entry for key, entry in self.by_id.items() if key.startswith(asked.prefix)]
            entry = unique(found, asked, field)
        return entry


class Catalogue:
    """The images of a store, and the templates of Proxmox LXC, as clients see them."""

    def __init__(
        self,
        store: ImageStore,
        pinned: t.Iterable[str],
        log: logging.Logger,
        natives: NativeTemplates | None = None,
    ) -> None:
        self.store = store
        self.log = log
        self._natives = natives
        self._pinned = frozenset(
            ImageReference.parse(text, field="images.pinned").pullable for text in pinned
        )
        self._guard = threading.Lock()
        self._snapshot: Snapshot | None = None

    def fresh(self) -> Snapshot | None:
        """Return the snapshot if it is that of this moment, after a few calls of stat(2); never waits."""
        snapshot = self._snapshot
        return snapshot if snapshot is not None and snapshot.stamp == self._stamp() else None

    def _stamp(self) -> t.Any:
        stamp = self.store.stamp()
        return stamp if self._natives is None else (stamp, self._natives.stamp())

    def snapshot(self) -> Snapshot:
        """Return all images as they are now; raises WrongState when the store's lists are damaged."""
        snapshot = self.fresh()
        if snapshot is not None:
            return snapshot
        with self._guard:
            return self.fresh() or self._renew()

    def invalidate(self) -> None:
        """Look at the store anew before the next answer."""
        self._snapshot = None

    def _renew(self) -> Snapshot:
        # Read first: what changes while the lists are read is seen next time.
        stamp = self._stamp()
        known = self._snapshot.by_id if self._snapshot is not None else {}
        by_id = {}
        for image in self.store.list():
            if is_public(image):
                old = known.get(image.id)
                entry = old if old is not None and old.image is image else self._entry(image)
                if entry is not None:
                    by_id[image.id] = entry
        by_name: dict[str, Entry] = {}
        by_digest: dict[str, Entry] = {}
        for entry in by_id.values():
            for name in public_names(entry.image):
                by_name.setdefault(name, entry)
                for digest in entry.image.digests:
                    by_digest.setdefault(f"{split_name(name)[0]}@{digest}", entry)
        for entry in self._templates():
            by_id[entry.image.id] = entry
            by_name.update((name, entry) for name in entry.message.repo_tags)
            by_digest.update((name, entry) for name in entry.message.repo_digests)
        encoded = b"".join(entry.encoded for entry in by_id.values())
        has_templates = self._natives is not None
        self._snapshot = Snapshot(stamp, by_id, by_name, by_digest, encoded, has_templates)
        return self._snapshot

    def _templates(self) -> t.Iterator[Entry]:
        for image in self._natives.images() if self._natives is not None else ():
            # The configuration's names are read as those of images.
            is_pinned = any(f"{DEFAULT_REGISTRY}/{name}" in self._pinned for name in image.names)
            message = template_message(image, is_pinned=is_pinned)
            encoded = cri_pb2.ListImagesResponse(images=[message]).SerializeToString()
            yield Entry(image, message, encoded, is_pinned)

    def _entry(self, image: Image) -> Entry | None:
        try:
            files = self.store.files_of(image)
            is_pinned = self._is_pinned(image) or not self.store.is_own(image)
            message = cri_image(image, files, is_pinned=is_pinned)
        except (CoreError, OSError) as exc:
            self.log.warning("image cannot be shown", extra={"image": image.id, "error": str(exc)})
            return None
        encoded = cri_pb2.ListImagesResponse(images=[message]).SerializeToString()
        return Entry(image, message, encoded, is_pinned)

    def _is_pinned(self, image: Image) -> bool:
        names = set(image.names)
        names.update(f"{split_name(name)[0]}@{digest}" for name in image.names for digest in image.digests)
        return not self._pinned.isdisjoint(names)
