# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve the CRI's ImageService: what each of its calls does, without the protocol around it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    Conflict,
    CoreError,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from pvecri.api import cri_pb2
from pvecri.context import Context
from pvecri.disk.layers import WritableLayers
from pvecri.images.catalogue import Catalogue, Entry, Snapshot
from pvecri.images.credentials import credentials_of
from pvecri.images.describe import verbose_info
from pvecri.images.fs_info import FsUsage
from pvecri.images.names import (
    Asked,
    find_image,
    is_internal,
    is_public,
    parse_asked,
    parse_pull,
    public_id,
    public_names,
)
from pvecri.images.native_names import NativeName, is_native_text, parse_native
from pvecri.images.pull import Puller
from pvecri.images.queue import Job, PullQueue, QueueState
from pvecri.metrics.counts import PullCounts

if t.TYPE_CHECKING:
    from pvecri.pve.native import NativeTemplates
    from pvecri.pve.templates import Templates

#: Stands for the registry of templates in the queue of pulls.
_TEMPLATES: t.Final = "lxc"


class ImageService:
    """The images of this host as clients of the CRI see and change them; one for the daemon."""

    def __init__(
        self,
        context: Context,
        layers: WritableLayers,
        natives: NativeTemplates | None = None,
        archives: Templates | None = None,
    ) -> None:
        """Set up; ``layers`` knows what containers write.

        Where Proxmox LXC is set up, ``natives`` are its templates and ``archives`` the copies of
        images that it makes containers of.
        """
        config = context.config.images
        pinned = [*config.pinned, *([config.pause_image] if config.pause_image else [])]
        self._log = context.log
        self._store = context.store
        self._stop = threading.Event()
        self._queue = PullQueue(config.max_parallel_pulls)
        self._puller = Puller(context.store, context.runner, config, context.log, self._stop)
        self._config = config
        self._natives = natives
        self._archives = archives
        self.catalogue = Catalogue(context.store, pinned, context.log, natives)
        packed = [part.usage for part in (natives, archives) if part is not None]
        self.usage = FsUsage(context.paths, context.store, context.runner, context.log, layers, packed=packed)

    def start(self) -> None:
        """Begin, in a thread, to clear away what a killed daemon left, and to know what there is."""
        threading.Thread(target=self._look_around, name="image-sweep", daemon=True).start()

    def _look_around(self) -> None:
        try:
            self._store.sweep()
            self.catalogue.snapshot()
        except (CoreError, OSError) as exc:
            self._log.warning("image store not swept", extra={"error": str(exc)})
        self.usage.refresh()
        if self._natives is not None:
            self._natives.sweep()
        if self._archives is not None:
            self._archives.sweep()

    def close(self) -> None:
        """End every pull; those who wait for one get WrongState."""
        self._stop.set()
        self._queue.close()

    # ---- pulling ------------------------------------------------------------------------------------------

    def begin_pull(
        self, spec: cri_pb2.ImageSpec, auth: cri_pb2.AuthConfig | None = None
    ) -> concurrent.futures.Future[str]:
        """Return the future of a pull, whose result is the image's id; whoever asks for the same shares it.

        Nobody can cancel it.  Raises InvalidSpec and Unsupported at once; the future
        raises what `Puller.pull` does.
        """
        if self._natives is not None and is_native_text(spec.image):
            return self._begin_template(parse_native(spec.image), self._natives)
        reference = parse_pull(spec.image)
        credentials = None if auth is None else credentials_of(auth, reference)
        # Others' credentials make another pull: their error is not mine.
        key = (reference.canonical, credentials)
        return self._queue.submit(
            key,
            reference.pullable,
            reference.registry,
            lambda job: self._pulled(self._puller.pull(reference, credentials, job.set_idle)),
        )

    def _begin_template(self, name: NativeName, natives: NativeTemplates) -> concurrent.futures.Future[str]:
        """Return the future of the pull of a template; there are no credentials for it."""

        def action(job: Job) -> str:
            begin = time.monotonic()
            try:
                image = natives.pull(
                    name,
                    timeout_s=self._config.pull_timeout_s,
                    no_progress_s=self._config.no_progress_timeout_s,
                    stop=self._stop,
                    on_idle=job.set_idle,
                )
            except BaseException:
                self.counts.ended(time.monotonic() - begin, has_failed=True)
                raise
            self.counts.ended(time.monotonic() - begin)
            return self._pulled(image)

        return self._queue.submit((_TEMPLATES, name), name.canonical, _TEMPLATES, action)

    def pull(self, spec: cri_pb2.ImageSpec, auth: cri_pb2.AuthConfig | None = None) -> str:
        """Pull an image, or wait for the pull that is under way, and return the image's id."""
        return self.begin_pull(spec, auth).result()

    def pulls(self) -> QueueState:
        """Return how many pulls wait, run and hang."""
        return self._queue.state()

    @property
    def counts(self) -> PullCounts:
        """What has become of pulls so far."""
        return self._puller.counts

    def _pulled(self, image: Image) -> str:
        self.usage.refresh()
        return public_id(image)

    # ---- looking ------------------------------------------------------------------------------------------

    def list_bytes(self, image_filter: cri_pb2.ImageFilter | None = None) -> bytes:
        """Return a serialized ListImagesResponse: all images, or the one that the filter names."""
        return _list_bytes(self.catalogue.snapshot(), image_filter)

    def list_bytes_now(self, image_filter: cri_pb2.ImageFilter | None = None) -> bytes | None:
        """Return the same without waiting for anything, or None when the images have changed."""
        snapshot = self.catalogue.fresh()
        return None if snapshot is None else _list_bytes(snapshot, image_filter)

    def status_bytes(self, spec: cri_pb2.ImageSpec, *, is_verbose: bool = False) -> bytes:
        """Return a serialized ImageStatusResponse; it is empty for an image that is not here."""
        entry = _find(self.catalogue.snapshot(), spec)
        if entry is None:
            return b""
        if not is_verbose:
            return entry.encoded
        if self._natives is not None and self._natives.owns(entry.image.id):
            told = self._natives.describe(entry.image.id)
            return entry.encoded + _verbose({"info": json.dumps(told, separators=(",", ":"))})
        try:
            files = self._store.files_of(entry.image)
            info = verbose_info(entry.image, files, self._store.users(entry.image))
        except NotFound:
            # Removed this very moment.
            self.catalogue.invalidate()
            return b""
        return entry.encoded + _verbose(info)

    def status_bytes_now(self, spec: cri_pb2.ImageSpec) -> bytes | None:
        """Return the plain status without waiting for anything, or None when the images have changed."""
        snapshot = self.catalogue.fresh()
        if snapshot is None:
            return None
        entry = _find(snapshot, spec)
        return b"" if entry is None else entry.encoded

    def fs_info_bytes(self) -> bytes:
        """Return a serialized ImageFsInfoResponse."""
        return self.usage.encoded()

    def resolve(self, text: str, *, field: str = "image.image") -> Image:
        """Return the image that a container is to be made of, checked to be whole.

        Raises InvalidSpec and NotFound.  What is missing here although it was shown is
        shown no longer, so that the client pulls it again.
        """
        try:
            template = None
            if self._natives is not None:
                template = self._natives.find(parse_asked(text, field=field), field)
            return template or find_image(self._store, text, field=field)
        except CoreError:
            self.catalogue.invalidate()
            raise

    def shown_reference(self, image: Image) -> str:
        """Return what a container's status calls its image: repository and digest, else the id."""
        entry = self.catalogue.snapshot().by_id.get(image.id)
        digests = entry.message.repo_digests if entry is not None else ()
        return digests[0] if digests else public_id(image)

    def annotations(self, image: Image) -> dict[str, str]:
        """Return the annotations of an image's manifest, as clients are shown them."""
        entry = self.catalogue.snapshot().by_id.get(image.id)
        return dict(entry.message.spec.annotations) if entry is not None else {}

    # ---- removing -----------------------------------------------------------------------------------------

    def remove(self, spec: cri_pb2.ImageSpec) -> None:
        """Remove an image with all its names, whichever of them the client gives; gone is as good as removed.

        An image that a container of either owner needs is refused rather than left
        without names: its layers would stay on disk all the same, where no client
        could see or remove them.  Raises InvalidSpec, and WrongState for an image that
        is in use or pinned.
        """
        asked = parse_asked(spec.image)
        entry = self.catalogue.snapshot().find(asked)
        try:
            if entry is None:
                self._remove_unlisted(asked)
            else:
                self._remove(entry)
        except Conflict as exc:
            raise WrongState(exc.message, hint="Remove the containers that use it first") from exc
        finally:
            self._collect()
            self.usage.refresh()

    def _collect(self) -> None:
        """Take away archives of images that have gone; what resists is tried again with the next one."""
        if self._archives is not None:
            try:
                self._archives.collect()
            except (CoreError, OSError) as exc:
                self._log.warning("archives of images not collected", extra={"error": str(exc)})

    def _remove(self, entry: Entry) -> None:
        image = entry.image
        what = ", ".join(public_names(image)) or public_id(image)
        if entry.is_pinned:
            raise WrongState(
                f"image {what} is pinned",
                hint="Take it from images.pinned or images.pause_image of the endpoint's configuration",
            )
        if self._natives is not None and self._natives.remove(image.id):
            return
        if any(map(is_internal, image.names)):
            # A play's file has the same content: it keeps the image, clients see it no more.
            self._store.untag(image, public_names(image))
        elif not self._store.remove(image.id):
            return
        self._log.info("image removed", extra={"image": public_id(image), "names": what})

    def _remove_unlisted(self, asked: Asked) -> None:
        """Remove what cannot be shown since a part of it is missing."""
        if self._natives is not None:
            self._natives.remove_missing(asked)
            if asked.native:
                return
        name = asked.id or (f"docker://{asked.reference.canonical}" if asked.reference else "")
        if not name:
            return
        with contextlib.suppress(InvalidSpec):
            hidden = self._store.find(name)
            if hidden is not None and not is_public(hidden):
                return
        if self._store.remove(name):
            self._log.info("damaged image removed", extra={"image": asked.text})


def _verbose(info: t.Mapping[str, str]) -> bytes:
    return cri_pb2.ImageStatusResponse(info=info).SerializeToString()


def _find(snapshot: Snapshot, spec: cri_pb2.ImageSpec) -> Entry | None:
    return snapshot.find(parse_asked(spec.image))


def _list_bytes(snapshot: Snapshot, image_filter: cri_pb2.ImageFilter | None) -> bytes:
    text = image_filter.image.image if image_filter is not None else ""
    if not text:
        return snapshot.encoded
    field = "filter.image.image"
    entry = snapshot.find(parse_asked(text, field=field), field)
    return b"" if entry is None else entry.encoded
