# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn the credentials of a request into what skopeo reads; they never stand in an argument list or a file.

skopeo gets them as an authentication file (containers-auth.json(5)) that is memory
of this process: no kill leaves it behind.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import json
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    InvalidSpec,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import (
    DEFAULT_REGISTRY,
    ImageReference,
)
from pvecri.api import cri_pb2

_HUB = frozenset({DEFAULT_REGISTRY, "index.docker.io", "registry-1.docker.io"})


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """How to log in to one registry; never shown."""

    username: str = dataclasses.field(default="", repr=False)
    password: str = dataclasses.field(default="", repr=False)
    identity_token: str = dataclasses.field(default="", repr=False)


def credentials_of(auth: cri_pb2.AuthConfig, image: ImageReference) -> Credentials | None:
    """Return the credentials of a request, or None when it brings none for this image's registry.

    Raises InvalidSpec and Unsupported naming the field.
    """
    if auth.server_address and _host(auth.server_address) != _host(image.registry):
        return None
    if auth.password:
        return _checked(auth.username, auth.password, "auth.username")
    if auth.identity_token:
        return Credentials(auth.username, identity_token=auth.identity_token)
    if auth.auth:
        return _decoded(auth.auth)
    if auth.username:
        return _checked(auth.username, "", "auth.username")
    if auth.registry_token:
        raise Unsupported(
            "auth.registry_token: skopeo takes it on its command line only, where everybody can read it",
            hint="Use username and password, or identity_token",
        )
    return None


def _decoded(text: str) -> Credentials:
    try:
        plain = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise InvalidSpec("auth.auth", "it is no base64 of text") from exc
    username, colon, password = plain.partition(":")
    if not colon:
        raise InvalidSpec("auth.auth", "it holds no ':' between user name and password")
    # Some clients pad the password with null characters.
    return _checked(username, password.rstrip("\0"), "auth.auth")


def _checked(username: str, password: str, field: str) -> Credentials:
    if ":" in username:
        raise InvalidSpec(field, "a user name of HTTP basic authentication holds no ':'")
    if not username:
        raise InvalidSpec(field, "there is a password, but no user name")
    return Credentials(username, password)


def _host(address: str) -> str:
    """Return the host (and port) of a server address as clients write it: with scheme and path, or bare."""
    bare = address.partition("://")[2] or address
    host = bare.partition("/")[0].lower()
    return DEFAULT_REGISTRY if host in _HUB else host


def auth_document(credentials: Credentials, image: ImageReference, base: t.Mapping[str, t.Any]) -> bytes:
    """Return an authentication file: ``base`` with these credentials for the image's repository.

    They go before all that ``base`` says of this registry; its other registries, such as
    mirrors, keep theirs.
    """
    pair = f"{credentials.username}:{credentials.password}"
    entry = {"auth": base64.b64encode(pair.encode()).decode()}
    if credentials.identity_token:
        entry["identitytoken"] = credentials.identity_token
    auths = {
        key: value
        for key, value in dict(base.get("auths") or {}).items()
        if _host(key) != _host(image.registry)
    }
    helpers = {
        key: value
        for key, value in dict(base.get("credHelpers") or {}).items()
        if _host(key) != _host(image.registry)
    }
    document: dict[str, t.Any] = {"auths": {**auths, image.registry: entry}}
    if helpers:
        document["credHelpers"] = helpers
    return json.dumps(document).encode()


@contextlib.contextmanager
def authfile(
    credentials: Credentials | None, image: ImageReference, configured: str | None
) -> t.Iterator[str | None]:
    """Provide the path of the authentication file for one pull, or None for the host's own.

    ``configured`` is the file that holds logins for requests without any.  Raises
    WrongState when it cannot be read.
    """
    if credentials is None:
        yield configured
        return
    document = auth_document(credentials, image, _read(configured) if configured else {})
    handle = os.memfd_create("auth.json")
    try:
        os.write(handle, document)
        yield f"/proc/{os.getpid()}/fd/{handle}"
    finally:
        os.close(handle)


def _read(path: str) -> dict[str, t.Any]:
    try:
        with open(path, "rb") as stream:
            value = json.load(stream)
    except (OSError, ValueError) as exc:
        raise WrongState(f"images.authfile: {path} cannot be read: {exc}", hint="Repair the file") from exc
    if not isinstance(value, dict):
        raise WrongState(f"images.authfile: {path} holds no object", hint="Repair the file")
    return value
