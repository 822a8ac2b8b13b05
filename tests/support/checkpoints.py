# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run an endpoint that can checkpoint, and containers whose progress can be seen."""

from __future__ import annotations

import io
import os
import pathlib
import tarfile
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support import criu
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

#: Counts in memory, tells the log and a file, and changes what the image has.
COUNTER = """
rm /bin/vi; rm -r /home; mkdir -p /home /data/d; echo new > /home/only; ln -s only /home/link; mkfifo /data/f
echo kept > /data/d/x; chown 12:34 /data/d/x; chmod 4711 /data/d/x; i=0
while true; do i=$((i+1)); echo $i; echo $i > /c; mv /c /count; sleep 0.1; done
"""

#: A crun that waits before it dumps or restores, while a file exists.
_GATE = """#!/bin/sh
case " $* " in *" checkpoint "* | *" restore "*) while [ -e {gate} ]; do sleep 0.02; done;; esac
exec {crun} "$@"
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("gate") / "closed"


@pytest.fixture(scope="module")
def endpoint(gate: pathlib.Path) -> t.Iterator[Endpoint]:
    tools, problem = criu.find()
    if tools is None:
        pytest.skip(f"this host cannot checkpoint: {problem}")
    wrapper = gate.parent / "crun"
    wrapper.write_text(_GATE.format(gate=gate, crun=tools.crun))
    wrapper.chmod(0o755)
    settings = {
        "runtime": {"crun": str(wrapper), "criu": tools.criu},
        "checkpoints": {"trusted_images": ["registry.test/trusted*"]},
    }
    with running_endpoint(settings=settings) as made:
        yield made


@pytest.fixture(autouse=True)
def clean(endpoint: Endpoint, gate: pathlib.Path) -> t.Iterator[None]:
    yield
    gate.unlink(missing_ok=True)
    if not endpoint.is_running:
        endpoint.start()
    endpoint.remove_all()
    assert not endpoint.leftovers()
    assert not works(endpoint)
    assert not endpoint.tracebacks()


def works(endpoint: Endpoint) -> list[str]:
    """Return the checkpoints that are in the making."""
    path = pathlib.Path(endpoint.state_dir, "checkpoints")
    return os.listdir(path) if path.exists() else []


def counter(endpoint: Endpoint, name: str = "app", **fields: t.Any) -> tuple[t.Any, str, str]:
    """Run a pod with a container that counts; return the pod's config and both ids."""
    pod = endpoint.pod()
    fields = {"name": name, **fields}
    pod_id, container_id = endpoint.run_container(["sh", "-c", COUNTER], pod=pod, **fields)
    eventually(lambda: count_of(endpoint, pod, name) > 3)
    return pod, pod_id, container_id


def count_of(endpoint: Endpoint, pod: t.Any, name: str = "app") -> int:
    """Return the number that a container logged last."""
    path = pathlib.Path(endpoint.pod_logs, pod.metadata.name, f"{name}.log")
    words = [line.split()[-1] for line in path.read_text().splitlines()] if path.exists() else []
    return max((int(word) for word in words if word.isdigit()), default=0)


def checkpoint(endpoint: Endpoint, container_id: str, path: str, timeout: int = 0) -> None:
    endpoint.cri.call(
        "CheckpointContainer",
        pb.CheckpointContainerRequest(container_id=container_id, location=path, timeout=timeout),
        timeout_s=60,
    )


def restored(endpoint: Endpoint, image: str, *, start: bool = True, **fields: t.Any) -> tuple[t.Any, str]:
    """Create a pod with a container from a checkpoint; return the pod's config and the container's id."""
    pod = endpoint.pod()
    pod_id = endpoint.cri.run_pod(pod)
    config = endpoint.container(**{"name": "app", "image": image, **fields})
    container_id = endpoint.cri.create(pod_id, config, pod)
    if start:
        endpoint.cri.start(container_id)
    return pod, container_id


def state(endpoint: Endpoint, container_id: str) -> int:
    return int(endpoint.cri.container_status(container_id).state)


def is_clean(endpoint: Endpoint, directory: pathlib.Path) -> bool:
    """Say whether nothing is left of a checkpoint that failed."""
    return not works(endpoint) and not os.listdir(directory)


def tar_text(path: str, *names: str) -> str:
    """Return what is in a file of an archive, or of an archive in it."""
    content = pathlib.Path(path).read_bytes()
    for name in names:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            stream = tar.extractfile(name)
            assert stream is not None
            content = stream.read()
    return content.decode()


def frozen_at(endpoint: Endpoint, pod: t.Any) -> int:
    """Return the count of a container once it counts no more."""
    last = -1
    while (now := count_of(endpoint, pod)) != last:
        last = now
        time.sleep(0.4)
    return last
