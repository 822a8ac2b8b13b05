# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pull from real registries with real skopeo, as the host's containers configuration says."""

from __future__ import annotations

import base64
import json
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import streams
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    InvalidSpec,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.tests.support.image_service import listed, spec, status
from pvecri.api import cri_pb2 as pb
from pvecri.images.errors import RegistryUnavailable, SignatureRejected

PASSWORD = "pass word:with$igns"
USERS = {"joe": PASSWORD}


def basic(text):
    return base64.b64encode(text.encode()).decode()


def test_by_tag(images, layout, make_registry):
    registry = make_registry()
    images.trust(registry.address)
    digest = registry.push(f"oci:{layout.path}:v1", "team/app:1")
    service = images.service()
    name = f"{registry.address}/team/app"
    image_ref = service.pull(spec(f"{name}:1"))
    (found,) = listed(service)
    assert found.id == image_ref
    assert image_ref.startswith("sha256:")
    assert found.repo_tags == [f"{name}:1"]
    assert found.repo_digests == [f"{name}@{digest}"]
    assert found.size > 1 << 20
    assert not found.pinned
    assert status(service, f"{name}:1").image == found
    assert status(service, f"{name}@{digest}").image == found
    assert service.pull(spec(f"{name}:1")) == image_ref


def test_by_digest_of_an_index(images, layout, make_registry):
    registry = make_registry()
    images.trust(registry.address)
    own = layout.add_image("own", [], {"Cmd": ["sh"]})
    index = layout.add_index("multi", {"amd64": own, "arm64": own})
    assert registry.push(f"oci:{layout.path}:multi", "app:1", everything=True) == index
    service = images.service()
    name = f"{registry.address}/app"
    image_ref = service.pull(spec(f"{name}@{index}"))
    (found,) = listed(service)
    assert list(found.repo_tags) == []
    assert found.repo_digests == [f"{name}@{index}"]
    assert service.pull(spec(f"{name}:ignored@{index}")) == image_ref
    assert service.pull(spec(f"{name}:1")) == image_ref
    (found,) = listed(service)
    assert found.repo_tags == [f"{name}:1"]
    assert found.repo_digests == [f"{name}@{index}"]
    for text in (f"{name}:1", f"{name}@{index}", f"{name}:ignored@{index}", f"{name}@{own}", image_ref):
        assert status(service, text).image.id == image_ref
    with pytest.raises(NotFound):
        service.pull(spec(f"{name}@sha256:{'0' * 64}"))


def test_tag_that_moved(images, layout, make_registry):
    registry = make_registry()
    images.trust(registry.address)
    service = images.service()
    name = f"{registry.address}/app:1"
    registry.push(f"oci:{layout.path}:v1", "app:1")
    old = service.pull(spec(name))
    registry.push(f"oci:{layout.path}:v2", "app:1")
    new = service.pull(spec(name))
    assert status(service, name).image.id == new
    left = status(service, old).image
    assert (left.id, list(left.repo_tags), list(left.repo_digests)) == (old, [], [])
    service.remove(spec(old))
    assert [image.id for image in listed(service)] == [new]


def test_short_name_through_a_mirror(images, layout, make_registry):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "library/busybox:latest")
    images.configure(
        f'[[registry]]\nlocation = "docker.io"\n'
        f'[[registry.mirror]]\nlocation = "{registry.address}"\ninsecure = true\n'
    )
    service = images.service()
    image_ref = service.pull(spec("busybox"))
    (found,) = listed(service)
    assert found.repo_tags == ["docker.io/library/busybox:latest"]
    names = (
        "busybox",
        "busybox:latest",
        "library/busybox",
        "docker.io/busybox",
        "index.docker.io/library/busybox",
    )
    for text in names:
        assert status(service, text).image.id == image_ref
        assert service.resolve(text).id == image_ref.removeprefix("sha256:")


def test_registries_conf_of_the_environment(images, layout, make_registry, monkeypatch):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "app:1")
    images.trust(registry.address)
    service = images.service(registries_conf="")
    with pytest.raises(CommandError, match="HTTP response to HTTPS client"):
        service.pull(spec(f"{registry.address}/app:1"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(images.registries_conf))
    service.pull(spec(f"{registry.address}/app:1"))


# ---- credentials -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "auth",
    [
        pb.AuthConfig(username="joe", password=PASSWORD),
        pb.AuthConfig(auth=basic(f"joe:{PASSWORD}")),
        pb.AuthConfig(auth=basic(f"joe:{PASSWORD}\0\0")),
    ],
    ids=["password", "auth", "padded"],
)
def test_credentials(images, layout, make_registry, auth, monkeypatch):
    registry = make_registry(users=USERS)
    images.trust(registry.address)
    registry.push(f"oci:{layout.path}:v1", "app:1")
    service = images.service()
    started = []
    spawn = streams.spawn

    def recorded(argv, **options):
        started.append((argv, options.get("env")))
        return spawn(argv, **options)

    monkeypatch.setattr(streams, "spawn", recorded)
    image = spec(f"{registry.address}/app:1")
    with pytest.raises(CommandError, match=r"unauthorized|authentication required"):
        service.pull(image)
    auth.server_address = f"https://{registry.address}/v1/"
    service.pull(image, auth)
    assert len(started) == 2
    for secret in (PASSWORD, basic(f"joe:{PASSWORD}")):
        assert secret not in repr(started)
        assert secret not in repr(images.logged.lines)
        assert secret not in repr(images.runner.calls)
    files = [path for path in pathlib.Path(images.core.top).rglob("*") if path.is_file()]
    assert not [path for path in files if basic(f"joe:{PASSWORD}").encode() in path.read_bytes()]


def test_credentials_wrong(images, layout, make_registry):
    registry = make_registry(users=USERS)
    images.trust(registry.address)
    registry.push(f"oci:{layout.path}:v1", "app:1")
    service = images.service()
    with pytest.raises(CommandError, match=r"unauthorized|authentication required") as caught:
        service.pull(spec(f"{registry.address}/app:1"), pb.AuthConfig(username="joe", password="no"))
    assert "may pull this image" in caught.value.hint


def test_credentials_of_another_server_are_not_sent(images, layout, make_registry):
    registry = make_registry(users=USERS)
    images.trust(registry.address)
    registry.push(f"oci:{layout.path}:v1", "app:1")
    service = images.service()
    auth = pb.AuthConfig(username="joe", password=PASSWORD, server_address="https://registry.example")
    with pytest.raises(CommandError, match=r"unauthorized|authentication required"):
        service.pull(spec(f"{registry.address}/app:1"), auth)
    assert images.logged.of("pull begins")[-1]["has_credentials"] is False


def test_identity_token(images, serve):
    registry = serve()
    registry.token = "refresh me"
    images.trust(registry.address)
    service = images.service()
    image = spec(f"{registry.address}/app:v1")
    with pytest.raises(CommandError):
        service.pull(image, pb.AuthConfig(identity_token="wrong"))
    service.pull(image, pb.AuthConfig(identity_token="refresh me"))
    assert registry.forms[-1]["grant_type"] == "refresh_token"


def test_registry_token_is_refused_with_the_reason(images):
    with pytest.raises(Unsupported, match=r"auth\.registry_token: skopeo takes it on its command line only"):
        images.service().pull(spec("quay.io/a/b:1"), pb.AuthConfig(registry_token="t"))


def test_configured_logins(images, layout, make_registry, tmp_path, monkeypatch):
    registry = make_registry(users=USERS)
    images.trust(registry.address)
    registry.push(f"oci:{layout.path}:v1", "app:1")
    authfile = tmp_path / "auth.json"
    authfile.write_text(json.dumps({"auths": {registry.address: {"auth": basic(f"joe:{PASSWORD}")}}}))
    image = spec(f"{registry.address}/app:1")
    images.service(authfile=str(authfile)).pull(image)
    service = images.service()
    with pytest.raises(CommandError):
        service.pull(image)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(authfile))
    service.pull(image)
    with pytest.raises(CommandError, match=r"unauthorized|authentication required"):
        service.pull(image, pb.AuthConfig(username="joe", password="the request's own goes first"))


def test_configured_logins_of_a_mirror_beside_the_requests(images, layout, make_registry, tmp_path):
    registry = make_registry(users=USERS)
    registry.push(f"oci:{layout.path}:v1", "app:1")
    images.configure(
        f'[[registry]]\nlocation = "mirrored.example"\nblocked = false\n'
        f'[[registry.mirror]]\nlocation = "{registry.address}"\ninsecure = true\n'
    )
    authfile = tmp_path / "auth.json"
    authfile.write_text(json.dumps({"auths": {registry.address: {"auth": basic(f"joe:{PASSWORD}")}}}))
    service = images.service(authfile=str(authfile))
    service.pull(spec("mirrored.example/app:1"), pb.AuthConfig(username="else", password="where"))


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_configured_logins_unreadable(images, tmp_path, text):
    authfile = tmp_path / "auth.json"
    if text is not None:
        authfile.write_text(text)
    service = images.service(authfile=str(authfile))
    with pytest.raises(WrongState, match=r"images\.authfile: .*auth\.json"):
        service.pull(spec("quay.io/a/b:1"), pb.AuthConfig(username="a", password="b"))


# ---- refusals --------------------------------------------------------------------------------------------


def test_signature_policy(images, layout, make_registry, tmp_path):
    registry = make_registry()
    images.trust(registry.address)
    registry.push(f"oci:{layout.path}:v1", "app:1")
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "reject"}]}))
    service = images.service(policy_file=str(policy))
    with pytest.raises(SignatureRejected, match=r"^SignatureValidationFailed: .*rejected by policy"):
        service.pull(spec(f"{registry.address}/app:1"))
    assert listed(service) == []


def test_unknown_image(images, make_registry):
    registry = make_registry()
    images.trust(registry.address)
    with pytest.raises(NotFound, match="does not exist"):
        images.service().pull(spec(f"{registry.address}/no/such:1"))


def test_registry_that_is_not_there(images, make_registry):
    registry = make_registry()
    registry.stop()
    images.trust(registry.address)
    service = images.service(pull_retries=0)
    with pytest.raises(RegistryUnavailable, match=r"^RegistryUnavailable: .*connection refused"):
        service.pull(spec(f"{registry.address}/app:1"))
    (failed,) = images.logged.of("pull failed")
    assert "connection refused" in failed["error"]


def test_registry_out_of_order(images, serve):
    registry = serve()
    registry.status = 503
    images.trust(registry.address)
    with pytest.raises(RegistryUnavailable):
        images.service().pull(spec(f"{registry.address}/app:v1"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "UPPER/case",
        "a b",
        "../../etc/passwd",
        "/etc/passwd",
        "dir:/etc",
        "oci:/srv/layout:x",
        "containers-storage:[overlay@/tmp/x]a",
        "docker://quay.io/a/b",
        "--help",
        "quay.io/a/b:1\n",
        "quay.io/a/b:-1",
        "a" * 300,
        "quay.io/a/b@sha256:12",
        "0" * 64,
        "localhost/pvecri/oci:1",
    ],
)
def test_hostile_names_touch_nothing(images, name):
    service = images.service()
    with pytest.raises(InvalidSpec) as caught:
        service.pull(spec(name))
    assert caught.value.field == "image.image"
    assert images.runner.calls == []
    assert images.logged.lines == []


# ---- what the log says ------------------------------------------------------------------------------------


def test_log_of_a_pull(images, serve):
    registry = serve()
    images.trust(registry.address)
    name = f"{registry.address}/app:v1"
    images.service().pull(spec(name))
    lines = [fields for fields in images.logged.of("pulling") if "Copying blob sha256:" in fields["skopeo"]]
    assert len(lines) == 1
    assert lines[0]["image"] == name
    assert lines[0]["seconds"] >= 0
    (blob,) = images.logged.of("pulled blob")
    assert blob["bytes"] > 1 << 20
    (ended,) = images.logged.of("pull ended")
    assert (ended["image"], ended["layers"], ended["is_new"]) == (name, 1, True)
