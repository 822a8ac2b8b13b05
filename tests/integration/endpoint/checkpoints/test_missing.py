# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that cannot checkpoint says what it lacks, and is none the worse for being asked."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support import criu
from ansible_collections.pvecri.runtime.tests.support.checkpoints import checkpoint, is_clean, restored, state
from ansible_collections.pvecri.runtime.tests.support.endpoint import CRUN, Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from pvecri.api import cri_pb2 as pb


@pytest.fixture(scope="module")
def endpoint() -> t.Iterator[Endpoint]:
    # Where the host's crun has CRIU it is CRIU that is missing.
    with running_endpoint(settings={"runtime": {"criu": "/nowhere/criu"}}) as made:
        yield made


def test_what_is_missing_is_named(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    tools, _problem = criu.find()
    has_criu = tools is not None and tools.crun == CRUN
    words = ("there is no CRIU at /nowhere/criu", "'criu'") if has_criu else ("without CRIU", "Debian 13")
    pod_id, container_id = endpoint.run_container()
    with refused("FAILED_PRECONDITION", *words):
        checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    with refused("FAILED_PRECONDITION", *words):
        endpoint.cri.call(
            "CheckpointPod", pb.CheckpointPodRequest(pod_sandbox_id=pod_id, output_path=f"{tmp_path}/p.tar")
        )
    with refused("FAILED_PRECONDITION", *words):
        endpoint.cri.call("RestorePod", pb.RestorePodRequest(checkpoint_path=f"{tmp_path}/p.tar"))
    with refused("FAILED_PRECONDITION", *words):
        restored(endpoint, f"{tmp_path}/c.tar")
    assert state(endpoint, container_id) == pb.CONTAINER_RUNNING
    assert is_clean(endpoint, tmp_path)
