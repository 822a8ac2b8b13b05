# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give each file of tests an endpoint, and each test pods that are gone afterwards."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support import cri_client
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.images import (
    File,
    OciLayout,
    busybox_layer,
    tar_layer,
)
from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

#: An image with users, files and a stop signal.
USERS = "registry.test/users:1"


class Lab:
    """One endpoint, with words for what tests of containers do again and again."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.cri = endpoint.cri
        self._pods: dict[str, t.Any] = {}

    def pod(self, *, privileged: bool = False, **fields: t.Any) -> str:
        """Run a pod in the host's network, which is quick, and return its id."""
        fields.setdefault("host_network", True)
        config = self.endpoint.pod(**fields)
        config.linux.security_context.privileged = privileged
        pod_id = str(self.cri.run_pod(config))
        self._pods[pod_id] = config
        return pod_id

    def config_of(self, pod_id: str) -> t.Any:
        """Return the config of a pod."""
        return self._pods[pod_id]

    def create(self, pod_id: str, script: str = "sleep 1000", **fields: t.Any) -> str:
        """Create a container that runs a script and return its id."""
        name = fields.pop("name", None) or cri_client.unique("c")
        fields.setdefault("command", ["sh", "-c", script])
        config = self.endpoint.container(name, **fields)
        return str(self.cri.create(pod_id, config, self._pods.get(pod_id)))

    def run(self, pod_id: str | None = None, script: str = "sleep 1000", **fields: t.Any) -> str:
        """Create and start a container, in a pod of its own unless one is given."""
        container_id = self.create(pod_id or self.pod(), script, **fields)
        self.cri.start(container_id)
        return container_id

    def sh(self, container_id: str, script: str, timeout_s: int = 20) -> str:
        """Run a script in a container and return what it printed; it has to succeed."""
        done = self.cri.exec_sync(container_id, ["sh", "-c", script], timeout_s)
        assert done.exit_code == 0, (done.stdout, done.stderr)
        return str(done.stdout.decode()).rstrip("\n")

    def status(self, container_id: str) -> t.Any:
        """Return the status of a container."""
        return self.cri.container_status(container_id)

    def ended(self, container_id: str, timeout_s: float = 20.0) -> t.Any:
        """Wait until a container has ended and return its status."""
        eventually(lambda: self.status(container_id).state == pb.CONTAINER_EXITED, timeout_s=timeout_s)
        return self.status(container_id)

    def log(self, container_id: str) -> list[str]:
        """Return the lines of a container's log without times and streams."""
        path = self.status(container_id).log_path
        with open(path, encoding="utf-8") as stream:
            return [line.rstrip("\n").split(" ", 3)[3] for line in stream]

    refused = staticmethod(refused)

    def clear(self) -> None:
        """Remove every pod."""
        self.endpoint.remove_all()
        self._pods.clear()


@pytest.fixture(scope="module")
def module_lab() -> t.Iterator[Lab]:
    with running_endpoint() as endpoint:
        yield Lab(endpoint)


@pytest.fixture(scope="module")
def users_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return where an image is that knows a user with a group of the image's own."""
    layout = OciLayout(tmp_path_factory.mktemp("users"))
    files = [
        File("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n"),
        File("etc/group", b"root:x:0:\nweb:x:1000:\nextra:x:5000:web\n"),
        File("data/file", b"of the image\n"),
        File("data/below/other", b"deeper\n"),
    ]
    config = {"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin"], "StopSignal": "SIGUSR1", "User": "0"}
    layout.add_image("latest", [busybox_layer(), tar_layer(files)], config)
    return f"oci:{layout.path}:latest"


@pytest.fixture
def with_users(lab: Lab, users_image: str) -> Lab:
    """The lab with that image."""
    if not lab.cri.list_images(USERS):
        lab.endpoint.load_image(USERS, users_image)
    return lab


@pytest.fixture
def lab(module_lab: Lab) -> t.Iterator[Lab]:
    yield module_lab
    module_lab.clear()
    assert module_lab.endpoint.leftovers() == []
    assert module_lab.endpoint.tracebacks() == []
