# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the image store: fetch and delete, by skopeo."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import image_users, used_layers
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    Conflict,
    CoreError,
    InvalidSpec,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked, write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.images import skopeo, store_edit
from ansible_collections.pvecri.runtime.plugins.module_utils.images.local import readable_tarball
from ansible_collections.pvecri.runtime.plugins.module_utils.images.locks import (
    forget_removal,
    last_deletion,
    lock_name,
    locked_deletions,
    locked_layers,
    locked_removal,
    locked_store,
    locks_dir,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    IMPORT_TIMEOUT_S,
    ImageSource,
    Location,
    TarballSource,
    Wanted,
    same_path_prefix,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store_files import StoreFiles
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image, Paths

_DELETE_TIMEOUT_S = 120.0
#: How often a fetch is tried that somebody's removal has crossed.
_ATTEMPTS = 3
#: Layers without image are kept for so many seconds, for whoever repeats the fetch that made them.
_ABANDONED_S = 600.0
#: Begins the names of directories that fetches work in.
_FETCH = "fetch-"


class StoreWriter:
    """What `ImageStore` does with skopeo; the caller holds the lock of the image."""

    def __init__(self, paths: Paths, runner: Runner, files: StoreFiles, additional: t.Sequence[str]) -> None:
        self.paths = paths
        self.runner = runner
        self.files = files
        self.additional = tuple(additional)

    def fetch(self, source: ImageSource | TarballSource, wanted: Wanted) -> Image:
        """Bring an image into the store, check that it is the one asked for, and return it."""
        with locked_layers(self.paths, shared=True):
            return self._fetch(source, wanted)

    def _fetch(self, source: ImageSource | TarballSource, wanted: Wanted) -> Image:
        image = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                # skopeo goes by the store's lists, which may name layers that somebody removed.
                self._delete_broken(wanted.what)
            self._bring(source, wanted)
            image = self._brought(wanted.name)
            if image is not None:
                break
        if image is None:
            raise WrongState(
                f"{wanted.what} was fetched, but is not whole in the image store",
                hint=f"Look at {self.paths.storage}, and whether another tool works on it",
            )
        self._verify(source, wanted, image)
        self._forget_older(wanted.name)
        return image

    def _brought(self, name: str) -> Image | None:
        """Return what was fetched; an image whose configuration makes no sense is not kept."""
        try:
            return self.files.by_name(name)
        except InvalidSpec:
            with contextlib.suppress(CoreError), locked_store(self.paths):
                image_id = self.files.id_of(name)
                if image_id is not None and not image_users(self.paths, image_id):
                    self.delete(image_id)
            raise

    def _bring(self, source: ImageSource | TarballSource, wanted: Wanted) -> None:
        """Run skopeo; again, when it failed while another image with the same layers was deleted."""
        for left in reversed(range(_ATTEMPTS)):
            before = last_deletion(self.paths)
            try:
                self._bring_once(source, wanted)
            except CommandTimeout:
                raise
            except CommandError:
                with contextlib.suppress(Conflict), locked_deletions(self.paths, timeout_s=_DELETE_TIMEOUT_S):
                    pass  # Whatever crossed it has ended now.
                if not left or last_deletion(self.paths) == before:
                    raise
            else:
                return

    def _bring_once(self, source: ImageSource | TarballSource, wanted: Wanted) -> None:
        target = self._target(wanted.name)
        with self._temporary(wanted.name) as temporary:
            if isinstance(source, TarballSource):
                path = readable_tarball(wanted.what, temporary, self.runner)
                argv = skopeo.copy_tarball_argv(path, target, temporary=temporary)
                self._run(argv, IMPORT_TIMEOUT_S, wanted.what)
            else:
                self._copy(source, t.cast("Location", wanted.location), target, temporary)

    def _delete_broken(self, what: str) -> None:
        """Delete every image of which layers are missing; raises Conflict while a bundle needs one."""
        with locked_store(self.paths):
            broken = self.files.broken_ids()
            users = sorted({user for image_id in broken for user in image_users(self.paths, image_id)})
            if users:
                raise Conflict(
                    f"{what} cannot be completed: layers that {', '.join(users)} need are missing",
                    hint="Remove these bundles first",
                )
            for image_id in broken:
                self.delete(image_id)
            # One that was fetched while it was being removed is still on its way out.
            for image_id in self.files.condemned_ids():
                self.finish_removal(image_id)

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

    def is_current(self, source: ImageSource, location: Location, image: Image) -> bool:
        """Say whether the registry still has what is here; raises CommandError when it does not answer."""
        with self._connection(source, location) as connection:
            argv = skopeo.inspect_raw_argv(source, location, connection)
            manifest = self._run(argv, source.timeout_s, str(location))
        return f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}" in image.digests

    def _verify(self, source: ImageSource | TarballSource, wanted: Wanted, image: Image) -> None:
        """Refuse an image that is not the one asked for, and do not keep its name."""
        problem = ""
        platform = source.platform if isinstance(source, ImageSource) else None
        if wanted.digest and wanted.digest not in image.digests:
            problem = f"the registry sent {image.digest} in place of {wanted.digest}"
        elif platform is not None and platform.architecture != image.config.architecture:
            problem = f"it exists for {image.config.os}/{image.config.architecture} only, not for {platform}"
        elif isinstance(source, ImageSource) and self.files.has_other_content(image):
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
        for field in ("authfile", "cert_dir", "signature_policy", "registries_conf"):
            path = getattr(source, field)
            if path is not None and not os.path.exists(path):
                raise InvalidSpec(field, f"{path} does not exist", hint="Check the path on the target host")
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
        path = os.path.join(parent, _FETCH + lock_name(name))
        os.makedirs(parent, mode=0o700, exist_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        self.sweep_temporary()
        os.makedirs(path, mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def sweep_temporary(self) -> None:
        """Remove the directories of fetches whose process is gone."""
        parent = os.path.join(self.paths.state_dir, "tmp")
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(parent):
                # Who still holds the lock is still at work.
                if entry.startswith(_FETCH):
                    lock = os.path.join(locks_dir(self.paths), f"{entry.removeprefix(_FETCH)}.lock")
                    with contextlib.suppress(Conflict), locked(lock, timeout_s=0):
                        shutil.rmtree(os.path.join(parent, entry), ignore_errors=True)

    def condemn_layers(self) -> list[str]:
        """Flag layers that belong to nothing, for the next change of the store to clear away; return them.

        Nothing happens while anything is fetched or a bundle is being made: then who
        needs which layer is not known.
        """
        before = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - _ABANDONED_S))
        try:
            with locked_layers(self.paths, timeout_s=0), locked_store(self.paths, timeout_s=0):
                keep = used_layers(self.paths)
                return store_edit.condemn_layers(self.paths.storage, keep=keep, before=before)
        except (Conflict, WrongState):
            return []

    def finish_removal(self, image_id: str, *, timeout_s: float = _DELETE_TIMEOUT_S) -> None:
        """Delete an image that was condemned, unless another process has done so."""
        with (
            locked_removal(self.paths, image_id, timeout_s=timeout_s),
            locked_deletions(self.paths, shared=True, timeout_s=timeout_s),
        ):
            if image_id in self.files.condemned_ids():
                try:
                    self.delete(image_id)
                except CommandError:
                    # A killed process may have left a deletion behind that came before this one.
                    if image_id in self.files.condemned_ids():
                        raise
            # Ids do not come again: who waits for this one finds that nothing is left to do.
            forget_removal(self.paths, image_id)

    def delete(self, image_id: str) -> None:
        """Delete an image with all its names."""
        self._run(skopeo.delete_argv(self._target(f"@{image_id}")), _DELETE_TIMEOUT_S, f"image {image_id}")

    def _drop(self, image: Image, name: str) -> None:
        """Take a name back, and with the last one the image, unless a bundle needs it."""
        with contextlib.suppress(CoreError), locked_store(self.paths):
            self.files.untag(name)
            if not set(image.names) - {name} and not image_users(self.paths, image.id):
                self.delete(image.id)

    def _forget_older(self, name: str) -> None:
        """Remove what the same path held before, unless something still needs it."""
        prefix = same_path_prefix(name)
        if prefix is None:
            return
        for image in self.files.all():
            for other in image.names:
                if other != name and other.startswith(prefix):
                    self._drop(image, other)
