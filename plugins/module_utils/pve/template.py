# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring images to where Proxmox VE can make containers of them, once per digest.

A container is made from a volume of a storage with content ``vztmpl``.  Proxmox
VE can pull images by itself, but knows neither digests nor credentials nor
mirrors and refuses an existing file; so images are pulled with skopeo where this
runs and put onto the storage: by a rename where that directory is at hand, over
the API where it is not.  The digest in the file's name is the cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import re
import secrets
import shutil
import tempfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner, SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CoreError,
    InvalidSpec,
    NotFound,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images import skopeo
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    ImageSource,
    Location,
    Platform,
    Transport,
    parse_location,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import (
    appliance,
    leftovers,
    oci_archive,
    tasks,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_raw import local_node
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import LxcSpec, Source, SourceKind

#: Where a directory storage keeps templates, below its path.
_CACHE = "template/cache"

_PULL_TIMEOUT_S = 1800.0

#: What a killed process leaves: its work directory, and its half copy among the templates.
_WORK = re.compile(r"pvecri-image-[a-z0-9_]+")
_HALF_COPY = re.compile(r"\..+_[0-9a-f]{16}\.tar\.[0-9a-f]{8}")

#: The image specification's architectures by Proxmox VE's names.
_PLATFORMS = {"amd64": "amd64", "i386": "386", "arm64": "arm64", "armhf": "arm", "riscv64": "riscv64"}


@dataclasses.dataclass(frozen=True, slots=True)
class Template:
    """A template that a node can make a container of."""

    volid: str
    is_oci: bool = False
    #: Whether it was put onto the storage just now.
    is_new: bool = False


def prepare(
    client: PveClient,
    node: str,
    spec: LxcSpec,
    *,
    runner: Runner | None = None,
    here: str | None = None,
) -> Template:
    """Return the template that ``spec`` is to be made from, present on ``node``.

    ``here`` is the node that this runs on, None elsewhere.  Raises InvalidSpec for
    an image that would make a broken container, NotFound for a template that is
    not there, and skopeo's and the API's errors.
    """
    source = spec.creation.source
    if source is None or source.kind is SourceKind.CLONE:
        raise InvalidSpec("ostemplate", "is missing", hint="Name an 'ostemplate' or an 'image'")
    here = here if here is not None else local_node()
    if source.is_appliance:
        storage = source.image_storage
        return Template(appliance.fetch(client, node, storage, source.name, architecture=_arch(spec)))
    if source.kind is SourceKind.TEMPLATE:
        return _existing(client, node, spec, source, here)
    return _Fetcher(client, node, spec, source, runner or SubprocessRunner()).fetch(is_here=here == node)


def _existing(client: PveClient, node: str, spec: LxcSpec, source: Source, here: str | None) -> Template:
    path = source.name if source.name.startswith("/") else None
    if source.is_oci and path is None and here == node:
        with contextlib.suppress(CoreError):
            path = volume_path(client, node, source.name)
    if source.is_oci and path and os.path.isfile(path):
        info = oci_archive.inspect_archive(path, architecture=_arch(spec), field="ostemplate")
        oci_archive.check_archive(info, spec, field="ostemplate")
    return Template(source.name, is_oci=source.is_oci)


def _arch(spec: LxcSpec) -> str:
    return str(spec.scalars.get("arch", "amd64"))


def volume_path(client: PveClient, node: str, volid: str) -> str | None:
    """Return where a volume lies on its node."""
    storage = volid.partition(":")[0]
    answer = client.get(("nodes", node, "storage", storage, "content", volid))
    return t.cast("str | None", answer.get("path"))


def require_template(client: PveClient, node: str, volid: str) -> None:
    """Raise NotFound when a node does not have the template: better now than in the task."""
    storage = volid.partition(":")[0]
    there = appliance.templates_on(client, node, storage)
    if volid not in there:
        known = ", ".join(sorted(there)[:10]) or "none"
        raise NotFound(
            f"ostemplate: node '{node}' has no {volid}; its storage '{storage}' has: {known}",
            hint="Download it first ('pveam download'), or name another one",
        )


# ---- images


@dataclasses.dataclass(frozen=True, slots=True)
class _Fetcher:
    """Fetch the image of one spec for one node."""

    client: PveClient
    node: str
    spec: LxcSpec
    source: Source
    runner: Runner

    def fetch(self, *, is_here: bool) -> Template:
        """Return the image's volume, pulled and put onto the storage if need be."""
        location = _location(self.source.name)
        storage = self.source.image_storage
        leftovers.sweep(tempfile.gettempdir(), _WORK)
        with tempfile.TemporaryDirectory(prefix="pvecri-image-") as work:
            if location.transport is Transport.OCI_ARCHIVE and not location.inner:
                archive, digest = location.path, _inspect(location.path, self.spec).digest
            else:
                archive, digest = "", self.remote_digest(location)
            name = archive_name(location, digest)
            volid = f"{storage}:vztmpl/{name}"
            if volid in appliance.templates_on(self.client, self.node, storage):
                return Template(volid, is_oci=True)
            if not archive:
                archive = os.path.join(work, "image.tar")
                self.pull(location, archive, work)
                _inspect(archive, self.spec)
            if not (is_here and place(self.client, storage, archive, name)):
                upload(self.client, self.node, storage, archive, name)
        return Template(volid, is_oci=True, is_new=True)

    def remote_digest(self, location: Location) -> str:
        """Return what tells the image that the name stands for now from any other."""
        argv = skopeo.inspect_raw_argv(self.image(), location, self.connection())
        try:
            found = self.runner.run(argv, timeout_s=_PULL_TIMEOUT_S)
        except CommandError as exc:
            raise skopeo.explain(exc, f"image '{self.source.name}'") from exc
        # One index stands for several architectures, and each gets a file of its own.
        return "sha256:" + hashlib.sha256(f"{_arch(self.spec)}\n{found.stdout}".encode()).hexdigest()

    def pull(self, location: Location, target: str, work: str) -> None:
        """Copy the image into the OCI archive ``target``."""
        name = f"oci-archive:{target}"
        argv = skopeo.copy_argv(self.image(), location, name, self.connection(), temporary=work)
        try:
            self.runner.run(argv, timeout_s=_PULL_TIMEOUT_S)
        except CommandError as exc:
            raise skopeo.explain(exc, f"image '{self.source.name}'") from exc

    def image(self) -> ImageSource:
        """Return the image as skopeo's arguments need it."""
        arch = _arch(self.spec)
        return ImageSource(
            reference=self.source.name,
            platform=Platform(architecture=_PLATFORMS.get(arch, arch)),
            tls_verify=None if self.source.image_tls_verify else False,
        )

    def connection(self) -> skopeo.Connection:
        """Return how to log in at the registry."""
        return skopeo.Connection(authfile=self.source.image_authfile)


def _location(name: str) -> Location:
    """Return where an image is; a bare path is an OCI archive."""
    if name.startswith("/"):
        return Location(Transport.OCI_ARCHIVE, path=name)
    return parse_location(name)


def _inspect(path: str, spec: LxcSpec) -> oci_archive.ArchiveInfo:
    info = oci_archive.inspect_archive(path, architecture=_arch(spec))
    oci_archive.check_archive(info, spec)
    return info


def archive_name(location: Location, digest: str) -> str:
    """Return the file name of an image: readable, unique by digest, and ending in ``.tar``.

    Proxmox VE takes only a ``.tar`` for an OCI image.
    """
    if location.image is not None:
        parts = [location.image.repository.rpartition("/")[2], location.image.tag or ""]
    else:
        parts = [os.path.basename(location.path.rstrip("/")).removesuffix(".tar")]
    stem = "_".join(re.sub(r"[^A-Za-z0-9.+-]+", "-", part) for part in parts if part).strip("-.")
    return f"{stem[:80] or 'image'}_{digest.partition(':')[2][:16]}.tar"


# ---- onto the storage


def place(client: PveClient, storage: str, archive: str, name: str) -> bool:
    """Put an archive into a storage's directory on this very host; return whether that was possible."""
    try:
        path = client.get(("storage", storage)).get("path")
    except CoreError:
        return False
    directory = os.path.join(path, _CACHE) if path else ""
    if not os.path.isdir(directory) or not os.access(directory, os.W_OK):
        return False
    leftovers.sweep(directory, _HALF_COPY)
    # Not *.tar before it is whole: an aborted copy must never pass for a template.
    temporary = os.path.join(directory, f".{name}.{secrets.token_hex(4)}")
    try:
        shutil.copyfile(archive, temporary)
        os.chmod(temporary, 0o644)
        os.rename(temporary, os.path.join(directory, name))
    except OSError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return True


def upload(client: PveClient, node: str, storage: str, archive: str, name: str) -> None:
    """Send an archive to a storage over the API; the server checks its SHA-256."""
    with open(archive, "rb") as stream:
        checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        fields = {"content": "vztmpl", "checksum": checksum, "checksum-algorithm": "sha256"}
        body = Multipart(fields, "filename", name, stream)
        timeout_s = max(client.connection.task_timeout_s, _PULL_TIMEOUT_S)
        path = ("nodes", node, "storage", storage, "upload")
        upid = client.upload(path, body, body.content_type, timeout_s=timeout_s)
    tasks.wait_task(client, upid, client.connection.task_timeout_s)


class Multipart:
    """A multipart/form-data body that is read while it is sent, so that size does not matter."""

    def __init__(self, fields: t.Mapping[str, str], name: str, file_name: str, stream: t.BinaryIO) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        )
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file_name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        tail = f"\r\n--{boundary}--\r\n".encode()
        self._parts: list[t.BinaryIO] = [io.BytesIO(head.encode()), stream, io.BytesIO(tail)]
        self._length = len(head.encode()) + size + len(tail)

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes; empty at the end."""
        while self._parts:
            data = self._parts[0].read(size)
            if data:
                return data
            self._parts.pop(0)
        return b""
