# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.api import cri_pb2 as pb
from pvecri.state.filters import Filter, is_empty, matcher
from pvecri.state.records import Phase
from pvecri.state.views import ContainerView, SandboxView

SANDBOX = SandboxView(records.sandbox(id=records.new_id("abc"), labels={"app": "web", "tier": "1"}))
CONTAINER = ContainerView(
    records.container(SANDBOX.id, id=records.new_id("def"), labels={"app": "web"}, phase=Phase.RUNNING)
)


def state(value: pb.ContainerState) -> pb.ContainerStateValue:
    return pb.ContainerStateValue(state=value)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (pb.PodSandboxFilter(id="abc"), True),
        (pb.PodSandboxFilter(id=SANDBOX.id), True),
        (pb.PodSandboxFilter(id="abd"), False),
        (pb.PodSandboxFilter(id=SANDBOX.id + "0"), False),
        (pb.PodSandboxFilter(state=pb.PodSandboxStateValue(state=pb.SANDBOX_READY)), True),
        (pb.PodSandboxFilter(state=pb.PodSandboxStateValue(state=pb.SANDBOX_NOTREADY)), False),
        (pb.PodSandboxFilter(label_selector={"app": "web"}), True),
        (pb.PodSandboxFilter(label_selector={"app": "web", "tier": "1"}), True),
        (pb.PodSandboxFilter(label_selector={"app": "web", "tier": "2"}), False),
        (pb.PodSandboxFilter(label_selector={"other": ""}), False),
        (pb.PodSandboxFilter(id="abc", label_selector={"app": "db"}), False),
    ],
)
def test_filter_of_sandboxes(wanted: Filter, expected: bool) -> None:
    assert matcher(wanted)(SANDBOX) is expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (pb.ContainerFilter(id="de"), True),
        (pb.ContainerFilter(pod_sandbox_id=SANDBOX.id), True),
        (pb.ContainerFilter(pod_sandbox_id="abc"), True),
        (pb.ContainerFilter(pod_sandbox_id="def"), False),
        (pb.ContainerFilter(state=state(pb.CONTAINER_RUNNING)), True),
        (pb.ContainerFilter(state=state(pb.CONTAINER_CREATED)), False),
        (pb.ContainerFilter(label_selector={"app": "web"}, pod_sandbox_id="abc"), True),
        (pb.ContainerFilter(label_selector={"app": "db"}, pod_sandbox_id="abc"), False),
    ],
)
def test_filter_of_containers(wanted: Filter, expected: bool) -> None:
    assert matcher(wanted)(CONTAINER) is expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, True),
        (pb.PodSandboxFilter(), True),
        (pb.ContainerFilter(id="a"), False),
        # A state of number 0 is a filter all the same.
        (pb.ContainerFilter(state=state(pb.CONTAINER_CREATED)), False),
    ],
)
def test_filter_that_lets_everything_through(wanted: Filter | None, expected: bool) -> None:
    assert is_empty(wanted) is expected
