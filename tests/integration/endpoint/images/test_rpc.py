# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ImageService over a socket: answers, statuses, repeats and clients that go away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading

import grpc
import pytest

from ansible_collections.pvecri.runtime.tests.support.cri_client import Cri, status_of
from ansible_collections.pvecri.runtime.tests.support.image_service import spec
from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb
from pvecri.config.model import ServerConfig
from pvecri.daemon.operations import Operations
from pvecri.rpc.gate import Gate
from pvecri.rpc.images import ImageRpc
from pvecri.rpc.server import Server


@contextlib.contextmanager
def served(images, service):
    """Serve the methods of a service in a thread; provide a client."""
    socket = f"{images.core.top}/rpc.sock"
    config = ServerConfig(socket=socket)
    ready, over = threading.Event(), threading.Event()

    async def serve():
        operations = Operations()
        gate = Gate(config.max_concurrent_rpcs)
        gate.open()
        handlers = ImageRpc(service, operations).handlers()
        server = Server(config, handlers, gate, images.log)
        await server.start(socket)
        ready.set()
        await asyncio.to_thread(over.wait)
        await server.stop(1)
        operations.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        with Cri(socket) as cri:
            yield cri
    finally:
        service.close()
        over.set()
        thread.join(20)


def test_life_of_an_image(images, serve):
    registry = serve()
    images.trust(registry.address)
    name = f"{registry.address}/app:v1"
    with served(images, images.service()) as cri:
        assert list(cri.list_images()) == []
        assert not cri.call("ImageStatus", pb.ImageStatusRequest(image=spec(name))).HasField("image")
        image_ref = cri.call("PullImage", pb.PullImageRequest(image=spec(name))).image_ref
        (image,) = cri.list_images()
        assert image.id == image_ref
        assert list(cri.list_images(name)) == [image]
        assert list(cri.list_images("quay.io/no/such")) == []
        answer = cri.call("ImageStatus", pb.ImageStatusRequest(image=spec(image_ref)))
        assert answer.image == image
        assert not answer.info
        verbose = cri.call("ImageStatus", pb.ImageStatusRequest(image=spec(name), verbose=True))
        assert verbose.image == image
        assert "imageSpec" in verbose.info["info"]
        usage = cri.call("ImageFsInfo", pb.ImageFsInfoRequest())
        assert usage.image_filesystems[0].used_bytes.value > 1 << 20
        for _unused in range(2):
            cri.call("RemoveImage", pb.RemoveImageRequest(image=spec(name)))
        assert list(cri.list_images()) == []


def test_statuses(images, serve):
    registry = serve()
    images.trust(registry.address)
    pinned = f"{registry.address}/app:v1"
    with served(images, images.service(pinned=(pinned,))) as cri:

        def pull(text, **auth):
            request = pb.PullImageRequest(image=spec(text))
            if auth:
                request.auth.CopyFrom(pb.AuthConfig(**auth))
            return cri.call("PullImage", request)

        pull(pinned)
        with refused("NOT_FOUND"):
            pull(f"{registry.address}/app:none")
        with refused("INVALID_ARGUMENT", "image.image: "):
            pull("../etc")
        with refused("INVALID_ARGUMENT", "image.image: "):
            cri.call("PullImage", pb.PullImageRequest())
        with refused("INVALID_ARGUMENT", "auth.auth: "):
            pull(pinned, auth="!")
        with refused("FAILED_PRECONDITION", "auth.registry_token"):
            pull(pinned, registry_token="x")
        for method, request in (
            ("ImageStatus", pb.ImageStatusRequest),
            ("RemoveImage", pb.RemoveImageRequest),
        ):
            with refused("INVALID_ARGUMENT", "image.image: "):
                cri.call(method, request(image=spec("a b")))
        with refused("INVALID_ARGUMENT", "filter.image.image: "):
            cri.list_images("a b")
        with refused("FAILED_PRECONDITION", "is pinned"):
            cri.call("RemoveImage", pb.RemoveImageRequest(image=spec(pinned)))
        registry.status = 503
        with pytest.raises(grpc.RpcError) as caught:
            pull(f"{registry.address}/app:v2")
        assert status_of(caught.value) == "UNKNOWN"
        # kubelet goes by the very beginning.
        assert caught.value.details().startswith("RegistryUnavailable: ")


def test_client_that_goes_away_ends_nothing(images, serve):
    registry = serve()
    images.trust(registry.address)
    registry.hold()
    request = pb.PullImageRequest(image=spec(f"{registry.address}/app:v1"))
    service = images.service()
    with served(images, service) as cri:
        gone = cri.begin("PullImage", request)
        eventually(lambda: registry.count("/blobs/"))
        gone.cancel()
        with refused("DEADLINE_EXCEEDED"):
            cri.call("PullImage", request, timeout_s=0.2)
        others = [cri.begin("PullImage", request) for _unused in range(200)]
        # Those that wait hold no thread and no place: everything else is answered.
        assert list(cri.list_images()) == []
        assert service.pulls().running == 1
        registry.release()
        assert len({other.result().image_ref for other in others}) == 1
        assert len(images.logged.of("pull begins")) == 1
        assert len(cri.list_images()) == 1


def test_end_of_the_daemon_answers_those_who_wait(images, serve):
    registry = serve()
    images.trust(registry.address)
    registry.hold()
    service = images.service()
    with served(images, service) as cri:
        call = cri.begin("PullImage", pb.PullImageRequest(image=spec(f"{registry.address}/app:v1")))
        eventually(lambda: registry.count("/blobs/"))
        service.close()
        with refused("FAILED_PRECONDITION", "the endpoint stops"):
            call.result()


def test_full_disk(images, serve):
    registry = serve()
    images.trust(registry.address)
    os.makedirs(images.paths.storage)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", images.paths.storage], check=True)
    with served(images, images.service()) as cri, refused("RESOURCE_EXHAUSTED", "no space left on device"):
        cri.call("PullImage", pb.PullImageRequest(image=spec(f"{registry.address}/app:v1")))
    subprocess.run(["umount", "--recursive", images.paths.storage], check=True)
