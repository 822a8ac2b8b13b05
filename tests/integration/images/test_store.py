# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch images from real registries and files, keep them, and remove them."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import command
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    Conflict,
    InvalidSpec,
    MissingDependency,
    NotFound,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.images.locks import fetch_lock
from ansible_collections.pvecri.runtime.plugins.module_utils.images.skopeo import auth_document
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    ImageSource,
    Platform,
    PullPolicy,
    StoredSource,
    host_platform,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, Mount, MountKind
from ansible_collections.pvecri.runtime.tests.support import images
from ansible_collections.pvecri.runtime.tests.support.host import CountingRunner
from ansible_collections.pvecri.runtime.tests.support.images import File, OciLayout, busybox_layer, tar_layer

HOST = host_platform().architecture
FOREIGN = "s390x" if HOST != "s390x" else "amd64"
PASSWORD = "pass word:with$igns"


@pytest.fixture
def layout(tmp_path):
    """Tags v1 and v2, and an index «multi» of this host's and a foreign platform."""
    made = OciLayout(tmp_path / "layout")
    v1 = made.add_image("v1", [busybox_layer(), tar_layer([File("version", b"1")])], {"Cmd": ["sh"]})
    made.add_image("v2", [busybox_layer(), tar_layer([File("version", b"2")])], {"Cmd": ["sh"]})
    other = made.add_image(
        "foreign", [tar_layer([File("version", b"f")])], {"Cmd": ["sh"]}, architecture=FOREIGN
    )
    made.add_index("multi", {HOST: v1, FOREIGN: other})
    return made


def plain(registry, name, **more):
    return ImageSource(reference=f"{registry.address}/{name}", tls_verify=False, retries=0, **more)


def version(image):
    """Return what the image has in /version, from the topmost layer that has it."""
    return next(
        pathlib.Path(layer, "version").read_text()
        for layer in image.layer_dirs
        if os.path.exists(os.path.join(layer, "version"))
    )


def pulls(core):
    return sum("copy" in call for call in core.runner.calls)


# ---- registries ------------------------------------------------------------------------------------------


def test_registry_pull_then_nothing_is_asked(core, layout, make_registry):
    registry = make_registry()
    digest = registry.push(f"oci:{layout.path}:v1", "team/app:1")
    image, fetched = core.store.ensure(plain(registry, "team/app:1"))
    assert fetched
    assert image.digest == digest
    assert image.names == (f"{registry.address}/team/app:1",)
    assert image.config.command == ("sh",)
    registry.stop()
    fresh = core.fresh()
    assert fresh.store.ensure(plain(registry, "team/app:1")) == (image, False)
    assert fresh.store.ensure(plain(registry, f"team/app@{digest}")) == (image, False)
    assert fresh.store.ensure(plain(registry, f"team/app:other@{digest}")) == (image, False)
    assert fresh.runner.calls == []


def test_registry_tag_moves(core, layout, make_registry):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "app:latest")
    first, _unused = core.store.ensure(plain(registry, "app"))
    registry.push(f"oci:{layout.path}:v2", "app:latest")
    assert core.store.ensure(plain(registry, "app")) == (first, False)
    assert core.store.ensure(plain(registry, "app", policy=PullPolicy.NEVER)) == (first, False)
    second, fetched = core.store.ensure(plain(registry, "app", policy=PullPolicy.NEWER))
    assert fetched
    assert (version(first), version(second)) == ("1", "2")
    count = pulls(core)
    assert core.store.ensure(plain(registry, "app", policy=PullPolicy.NEWER)) == (second, False)
    assert pulls(core) == count, "the manifest told that nothing is newer"
    assert core.store.ensure(plain(registry, "app", policy=PullPolicy.ALWAYS)) == (second, False)
    assert pulls(core) == count + 1


def test_registry_always_asks_after_a_reboot_too(core, layout, make_registry):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "app:1")
    core.store.ensure(plain(registry, "app:1"))
    shutil.rmtree(core.paths.run_dir)
    registry.push(f"oci:{layout.path}:v2", "app:1")
    image, fetched = core.store.ensure(plain(registry, "app:1", policy=PullPolicy.ALWAYS))
    assert fetched
    assert version(image) == "2"


def test_registry_down(core, layout, make_registry):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "app:1")
    image, _unused = core.store.ensure(plain(registry, "app:1"))
    registry.stop()
    assert core.store.ensure(plain(registry, "app:1", policy=PullPolicy.NEWER)) == (image, False)
    assert "was not asked for a newer image" in core.store.warnings[0]
    with pytest.raises(CommandError, match="connection refused") as caught:
        core.store.ensure(plain(registry, "app:1", policy=PullPolicy.ALWAYS))
    assert "Check the registry's address" in caught.value.hint
    with pytest.raises(CommandError):
        core.store.ensure(plain(registry, "app:2", policy=PullPolicy.NEWER))


@pytest.mark.parametrize(
    ("reference", "error", "words"),
    [
        ("app:none", NotFound, "manifest unknown"),
        ("none:1", NotFound, "does not exist"),
        ("app@sha256:" + "0" * 64, NotFound, "manifest unknown"),
    ],
)
def test_registry_has_no_such_image(core, layout, make_registry, reference, error, words):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "app:1")
    with pytest.raises(error, match=words):
        core.store.ensure(plain(registry, reference))
    assert core.store.list() == []


def test_registry_never_and_missing(core):
    with pytest.raises(NotFound, match="may not be fetched"):
        core.store.ensure(ImageSource(reference="127.0.0.1:1/app:1", policy=PullPolicy.NEVER))
    assert core.runner.calls == []


def test_registry_wrong_blob_under_the_right_digest(core, layout, make_registry):
    """A registry that sends other bytes than the digest says is caught, and nothing is kept."""
    registry = make_registry()
    digest = registry.push(f"oci:{layout.path}:v1", "app:1")
    path = registry.blob_path(digest)
    path.write_bytes(path.read_bytes().replace(b'"schemaVersion":2', b'"schemaVersion": 2'))
    with pytest.raises(CommandError) as caught:
        core.store.ensure(plain(registry, f"app@{digest}"))
    assert digest in str(caught.value) or "igest" in str(caught.value)
    assert core.store.list() == []


def test_registry_truncated_layer(core, layout, make_registry):
    registry = make_registry()
    digest = registry.push(f"oci:{layout.path}:v1", "app:1")
    layer = json.loads(registry.blob_path(digest).read_bytes())["layers"][0]["digest"]
    path = registry.blob_path(layer)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(CommandError, match="app:1 cannot be fetched"):
        core.store.ensure(plain(registry, "app:1"))
    assert core.store.list() == []
    path.write_bytes(whole)
    assert version(core.store.ensure(plain(registry, "app:1"))[0]) == "1"


# ---- credentials and certificates ------------------------------------------------------------------------


@pytest.fixture
def private(layout, make_registry):
    registry = make_registry(users={"joe": PASSWORD}, tls=True)
    registry.push(f"oci:{layout.path}:v1", "app:1")
    return registry


def trusted(registry, name="app:1", **more):
    return ImageSource(
        reference=f"{registry.address}/{name}", ca_file=str(registry.ca_file), retries=0, **more
    )


def test_credentials_work_and_are_nowhere(core, private):
    source = trusted(private, username="joe", password=PASSWORD)
    image, _unused = core.store.ensure(source)
    assert version(image) == "1"
    assert PASSWORD not in repr(source)
    assert all(PASSWORD not in argument for call in core.runner.calls for argument in call)
    found = subprocess.run(
        ["grep", "-rlF", "-e", PASSWORD, "-e", "am9lOn", str(core.top)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "", "no file holds the password, plain or in base64"


def test_credentials_from_a_file(core, private, tmp_path):
    authfile = tmp_path / "auth.json"
    authfile.write_bytes(auth_document(private.address, "joe", PASSWORD))
    image, _unused = core.store.ensure(trusted(private, authfile=str(authfile)))
    assert version(image) == "1"


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({}, "username and password"),
        ({"username": "joe", "password": "wrong"}, "username and password"),
    ],
)
def test_credentials_wrong(core, private, options, hint):
    with pytest.raises(CommandError, match="authentication required") as caught:
        core.store.ensure(trusted(private, **options))
    assert hint in caught.value.hint
    assert "wrong" not in str(caught.value.details())


def test_certificate_unknown(core, private):
    source = ImageSource(reference=f"{private.address}/app:1", retries=0, username="joe", password=PASSWORD)
    with pytest.raises(CommandError, match="x509") as caught:
        core.store.ensure(source)
    assert "ca_file" in caught.value.hint
    image, _unused = core.store.ensure(dataclasses.replace(source, tls_verify=False))
    assert version(image) == "1"


def test_certificate_directory(core, private, tmp_path):
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "registry.crt").write_bytes(private.ca_file.read_bytes())
    source = ImageSource(
        reference=f"{private.address}/app:1",
        cert_dir=str(tmp_path / "certs"),
        username="joe",
        password=PASSWORD,
    )
    assert version(core.store.ensure(source)[0]) == "1"


@pytest.mark.parametrize("field", ["authfile", "cert_dir", "signature_policy"])
def test_connection_file_missing(core, field):
    with pytest.raises(InvalidSpec, match="does not exist") as caught:
        core.store.ensure(ImageSource(reference="127.0.0.1:1/a:1", **{field: "/nonexistent"}))
    assert caught.value.field == field
    assert core.runner.calls == []


def test_certificate_file_missing(core):
    with pytest.raises(InvalidSpec, match="ca_file") as caught:
        core.store.ensure(ImageSource(reference="127.0.0.1:1/a:1", ca_file="/nonexistent.pem"))
    assert caught.value.field == "ca_file"


def test_plain_registry_wants_tls_off(core, layout, make_registry):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "app:1")
    with pytest.raises(CommandError) as caught:
        core.store.ensure(ImageSource(reference=f"{registry.address}/app:1", retries=0))
    assert "tls_verify" in caught.value.hint


def test_signature_policy(core, layout, tmp_path):
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "reject"}]}')
    source = ImageSource(reference=f"oci:{layout.path}:v1", signature_policy=str(policy))
    with pytest.raises(CommandError, match="rejected by policy") as caught:
        core.store.ensure(source)
    assert "signature policy" in caught.value.hint


# ---- platforms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("docker", [False, True])
def test_index_gives_the_platform(core, tmp_path, make_registry, docker):
    layout = OciLayout(tmp_path / "multi")
    members = {
        architecture: layout.add_image(None, [tar_layer([File("version", text)])], architecture=architecture)
        for architecture, text in ((HOST, b"mine"), (FOREIGN, b"other"))
    }
    layout.add_index("multi", members)
    registry = make_registry()
    index = registry.push(f"oci:{layout.path}:multi", "app:1", everything=True, docker=docker)
    native, _unused = core.store.ensure(plain(registry, "app:1"))
    foreign = plain(registry, "app:1", platform=Platform(architecture=FOREIGN))
    image, fetched = core.store.ensure(foreign)
    assert fetched
    assert (version(native), version(image)) == ("mine", "other")
    assert native.digest != index
    assert index in native.digests
    # Neither takes the name of the other, so two bundles of two platforms stay as they are.
    assert core.store.ensure(foreign) == (image, False)
    assert core.store.find(f"{registry.address}/app:1").id == native.id
    by_digest, fetched = core.store.ensure(plain(registry, f"app@{index}"))
    assert (by_digest.id, fetched) == (native.id, False)
    explicit = plain(registry, "app:1", platform=host_platform())
    assert core.store.ensure(explicit)[0].id == native.id


def test_index_without_the_platform(core, layout, make_registry):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:multi", "app:1", everything=True)
    with pytest.raises(NotFound, match="for this platform"):
        core.store.ensure(plain(registry, "app:1", platform=Platform(architecture="riscv64")))


def test_single_image_of_another_platform_is_refused_when_one_is_asked_for(core, layout):
    source = ImageSource(reference=f"oci:{layout.path}:v1", platform=Platform(architecture=FOREIGN))
    with pytest.raises(InvalidSpec, match=f"not for linux/{FOREIGN}"):
        core.store.ensure(source)
    assert core.store.list() == []


# ---- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "docker-archive", "dir"])
def test_local_transport(core, layout, tmp_path, transport):
    target = f"{transport}:{tmp_path}/copy" + {"dir": "", "docker-archive": ":app:1"}.get(transport, ":x")
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout.path}:v1", target], check=True, timeout=60)
    source = ImageSource(reference=target)
    image, fetched = core.store.ensure(source)
    assert fetched
    assert version(image) == "1"
    count = len(core.runner.calls)
    assert core.store.ensure(source) == (image, False)
    assert core.store.find(target) == image
    assert len(core.runner.calls) == count
    bundle = core.manager.create(ContainerSpec(name="a", command=("sh",)), source)
    assert bundle.record.identity["image"] == image.id


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "docker-archive", "dir"])
def test_local_source_missing(core, transport):
    with pytest.raises(NotFound, match="does not exist"):
        core.store.ensure(ImageSource(reference=f"{transport}:/nonexistent/x"))
    assert core.runner.calls == []


def test_local_ref_missing(core, layout):
    with pytest.raises(NotFound):
        core.store.ensure(ImageSource(reference=f"oci:{layout.path}:none"))


def test_local_layout_that_changed_is_another_image(core, layout):
    source = ImageSource(reference=f"oci:{layout.path}:v1")
    first, _unused = core.store.ensure(source)
    layout.add_image("v1", [busybox_layer(), tar_layer([File("version", b"new")])], {"Cmd": ["sh"]})
    assert core.store.find(source) is None
    second, fetched = core.store.ensure(source)
    assert fetched
    assert version(second) == "new"
    assert [image.id for image in core.store.list()] == [second.id], "nothing needs the old one"
    assert first.id != second.id


def test_local_layout_that_changed_keeps_what_a_bundle_needs(core, layout):
    source = ImageSource(reference=f"oci:{layout.path}:v1")
    bundle = core.manager.create(ContainerSpec(name="a"), source)
    layout.add_image("v1", [tar_layer([File("version", b"new")])], {"Cmd": ["sh"]})
    core.store.ensure(source)
    assert pathlib.Path(bundle.rootfs_path, "version").read_text() == "1"
    assert core.manager.load("a").problems == []


def test_host_store(core, layout, tmp_path):
    shared = f"[overlay@{core.top}/host+{core.top}/hostrun]"
    target = f"containers-storage:{shared}localhost/app:1"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout.path}:v1", target], check=True, timeout=60)
    image, fetched = core.store.ensure(ImageSource(reference=target))
    assert fetched
    assert version(image) == "1"
    assert image.layer_dirs[0].startswith(core.paths.storage)
    by_id = ImageSource(reference=f"containers-storage:{shared}@{image.id}")
    assert core.store.ensure(by_id)[0].id == image.id
    with pytest.raises(NotFound, match="holds no image"):
        core.store.ensure(ImageSource(reference=f"containers-storage:{shared}localhost/none"))


def test_additional_store_is_read_where_it_lies(core, layout):
    root = f"{core.top}/host"
    target = f"containers-storage:[overlay@{root}+{core.top}/hostrun]quay.io/org/app:1"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout.path}:v1", target], check=True, timeout=60)
    store = ImageStore(core.paths, core.runner, additional=[root])
    image, fetched = store.ensure(ImageSource(reference="quay.io/org/app:1"))
    assert not fetched
    assert core.runner.calls == []
    assert all(layer.startswith(root) for layer in image.layer_dirs)
    assert store.list() == [image]
    with pytest.raises(Conflict, match="another image store"):
        store.remove("quay.io/org/app:1")


# ---- together --------------------------------------------------------------------------------------------


class SlowRunner(SubprocessRunner):
    """Holds back each copy until all who want one have come."""

    def __init__(self, barrier):
        self.barrier = barrier
        self.copies = 0

    def run(self, argv, **options):
        if "copy" in argv:
            self.copies += 1
            self.barrier.wait(timeout=30)
        return super().run(argv, **options)


@pytest.mark.parametrize("policy", [PullPolicy.MISSING, PullPolicy.ALWAYS])
def test_together_one_fetches_for_all(core, layout, policy):
    """Those who came before the fetch ended take its result."""
    count = 6
    started = threading.Barrier(count)
    release = threading.Event()

    class Once(SubprocessRunner):
        copies = 0

        def run(self, argv, **options):
            if "copy" in argv:
                Once.copies += 1
                assert release.wait(30)
            return super().run(argv, **options)

    source = ImageSource(reference=f"oci:{layout.path}:v1", policy=policy)
    runner = Once()

    def fetch():
        store = ImageStore(core.paths, runner)
        started.wait(30)
        return store.ensure(source)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(fetch) for _unused in range(count)]
        threading.Timer(0.5, release.set).start()
        results = [future.result(60) for future in futures]
    assert Once.copies == 1
    assert len({image.id for image, _unused in results}) == 1
    assert all(fetched for _unused, fetched in results)


def test_together_who_does_not_trust_others_asks_for_himself(core, layout, make_registry):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "app:1")
    source = plain(registry, "app:1", policy=PullPolicy.ALWAYS, trusts_others=False)
    lock = fetch_lock(core.paths, core.store._wanted(source).name)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        with locked(lock):
            futures = [pool.submit(core.store.ensure, source) for _unused in range(3)]
            with pytest.raises(TimeoutError):
                futures[0].result(0.3)
        results = [future.result(60)[0].id for future in futures]
    assert len(set(results)) == 1
    assert pulls(core) == 3


def test_together_different_images_do_not_wait_for_each_other(core, layout):
    barrier = threading.Barrier(2)
    runner = SlowRunner(barrier)

    def fetch(tag):
        store = ImageStore(core.paths, runner)
        return store.ensure(ImageSource(reference=f"oci:{layout.path}:{tag}"))[0]

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        images_ = list(pool.map(fetch, ["v1", "v2"]))
    assert [version(image) for image in images_] == ["1", "2"]
    assert runner.copies == 2


def test_together_waits_no_longer_than_its_time(core, layout):
    source = ImageSource(reference=f"oci:{layout.path}:v1", timeout_s=0.2)
    lock = fetch_lock(core.paths, core.store._wanted(source).name)
    with (
        locked(lock),
        pytest.raises(Conflict, match="has been working on the image"),
    ):
        core.fresh().store.ensure(source)


def test_timeout_kills_and_next_run_works(core, layout):
    slow = dataclasses.replace(ImageSource(reference=f"oci:{layout.path}:v1"), timeout_s=0.001)
    with pytest.raises(CommandTimeout, match="not fetched in time"):
        core.store.ensure(slow)
    assert core.store.list() == []
    assert version(core.store.ensure(dataclasses.replace(slow, timeout_s=60))[0]) == "1"


# ---- removing --------------------------------------------------------------------------------------------


def test_remove_by_name_id_and_repeat(core, layout):
    source = ImageSource(reference=f"oci:{layout.path}:v1")
    image, _unused = core.store.ensure(source)
    assert core.store.remove(source.reference) is True
    assert core.store.find(source) is None
    assert core.store.remove(source.reference) is False
    assert not any(os.path.exists(layer) for layer in image.layer_dirs)
    image, _unused = core.store.ensure(source)
    assert core.store.remove(image.id) is True
    assert core.store.remove(f"sha256:{image.id}") is False


def test_remove_one_of_two_names(core, layout, make_registry):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "app:1")
    registry.push(f"oci:{layout.path}:v1", "app:2")
    first, _unused = core.store.ensure(plain(registry, "app:1"))
    second, _unused = core.store.ensure(plain(registry, "app:2"))
    assert first.id == second.id
    assert core.store.remove(f"{registry.address}/app:1")
    assert core.store.find(f"{registry.address}/app:1") is None
    assert core.store.find(f"{registry.address}/app:2").id == first.id
    # skopeo agrees with what was written into its files.
    again, fetched = core.store.ensure(plain(registry, "app:1"))
    assert fetched
    assert set(again.names) == {f"{registry.address}/app:{number}" for number in (1, 2)}


def test_remove_in_use_names_the_users(core, layout):
    source = ImageSource(reference=f"oci:{layout.path}:v1")
    core.manager.create(ContainerSpec(name="one"), source)
    image = Mount(kind=MountKind.IMAGE, destination="/i", source=source.reference)
    other = ImageSource(reference=f"oci:{layout.path}:v2")
    core.manager.create(ContainerSpec(name="two", mounts=(image,)), other)
    with pytest.raises(Conflict, match="in use by play/one, play/two"):
        core.store.remove(source.reference)
    core.manager.remove("one")
    with pytest.raises(Conflict, match="in use by play/two"):
        core.store.remove(source.reference)
    core.manager.remove("two")
    assert core.store.remove(source.reference)


def test_remove_counts_damaged_records_as_users(core, layout):
    source = ImageSource(reference=f"oci:{layout.path}:v1")
    bundle = core.manager.create(ContainerSpec(name="one"), source)
    pathlib.Path(bundle.path, "pvecri.json").write_text("{")
    with pytest.raises(Conflict, match=r"play/one \(damaged\)"):
        core.store.remove(source.reference)


# ---- the store's own troubles ----------------------------------------------------------------------------


def test_store_layer_directory_gone_is_fetched_again(core, layout):
    source = ImageSource(reference=f"oci:{layout.path}:v1")
    image, _unused = core.store.ensure(source)
    core.store.ensure(ImageSource(reference=f"oci:{layout.path}:v2"))
    # The lowest layer, which both images share.
    shutil.rmtree(os.path.dirname(image.layer_dirs[-1]))
    fresh = core.fresh()
    assert fresh.store.find(source) is None
    assert fresh.store.list() == []
    again, fetched = fresh.store.ensure(source)
    assert fetched
    assert version(again) == "1"
    assert core.manager.create(ContainerSpec(name="a"), source).problems == []


def test_store_layer_directory_gone_under_a_bundle(core, layout):
    source = ImageSource(reference=f"oci:{layout.path}:v1")
    bundle = core.manager.create(ContainerSpec(name="a"), source)
    core.manager.unmount(bundle)
    lowest = bundle.record.layers[-1]
    shutil.rmtree(os.path.dirname(lowest))
    assert core.manager.load("a").problems == [f"the layer {lowest} is missing"]
    with pytest.raises(Conflict, match="play/a need are missing"):
        core.store.ensure(source)


def test_missing_skopeo_is_named(core, layout, monkeypatch):
    monkeypatch.setattr(command, "DEFAULT_PATH", "/nonexistent")
    with pytest.raises(MissingDependency, match="skopeo") as caught:
        core.store.ensure(ImageSource(reference=f"oci:{layout.path}:v1"))
    assert "Debian package 'skopeo'" in caught.value.hint


def test_support_layout_is_deterministic(tmp_path):
    one = images.busybox_image(tmp_path / "a")
    two = images.busybox_image(tmp_path / "b")
    assert (
        pathlib.Path(one.path, "index.json").read_bytes() == pathlib.Path(two.path, "index.json").read_bytes()
    )


# ---- what is here already ----------------------------------------------------------------------------------


def test_stored_source_is_used_and_never_fetched(core, layout):
    image, _unused = core.store.ensure(ImageSource(reference=f"oci:{layout.path}:v1"))
    other, _unused = core.store.ensure(ImageSource(reference=f"oci:{layout.path}:v2"))
    core.runner.calls.clear()
    mount = Mount(kind=MountKind.IMAGE, destination="/other", source=other.id)
    source = StoredSource(image_id=f"sha256:{image.id}", reference="app:1")
    bundle = core.manager.create(ContainerSpec(name="a", mounts=(mount,)), source)
    assert bundle.record.identity == {"image": image.id, "digest": image.digest}
    assert bundle.record.images == (image.id, other.id)
    assert bundle.record.source == {"kind": "image", "reference": "app:1"}
    assert "skopeo" not in core.runner.programs()
    missing = Mount(kind=MountKind.IMAGE, destination="/other", source="quay.io/no/such:1")
    with pytest.raises(NotFound, match=r"mounts\[0\].source: quay.io/no/such:1 is not in the image store"):
        core.manager.create(ContainerSpec(name="b", mounts=(missing,)), source)
    with pytest.raises(NotFound, match="there is no image"):
        core.manager.create(ContainerSpec(name="b"), StoredSource(image_id="0" * 64))
    assert core.manager.names() == ["a"]


def test_with_runner_shares_what_was_read(core, layout):
    runner = CountingRunner()
    other = core.store.with_runner(runner)
    image, _unused = other.ensure(ImageSource(reference=f"oci:{layout.path}:v1"))
    assert runner.programs() == ["skopeo"]
    assert core.runner.calls == []
    assert core.store.find(image.id) is other.find(image.id)
    assert core.store.is_own(image)
    assert core.store.files_of(image).config_document(image)


def test_untag_leaves_the_image(core, layout, make_registry):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "app:1")
    image, _unused = core.store.ensure(plain(registry, "app:1"))
    before = core.store.stamp()
    core.store.untag(image, image.names)
    assert core.store.stamp() != before
    assert core.store.find(image.id).names == ()


@pytest.mark.parametrize("by", ["name", "id"])
def test_remove_what_is_broken(core, layout, make_registry, by):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "app:1")
    image, _unused = core.store.ensure(plain(registry, "app:1"))
    shutil.rmtree(os.path.dirname(image.layer_dirs[0]))
    reference = image.names[0] if by == "name" else f"sha256:{image.id}"
    assert core.store.find(reference) is None
    assert core.store.remove(reference) is True
    assert core.store.remove(reference) is False
    assert json.loads(pathlib.Path(core.paths.storage, "overlay-images/images.json").read_text()) == []


def test_remove_what_is_broken_and_needed(core, layout, make_registry):
    registry = make_registry()
    registry.push(f"oci:{layout.path}:v1", "app:1")
    image, _unused = core.store.ensure(plain(registry, "app:1"))
    core.manager.create(ContainerSpec(name="a"), StoredSource(image_id=image.id))
    # Only what the layer is called by: the container still has it.
    (pathlib.Path(core.paths.storage, "overlay-layers/layers.json")).write_text("[]")
    with pytest.raises(Conflict, match="in use by play/a"):
        core.store.remove(image.id)
