# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give tests the image service of an endpoint on a node of a fake Proxmox VE.

from ansible_collections.pvecri.runtime.tests.support.image_service import images  # noqa: F401
from ansible_collections.pvecri.runtime.tests.support.template_lab import lab  # noqa: F401

The fake's downloads take no time and write no part of a file first, as Proxmox VE's do.
"""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support import pve_storage_routes
from ansible_collections.pvecri.runtime.tests.support.fakepve import FakeCluster
from ansible_collections.pvecri.runtime.tests.support.image_service import Images, spec
from ansible_collections.pvecri.runtime.tests.support.images import File, OciLayout, tar_layer
from ansible_collections.pvecri.runtime.tests.support.layout_registry import LayoutRegistry
from ansible_collections.pvecri.runtime.tests.support.lxc_driver import node_of
from ansible_collections.pvecri.runtime.tests.support.templates import add_storage, packed_template
from pvecri.api import cri_pb2 as pb
from pvecri.config.model import PveConfig
from pvecri.images.service import ImageService
from pvecri.pve.native import NativeTemplates

OLD, NEW = (f"debian-12-standard_12.{number}-1_amd64.tar.zst" for number in (2, 11))
ALPINE = "alpine-3.20-default_20240908_amd64.tar.zst"
FOREIGN = "debian-12-standard_13.0-1_arm64.tar.zst"
DEBIAN = "lxc/debian-12-standard"


class TemplateLab:
    """A node with templates on its list, an empty storage, and services over both."""

    def __init__(self, tmp_path: pathlib.Path, images: Images) -> None:
        self.images = images
        self.tmp_path = tmp_path
        self.cluster = FakeCluster(str(tmp_path / "pki"), time_scale=1.0)
        self.storage = pve_storage_routes.install(self.cluster.pve, str(tmp_path / "vz"))
        self.storage.appliances.update({name: packed_template(name) for name in (OLD, ALPINE, FOREIGN)})
        self.cluster.start()
        self.node = node_of(self.cluster, tmp_path)
        self.cache = add_storage(self.node.config_dir, "local", tmp_path / "vz")

    def service(self, sources: t.Mapping[str, t.Any] | None = None, **options: t.Any) -> ImageService:
        """Return what a daemon has after it has started."""
        config = PveConfig(templates=dict(sources or {}))
        natives = NativeTemplates(self.node, self.images.paths, config, self.images.log)
        self.natives = natives
        return self.images.service(natives=natives, **options)

    def stop(self) -> None:
        """End the node's API; may be called twice."""
        self.cluster.stop()

    def files(self) -> list[str]:
        """Return the names of what is on the storage."""
        return sorted(path.name for path in self.cache.iterdir())


def listed(service: ImageService) -> dict[str, pb.Image]:
    """Return the images that a client is shown, by id."""
    answer = pb.ListImagesResponse.FromString(service.list_bytes())
    return {image.id: image for image in answer.images}


def status(service: ImageService, name: str, *, is_verbose: bool = False) -> pb.ImageStatusResponse:
    """Return the status of an image."""
    return pb.ImageStatusResponse.FromString(service.status_bytes(spec(name), is_verbose=is_verbose))


@pytest.fixture
def lab(tmp_path: pathlib.Path, images: Images) -> t.Iterator[TemplateLab]:
    """A node with templates on its list and a storage without any, and a service over them."""
    made = TemplateLab(tmp_path, images)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def serve(tmp_path: pathlib.Path, images: Images) -> t.Iterator[t.Callable[[], LayoutRegistry]]:
    """Return a function that starts a registry with the image v1."""
    layout = OciLayout(tmp_path / "layout")
    layout.add_image("v1", [tar_layer([File("version", b"1")])], {"Cmd": ["sh"]}, compress=False)
    started: list[LayoutRegistry] = []

    def start() -> LayoutRegistry:
        registry = LayoutRegistry(layout)
        registry.__enter__()
        started.append(registry)
        images.trust(registry.address)
        return registry

    yield start
    for registry in started:
        registry.__exit__()
