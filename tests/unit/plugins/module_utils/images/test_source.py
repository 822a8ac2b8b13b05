# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what an image name means, and what a source is called in the store."""

from __future__ import annotations

import dataclasses
import os

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.images import source
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    DirectoryMode,
    DirectorySource,
    ImageSource,
    Platform,
    StoredSource,
    TarballSource,
    Transport,
    host_platform,
    local_store_name,
    parse_location,
    registry_store_name,
    same_path_prefix,
)

DIGEST = "sha256:" + "0123456789abcdef" * 4
AMD64 = Platform(architecture="amd64")
ARM64 = Platform(architecture="arm64", variant="v8")


@pytest.mark.parametrize(
    ("text", "skopeo", "shown"),
    [
        ("nginx", "docker://docker.io/library/nginx:latest", "docker.io/library/nginx:latest"),
        ("docker://quay.io/a/b:1", "docker://quay.io/a/b:1", "quay.io/a/b:1"),
        (f"a/b:1@{DIGEST}", f"docker://docker.io/a/b@{DIGEST}", f"docker.io/a/b:1@{DIGEST}"),
        ("docker:27", "docker://docker.io/library/docker:27", "docker.io/library/docker:27"),
        ("oci:/srv/layout", "oci:/srv/layout", "oci:/srv/layout"),
        ("oci:/srv//x/../layout/:v1", "oci:/srv/layout:v1", "oci:/srv/layout:v1"),
        ("oci://srv/layout", "oci:/srv/layout", "oci:/srv/layout"),
        ("oci-archive:/a.tar:v:1", "oci-archive:/a.tar:v:1", "oci-archive:/a.tar:v:1"),
        ("docker-archive:/a.tar:n:1", "docker-archive:/a.tar:n:1", "docker-archive:/a.tar:n:1"),
        ("dir:/a:b", "dir:/a:b", "dir:/a:b"),
        ("containers-storage:busybox", "containers-storage:busybox", "containers-storage:busybox"),
        (
            "containers-storage:[overlay@/r+/rr]x",
            "containers-storage:[overlay@/r+/rr]x",
            "containers-storage:[overlay@/r+/rr]x",
        ),
    ],
)
def test_parse_location(text, skopeo, shown):
    location = parse_location(text)
    assert location.skopeo_name == skopeo
    assert str(location) == shown
    assert location.is_local is (not skopeo.startswith("docker:"))
    assert parse_location(str(location)) == dataclasses.replace(location)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an image is needed"),
        (None, "an image is needed"),
        ("oci:relative", "no absolute path"),
        ("dir:", "no absolute path"),
        ("oci-archive:./a", "no absolute path"),
        ("containers-storage:", "names no image"),
        ("containers-storage:a b", "names no image"),
        ("dir:/a\nb", "line breaks"),
        ("docker://", "reference is needed"),
        ("http://quay.io/a", "http"),
    ],
)
def test_parse_location_refused(text, words):
    with pytest.raises(InvalidSpec, match=words) as caught:
        parse_location(text, field="mounts[1].source")
    assert caught.value.field == "mounts[1].source"


@pytest.mark.parametrize("transport", ["docker-daemon", "ostree", "sif", "tarball"])
def test_parse_location_unsupported(transport):
    with pytest.raises(Unsupported, match=transport) as caught:
        parse_location(f"{transport}:/x")
    assert "oci-archive" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("arm64", Platform(architecture="arm64")),
        ("linux/amd64", Platform(architecture="amd64")),
        ("linux/arm/v7", Platform(architecture="arm", variant="v7")),
        ("freebsd/amd64", Platform(os="freebsd", architecture="amd64")),
    ],
)
def test_platform_parse(text, platform):
    assert Platform.parse(text) == platform
    assert Platform.parse(str(platform)) == platform


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "Linux/AMD64", "a b"])
def test_platform_parse_refused(text):
    with pytest.raises(InvalidSpec) as caught:
        Platform.parse(text, field="pull.platform")
    assert caught.value.field == "pull.platform"


@pytest.mark.parametrize(
    ("machine", "expected"),
    [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64/v8"), ("mips64", "linux/mips64")],
)
def test_host_platform(monkeypatch, machine, expected):
    monkeypatch.setattr(source.os, "uname", lambda: os.uname_result(("Linux", "h", "6", "v", machine)))
    assert str(host_platform()) == expected


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"username": "a"}, "password"),
        ({"password": "a"}, "username"),
        ({"username": "a", "password": "b", "authfile": "/c"}, "authfile"),
        ({"username": "a:b", "password": "c"}, "username"),
        ({"cert_dir": "/a", "ca_file": "/b"}, "ca_file"),
        ({"retries": -1}, "retries"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"reference": "A"}, "image"),
    ],
)
def test_image_source_check(options, field):
    with pytest.raises(InvalidSpec) as caught:
        ImageSource(**{"reference": "a", **options}).check()
    assert caught.value.field == field


def test_image_source_tells_no_secret():
    made = ImageSource(reference="a", username="joe-the-user", password="opensesame")
    made.check()
    assert "opensesame" not in repr(made) + repr(made.as_plain())
    assert "joe-the-user" not in repr(made) + repr(made.as_plain())


def test_as_plain():
    assert ImageSource(reference="a").as_plain() == {
        "kind": "image",
        "reference": "docker.io/library/a:latest",
    }
    foreign = Platform(architecture="s390x") if host_platform().architecture != "s390x" else AMD64
    assert ImageSource(reference="a", platform=foreign).as_plain()["platform"] == str(foreign)
    assert "platform" not in ImageSource(reference="a", platform=host_platform()).as_plain()
    assert TarballSource(path="/a//b.tar").as_plain() == {"kind": "tarball", "path": "/a/b.tar"}
    assert DirectorySource(path="/a/", mode=DirectoryMode.DIRECT).as_plain() == {
        "kind": "directory",
        "path": "/a",
        "mode": "direct",
    }


@pytest.mark.parametrize("kind", [TarballSource, DirectorySource])
@pytest.mark.parametrize("path", ["", "a", "./a", "/", "//", "/..", "/a\0b"])
def test_paths_refused(kind, path):
    with pytest.raises(InvalidSpec) as caught:
        kind(path=path).check()
    assert caught.value.field == ("tarball" if kind is TarballSource else "directory")


# ---- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "host", "is_own"),
    [
        (None, AMD64, True),
        (AMD64, AMD64, True),
        (ARM64, ARM64, True),
        (Platform(architecture="arm64"), ARM64, True),
        (ARM64, AMD64, False),
        (Platform(architecture="arm64", variant="v9"), ARM64, False),
    ],
)
def test_registry_store_name(platform, host, is_own):
    image = parse_location("quay.io/a/b:1").image
    name = registry_store_name(image, platform, host)
    assert (name == "quay.io/a/b:1") is is_own
    # Whatever it is called, skopeo must be able to read it, and it stays the same.
    assert parse_location(name).image.canonical == name
    assert registry_store_name(image, platform, host) == name


def test_registry_store_name_differs_by_image_and_platform():
    names = {
        registry_store_name(parse_location(text).image, platform, AMD64)
        for text in ("quay.io/a/b:1", "quay.io/a/b:2", "docker.io/a/b:1", f"quay.io/a/b@{DIGEST}")
        for platform in (ARM64, Platform(architecture="s390x"))
    }
    assert len(names) == 8


def test_local_store_name():
    name = local_store_name("oci", "oci:/a:x", "state one")
    assert parse_location(name).image.canonical == name
    other = local_store_name("oci", "oci:/a:x", "state two")
    assert other != name
    assert same_path_prefix(other) == same_path_prefix(name)
    assert same_path_prefix(local_store_name("oci", "oci:/a:y", "state one")) != same_path_prefix(name)
    assert same_path_prefix(local_store_name("oci", "oci:/a:x", "s", ARM64)) != same_path_prefix(name)


@pytest.mark.parametrize(
    "name", ["docker.io/library/a-b:1-2", "localhost/pvecri/linux-arm64/a:" + "0" * 32, "localhost/x:a-b"]
)
def test_same_path_prefix_of_other_names(name):
    assert same_path_prefix(name) is None


def test_transports_are_all_parsed():
    for transport in Transport:
        text = f"{transport}://x" if transport is Transport.DOCKER else f"{transport}:/x"
        assert parse_location(text).transport is transport


def test_stored_source():
    source = StoredSource(image_id="sha256:" + "1" * 64)
    source.check()
    assert source.id == "1" * 64
    assert source.as_plain() == {"kind": "image", "reference": f"sha256:{'1' * 64}"}
    assert StoredSource(image_id="1" * 64, reference="a:1").as_plain()["reference"] == "a:1"


@pytest.mark.parametrize("text", ["", "1" * 63, "../" + "1" * 61, "sha512:" + "1" * 64, "1" * 64 + "\n"])
def test_stored_source_refused(text):
    with pytest.raises(InvalidSpec, match="no id of an image"):
        StoredSource(image_id=text).check()
