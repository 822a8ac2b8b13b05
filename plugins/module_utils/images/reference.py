# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read image references as container tools write them, and bring them to one form.

    nginx                          → docker.io/library/nginx:latest
    quay.io:443/a/b:1@sha256:01ab… → the same; tag and digest both stay
    lxc/debian-12:bookworm         → docker.io/lxc/debian-12:bookworm

The grammar is that of the CNCF distribution project's ``reference`` package,
which Docker, containerd, CRI-O and skopeo share.  Where its versions differ,
the stricter reading is taken, so that each of these tools accepts what
`ImageReference.parse` accepts (but skopeo 1.9 has no IPv6 registries yet).  A
reference here has no transport: ``docker://`` and its like belong to whoever
fetches the image.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"

MAX_NAME = 255
MAX_TAG = 128

#: Characters of a faulty text that an error message repeats.
_SHOWN = 100

#: Length of the hexadecimal part of each digest algorithm that OCI registers.
DIGEST_HEX = {"sha256": 64, "sha384": 96, "sha512": 128}

# Docker Hub's own names for itself; one image must not get two names.
_HUB_NAMES = frozenset({"docker.io", "index.docker.io"})
_HUB_NAMESPACE = "library"

_TRANSPORTS = (
    "containers-storage",
    "dir",
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "ostree",
    "sif",
)

_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_HOST = re.compile(r"(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])(?:\.(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9]))*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HEX = re.compile(r"[0-9a-f]+")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")

_COMPONENT_RULE = (
    "Path components consist of lower case letters and digits, separated by one dot, one or two underscores, "
    "or dashes"
)


@dataclasses.dataclass(frozen=True, slots=True)
class ImageReference:
    """A normalised image reference; at least one of ``tag`` and ``digest`` is set.

    ``registry`` is a host in lower case with an optional port, ``repository`` the
    path on it, without the tag: ``docker.io`` and ``library/nginx``.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str, *, field: str = "image") -> t.Self:
        """Read ``text`` and add what it leaves out: registry, ``library/``, tag ``latest``.

        The tag is only added when there is no digest either.  Raises InvalidSpec
        for ``field``, quoting the part that is wrong.
        """
        if not isinstance(text, str) or not text:
            raise InvalidSpec(
                field, "an image reference is needed", hint="For example 'docker.io/library/nginx:1'"
            )
        bad = _NOT_PRINTABLE.search(text)
        if bad:
            raise InvalidSpec(
                field,
                f"{quoted(text)} holds the character {bad.group()!a} at position {bad.start() + 1}",
                hint="Image references hold printable ASCII characters without blanks",
            )
        _refuse_transport(text, field)
        if _IMAGE_ID.fullmatch(text):
            raise InvalidSpec(
                field,
                f"{quoted(text)} is the ID of an image, not a reference",
                hint="Name the repository: 'registry/repository@sha256:…'",
            )
        rest, has_digest, digest = text.partition("@")
        name, tag = _split_tag(rest)
        registry, repository = _split_registry(name, field)
        if has_digest:
            check_digest(digest, field=field)
        if tag is not None:
            check_tag(tag, field=field)
        elif not has_digest:
            tag = DEFAULT_TAG
        return cls(registry, repository, tag, digest if has_digest else None)

    def __str__(self) -> str:
        return self.canonical

    @property
    def name(self) -> str:
        """Registry and repository: ``docker.io/library/nginx``."""
        return f"{self.registry}/{self.repository}"

    @property
    def canonical(self) -> str:
        """The whole normalised reference; parsing it again gives an equal one."""
        return self.name + self._suffix

    @property
    def familiar(self) -> str:
        """The shortest form that means the same: ``nginx:latest``."""
        short = self.repository
        if self.registry != DEFAULT_REGISTRY:
            short = self.name
        elif short.startswith(f"{_HUB_NAMESPACE}/") and short.count("/") == 1:
            short = short.removeprefix(f"{_HUB_NAMESPACE}/")
        elif _is_registry(short.partition("/")[0]):
            # docker.io/example.org/app: without docker.io, example.org would be the registry.
            short = self.name
        return short + self._suffix

    @property
    def pullable(self) -> str:
        """The reference without the tag when a digest decides: skopeo refuses both together."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag

    def as_dict(self) -> dict[str, str | None]:
        """Return plain data for a module's result."""
        return {
            "canonical": self.canonical,
            "familiar": self.familiar,
            "registry": self.registry,
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
        }


def quoted(text: str) -> str:
    """Return ``text`` in quotes, escaped and cut short, for an error message."""
    return ascii(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "...")


def check_tag(tag: str, *, field: str = "image") -> None:
    """Raise InvalidSpec unless ``tag`` is one (distribution specification 1.1, «Pulling manifests»)."""
    if not tag:
        raise InvalidSpec(field, "the tag after ':' is empty", hint="Leave out the colon to mean 'latest'")
    if len(tag) > MAX_TAG:
        raise InvalidSpec(
            field,
            f"tag {quoted(tag)} has {len(tag)} characters",
            hint=f"A tag has at most {MAX_TAG} characters",
        )
    if not _TAG.fullmatch(tag):
        raise InvalidSpec(
            field,
            f"{quoted(tag)} is no tag",
            hint="A tag consists of letters, digits, '_', '.' and '-', and starts with neither '.' nor '-'",
        )


def check_digest(digest: str, *, field: str = "image") -> None:
    """Raise InvalidSpec unless ``digest`` is one (image specification 1.1, «Digests»)."""
    algorithm, colon, value = digest.partition(":")
    length = DIGEST_HEX.get(algorithm)
    known = ", ".join(f"{name}:<{count} hexadecimal digits>" for name, count in DIGEST_HEX.items())
    if not colon or length is None:
        raise InvalidSpec(field, f"{quoted(digest)} is no digest that is known", hint=f"Known are {known}")
    if not _HEX.fullmatch(value):
        raise InvalidSpec(
            field,
            f"{quoted(value)} in the digest is not hexadecimal",
            hint="A digest is written in 0-9 and a-f",
        )
    if len(value) != length:
        raise InvalidSpec(
            field,
            f"the digest has {len(value)} hexadecimal digits after '{algorithm}:'",
            hint=f"{algorithm} has {length}",
        )


def _refuse_transport(text: str, field: str) -> None:
    scheme, has_scheme, rest = text.partition("://")
    if has_scheme and scheme.replace("-", "").isalnum():
        raise InvalidSpec(
            field, f"'{scheme}://' does not belong to a reference", hint=f"Write {quoted(rest)}"
        )
    before, colon, after = text.partition(":")
    if colon and before in _TRANSPORTS and after[:1] in ("/", ".", "["):
        raise InvalidSpec(
            field,
            f"{quoted(text)} names a place on this host ('{before}:'), not a reference",
            hint="Only registry/repository:tag is meant here",
        )


def _split_tag(text: str) -> tuple[str, str | None]:
    """Cut off the tag: what follows a colon behind the last slash."""
    colon = text.rfind(":")
    if colon == -1 or "/" in text[colon:]:
        return text, None
    return text[:colon], text[colon + 1 :]


def _is_registry(first: str) -> bool:
    """Say whether a first path component is a host, as all tools decide it."""
    return "." in first or ":" in first or first.lower() == "localhost"


def _split_registry(name: str, field: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and _is_registry(first):
        registry, repository = first.lower(), rest
        _check_registry(registry, field)
    else:
        registry, repository = DEFAULT_REGISTRY, name
    if registry in _HUB_NAMES:
        registry = DEFAULT_REGISTRY
        if "/" not in repository:
            repository = f"{_HUB_NAMESPACE}/{repository}"
    for component in repository.split("/"):
        if not _COMPONENT.fullmatch(component):
            raise _bad_component(name, component, field)
    length = len(registry) + 1 + len(repository)
    if length > MAX_NAME:
        raise InvalidSpec(
            field,
            f"the name {quoted(f'{registry}/{repository}')} has {length} characters",
            hint=f"Registry and repository together have at most {MAX_NAME} characters",
        )
    return registry, repository


def _check_registry(registry: str, field: str) -> None:
    if registry.startswith("["):
        address, bracket, port = registry[1:].partition("]")
        host, colon, port = f"[{address}{bracket}", port[:1], port[1:]
        valid = bool(bracket) and _is_ipv6(address) and colon in ("", ":")
    else:
        host, colon, port = registry.partition(":")
        valid = bool(_HOST.fullmatch(host))
    if not valid:
        raise InvalidSpec(
            field,
            f"{quoted(host)} is no name of a registry",
            hint="A registry is a host name, an IPv4 address or [an IPv6 address], with an optional port",
        )
    if colon and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise InvalidSpec(
            field, f"{quoted(port)} is no port of registry {quoted(host)}", hint="Ports are 1 to 65535"
        )


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False


def _bad_component(name: str, component: str, field: str) -> InvalidSpec:
    if not component:
        where = (
            "starts with '/'"
            if name.startswith("/")
            else "ends with '/'"
            if name.endswith("/")
            else "has '//'"
        )
        problem = f"the name {quoted(name)} {where}" if name else "the name before the tag or digest is empty"
        return InvalidSpec(field, problem, hint="Write registry/repository:tag")
    problem = f"{quoted(component)} is no path component of a repository"
    if component != component.lower() and _COMPONENT.fullmatch(component.lower()):
        hint = f"Repositories are lower case: {quoted(component.lower())}"
        if name.startswith(f"{component}/"):
            hint += f"; if {quoted(component)} is a registry, add its port"
        return InvalidSpec(field, problem, hint=hint)
    return InvalidSpec(field, problem, hint=_COMPONENT_RULE)
