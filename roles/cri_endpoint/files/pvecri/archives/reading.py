# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what images an archive holds, and what they are called.

docker-archive    ``manifest.json``: RepoTags, Config (what ``docker save`` and skopeo write)
oci-archive       ``oci-layout`` and ``index.json`` (OCI image specification 1.1, image-layout.md)

An archive that is both, as newer versions of Docker write them, is read as the first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tarfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    Platform,
    Transport,
    host_platform,
)

#: Manifests and configurations are some kilobytes.
_MAX_DOCUMENT = 8 << 20
_REF_NAME: t.Final = "org.opencontainers.image.ref.name"
#: containerd and newer versions of Docker write the whole name there, and into the other one the tag alone.
_FULL_NAME: t.Final = "io.containerd.image.name"
_MAX_DEPTH = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """One image of an archive."""

    #: As the archive writes them; none for an image that it does not name.
    names: tuple[str, ...]
    #: How skopeo finds it behind the path; empty for the only one.
    inner: str
    #: What its id in the store will be; empty when that cannot be told beforehand.
    image_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class Archive:
    """The images of one file."""

    transport: Transport
    images: tuple[Held, ...]


def read_archive(path: str, origin: str) -> Archive:
    """Return what a tar archive that is not packed holds; errors (InvalidSpec) call it ``origin``."""
    try:
        with tarfile.open(path, "r:") as tar:
            reader = _Reader(tar, origin)
            if reader.has("manifest.json"):
                return reader.docker()
            if reader.has("oci-layout") and reader.has("index.json"):
                return reader.oci()
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as exc:
        # The latter are what tarfile leaves uncaught of headers that somebody made up.
        raise InvalidSpec("", f"{origin} is no tar archive, or damaged: {exc}", hint=_AGAIN) from exc
    raise InvalidSpec("", f"{origin} holds no image", hint=_AGAIN)


_AGAIN: t.Final = "Make it with 'skopeo copy … docker-archive:FILE:NAME' or 'podman save' and copy it again"


class _Reader:
    def __init__(self, tar: tarfile.TarFile, origin: str) -> None:
        self._tar = tar
        self._origin = origin
        self._members = {member.name.removeprefix("./"): member for member in tar if not member.isdir()}

    def has(self, name: str) -> bool:
        return name in self._members

    # ------------------------------------------------------------------- docker

    def docker(self) -> Archive:
        entries = self._json("manifest.json", list)
        held = []
        for number, entry in enumerate(entries):
            names, config = (
                (entry.get("RepoTags"), entry.get("Config")) if isinstance(entry, dict) else (None, None)
            )
            if not isinstance(config, str) or not _are_texts(names or []):
                raise self._damaged("manifest.json")
            image_id = hashlib.sha256(self._bytes(config)).hexdigest()
            held.append(Held(tuple(names or ()), f"@{number}" if len(entries) > 1 else "", image_id))
        return Archive(Transport.DOCKER_ARCHIVE, tuple(held))

    # ---------------------------------------------------------------------- OCI

    def oci(self) -> Archive:
        entries = self._json("index.json", dict).get("manifests")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise self._damaged("index.json")
        refs = [_annotation(entry, _REF_NAME) for entry in entries]
        held = []
        for entry, ref in zip(entries, refs, strict=True):
            if len(entries) > 1 and (not ref or refs.count(ref) > 1):
                raise InvalidSpec(
                    "",
                    f"{self._origin} holds {len(entries)} images, and not each has a name of its own",
                    hint="Make one archive of each, or a docker-archive of all",
                )
            names = (_annotation(entry, _FULL_NAME) or ref,)
            is_name = any(mark in names[0] for mark in "/:")  # else it is a tag of nothing that is named
            held.append(
                Held(names if is_name else (), ref if len(entries) > 1 else "", self._config_digest(entry))
            )
        return Archive(Transport.OCI_ARCHIVE, tuple(held))

    def _config_digest(self, descriptor: t.Any, depth: int = 0) -> str:
        """Return the digest of the configuration behind a descriptor, of this platform; empty: unknown."""
        if depth == _MAX_DEPTH or not isinstance(descriptor, dict):
            return ""
        algorithm, _unused, value = str(descriptor.get("digest")).partition(":")
        if not self.has(f"blobs/{algorithm}/{value}"):
            return ""
        document = self._json(f"blobs/{algorithm}/{value}", dict)
        config = document.get("config")
        if isinstance(config, dict):
            return str(config.get("digest")).removeprefix("sha256:")
        host = host_platform()
        entries = document.get("manifests")
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and _is_for(entry.get("platform"), host):
                return self._config_digest(entry, depth + 1)
        return ""

    # -------------------------------------------------------------------- files

    def _bytes(self, name: str) -> bytes:
        member = self._members.get(name)
        stream = self._tar.extractfile(member) if member is not None and member.isfile() else None
        if stream is None or member is None or member.size > _MAX_DOCUMENT:
            raise self._damaged(name)
        return stream.read()

    def _json(self, name: str, kind: type[t.Any]) -> t.Any:
        try:
            document = json.loads(self._bytes(name))
        except (ValueError, RecursionError) as exc:
            raise self._damaged(name) from exc
        if not isinstance(document, kind):
            raise self._damaged(name)
        return document

    def _damaged(self, name: str) -> InvalidSpec:
        return InvalidSpec("", f"{self._origin}: its {name} is missing or damaged", hint=_AGAIN)


def _are_texts(values: t.Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _annotation(entry: dict[str, t.Any], key: str) -> str:
    annotations = entry.get("annotations")
    value = annotations.get(key) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else ""


def _is_for(platform: t.Any, host: Platform) -> bool:
    return isinstance(platform, dict) and (platform.get("os"), platform.get("architecture")) == (
        host.os,
        host.architecture,
    )
