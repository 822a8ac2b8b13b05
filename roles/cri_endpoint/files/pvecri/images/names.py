# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read how clients name images, and say how images are shown to them.

    busybox, docker.io/library/busybox:1, quay.io/a/b:1@sha256:…     a reference
    sha256:<64 hexadecimal digits>, the same without «sha256:»       an id
    3 to 63 hexadecimal digits                                       the begin of an id, as crictl shows it
    lxc/debian-12-standard:12.7-1                                    a template, where Proxmox LXC is set up

A client can name no place of this host, and none of the names that the core keeps
for what plays read from files.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference, quoted
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import INTERNAL
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from pvecri.images.native_names import is_native_text, parse_native

_ID = re.compile(r"(?:sha256:)?(?P<id>[0-9a-f]{64})")
_PREFIX = re.compile(r"(?P<mark>sha256:)?(?P<prefix>[0-9a-f]{3,63})")
#: More than name, tag and the longest digest together.
_LONGEST = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What a client calls an image; a short text can be both the name of one and the begin of an id."""

    text: str
    id: str = ""
    prefix: str = ""
    reference: ImageReference | None = None
    #: What it is called if it is a template; it can be one only where Proxmox LXC is set up.
    native: str = ""


def parse_asked(text: str, *, field: str = "image.image") -> Asked:
    """Read what a client wrote; raises InvalidSpec for ``field``."""
    _check_length(text, field)
    match = _ID.fullmatch(text)
    if match:
        return Asked(text, id=match["id"])
    match = _PREFIX.fullmatch(text)
    if match and match["mark"]:
        return Asked(text, prefix=match["prefix"])
    reference = ImageReference.parse(text, field=field)
    native = parse_native(text, field).canonical if is_native_text(text) else ""
    return Asked(text, prefix=match["prefix"] if match else "", reference=reference, native=native)


def parse_pull(text: str, *, field: str = "image.image") -> ImageReference:
    """Return the reference to fetch; raises InvalidSpec for ``field``."""
    _check_length(text, field)
    reference = ImageReference.parse(text, field=field)
    if is_internal(reference.canonical):
        raise InvalidSpec(
            field,
            f"{quoted(text)} is a name that this host keeps for itself",
            hint="Give the image another name",
        )
    return reference


def is_id_of(text: str, image: Image) -> bool:
    """Say whether a client calls an image by its id, or by the begin of it, and not by a name."""
    digits = text.removeprefix("sha256:")
    is_digits = _ID.fullmatch(text) or _PREFIX.fullmatch(text)
    return bool(is_digits) and public_id(image).removeprefix("sha256:").startswith(digits)


def _check_length(text: str, field: str) -> None:
    """Refuse what is far too long before anything looks at each character."""
    if len(text) > _LONGEST:
        raise InvalidSpec(field, f"{quoted(text)} has {len(text)} characters: no reference has so many")


def is_internal(name: str) -> bool:
    """Say whether a full name is one that the core gives to what has no name of its own."""
    return name.startswith(f"{INTERNAL}/")


def public_names(image: Image) -> tuple[str, ...]:
    """Return the names of an image that clients may see."""
    return tuple(name for name in image.names if not is_internal(name))


def is_public(image: Image) -> bool:
    """Say whether clients may see an image: not one that only a play's file names."""
    return not image.names or bool(public_names(image))


def public_id(image: Image) -> str:
    """Return an image's id as clients see it."""
    return f"sha256:{image.id}"


def split_name(name: str) -> tuple[str, str, str]:
    """Return repository, tag and digest of a full name; tag or digest is empty."""
    head, _unused, digest = name.partition("@")
    colon = head.rfind(":")
    if colon == -1 or "/" in head[colon:]:
        return head, "", digest
    return head[:colon], head[colon + 1 :], digest


def repository_names(image: Image, indexes: t.Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Return an image's ``repo_tags`` and ``repo_digests``.

    The digest that a tag stands for is not recorded: it is that of an index
    (``indexes``) when the image was fetched by one, else the image's own.
    """
    tags: list[str] = []
    digests: list[str] = []
    tagged: list[str] = []
    for name in public_names(image):
        repository, tag, digest = split_name(name)
        if digest:
            digests.append(f"{repository}@{digest}")
        else:
            tags.append(f"{repository}:{tag}")
            tagged.append(repository)
    known = [digest for digest in image.digests if digest in indexes] or [image.digest]
    digests += [f"{repository}@{digest}" for repository in tagged for digest in known if digest]
    return tags, list(dict.fromkeys(digests))


def find_image(store: ImageStore, text: str, *, field: str = "image.image") -> Image:
    """Return the image that a client names by id, begin of an id, tag or digest, checked to be whole.

    Raises InvalidSpec for what cannot be a name or is the begin of several ids, and
    NotFound.
    """
    asked = parse_asked(text, field=field)
    image = store.find(asked.id) if asked.id else None
    if asked.reference is not None:
        image = store.find(f"docker://{asked.reference.canonical}")
    if image is None and asked.prefix:
        image = unique([image for image in store.list() if image.id.startswith(asked.prefix)], asked, field)
    if image is None or not is_public(image):
        raise NotFound(f"{field}: there is no image {quoted(text)} on this host", hint="Pull it first")
    return image


_T = t.TypeVar("_T")


def unique(found: t.Sequence[_T], asked: Asked, field: str) -> _T | None:
    """Return the only one of ``found``, None for none; raises InvalidSpec for more."""
    if len(found) > 1:
        raise InvalidSpec(
            field, f"{quoted(asked.text)} begins the ids of {len(found)} images", hint="Give more of it"
        )
    return found[0] if found else None
