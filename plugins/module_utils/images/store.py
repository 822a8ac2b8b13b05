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
import dataclasses
import hashlib
import os
import re
import shutil
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import image_users
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    Conflict,
    CoreError,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked, write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.images import skopeo
from ansible_collections.pvecri.runtime.plugins.module_utils.images.local import local_state, tarball_state
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    ImageSource,
    Location,
    PullPolicy,
    TarballSource,
    host_platform,
    local_store_name,
    registry_store_name,
    same_path_prefix,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store_files import StoreFiles
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image, Paths

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_DELETE_TIMEOUT_S = 120.0
_IMPORT_TIMEOUT_S = 3600.0
#: Begins the names of directories that fetches work in.
_FETCH = "fetch-"


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """A source, and what it is called in the store."""

    name: str
    what: str
    location: Location | None
    digest: str | None = None


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

    # ---- reading ------------------------------------------------------------------------------------------

    def find(self, wanted: str | ImageSource | TarballSource) -> Image | None:
        """Return an image that is here, or None; starts no process and asks no registry.

        A text is an image id, or a reference in any form that a source may have.
        Raises InvalidSpec for what is no reference, NotFound for a path that is not there.
        """
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

    def users(self, image: Image) -> t.Sequence[str]:
        """Return the bundles of either owner that need this image, as ``owner/name``."""
        return image_users(self.paths, image.id)

    def _each(self, look: t.Callable[[StoreFiles], Image | None]) -> Image | None:
        return next((found for files in (self._own, *self._others) if (found := look(files))), None)

    def _find(self, wanted: _Wanted) -> Image | None:
        found = self._each(lambda files: files.by_name(wanted.name))
        if found is None and wanted.digest and wanted.location and wanted.location.image:
            if wanted.name != wanted.location.image.pullable:
                return None  # Of a foreign platform; the digest alone would not tell which.
            name, digest = wanted.location.image.name, wanted.digest
            return self._each(lambda files: files.by_digest(name, digest))
        if found is not None and wanted.digest and wanted.digest not in found.digests:
            return None
        return found

    def _wanted(self, source: ImageSource | TarballSource) -> _Wanted:
        source.check()
        if isinstance(source, TarballSource):
            path = os.path.normpath(source.path)
            return _Wanted(local_store_name("tarball", path, tarball_state(path)), path, None)
        location = source.location()
        if location.image is not None:
            name = registry_store_name(location.image, source.platform, host_platform())
            return _Wanted(name, str(location), location, location.image.digest)
        name = local_store_name(location.transport, str(location), local_state(location), source.platform)
        return _Wanted(name, str(location), location)

    # ---- fetching -----------------------------------------------------------------------------------------

    def ensure(self, source: ImageSource | TarballSource) -> tuple[Image, bool]:
        """Return the image of ``source``, fetched if need be, and whether the store has changed for it.

        Raises InvalidSpec, NotFound, CommandError (skopeo's words with a hint) and
        Conflict when another fetch of the same image does not end in time.
        """
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
        timeout_s = source.timeout_s if isinstance(source, ImageSource) else _IMPORT_TIMEOUT_S
        with self._fetching(wanted.name, timeout_s, wanted.what) as lock:
            before = self._find(wanted)
            if before is not None and (policy is PullPolicy.MISSING or lock.done_since(asked_ns)):
                return before, found is None or before.id != found.id
            if policy is PullPolicy.NEWER and before is not None and self._is_current(source, wanted, before):
                return before, False
            image = self._fetch(source, wanted)
            lock.mark_done()
        return image, before is None or before.id != image.id

    @contextlib.contextmanager
    def _fetching(self, name: str, timeout_s: float, what: str) -> t.Iterator[_FetchLock]:
        lock = _FetchLock(os.path.join(self._locks, f"{self._lock_name(name)}.lock"))
        with locked(lock.path, timeout_s=timeout_s, what=f"the image {what}"):
            yield lock

    @staticmethod
    def _lock_name(name: str) -> str:
        return hashlib.sha256(name.encode()).hexdigest()[:32]

    @property
    def _locks(self) -> str:
        return os.path.join(self.paths.run_dir, "locks", "images")

    def in_use(self) -> contextlib.AbstractContextManager[None]:
        """Keep every image in the store for as long as the context lasts.

        Held from finding an image until a bundle's record names it.
        """
        return locked(
            os.path.join(self._locks, "store.lock"), shared=True, timeout_s=300, what="the image store"
        )

    def _fetch(self, source: ImageSource | TarballSource, wanted: _Wanted) -> Image:
        self._bring(source, wanted)
        image = self._own.by_name(wanted.name)
        if image is None:
            # skopeo goes by the store's lists, which may name layers that somebody removed.
            self._delete_broken(wanted.what)
            self._bring(source, wanted)
            image = self._own.by_name(wanted.name)
        if image is None:
            raise WrongState(
                f"{wanted.what} was fetched, but is not whole in the image store",
                hint=f"Look at {self.paths.storage}, and whether another tool works on it",
            )
        self._verify(source, wanted, image)
        self._forget_older(wanted.name)
        return image

    def _bring(self, source: ImageSource | TarballSource, wanted: _Wanted) -> None:
        target = self._target(wanted.name)
        with self._temporary(wanted.name) as temporary:
            if isinstance(source, TarballSource):
                argv = skopeo.copy_tarball_argv(wanted.what, target, temporary=temporary)
                self._run(argv, _IMPORT_TIMEOUT_S, wanted.what)
            else:
                self._copy(source, t.cast("Location", wanted.location), target, temporary)

    def _delete_broken(self, what: str) -> None:
        """Delete every image of which layers are missing; raises Conflict while a bundle needs one."""
        with self._removing():
            broken = self._own.broken_ids()
            users = sorted({user for image_id in broken for user in image_users(self.paths, image_id)})
            if users:
                raise Conflict(
                    f"{what} cannot be completed: layers that {', '.join(users)} need are missing",
                    hint="Remove these bundles first",
                )
            for image_id in broken:
                self._delete(image_id)

    def _target(self, name: str) -> str:
        return skopeo.store_specifier(self.paths.storage, self.paths.storage_run, self.additional) + name

    def _copy(self, source: ImageSource, location: Location, target: str, temporary: str) -> None:
        with self._connection(source, location) as connection:
            argv = skopeo.copy_argv(source, location, target, connection, temporary=temporary)
            self._run(argv, source.timeout_s, str(location))

    def _run(self, argv: t.Sequence[str], timeout_s: float, what: str) -> str:
        try:
            return self.runner.run(argv, timeout_s=timeout_s).stdout
        except CommandError as exc:
            raise skopeo.explain(exc, what) from exc

    def _is_current(self, source: ImageSource | TarballSource, wanted: _Wanted, image: Image) -> bool:
        """Say whether the registry still has what is here, or does not answer."""
        if not isinstance(source, ImageSource) or wanted.location is None or wanted.location.is_local:
            return True
        try:
            with self._connection(source, wanted.location) as connection:
                argv = skopeo.inspect_raw_argv(source, wanted.location, connection)
                manifest = self._run(argv, source.timeout_s, wanted.what)
        except CoreError as exc:
            self.warnings.append(f"The registry was not asked for a newer image: {exc}")
            return True
        return f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}" in image.digests

    def _verify(self, source: ImageSource | TarballSource, wanted: _Wanted, image: Image) -> None:
        """Refuse an image that is not the one asked for, and do not keep its name."""
        problem = ""
        platform = source.platform if isinstance(source, ImageSource) else None
        if wanted.digest and wanted.digest not in image.digests:
            problem = f"the registry sent {image.digest} in place of {wanted.digest}"
        elif platform is not None and platform.architecture != image.config.architecture:
            problem = f"it exists for {image.config.os}/{image.config.architecture} only, not for {platform}"
        elif isinstance(source, ImageSource) and self._own.has_other_content(image):
            problem = "its layers are not those that its configuration lists (diff_ids)"
        if problem:
            self._drop(image, wanted.name)
            raise InvalidSpec("image", f"{wanted.what}: {problem}")

    @contextlib.contextmanager
    def _connection(self, source: ImageSource, location: Location) -> t.Iterator[skopeo.Connection]:
        """Provide credentials and certificates to one call.

        The credentials stand in memory that only a descriptor of this process
        names: no kill leaves them behind.
        """
        cert_dir = source.cert_dir
        if source.ca_file is not None:
            cert_dir = self._certificates(source.ca_file)
        if source.username is None or source.password is None or location.image is None:
            yield skopeo.Connection(source.authfile, cert_dir)
            return
        handle = os.memfd_create("auth.json")
        try:
            os.write(handle, skopeo.auth_document(location.image.registry, source.username, source.password))
            yield skopeo.Connection(f"/proc/{os.getpid()}/fd/{handle}", cert_dir)
        finally:
            os.close(handle)

    def _certificates(self, ca_file: str) -> str:
        """Return a directory as skopeo wants it, that holds only this file."""
        try:
            with open(ca_file, "rb") as stream:
                content = stream.read()
        except OSError as exc:
            raise InvalidSpec("ca_file", f"{ca_file} cannot be read: {exc.strerror}") from exc
        directory = os.path.join(self.paths.run_dir, "certs", hashlib.sha256(content).hexdigest()[:32])
        os.makedirs(directory, mode=0o755, exist_ok=True)
        path = os.path.join(directory, "ca.crt")
        if not os.path.exists(path):
            write_atomic(path, content)
        return directory

    @contextlib.contextmanager
    def _temporary(self, name: str) -> t.Iterator[str]:
        """Provide a directory for skopeo's big files; those of killed fetches are removed first."""
        parent = os.path.join(self.paths.state_dir, "tmp")
        path = os.path.join(parent, _FETCH + self._lock_name(name))
        os.makedirs(parent, mode=0o700, exist_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        for entry in os.listdir(parent):
            # Who still holds the lock is still at work.
            if entry.startswith(_FETCH):
                lock = os.path.join(self._locks, f"{entry.removeprefix(_FETCH)}.lock")
                with contextlib.suppress(Conflict), locked(lock, timeout_s=0):
                    shutil.rmtree(os.path.join(parent, entry), ignore_errors=True)
        os.makedirs(path, mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    # ---- removing -----------------------------------------------------------------------------------------

    def remove(self, reference: str) -> bool:
        """Remove an image or, when it has other names, only this one; return whether it was there.

        An id removes the image with all its names.  Raises Conflict while a bundle needs it.
        """
        with self._removing():
            image = self.find(reference)
            if image is None:
                return False
            if self._own.by_id(image.id) is None:
                raise Conflict(
                    f"{reference} belongs to another image store", hint="Remove it with the tool that made it"
                )
            name = None if _ID.fullmatch(reference) else self._name_of(image, reference)
            if name is None or image.names == (name,):
                self._refuse_in_use(image)
                self._delete(image.id)
            else:
                self._own.untag(name)
        return True

    def _removing(self) -> contextlib.AbstractContextManager[None]:
        return locked(os.path.join(self._locks, "store.lock"), timeout_s=300, what="the image store")

    def _name_of(self, image: Image, reference: str) -> str | None:
        wanted = self._wanted(ImageSource(reference=reference))
        return wanted.name if wanted.name in image.names else None

    def _refuse_in_use(self, image: Image) -> None:
        users = self.users(image)
        if users:
            raise Conflict(
                f"image {image.names[0] if image.names else image.id} is in use by {', '.join(users)}",
                hint="Remove these bundles first",
            )

    def _delete(self, image_id: str) -> None:
        self._run(skopeo.delete_argv(self._target(f"@{image_id}")), _DELETE_TIMEOUT_S, f"image {image_id}")

    def _drop(self, image: Image, name: str) -> None:
        """Take a name back, and with the last one the image, unless a bundle needs it."""
        with contextlib.suppress(CoreError), self._removing():
            self._own.untag(name)
            if not set(image.names) - {name} and not self.users(image):
                self._delete(image.id)

    def _forget_older(self, name: str) -> None:
        """Remove what the same path held before, unless something still needs it."""
        prefix = same_path_prefix(name)
        if prefix is None:
            return
        for image in self._own.all():
            for other in image.names:
                if other != name and other.startswith(prefix):
                    self._drop(image, other)


class _FetchLock:
    """The lock file of one reference, whose time says when a fetch last ended well."""

    def __init__(self, path: str) -> None:
        self.path = path

    def done_since(self, moment_ns: int) -> bool:
        return os.stat(self.path).st_mtime_ns >= moment_ns

    def mark_done(self) -> None:
        os.utime(self.path)
