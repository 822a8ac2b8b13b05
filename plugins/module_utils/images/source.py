# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say where a root file system comes from, as plain data.

    docker://quay.io/a/b:1, quay.io/a/b:1     a registry
    oci:/path[:ref]                           an OCI image layout directory
    oci-archive:/path[:ref]                   the same in a tar archive
    docker-archive:/path[:name]               what ``docker save`` writes
    dir:/path                                 skopeo's own directory form
    containers-storage:name                   the store that podman and others of this host use

Each source has one name in the project's own store.  Images of a registry keep
theirs; what was read from a path gets an internal name below ``localhost/`` that
depends on the path and on what stood there, so that a changed file is another
image and an unchanged one is never read twice.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference, quoted

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image

#: Repository prefix of the names that the store gives to what has no name of its own.
INTERNAL = "localhost/pvecri"

#: Longest time that the import of an archive may take, in seconds.
IMPORT_TIMEOUT_S = 3600.0


class PullPolicy(enum.StrEnum):
    """When the source is asked again although the store has an image of that name."""

    MISSING = "missing"
    ALWAYS = "always"
    #: Asked again, but a registry that does not answer is no failure.
    NEWER = "newer"
    NEVER = "never"


class Transport(enum.StrEnum):
    """How an image is reached, by skopeo's names."""

    DOCKER = "docker"
    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    DIR = "dir"
    CONTAINERS_STORAGE = "containers-storage"


_REFUSED = ("docker-daemon", "ostree", "sif", "tarball", "atomic", "openshift")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Operating system and processor of an image, by Go's names (OCI image index, ``platform``)."""

    os: str = "linux"
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str, *, field: str = "platform") -> t.Self:
        """Read ``[os/]architecture[/variant]``; raises InvalidSpec for ``field``."""
        parts = text.split("/")
        if not all(re.fullmatch(r"[a-z0-9._]+", part) for part in parts) or len(parts) > 3:
            raise InvalidSpec(field, f"{quoted(text)} is no platform", hint="For example 'linux/arm64/v8'")
        if len(parts) == 1:
            return cls(architecture=parts[0])
        return cls(os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else "")

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}


def host_platform() -> Platform:
    """Return the platform of this host."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform(architecture=architecture, variant=variant)


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """Where an image lies: a registry reference, or a path or name behind another transport."""

    transport: Transport
    #: Set for DOCKER only.
    image: ImageReference | None = None
    #: Absolute path (OCI, DIR, archives) or the store's own name (CONTAINERS_STORAGE).
    path: str = ""
    #: What follows the path: a ref name of a layout, a name in an archive.
    inner: str = ""

    @property
    def is_local(self) -> bool:
        """Whether the image lies in files that can be looked at without a registry."""
        return self.transport is not Transport.DOCKER

    @property
    def skopeo_name(self) -> str:
        """The source as skopeo writes it."""
        if self.image is not None:
            return f"docker://{self.image.pullable}"
        return f"{self.transport}:{self.path}" + (f":{self.inner}" if self.inner else "")

    def __str__(self) -> str:
        return self.image.canonical if self.image is not None else self.skopeo_name


def parse_location(text: str, *, field: str = "image") -> Location:
    """Read an image name with or without transport; raises InvalidSpec or Unsupported for ``field``."""
    if not isinstance(text, str) or not text:
        raise InvalidSpec(field, "an image is needed", hint="For example 'docker.io/library/nginx:1'")
    before, colon, rest = text.partition(":")
    if before in _REFUSED and colon:
        raise Unsupported(
            f"{field}: images are not read through '{before}:'",
            hint=f"Known are {', '.join(Transport)}, and a name without transport for a registry",
        )
    if before not in Transport.__members__.values() or not colon:
        return Location(Transport.DOCKER, ImageReference.parse(text, field=field))
    transport = Transport(before)
    if transport is Transport.DOCKER:
        if rest.startswith("//"):
            return Location(transport, ImageReference.parse(rest[2:], field=field))
        # "docker:27" is Docker's own image on Docker Hub.
        return Location(transport, ImageReference.parse(text, field=field))
    if transport is Transport.CONTAINERS_STORAGE:
        if not rest or re.search(r"\s", rest):
            raise InvalidSpec(field, f"{quoted(text)} names no image in a store")
        return Location(transport, path=rest)
    path, _unused, inner = rest.partition(":") if transport is not Transport.DIR else (rest, "", "")
    if not path.startswith("/"):
        raise InvalidSpec(field, f"{quoted(path)} is no absolute path", hint=f"Write '{transport}:/…'")
    if "\0" in text or "\n" in text:
        raise InvalidSpec(field, "a path holds neither line breaks nor null characters")
    return Location(transport, path=normalised_path(path), inner=inner)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """One image and how to reach it; credentials are never shown or stored."""

    reference: str
    policy: PullPolicy = PullPolicy.MISSING
    #: None: this host's own.
    platform: Platform | None = None
    username: str | None = dataclasses.field(default=None, repr=False)
    password: str | None = dataclasses.field(default=None, repr=False)
    #: File of credentials as ``podman login --authfile`` and Docker's config.json have it.
    authfile: str | None = None
    #: None: as registries.conf says, else verified.
    tls_verify: bool | None = None
    #: Directory with ``ca.crt`` or ``*.crt``, and ``*.cert`` with ``*.key`` for a client certificate.
    cert_dir: str | None = None
    #: One file with the certificates of the authorities to trust beside the host's own.
    ca_file: str | None = None
    #: Signature policy in place of /etc/containers/policy.json.
    signature_policy: str | None = None
    #: File in place of /etc/containers/registries.conf; the drop-ins beside that one stay in force.
    registries_conf: str | None = None
    #: Whether skopeo shall print a line for each blob, for whoever reads them.
    is_verbose: bool = False
    #: Whether a fetch that others began since is as good as one with these credentials.
    trusts_others: bool = True
    #: How often a failed request is repeated.
    retries: int = 2
    timeout_s: float = 1800.0

    def location(self) -> Location:
        """Return the parsed reference; raises InvalidSpec."""
        return parse_location(self.reference)

    def check(self) -> None:
        """Raise InvalidSpec when options contradict each other."""
        self.location()
        if (self.username is None) != (self.password is None):
            missing = "password" if self.password is None else "username"
            raise InvalidSpec(missing, "username and password belong together")
        if self.username is not None and self.authfile is not None:
            raise InvalidSpec("authfile", "give either a file of credentials or username and password")
        if self.username is not None and ":" in self.username:
            raise InvalidSpec("username", "a user name of HTTP basic authentication holds no ':'")
        if self.cert_dir is not None and self.ca_file is not None:
            raise InvalidSpec("ca_file", "give either a directory of certificates or one file")
        if self.retries < 0:
            raise InvalidSpec("retries", "a number of repetitions is 0 or more")
        if self.timeout_s <= 0:
            raise InvalidSpec("timeout_s", "a time-out is more than 0 seconds")

    def as_plain(self) -> dict[str, t.Any]:
        """Return what identifies the image, for a record: neither credentials nor how to connect."""
        plain: dict[str, t.Any] = {"kind": "image", "reference": str(self.location())}
        if self.platform is not None and self.platform != host_platform():
            plain["platform"] = str(self.platform)
        return plain


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TarballSource:
    """A tar archive of a root file system, plain or compressed."""

    path: str

    def check(self) -> None:
        """Raise InvalidSpec for a path that cannot be one."""
        _check_path("tarball", self.path)

    def as_plain(self) -> dict[str, t.Any]:
        """Return what identifies the source, for a record."""
        return {"kind": "tarball", "path": normalised_path(self.path)}


class DirectoryMode(enum.StrEnum):
    """How a directory becomes a root file system."""

    #: The directory stays as it is; what the container writes goes to the bundle.
    OVERLAY = "overlay"
    #: The container writes into the directory itself.
    DIRECT = "direct"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySource:
    """A directory that holds a root file system."""

    path: str
    mode: DirectoryMode = DirectoryMode.OVERLAY

    def check(self) -> None:
        """Raise InvalidSpec for a path that cannot be one."""
        _check_path("directory", self.path)

    def as_plain(self) -> dict[str, t.Any]:
        """Return what identifies the source, for a record."""
        return {"kind": "directory", "path": normalised_path(self.path), "mode": self.mode.value}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredSource:
    """An image of the store by its id: nothing is ever fetched for it, nor for image mounts beside it."""

    #: 64 hexadecimal digits, with or without ``sha256:``.
    image_id: str
    #: What it was asked for by, for people and for the record.
    reference: str = ""

    @property
    def id(self) -> str:
        """The id without ``sha256:``."""
        return self.image_id.removeprefix("sha256:")

    def check(self) -> None:
        """Raise InvalidSpec for what is no id."""
        if not re.fullmatch(r"[0-9a-f]{64}", self.id):
            raise InvalidSpec("image", f"{quoted(self.image_id)} is no id of an image")

    def as_plain(self) -> dict[str, t.Any]:
        """Return what identifies the image, for a record."""
        return {"kind": "image", "reference": self.reference or f"sha256:{self.id}"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GivenSource:
    """An image that no store holds; whoever gives it keeps it as long as a bundle names it."""

    image: Image
    #: What it was asked for by, for people and for the record.
    reference: str = ""

    def check(self) -> None:
        """Do nothing: whoever gives an image has checked it."""

    def as_plain(self) -> dict[str, t.Any]:
        """Return what identifies the image, for a record."""
        return {"kind": "image", "reference": self.reference or f"sha256:{self.image.id}"}


RootfsSource: t.TypeAlias = "ImageSource | TarballSource | DirectorySource | StoredSource | GivenSource"


def normalised_path(path: str) -> str:
    """Return an absolute path in its shortest form, without looking at it."""
    # POSIX lets a path keep two leading slashes, and so does normpath.
    return "/" + os.path.normpath(path).lstrip("/")


def _check_path(field: str, path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise InvalidSpec(field, f"{quoted(path)} is no absolute path")
    if normalised_path(path) == "/":
        raise InvalidSpec(field, "the host's own root cannot be a container's root file system")


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A source, and what it is called in the store."""

    #: Full name in the store.
    name: str
    #: Name for people.
    what: str
    #: None for a tarball.
    location: Location | None
    #: Digest that the image must have been fetched by.
    digest: str | None = None


# ---- names in the store ----------------------------------------------------------------------------------


def _short_hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def registry_store_name(image: ImageReference, platform: Platform | None, host: Platform) -> str:
    """Return the name of a registry's image: its own, or an internal one for a foreign platform."""
    if platform is None or platform == host or platform == dataclasses.replace(host, variant=""):
        return image.pullable
    kind = "-".join(part for part in (platform.os, platform.architecture, platform.variant) if part)
    return f"{INTERNAL}/{kind}/{image.repository}:{_short_hash(image.canonical, str(platform))}"


def local_store_name(kind: str, source: str, state: str, platform: Platform | None = None) -> str:
    """Return the internal name of what was read from a path.

    ``kind`` is the transport, ``source`` path and inner name, ``state`` what tells
    one content of the path from another.
    """
    where = _short_hash(source, str(platform or ""))
    return f"{INTERNAL}/{kind}:{where}-{_short_hash(state)}"


def same_path_prefix(name: str) -> str | None:
    """Return the part of an internal name that all contents of one path share; None for other names."""
    if not name.startswith(f"{INTERNAL}/"):
        return None
    head, dash, _unused = name.rpartition("-")
    return head + dash if dash and ":" in head else None
