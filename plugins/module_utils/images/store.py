# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the images of this host: find them, fetch them, remove them.

The store is containers-storage, filled by skopeo.  What is there is read from
its files, so a warm start needs no process; only fetching and deleting does.
One reference is fetched by one process at a time, and who waited for it takes
what the other brought.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import image_users
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, CoreError, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.images.local import local_state, tarball_state
from ansible_collections.pvecri.runtime.plugins.module_utils.images.locks import fetch_lock, locked_store
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    IMPORT_TIMEOUT_S,
    ImageSource,
    PullPolicy,
    StoredSource,
    TarballSource,
    Wanted,
    host_platform,
    local_store_name,
    normalised_path,
    registry_store_name,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store_files import StoreFiles
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image, Paths

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.writer import StoreWriter

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


class ImageStore:
    """The project's own image store below ``paths.storage``.

    ``additional`` are graph roots of other stores (such as the host's own) whose
    images are used where they lie; their owner must not remove them meanwhile.
    """

    def __init__(self, paths: Paths, runner: Runner, *, additional: t.Sequence[str] = ()) -> None:
        self.paths = paths
        self.runner = runner
        self.additional = tuple(additional)
        #: What a caller should tell its user; the caller empties it.
        self.warnings: list[str] = []
        self._own = StoreFiles(paths.storage)
        self._others = [StoreFiles(root) for root in self.additional]

    def with_runner(self, runner: Runner) -> ImageStore:
        """Return the same store, with what was read of it, that starts its programs by another runner."""
        other = copy.copy(self)
        other.runner = runner
        other.warnings = []
        return other

    # ---- reading ------------------------------------------------------------------------------------------

    def find(self, wanted: str | ImageSource | TarballSource | StoredSource) -> Image | None:
        """Return an image that is here, or None; starts no process and asks no registry.

        A text is an image id, or a reference in any form that a source may have.
        Raises InvalidSpec for what is no reference, NotFound for a path that is not there.
        """
        if isinstance(wanted, StoredSource):
            wanted.check()
            wanted = wanted.id
        if isinstance(wanted, str):
            match = _ID.fullmatch(wanted)
            if match:
                return self._each(lambda files: files.by_id(match[1]))
            wanted = ImageSource(reference=wanted)
        return self._find(self._wanted(wanted))

    def list(self) -> list[Image]:
        """Return all images, the own ones first."""
        seen: dict[str, Image] = {}
        for files in (self._own, *self._others):
            for image in files.all():
                seen.setdefault(image.id, image)
        return list(seen.values())

    def files_of(self, image: Image) -> StoreFiles:
        """Return the files in which the image is, for what an `Image` does not hold; raises NotFound."""
        found = next((files for files in (self._own, *self._others) if files.by_id(image.id)), None)
        if found is None:
            raise NotFound(f"there is no image {image.id} in the image store", hint="Fetch it again")
        return found

    def is_own(self, image: Image) -> bool:
        """Say whether the image lies in the project's own store, not in an additional one."""
        return self._own.by_id(image.id) is not None

    def stamp(self) -> tuple[t.Any, ...]:
        """Return what changes whenever an image comes or goes, or gets or loses a name."""
        return tuple(files.stamp() for files in (self._own, *self._others))

    def layers(self) -> dict[str, int]:
        """Return the size in bytes of every layer of the own store, by the layer's id."""
        return self._own.layers()

    def users(self, image: Image) -> t.Sequence[str]:
        """Return the bundles of either owner that need this image, as ``owner/name``."""
        return image_users(self.paths, image.id)

    def _each(self, look: t.Callable[[StoreFiles], Image | None]) -> Image | None:
        return next((found for files in (self._own, *self._others) if (found := look(files))), None)

    def _find(self, wanted: Wanted) -> Image | None:
        found = self._each(lambda files: files.by_name(wanted.name))
        if found is None and wanted.digest and wanted.location and wanted.location.image:
            if wanted.name != wanted.location.image.pullable:
                return None  # Of a foreign platform; the digest alone would not tell which.
            name, digest = wanted.location.image.name, wanted.digest
            return self._each(lambda files: files.by_digest(name, digest))
        if found is not None and wanted.digest and wanted.digest not in found.digests:
            return None
        return found

    def _wanted(self, source: ImageSource | TarballSource) -> Wanted:
        source.check()
        if isinstance(source, TarballSource):
            path = normalised_path(source.path)
            return Wanted(local_store_name("tarball", path, tarball_state(path)), path, None)
        location = source.location()
        if location.image is not None:
            name = registry_store_name(location.image, source.platform, host_platform())
            return Wanted(name, str(location), location, location.image.digest)
        name = local_store_name(location.transport, str(location), local_state(location), source.platform)
        return Wanted(name, str(location), location)

    # ---- fetching -----------------------------------------------------------------------------------------

    def ensure(self, source: ImageSource | TarballSource | StoredSource) -> tuple[Image, bool]:
        """Return the image of ``source``, fetched if need be, and whether the store has changed for it.

        Raises InvalidSpec, NotFound, CommandError (skopeo's words with a hint) and
        Conflict when another fetch of the same image does not end in time.
        """
        if isinstance(source, StoredSource):
            stored = self.find(source)
            if stored is None:
                raise NotFound(f"there is no image {source.id} in the image store", hint="Fetch it again")
            return stored, False
        wanted = self._wanted(source)
        policy = source.policy if isinstance(source, ImageSource) else PullPolicy.MISSING
        found = self._find(wanted)
        if policy is PullPolicy.NEVER and found is None:
            raise NotFound(
                f"{wanted.what} is not in the image store and may not be fetched",
                hint="Set the pull policy to 'missing', or fetch it before",
            )
        if found is not None and (policy in (PullPolicy.MISSING, PullPolicy.NEVER)):
            return found, False
        asked_ns = time.time_ns()
        timeout_s = source.timeout_s if isinstance(source, ImageSource) else IMPORT_TIMEOUT_S
        lock = fetch_lock(self.paths, wanted.name)
        with locked(lock, timeout_s=timeout_s, what=f"the image {wanted.what}"):
            before = self._find(wanted)
            trusts = not isinstance(source, ImageSource) or source.trusts_others
            is_done = policy is PullPolicy.MISSING or (trusts and _done_since(lock, asked_ns))
            if before is not None and is_done:
                return before, found is None or before.id != found.id
            if policy is PullPolicy.NEWER and before is not None and self._is_current(source, wanted, before):
                return before, False
            image = self._writer().fetch(source, wanted)
            _mark_done(lock)
        return image, before is None or before.id != image.id

    def bring(self, source: ImageSource, reference: ImageReference, what: str = "") -> tuple[Image, bool]:
        """Read ``source`` again and give it the name ``reference``, as if it came from that registry.

        ``what`` is what people call the source.  Returns the image and whether the name stands for
        another one than before; raises as `ensure`.
        """
        source.check()
        location = source.location()
        name = registry_store_name(reference, source.platform, host_platform())
        lock = fetch_lock(self.paths, name)
        with locked(lock, timeout_s=source.timeout_s, what=f"the image {reference}"):
            before = self._own.by_name(name)
            image = self._writer().fetch(source, Wanted(name, what or str(location), location))
            _mark_done(lock)
        return image, before is None or before.id != image.id

    def in_use(self) -> contextlib.AbstractContextManager[None]:
        """Keep every image in the store for as long as the context lasts.

        Held from finding an image until a bundle's record names it.
        """
        return locked_store(self.paths, shared=True)

    def _is_current(self, source: ImageSource | TarballSource, wanted: Wanted, image: Image) -> bool:
        """Say whether the source still has what is here, or does not answer."""
        if not isinstance(source, ImageSource) or wanted.location is None or wanted.location.is_local:
            return True
        try:
            return self._writer().is_current(source, wanted.location, image)
        except CoreError as exc:
            self.warnings.append(f"The registry was not asked for a newer image: {exc}")
            return True

    def _writer(self) -> StoreWriter:
        # Most runs find what they need and start nothing.
        from ansible_collections.pvecri.runtime.plugins.module_utils.images.writer import (  # noqa: PLC0415
            StoreWriter,
        )

        return StoreWriter(self.paths, self.runner, self._own, self.additional)

    # ---- removing -----------------------------------------------------------------------------------------

    def remove(self, reference: str) -> bool:
        """Remove an image or, when it has other names, only this one; return whether it was there.

        An id or digest removes the image with all its names.  Raises Conflict while a
        bundle needs it.  From then on nobody finds the image; its files go after, while
        others work with theirs.
        """
        with locked_store(self.paths):
            image_id = self._unusable_id(reference)
            image = self.find(reference) if image_id is None else None
            if image_id is not None:
                self._refuse_in_use(image_id, reference)
            elif image is None:
                return False
            else:
                if self._own.by_id(image.id) is None:
                    raise Conflict(
                        f"{reference} belongs to another image store",
                        hint="Remove it with the tool that made it",
                    )
                name = None if _ID.fullmatch(reference) else self._name_of(image, reference)
                if name is not None and image.names != (name,):
                    self._own.untag(name)
                    return True
                self._refuse_in_use(image.id, image.names[0] if image.names else image.id)
                image_id = image.id
            self._own.condemn(image_id)
        writer = self._writer()
        writer.condemn_layers()
        writer.finish_removal(image_id)
        self._finish_removals(writer)
        return True

    def sweep(self) -> None:
        """Remove what killed processes left: images half removed, layers without image, temporary files.

        Where somebody is at work it is left to them.  Raises CommandError.
        """
        writer = self._writer()
        writer.sweep_temporary()
        writer.condemn_layers()
        self._finish_removals(writer)

    def _finish_removals(self, writer: StoreWriter) -> None:
        """Delete what others have condemned and then left."""
        for image_id in self._own.condemned_ids():
            with contextlib.suppress(Conflict):
                writer.finish_removal(image_id, timeout_s=0)

    def untag(self, image: Image, names: t.Collection[str]) -> None:
        """Take these names from an own image; the image stays."""
        with locked_store(self.paths):
            for name in names:
                self._own.untag(name)

    def _unusable_id(self, reference: str) -> str | None:
        """Return the id of what the store lists under this id or name although it cannot be used."""
        match = _ID.fullmatch(reference)
        image_id = match[1] if match else self._own.id_of(self._wanted(ImageSource(reference=reference)).name)
        return image_id if image_id in self._own.unusable_ids() else None

    def _name_of(self, image: Image, reference: str) -> str | None:
        wanted = self._wanted(ImageSource(reference=reference))
        return wanted.name if wanted.name in image.names else None

    def _refuse_in_use(self, image_id: str, what: str) -> None:
        users = image_users(self.paths, image_id)
        if users:
            raise Conflict(
                f"image {what} is in use by {', '.join(users)}",
                hint="Remove these bundles first",
            )


def _done_since(lock: str, moment_ns: int) -> bool:
    """Say whether a fetch ended well since: then its result is as good as a new one's."""
    status = os.stat(lock)
    # An empty file was only made to be locked.
    return status.st_size > 0 and status.st_mtime_ns >= moment_ns


def _mark_done(lock: str) -> None:
    # Written through a descriptor of its own: the lock belongs to the other one.
    with open(lock, "w", encoding="ascii") as stream:
        stream.write("done\n")
