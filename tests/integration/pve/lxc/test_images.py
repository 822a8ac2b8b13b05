# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring real images to a node with the real skopeo, and make containers of them."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import oci_archive, template
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec
from ansible_collections.pvecri.runtime.tests.support import registry
from ansible_collections.pvecri.runtime.tests.support.images import File, OciLayout, tar_layer
from ansible_collections.pvecri.runtime.tests.support.pve_lxc import writes

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")

LAYER = tar_layer([File("etc/motd", b"hello\n")])


@pytest.fixture
def layout(tmp_path):
    """Make a layout with an image for each of two architectures, and some that must be refused."""
    layout = OciLayout(tmp_path / "layout")
    config = {"Cmd": ["/app"], "Env": ["PATH=/bin"]}
    members = {
        arch: layout.add_image(None, [LAYER], config, architecture=arch) for arch in ("amd64", "arm64")
    }
    layout.add_index("both", members)
    layout.add_image("plain", [LAYER], config)
    layout.add_image("foreign", [LAYER], config, architecture="arm64")
    layout.add_image("broken-env", [LAYER], {**config, "Env": ["PATH=/bin", "KEY=one\ntwo"]})
    return layout


@pytest.fixture
def archive(layout, tmp_path):
    """Return the path of an OCI archive as skopeo writes it."""
    path = tmp_path / "my app.tar"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout.path}:plain", f"oci-archive:{path}"], check=True)
    return str(path)


def templates(cluster):
    volumes = cluster.pve.storages["local"]["volumes"]
    return sorted(name.partition("/")[2] for name in volumes if not name.endswith((".zst", "/app.tar")))


def test_archive_of_skopeo_is_one_that_proxmox_ve_knows(archive):
    with tarfile.open(archive) as opened:
        names = opened.getnames()
    assert "oci-layout" in names
    assert "index.json" in names
    assert oci_archive.inspect_archive(archive).command == ("/app",)


def test_image_is_pulled_uploaded_and_used(cluster, run, layout):
    options = {"hostname": "app", "image": f"oci:{layout.path}:plain", "storage": "local-lvm", "node": "pve1"}
    result = run(state="started", **options)
    assert result["container"]["status"] == "running"
    (name,) = templates(cluster)
    assert name.startswith("layout_")
    assert name.endswith(".tar")
    assert cluster.pve.uploaded["content"] == "vztmpl"
    sent = pathlib.Path(layout.path, "sent.tar")
    sent.write_bytes(cluster.pve.uploaded["data"])
    assert oci_archive.inspect_archive(str(sent)).env == ("PATH=/bin",)
    assert not run(state="started", **options)["changed"]


def test_image_is_brought_once_for_each_digest(cluster, run, layout):
    options = {"image": f"oci:{layout.path}:plain", "storage": "local-lvm", "node": "pve1"}
    run(hostname="a", **options)
    run(hostname="b", **options)
    assert len(templates(cluster)) == 1
    assert len([path for method, path in writes(cluster) if path.endswith("/upload")]) == 1
    layout.add_image("plain", [LAYER], {"Cmd": ["/newer"]})
    run(hostname="c", **options)
    assert len(templates(cluster)) == 2


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_index_is_resolved_for_the_containers_architecture(cluster, run, layout, arch):
    image = f"oci:{layout.path}:both"
    run(hostname="a", image=image, storage="local-lvm", node="pve1", arch=arch)
    sent = pathlib.Path(layout.path, "sent.tar")
    sent.write_bytes(cluster.pve.uploaded["data"])
    assert oci_archive.inspect_archive(str(sent)).architecture == arch


@pytest.mark.parametrize("form", ["{}", "oci-archive:{}"])
def test_archive_by_path(cluster, run, archive, form):
    run(hostname="a", image=form.format(archive), storage="local-lvm", node="pve1")
    (name,) = templates(cluster)
    assert name.startswith("my-app_")


@pytest.mark.parametrize(
    ("tag", "problem"),
    [
        ("foreign", "image is for arm64, the container for amd64"),
        ("broken-env", "variable 'KEY' holds a line break"),
        ("missing", "does not exist"),
    ],
)
def test_image_that_would_make_a_broken_container_is_refused(cluster, run, layout, tag, problem):
    result = run(fails=True, hostname="a", image=f"oci:{layout.path}:{tag}", storage="local-lvm", node="pve1")
    assert problem in result["msg"]
    assert writes(cluster) == []
    assert cluster.pve.cts == []


def test_image_in_check_mode_is_not_even_pulled(cluster, run, layout):
    result = run(check=True, hostname="a", image=f"oci:{layout.path}:missing", node="pve1")
    assert result["changed"]


def test_batch_brings_an_image_once(cluster, run, layout):
    entries = [{"hostname": f"a{number}"} for number in range(6)]
    run(containers=entries, image=f"oci:{layout.path}:plain", storage="local-lvm", node="pve1")
    assert len([path for _unused, path in writes(cluster) if path.endswith("/upload")]) == 1
    assert len(cluster.pve.cts) == 6


def test_storage_that_takes_no_templates(run, layout):
    options = {"hostname": "a", "image": f"oci:{layout.path}:plain", "storage": "local-lvm", "node": "pve1"}
    result = run(fails=True, image_storage="local-lvm", **options)
    assert "local-lvm" in result["msg"]


def test_upload_that_fails_is_told(cluster, run, layout):
    cluster.pve.fail("POST", "/nodes/pve1/storage/local/upload", 500, "no space left on device")
    result = run(fails=True, hostname="a", image=f"oci:{layout.path}:plain", storage="local-lvm", node="pve1")
    assert "no space left" in result["msg"]
    assert cluster.pve.cts == []


class TestOnTheNodeItself:
    @pytest.fixture
    def cache(self, cluster, tmp_path):
        path = tmp_path / "storage"
        (path / "template/cache").mkdir(parents=True)
        cluster.pve.storages["local"]["path"] = str(path)
        return path / "template/cache"

    def prepare(self, cluster, image, **options):
        spec = parse_spec({"hostname": "a", "image": image, **options})
        return template.prepare(cluster.client(), "pve1", spec, here="pve1")

    def test_image_is_put_there_by_a_rename(self, cluster, layout, cache):
        found = self.prepare(cluster, f"oci:{layout.path}:plain")
        assert (found.is_oci, found.is_new) == (True, True)
        (file,) = cache.iterdir()
        assert found.volid == f"local:vztmpl/{file.name}"
        assert oci_archive.inspect_archive(str(file)).command == ("/app",)
        assert oct(file.stat().st_mode)[-3:] == "644"
        assert cluster.pve.uploaded is None

    def test_leftovers_of_killed_runs_are_swept(self, cluster, layout, cache, tmp_path, monkeypatch):
        temporary = tmp_path / "tmp"
        (temporary / "pvecri-image-ab_c1" / "blobs").mkdir(parents=True)
        monkeypatch.setattr(template.tempfile, "tempdir", str(temporary))
        half, young = cache / f".app_{'0' * 16}.tar.deadbeef", cache / f".app_{'1' * 16}.tar.deadbeef"
        for path in (half, young):
            path.write_bytes(b"part")
        for path in (half, temporary / "pvecri-image-ab_c1"):
            os.utime(path, (1, 1))
        self.prepare(cluster, f"oci:{layout.path}:plain")
        assert list(temporary.iterdir()) == []
        assert (half.exists(), young.exists()) == (False, True)

    def test_directory_that_cannot_be_written_is_uploaded_to(self, cluster, layout, cache):
        shutil.rmtree(cache)
        assert self.prepare(cluster, f"oci:{layout.path}:plain").is_new
        assert cluster.pve.uploaded is not None

    def test_full_storage_leaves_no_half_file(self, cluster, archive, cache, monkeypatch):
        def full(_source, target):
            with open(target, "wb") as stream:
                stream.write(b"part")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(template.shutil, "copyfile", full)
        assert not template.place(cluster.client(), "local", archive, "x.tar")
        assert list(cache.iterdir()) == []

    def test_storage_that_may_not_be_read_is_uploaded_to(self, cluster, archive):
        cluster.pve.fail("GET", "/storage/local", 403, "Permission check failed")
        assert not template.place(cluster.client(), "local", archive, "x.tar")

    def test_template_that_is_at_hand_is_looked_into(self, cluster, layout, cache, monkeypatch):
        # Proxmox VE 9.1 takes *.tar for a template, and fakepve does not yet.
        monkeypatch.setattr("fakepve.storage.TEMPLATE_EXT", r"\.tar")
        target = cache / "bad.tar"
        subprocess.run(
            ["skopeo", "copy", "-q", f"oci:{layout.path}:broken-env", f"oci-archive:{target}"], check=True
        )
        cluster.pve.store_file("local", "bad.tar", 1, "vztmpl")
        spec = parse_spec({"hostname": "a", "ostemplate": "local:vztmpl/bad.tar"})
        with pytest.raises(InvalidSpec, match="holds a line break") as caught:
            template.prepare(cluster.client(), "pve1", spec, here="pve1")
        assert caught.value.field == "ostemplate"
        # From elsewhere nobody can look into it, and Proxmox VE takes what is in it.
        assert template.prepare(cluster.client(), "pve1", spec, here="").is_oci


@pytest.mark.skipif(not registry.is_available(), reason="docker-registry is not installed")
class TestRegistry:
    def test_image_from_a_registry(self, cluster, run, layout, tmp_path):
        with registry.Registry(tmp_path / "registry") as server:
            server.push(f"oci:{layout.path}:plain", "team/app:1.4")
            image = f"{server.address}/team/app:1.4"
            options = {"image": image, "image_tls_verify": False, "storage": "local-lvm", "node": "pve1"}
            run(hostname="a", **options)
            (name,) = templates(cluster)
            assert name.startswith("app_1.4_")
            result = run(fails=True, hostname="b", **{**options, "image": f"{server.address}/team/none:1"})
            assert "does not exist" in result["msg"]

    def test_docker_image_becomes_an_oci_archive(self, cluster, run, layout, tmp_path):
        with registry.Registry(tmp_path / "registry") as server:
            name = f"{server.address}/team/app:1"
            target = ["--dest-tls-verify=false", "--format=v2s2", f"docker://{name}"]
            subprocess.run(["skopeo", "copy", "-q", f"oci:{layout.path}:plain", *target], check=True)
            options = {"storage": "local-lvm", "node": "pve1", "image_tls_verify": False}
            run(hostname="a", image=name, **options)
        sent = tmp_path / "sent.tar"
        sent.write_bytes(cluster.pve.uploaded["data"])
        assert oci_archive.inspect_archive(str(sent)).command == ("/app",)

    def test_registry_that_is_down(self, run):
        result = run(fails=True, hostname="a", image="127.0.0.1:1/app:1", storage="local-lvm", node="pve1")
        assert result["error"] == "command_failed"
        assert "connection refused" in result["msg"]


def test_what_is_needed_to_prepare(cluster):
    with pytest.raises(InvalidSpec, match="ostemplate"):
        template.prepare(cluster.client(), "pve1", parse_spec({"vmid": 100}))


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("docker.io/library/nginx:1.27", "nginx_1.27_"),
        ("quay.io/a/b@sha256:" + "0" * 64, "b_"),
        ("oci:/srv/my layout:tag", "my-layout_"),
        ("/srv/app.tar", "app_"),
        ("dir:/srv/ä", "image_"),
    ],
)
def test_archive_name(image, name):
    made = template.archive_name(template._location(image), "sha256:" + "ab" * 32)
    assert made == f"{name}abababababababab.tar"


def test_multipart_is_read_in_pieces(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 5000)
    with open(path, "rb") as stream:
        body = template.Multipart({"a": "1"}, "filename", "f.tar", stream)
        pieces = iter(lambda: body.read(7), b"")
        data = b"".join(pieces)
    assert len(data) == len(body)
    assert data.count(b"x" * 5000) == 1
    assert data.endswith(b"--\r\n")


def test_skopeo_that_fails_is_explained(cluster, layout):
    class Broken:
        def run(self, argv, **_more):
            if "inspect" in argv:
                return type("Done", (), {"stdout": "x"})
            raise CommandError("no", stderr='level=fatal msg="no space left on device"')

    spec = parse_spec({"hostname": "a", "image": f"oci:{layout.path}:plain"})
    with pytest.raises(CommandError, match="no space left") as caught:
        template.prepare(cluster.client(), "pve1", spec, runner=Broken(), here="")
    assert caught.value.hint
