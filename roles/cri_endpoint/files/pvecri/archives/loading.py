# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load the images of an archive into the endpoint's store, under names that clients use.

The store's own locks keep this and a running endpoint, its pulls and its removals apart, and the endpoint
sees by the store's files what has come.  An image gets its name when all of it is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import shutil
import typing as t
import zlib

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked, open_regular
from ansible_collections.pvecri.runtime.plugins.module_utils.images.local import readable_tarball
from ansible_collections.pvecri.runtime.plugins.module_utils.images.locks import fetch_lock, lock_name
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    IMPORT_TIMEOUT_S,
    ImageSource,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from pvecri.archives.reading import Archive, Held, read_archive
from pvecri.config.model import Config
from pvecri.images.names import parse_pull, public_id

_GZIP: t.Final = b"\x1f\x8b"
_BLOCK: t.Final = 1 << 20
#: Of the endpoint's directories, when it has never run.
_MODE: t.Final = 0o711


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """One name, and whether the store has changed for it."""

    file: str
    name: str
    id: str
    changed: bool


def store_of(config: Config, runner: Runner) -> ImageStore:
    """Return the store of the endpoint that has this configuration."""
    paths = Paths(config.paths.state_dir, config.paths.run_dir, owner=Owner.CRI)
    return ImageStore(paths, runner, additional=config.images.additional_stores)


@contextlib.contextmanager
def workspace(paths: Paths, key: str, what: str) -> t.Iterator[str]:
    """Yield a directory for big files, which one process at a time has for a ``key``; raises Conflict.

    That of a killed process is swept away by the store, or by whoever comes next.
    """
    for place in (paths.state_dir, paths.run_dir):
        os.makedirs(place, mode=_MODE, exist_ok=True)
    with locked(fetch_lock(paths, key), timeout_s=IMPORT_TIMEOUT_S, what=what):
        directory = os.path.join(paths.state_dir, "tmp", f"fetch-{lock_name(key)}")
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory, mode=0o700)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


class Loader:
    """Loads archives into one store; ``signature_policy`` is the file that says what may be loaded."""

    def __init__(self, store: ImageStore, *, signature_policy: str | None = None) -> None:
        self._store = store
        self._policy = signature_policy

    def load(self, path: str, name: str | None = None) -> t.Iterator[Loaded]:
        """Load all images of an archive and tell of each name when it is there.

        ``name`` is for an archive with one image, in place of what it says.  Raises NotFound,
        InvalidSpec for what is no archive or has no name, and what skopeo complains of.
        """
        file = os.path.realpath(path)
        with workspace(self._store.paths, f"archive:{file}", f"the archive {path}") as directory:
            tar = self._plain(file, directory)
            archive = read_archive(tar, path)
            for held, reference in _named(archive, path, name):
                yield self._load(path, tar, archive, held, reference)

    def _load(self, path: str, tar: str, archive: Archive, held: Held, reference: ImageReference) -> Loaded:
        image = self._store.find(f"docker://{reference.pullable}")
        changed = False
        if image is None or image.id != held.image_id:
            inner = f":{held.inner}" if held.inner else ""
            source = ImageSource(
                reference=f"{archive.transport}:{tar}{inner}",
                signature_policy=self._policy,
                timeout_s=IMPORT_TIMEOUT_S,
            )
            image, changed = self._store.bring(source, reference, f"{reference} of {path}")
        return Loaded(path, reference.pullable, public_id(image), changed)

    def _plain(self, file: str, directory: str) -> str:
        """Return a path without colons of the archive, or of what it is when it is unpacked."""
        try:
            with open_regular(file) as stream:
                magic = stream.read(2)
        except FileNotFoundError as exc:
            raise NotFound(f"there is no file {file}", hint="Check the path on this host") from exc
        except OSError as exc:
            raise InvalidSpec("", f"{file} cannot be read: {exc.strerror}") from exc
        if magic == _GZIP:
            return _gunzip(file, os.path.join(directory, "archive.tar"))
        unpacked = readable_tarball(file, directory, self._store.runner)
        if unpacked != file:
            return unpacked
        link = os.path.join(directory, "archive.tar")
        os.symlink(file, link)
        return link


def _gunzip(file: str, target: str) -> str:
    try:
        with gzip.open(file) as source, open(target, "wb") as unpacked:
            while block := source.read(_BLOCK):
                unpacked.write(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise InvalidSpec("", f"{file} is damaged: {exc}", hint="Make or fetch it again") from exc
    except OSError as exc:
        raise CoreError(
            f"{file} cannot be unpacked to {target}: {exc.strerror}", hint="Make room in the state directory"
        ) from exc
    return target


def _named(archive: Archive, path: str, name: str | None) -> list[tuple[Held, ImageReference]]:
    """Return each image of an archive with each of its names; raises InvalidSpec when one has none."""
    if not archive.images:
        raise InvalidSpec("", f"{path} holds no image", hint="Make it again")
    if name is not None:
        if len(archive.images) > 1:
            raise InvalidSpec(
                "name",
                f"{path} holds {len(archive.images)} images, which cannot all have the name {name}",
                hint="Leave the name out: the archive names them",
            )
        return [(archive.images[0], _reference(name, "name"))]
    found = []
    for held in archive.images:
        if not held.names:
            raise InvalidSpec("", f"{path} does not say what its image is called", hint="Give --name")
        found += [(held, _reference(text, path)) for text in dict.fromkeys(held.names)]
    return found


def _reference(text: str, field: str) -> ImageReference:
    reference = parse_pull(text, field=field)
    if reference.digest is not None:
        raise InvalidSpec(
            field, f"'{text}' names a digest, which only a registry can vouch for", hint="Give name and tag"
        )
    return reference
