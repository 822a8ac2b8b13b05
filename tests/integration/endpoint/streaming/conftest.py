# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give each file of tests an endpoint with a container, and want nothing left of any stream."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support import crictl
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.streams import Streams, greet, mirror, serving


@pytest.fixture(scope="module")
def endpoint() -> t.Iterator[Endpoint]:
    """One endpoint for all tests of a file."""
    reason = crictl.missing()
    if reason:
        pytest.skip(reason)
    with running_endpoint() as made:
        yield made


@pytest.fixture(scope="module")
def streams(endpoint: Endpoint) -> Streams:
    """Return the programs that ask it for streams."""
    return Streams(endpoint)


@pytest.fixture(scope="module")
def pod(streams: Streams) -> t.Iterator[tuple[str, str]]:
    """Yield the ids of a pod and a container that runs in it.

    In the pod are servers: 8000 is a mirror, 8001 says hello, 8006 is a mirror on ::1 alone.
    """
    pod_id, container_id = streams.endpoint.run_container(["sleep", "100000"])
    info = json.loads(streams.cri.container_status(container_id, verbose=True).info["info"])
    namespace = f"/proc/{info['pid']}/ns/net"
    with (
        serving(namespace, "127.0.0.1", 8000, mirror),
        serving(namespace, "0.0.0.0", 8001, greet),
        serving(namespace, "::1", 8006, mirror),
    ):
        yield pod_id, container_id


@pytest.fixture(scope="module")
def container(pod: tuple[str, str]) -> str:
    """Return the id of a container that runs."""
    return pod[1]


@pytest.fixture(autouse=True)
def _no_faults(endpoint: Endpoint) -> t.Iterator[None]:
    yield
    assert endpoint.tracebacks() == []
