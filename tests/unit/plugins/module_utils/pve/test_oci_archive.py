# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from OCI archives, and which are refused."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import oci_archive
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Layout:
    """Build an archive of images in memory."""

    def __init__(self):
        self.files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def blob(self, value, media_type=MANIFEST, **more):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}

    def image(self, arch="amd64", os="linux", **config):
        blob = self.blob({"architecture": arch, "os": os, "config": config}, "application/x")
        return self.blob({"schemaVersion": 2, "config": blob, "layers": []}, platform={"architecture": arch})

    def index(self, *descriptors):
        self.files["index.json"] = json.dumps({"manifests": list(descriptors)}).encode()
        return self

    def write(self, path, prefix=""):
        with tarfile.open(path, "w") as archive:
            for name, data in self.files.items():
                info = tarfile.TarInfo(prefix + name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return str(path)


@pytest.fixture
def layout():
    return Layout()


def test_inspect_reads_the_image(layout, tmp_path):
    image = layout.image(Env=["A=1", "B=2"], Entrypoint=["/entry"], Cmd=["run"])
    info = oci_archive.inspect_archive(layout.index(image).write(tmp_path / "a.tar"))
    assert info == oci_archive.ArchiveInfo(
        image["digest"], "amd64", "linux", ("A=1", "B=2"), ("/entry",), ("run",)
    )
    assert not info.runs_init


def test_inspect_chooses_the_architecture_also_below_an_index(layout, tmp_path):
    images = [layout.image(arch) for arch in ("amd64", "arm64", "386")]
    nested = layout.blob({"manifests": images}, INDEX)
    path = layout.index(nested).write(tmp_path / "a.tar")
    assert oci_archive.inspect_archive(path, architecture="arm64").digest == images[1]["digest"]
    assert oci_archive.inspect_archive(path, architecture="i386").architecture == "i386"
    assert oci_archive.inspect_archive(path, architecture="riscv64").architecture == "amd64"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda files: files.pop("oci-layout"), "no members 'oci-layout' and 'index.json'"),
        (lambda files: files.pop("index.json"), "no members 'oci-layout' and 'index.json'"),
        (lambda files: files.update({"index.json": b"{"}), "index.json is no JSON document"),
        (lambda files: files.update({"index.json": b'{"manifests": []}'}), "holds no image"),
        (lambda files: files.update({"index.json": b"[]"}), "holds no image"),
        (lambda files: files.pop(next(n for n in files if n.startswith("blobs"))), "lacks blobs/sha256/"),
        (lambda files: files.update({n: b"{}" for n in files if n.startswith("blobs")}), "is damaged"),
    ],
)
def test_inspect_refuses(layout, tmp_path, spoil, problem):
    layout.index(layout.image())
    spoil(layout.files)
    with pytest.raises(InvalidSpec, match=problem) as caught:
        oci_archive.inspect_archive(layout.write(tmp_path / "a.tar"), field="image")
    assert caught.value.field == "image"


def test_inspect_refuses_names_that_proxmox_ve_does_not_know(layout, tmp_path):
    path = layout.index(layout.image()).write(tmp_path / "a.tar", prefix="./")
    with pytest.raises(InvalidSpec, match=r"only ones with '\./' in front"):
        oci_archive.inspect_archive(path)


def test_inspect_refuses_huge_documents(layout, tmp_path, monkeypatch):
    monkeypatch.setattr(oci_archive, "_LARGEST_JSON", 10)
    with pytest.raises(InvalidSpec, match="no JSON document"):
        oci_archive.inspect_archive(layout.index(layout.image()).write(tmp_path / "a.tar"))


@pytest.mark.parametrize("content", [None, b"", b"nonsense" * 100, b"\x1f\x8b compressed"])
def test_inspect_refuses_what_is_no_archive(tmp_path, content):
    path = tmp_path / "a.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidSpec, match=r"cannot be read as a tar archive|no members"):
        oci_archive.inspect_archive(str(path))


INFO = oci_archive.ArchiveInfo("sha256:1", "amd64", "linux")


@pytest.mark.parametrize(
    ("image", "options", "field"),
    [
        ({}, {}, None),
        ({"arch": "arm64"}, {"arch": "arm64"}, None),
        ({"arch": "arm64"}, {}, "image"),
        ({"arch": "amd64"}, {"arch": "arm64"}, "image"),
        ({"os": "windows"}, {}, "image"),
        ({"Env": ["A=x y"]}, {}, None),
        ({"Env": ["A=x\ny"]}, {}, "image"),
        ({"Env": ["A=x\ry"]}, {}, "image"),
        ({"Env": ["A=x\0y"]}, {}, "image"),
        ({}, {"networks": {"net0": "name=eth0,ip6=auto"}}, "networks.net0.ip6"),
        ({"Entrypoint": ["/sbin/init"]}, {"networks": {"net0": "name=eth0,ip6=auto"}}, None),
        ({"Cmd": ["/sbin/init"]}, {"networks": {"net0": "name=eth0,ip6=auto", "net1": None}}, None),
        ({}, {"networks": {"net0": "name=eth0,ip6=dhcp"}}, None),
    ],
)
def test_check_archive(layout, tmp_path, image, options, field):
    info = oci_archive.inspect_archive(layout.index(layout.image(**image)).write(tmp_path / "a.tar"))
    spec = parse_spec({"vmid": 100, **options})
    if field is None:
        oci_archive.check_archive(info, spec)
        return
    with pytest.raises(InvalidSpec) as caught:
        oci_archive.check_archive(info, spec)
    assert caught.value.field == field
