# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold skopeo's command lines to the letter, and what is made of its complaints."""

from __future__ import annotations

import base64
import json

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    InvalidSpec,
    MissingDependency,
    NotFound,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images import skopeo
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource, Platform

STORE = "containers-storage:[overlay@/s+/r]"
TARGET = STORE + "quay.io/a/b:1"


def copy(source, **options):
    return skopeo.copy_argv(source, source.location(), TARGET, **options)


def test_copy_argv_plain():
    assert copy(ImageSource(reference="quay.io/a/b:1", retries=0)) == [
        "skopeo",
        "copy",
        "--quiet",
        "docker://quay.io/a/b:1",
        TARGET,
    ]


def test_copy_argv_everything():
    source = ImageSource(
        reference="quay.io/a/b:1",
        platform=Platform(os="linux", architecture="arm", variant="v7"),
        username="joe",
        password="opensesame",
        tls_verify=False,
        signature_policy="/p.json",
        retries=3,
    )
    connection = skopeo.Connection("/proc/1/fd/7", "/certs")
    assert skopeo.copy_argv(source, source.location(), TARGET, connection, temporary="/tmp/x") == [
        "skopeo",
        "--policy=/p.json",
        "--tmpdir=/tmp/x",
        "--override-os=linux",
        "--override-arch=arm",
        "--override-variant=v7",
        "copy",
        "--quiet",
        "--retry-times=3",
        "--src-authfile=/proc/1/fd/7",
        "--src-cert-dir=/certs",
        "--src-tls-verify=false",
        "docker://quay.io/a/b:1",
        TARGET,
    ]


def test_copy_argv_local_asks_no_registry():
    source = ImageSource(reference="oci:/layout:x", tls_verify=True, authfile="/a")
    assert copy(source) == ["skopeo", "copy", "--quiet", "oci:/layout:x", TARGET]


def test_copy_tarball_argv():
    assert skopeo.copy_tarball_argv("/r.tar", TARGET) == [
        "skopeo",
        "--insecure-policy",
        "copy",
        "--quiet",
        "tarball:/r.tar",
        TARGET,
    ]
    assert "--tmpdir=/t" in skopeo.copy_tarball_argv("/r.tar", TARGET, temporary="/t")


def test_inspect_raw_argv():
    source = ImageSource(reference="quay.io/a/b:1", tls_verify=True)
    connection = skopeo.Connection("/auth", "/certs")
    assert skopeo.inspect_raw_argv(source, source.location(), connection) == [
        "skopeo",
        "inspect",
        "--raw",
        "--retry-times=2",
        "--authfile=/auth",
        "--cert-dir=/certs",
        "--tls-verify=true",
        "docker://quay.io/a/b:1",
    ]


def test_delete_argv():
    assert skopeo.delete_argv(STORE + "@abc") == ["skopeo", "delete", STORE + "@abc"]


def test_store_specifier():
    assert skopeo.store_specifier("/s", "/r") == STORE
    assert skopeo.store_specifier("/s", "/r", ["/a", "/b"]) == (
        "containers-storage:[overlay@/s+/r:overlay.imagestore=/a,overlay.imagestore=/b]"
    )


@pytest.mark.parametrize("path", ["relative", "/a+b", "/a b", "/a:b", "/a,b", "/a[", "/a]", "/a@b"])
def test_store_specifier_refuses_what_it_cannot_say(path):
    for paths in ((path, "/r", []), ("/s", path, []), ("/s", "/r", [path])):
        with pytest.raises(InvalidSpec) as caught:
            skopeo.store_specifier(*paths)
        assert caught.value.field == "state_dir"


def test_auth_document():
    document = json.loads(skopeo.auth_document("reg:5000", "jöe", "pass:word"))
    assert list(document["auths"]) == ["reg:5000"]
    assert base64.b64decode(document["auths"]["reg:5000"]["auth"]).decode() == "jöe:pass:word"


# ---- complaints ------------------------------------------------------------------------------------------


def fatal(message):
    return f'time="2026-01-01T00:00:00Z" level=fatal msg="{message}"\n'


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        (fatal(r"reading \"x\": no"), 'reading "x": no'),
        ('time="t" level=warning msg="w"\n' + fatal("f"), "f"),
        (fatal(r"a\nb\\c"), r"a b\c"),
        ("something else\n\n", "something else"),
        ("", "no output"),
    ],
)
def test_complaint(stderr, expected):
    assert skopeo.complaint(stderr) == expected


@pytest.mark.parametrize(
    ("message", "kind", "hint"),
    [
        ("manifest unknown: manifest unknown", NotFound, "name and tag"),
        ("name unknown: repository name not known to registry", NotFound, "name and tag"),
        (r"no descriptor found for reference \"x\"", NotFound, "name and tag"),
        ("no image found in image index for architecture s390x", NotFound, "another platform"),
        ("unauthorized: authentication required", CommandError, "username"),
        ("http: server gave HTTP response to HTTPS client", CommandError, "tls_verify"),
        ("x509: certificate signed by unknown authority", CommandError, "ca_file"),
        ("dial tcp: lookup reg: no such host", CommandError, "DNS"),
        ("write /x: no space left on device", CommandError, "room"),
        ("Source image rejected: Running image x is rejected by policy", CommandError, "policy"),
        ("Digest did not match, expected a, got b", CommandError, "again"),
        ("toomanyrequests: slow down", CommandError, "log in"),
        ("something new", CommandError, None),
        (
            "open /etc/containers/policy.json: no such file or directory",
            MissingDependency,
            "signature_policy",
        ),
    ],
)
def test_explain(message, kind, hint):
    error = CommandError("skopeo failed", argv=["skopeo"], rc=1, stderr=fatal(message))
    found = skopeo.explain(error, "quay.io/a/b:1")
    assert found.__class__ is kind
    assert (found.hint is None) if hint is None else (hint in found.hint)
    if kind is not MissingDependency:
        assert found.message.startswith("quay.io/a/b:1 ")
    if kind is CommandError:
        assert (found.rc, found.argv) == (1, ["skopeo"])


def test_explain_timeout():
    found = skopeo.explain(CommandTimeout("t", argv=["skopeo"], stderr="e"), "x")
    assert isinstance(found, CommandTimeout)
    assert "not fetched in time" in found.message


def test_copy_argv_says_what_it_does_when_asked():
    source = ImageSource(reference="quay.io/a/b:1", is_verbose=True, registries_conf="/etc/r.conf")
    argv = skopeo.copy_argv(source, source.location(), "target")
    assert "--quiet" not in argv
    assert argv[1:3] == ["--registries-conf=/etc/r.conf", "copy"]
