# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials of a request: which count, for which registry, and what skopeo is given."""

from __future__ import annotations

import base64
import json
import os

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference
from pvecri.api.cri_pb2 import AuthConfig
from pvecri.images.credentials import Credentials, auth_document, authfile, credentials_of

IMAGE = ImageReference.parse("quay.io:443/a/b:1")
HUB = ImageReference.parse("busybox")


def b64(text):
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"username": "a", "password": "b"}, Credentials("a", "b")),
        ({"username": "a"}, Credentials("a", "")),
        ({"auth": b64("a:b:c")}, Credentials("a", "b:c")),
        ({"auth": b64("a:b\0\0")}, Credentials("a", "b")),
        ({"auth": b64("ä:ö")}, Credentials("ä", "ö")),
        ({"identity_token": "t"}, Credentials("", "", "t")),
        ({"identity_token": "t", "username": "a"}, Credentials("a", "", "t")),
        ({"identity_token": "t", "username": "a", "password": "b"}, Credentials("a", "b")),
        ({"auth": b64("a:b"), "username": "x"}, Credentials("a", "b")),
        ({"registry_token": "t", "username": "a", "password": "b"}, Credentials("a", "b")),
        ({"username": "a", "password": "b", "server_address": "quay.io:443"}, Credentials("a", "b")),
        (
            {"username": "a", "password": "b", "server_address": "https://QUAY.io:443/v2/"},
            Credentials("a", "b"),
        ),
        ({"username": "a", "password": "b", "server_address": "quay.io"}, None),
        ({"username": "a", "password": "b", "server_address": "http://other.io/quay.io:443"}, None),
    ],
)
def test_credentials_of(fields, expected):
    assert credentials_of(AuthConfig(**fields), IMAGE) == expected


@pytest.mark.parametrize("address", ["docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"])
def test_credentials_of_docker_hub(address):
    assert credentials_of(AuthConfig(username="a", password="b", server_address=address), HUB)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"auth": "no base64!"}, "auth.auth", "no base64"),
        ({"auth": base64.b64encode(b"\xff\xfe:x").decode()}, "auth.auth", "no base64 of text"),
        ({"auth": b64("nocolon")}, "auth.auth", "holds no ':'"),
        ({"auth": b64(":password")}, "auth.auth", "no user name"),
        ({"password": "b"}, "auth.username", "no user name"),
        ({"username": "a:b", "password": "c"}, "auth.username", "holds no ':'"),
    ],
)
def test_credentials_refused(fields, field, words):
    with pytest.raises(InvalidSpec, match=words) as caught:
        credentials_of(AuthConfig(**fields), IMAGE)
    assert caught.value.field == field


def test_registry_token_alone():
    with pytest.raises(Unsupported, match=r"auth\.registry_token"):
        credentials_of(AuthConfig(registry_token="t"), IMAGE)


def test_credentials_are_not_shown():
    assert "secret" not in repr(Credentials("secret", "secret", "secret"))


def test_auth_document():
    document = json.loads(auth_document(Credentials("a", "b"), IMAGE, {}))
    assert document == {"auths": {"quay.io:443": {"auth": b64("a:b")}}}
    document = json.loads(auth_document(Credentials("", "", "t"), IMAGE, {}))
    assert document == {"auths": {"quay.io:443": {"auth": b64(":"), "identitytoken": "t"}}}


def test_auth_document_keeps_other_registries():
    base = {
        "auths": {
            "quay.io:443": {"auth": "old"},
            "quay.io:443/a": {"auth": "more exact"},
            "mirror.io": {"auth": "kept"},
        },
        "credHelpers": {"quay.io:443": "helper", "other.io": "kept"},
        "credsStore": "desktop",
    }
    assert json.loads(auth_document(Credentials("a", "b"), IMAGE, base)) == {
        "auths": {"mirror.io": {"auth": "kept"}, "quay.io:443": {"auth": b64("a:b")}},
        "credHelpers": {"other.io": "kept"},
    }
    hub = {"auths": {"https://index.docker.io/v1/": {"auth": "old"}, "docker.io/library": {"auth": "old"}}}
    assert json.loads(auth_document(Credentials("a", "b"), HUB, hub)) == {
        "auths": {"docker.io": {"auth": b64("a:b")}}
    }


def test_authfile_is_memory_that_goes():
    with authfile(Credentials("a", "b"), IMAGE, None) as path:
        assert path.startswith(f"/proc/{os.getpid()}/fd/")
        assert not os.path.isfile(os.readlink(path))
        with open(path, "rb") as stream:
            assert json.load(stream)["auths"]
    assert not os.path.exists(path)
    with authfile(None, IMAGE, "/configured") as path:
        assert path == "/configured"
    with authfile(None, IMAGE, None) as path:
        assert path is None
