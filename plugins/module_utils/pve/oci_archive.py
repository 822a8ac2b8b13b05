# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look into an OCI archive, and refuse one that Proxmox VE would make a broken container of.

Proxmox VE recognises an archive by its members' exact names, checks neither
architecture nor variables, and writes the image's variables into the container's
config as they are: a line break in one breaks that file.
Source: OCI Image Layout and Image Configuration (image-spec 1.1), and
``PVE/LXC/Create.pm`` of pve-container.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tarfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import LxcSpec

_INDEX = "application/vnd.oci.image.index.v1+json"
_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

#: Manifests and configs are a few KiB; more is an attack or a mistake.
_LARGEST_JSON = 16 * 1024 * 1024

_BREAKS = re.compile(r"[\x00\r\n]")

#: PVE's names of architectures by the image specification's.
_ARCHITECTURES = {
    "amd64": "amd64",
    "386": "i386",
    "arm64": "arm64",
    "arm": "armhf",
    "riscv64": "riscv64",
}


@dataclasses.dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """What an OCI archive holds; ``architecture`` in Proxmox VE's words where it has one."""

    digest: str
    architecture: str
    os: str
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @property
    def runs_init(self) -> bool:
        """Say whether its first process is an init, so that it configures its own network."""
        return (*self.entrypoint, *self.command)[:1] == ("/sbin/init",)


def inspect_archive(path: str, *, architecture: str = "amd64", field: str = "image") -> ArchiveInfo:
    """Return what is in the archive, for ``architecture`` if it holds several images.

    Raises InvalidSpec for anything that Proxmox VE would not take for an OCI image.
    """
    try:
        with tarfile.open(path, mode="r:") as archive:
            return _read(archive, path, architecture, field)
    except (OSError, tarfile.TarError) as exc:
        raise InvalidSpec(field, f"{path} cannot be read as a tar archive: {exc}") from exc


def _read(archive: tarfile.TarFile, path: str, architecture: str, field: str) -> ArchiveInfo:
    members = {member.name: member for member in archive if member.isfile()}
    if "oci-layout" not in members or "index.json" not in members:
        dotted = any(name.startswith("./") for name in archive.getnames())
        raise InvalidSpec(
            field,
            f"{path} is no OCI archive that Proxmox VE knows: it has no members 'oci-layout' and 'index.json'"
            + (", only ones with './' in front" if dotted else ""),
            hint="Write it with 'skopeo copy … oci-archive:FILE.tar'",
        )

    def load(name: str) -> dict[str, t.Any]:
        member = members.get(name)
        if member is None or member.size > _LARGEST_JSON:
            raise InvalidSpec(field, f"{path} lacks {name}, or it is no JSON document")
        stream = archive.extractfile(member)
        data = stream.read() if stream else b""
        algorithm, _slash, expected = name.removeprefix("blobs/").partition("/")
        if name.startswith("blobs/sha256/") and hashlib.sha256(data).hexdigest() != expected:
            raise InvalidSpec(field, f"{path} is damaged: {algorithm}:{expected} has other content")
        try:
            found = json.loads(data)
        except ValueError as exc:
            raise InvalidSpec(field, f"{path}: {name} is no JSON document") from exc
        return found if isinstance(found, dict) else {}

    descriptor = _choose(load("index.json"), architecture)
    for _level in range(2):
        if descriptor.get("mediaType") not in (_INDEX, _DOCKER_LIST):
            break
        descriptor = _choose(load(_blob(descriptor)), architecture)
    if not descriptor:
        raise InvalidSpec(field, f"{path} holds no image")
    manifest = load(_blob(descriptor))
    config = load(_blob(manifest.get("config") or {}))
    run = config.get("config") or {}
    arch = str(config.get("architecture") or "")
    return ArchiveInfo(
        digest=str(descriptor.get("digest")),
        architecture=_ARCHITECTURES.get(arch, arch),
        os=str(config.get("os") or "linux"),
        env=tuple(str(item) for item in run.get("Env") or ()),
        entrypoint=tuple(str(item) for item in run.get("Entrypoint") or ()),
        command=tuple(str(item) for item in run.get("Cmd") or ()),
    )


def _choose(index: t.Mapping[str, t.Any], architecture: str) -> dict[str, t.Any]:
    """Return the descriptor for the architecture, else the first."""
    manifests = [m for m in index.get("manifests") or () if isinstance(m, dict)]
    for descriptor in manifests:
        platform = descriptor.get("platform") or {}
        if _ARCHITECTURES.get(str(platform.get("architecture")), "") == architecture:
            return descriptor
    return manifests[0] if manifests else {}


def _blob(descriptor: t.Mapping[str, t.Any]) -> str:
    algorithm, _colon, digest = str(descriptor.get("digest") or "").partition(":")
    return f"blobs/{algorithm}/{digest}"


def check_archive(info: ArchiveInfo, spec: LxcSpec, *, field: str = "image") -> None:
    """Raise InvalidSpec when a container of this image would be broken, or not what is asked for."""
    wanted = spec.scalars.get("arch", "amd64")
    if info.os != "linux":
        raise InvalidSpec(field, f"the image is for {info.os}, not for linux")
    if info.architecture != wanted:
        raise InvalidSpec(
            field,
            f"the image is for {info.architecture or 'an unknown architecture'}, the container for {wanted}",
            hint="Name the image for that architecture, or set 'arch' where the node can run it",
        )
    for variable in info.env:
        if _BREAKS.search(variable):
            name = variable.partition("=")[0]
            raise InvalidSpec(
                field,
                f"the image's variable '{name}' holds a line break, which would break the container's config",
                hint="Build the image without it",
            )
    for name, net in spec.networks.items():
        if net and net.get("ip6") == "auto" and not info.runs_init:
            raise InvalidSpec(
                f"networks.{name}.ip6",
                "cannot be 'auto' here: Proxmox VE itself configures the interfaces of this image",
                hint="Use dhcp or an address",
            )
