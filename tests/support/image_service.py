# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give tests the endpoint's image service over a store of their own.

from ansible_collections.pvecri.runtime.tests.support.image_service import Images, images  # noqa: F401

def test_pull(images):
    images.trust(registry.address)                 # plain HTTP
    service = images.service(max_parallel_pulls=1)
    service.pull(spec(f"{registry.address}/app:1"))
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import threading
import types
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from ansible_collections.pvecri.runtime.tests.support import host
from pvecri.api import cri_pb2 as pb
from pvecri.config.model import Config, ImagesConfig
from pvecri.daemon.logs import fields_of
from pvecri.disk.layers import layers_of
from pvecri.images.service import ImageService


def spec(image: str) -> pb.ImageSpec:
    """Return the message that names an image."""
    return pb.ImageSpec(image=image)


class LogRecords(logging.Handler):
    """Keeps what is logged: messages with their fields."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, dict[str, t.Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self.lines.append((record.getMessage(), fields_of(record)))

    def of(self, message: str) -> list[dict[str, t.Any]]:
        """Return the fields of all events with this message."""
        return [fields for text, fields in self.lines if text == message]


class Images:
    """A core's store, and services over it with their own configurations."""

    def __init__(self, core: host.Core) -> None:
        self.core = core
        self.paths = Paths(core.paths.state_dir, core.paths.run_dir, owner=Owner.CRI)
        self.runner = core.runner
        self.store = core.store
        self.logged = LogRecords()
        self.log = logging.Logger("test", logging.DEBUG)
        self.log.addHandler(self.logged)
        self.registries_conf = pathlib.Path(core.top, "registries.conf")
        self.registries_conf.write_text("")
        self._services: list[ImageService] = []

    def trust(self, address: str) -> None:
        """Let a registry be reached without TLS."""
        self.configure(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')

    def configure(self, text: str) -> None:
        """Add to the registries.conf of the services."""
        with self.registries_conf.open("a") as stream:
            stream.write(text)

    def service(self, natives: t.Any = None, archives: t.Any = None, **options: t.Any) -> ImageService:
        """Return a new service; ``options`` are keys of the section images."""
        options = {"registries_conf": str(self.registries_conf), "no_progress_timeout_s": 30.0, **options}
        context: t.Any = types.SimpleNamespace(
            config=Config(images=ImagesConfig(**options)),
            paths=self.paths,
            runner=self.runner,
            store=self.store,
            log=self.log,
            # No containers, and so none whose disk is another's.
            registry=types.SimpleNamespace(containers=list),
            runtimes=None,
        )
        made = ImageService(context, layers_of(context), natives, archives)
        self._services.append(made)
        return made

    def close(self) -> None:
        """End all pulls, and wait for their threads."""
        for service in self._services:
            service.close()
        for thread in threading.enumerate():
            if thread.name.startswith(("pull-", "image-", "writable-")):
                thread.join(30)


@contextlib.contextmanager
def made_images() -> t.Iterator[Images]:
    """Provide an `Images` below a short path, and clear everything away after."""
    with host.made_core() as core:
        made = Images(core)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def images() -> t.Iterator[Images]:
    """The image services of one test."""
    reason = host.missing()
    if reason:
        pytest.skip(reason)
    with made_images() as made:
        yield made


def listed(service: ImageService, image: str = "") -> list[pb.Image]:
    """Return what ListImages answers."""
    request = pb.ListImagesRequest()
    if image:
        request.filter.image.image = image
    return list(pb.ListImagesResponse.FromString(service.list_bytes(request.filter)).images)


def status(service: ImageService, image: str, *, is_verbose: bool = False) -> pb.ImageStatusResponse:
    """Return what ImageStatus answers."""
    return pb.ImageStatusResponse.FromString(service.status_bytes(spec(image), is_verbose=is_verbose))
