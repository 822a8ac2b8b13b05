# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.api import cri_pb2 as pb
from pvecri.state import views
from pvecri.state.records import ContainerRecord, Phase
from pvecri.state.views import ContainerView, SandboxView


def status_of(record: ContainerRecord) -> pb.ContainerStatus:
    return pb.ContainerStatus.FromString(ContainerView(record).status)


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_varint_is_protobufs(value: int) -> None:
    assert b"\x08" + views.varint(value) == pb.Int64Value(value=value).SerializeToString() or value == 0


@given(st.lists(st.text(max_size=300), max_size=4))
def test_elements_joined_are_a_repeated_field(texts: list[str]) -> None:
    items = [pb.PodSandbox(id=text) for text in texts]
    joined = b"".join(views.element(1, item.SerializeToString()) for item in items)
    assert list(pb.ListPodSandboxResponse.FromString(joined).items) == items


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=200), max_size=5))
def test_string_map_is_protobufs(values: dict[str, str]) -> None:
    assert dict(pb.ContainerStatusResponse.FromString(views.string_map(2, values)).info) == values


def test_sandbox_views_show_the_record() -> None:
    config = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(name="a", namespace="n", uid="u", attempt=2),
        labels={"app": "web"},
        annotations={"note": "x"},
    )
    config.linux.security_context.namespace_options.pid = pb.CONTAINER
    record = records.sandbox(
        config=config.SerializeToString(),
        handler="crun",
        ips=("10.0.0.2", "fd00::2"),
        created_at_ns=77,
    )
    view = SandboxView(record)
    item = pb.ListPodSandboxResponse.FromString(view.item).items[0]
    assert item == pb.PodSandbox(
        id=record.id,
        metadata=config.metadata,
        state=pb.SANDBOX_READY,
        created_at=77,
        labels=config.labels,
        annotations=config.annotations,
        runtime_handler="crun",
    )
    status = pb.PodSandboxStatus.FromString(view.status)
    assert (status.id, status.metadata, status.state, status.created_at, status.runtime_handler) == (
        record.id,
        config.metadata,
        pb.SANDBOX_READY,
        77,
        "crun",
    )
    assert (dict(status.labels), dict(status.annotations)) == ({"app": "web"}, {"note": "x"})
    assert (status.network.ip, [ip.ip for ip in status.network.additional_ips]) == ("10.0.0.2", ["fd00::2"])
    assert status.linux.namespaces.options.pid == pb.CONTAINER
    assert view.item is view.item
    assert view.status is view.status


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (Phase.READY, pb.SANDBOX_READY),
        (Phase.STOPPED, pb.SANDBOX_NOTREADY),
        (Phase.UNKNOWN, pb.SANDBOX_NOTREADY),
    ],
)
def test_sandbox_states(phase: Phase, state: int) -> None:
    assert SandboxView(records.sandbox(phase=phase)).state == state


CASES: list[tuple[dict[str, t.Any], tuple[int, int, str]]] = [
    ({"phase": Phase.CREATED}, (pb.CONTAINER_CREATED, 0, "")),
    ({"phase": Phase.RUNNING, "started_at_ns": 5}, (pb.CONTAINER_RUNNING, 0, "")),
    ({"phase": Phase.EXITED, "exit_code": 0}, (pb.CONTAINER_EXITED, 0, "Completed")),
    ({"phase": Phase.EXITED, "exit_code": 3}, (pb.CONTAINER_EXITED, 3, "Error")),
    (
        {"phase": Phase.EXITED, "exit_code": 137, "reason": "OOMKilled"},
        (pb.CONTAINER_EXITED, 137, "OOMKilled"),
    ),
    ({"phase": Phase.EXITED, "reason": "Unknown"}, (pb.CONTAINER_EXITED, 255, "Unknown")),
    ({"phase": Phase.UNKNOWN}, (pb.CONTAINER_UNKNOWN, 0, "")),
]


@pytest.mark.parametrize(("fields", "expected"), CASES)
def test_container_states_and_ends(fields: dict[str, t.Any], expected: tuple[int, int, str]) -> None:
    status = status_of(records.container("s", **fields))
    assert (status.state, status.exit_code, status.reason) == expected


def test_container_views_show_the_record() -> None:
    config = pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name="c", attempt=1),
        image=pb.ImageSpec(image="busybox", user_specified_image="busybox:latest"),
        labels={"a": "b"},
        annotations={"c": "d"},
    )
    mount = pb.Mount(container_path="/data", host_path="/srv", readonly=True)
    limits = pb.LinuxContainerResources(cpu_shares=512, memory_limit_in_bytes=1 << 20)
    record = records.container(
        "sandbox",
        config=config.SerializeToString(),
        image_id="sha256:1",
        image_ref="busybox@sha256:2",
        created_at_ns=1,
        started_at_ns=2,
        finished_at_ns=3,
        message="because",
        log_path="/log/c_0.log",
        mounts=(mount.SerializeToString(),),
        resources=limits.SerializeToString(),
        uid=1000,
        gid=50,
        groups=(50, 60),
        stop_signal="SIGUSR1",
    )
    item = pb.ListContainersResponse.FromString(ContainerView(record).item).containers[0]
    assert item == pb.Container(
        id=record.id,
        pod_sandbox_id="sandbox",
        metadata=config.metadata,
        image=config.image,
        image_ref="busybox@sha256:2",
        state=pb.CONTAINER_CREATED,
        created_at=1,
        labels=config.labels,
        annotations=config.annotations,
        image_id="sha256:1",
    )
    status = status_of(record)
    assert (status.created_at, status.started_at, status.finished_at) == (1, 2, 3)
    assert (status.image, status.image_ref, status.image_id) == (config.image, "busybox@sha256:2", "sha256:1")
    assert (status.message, status.log_path, list(status.mounts)) == ("because", "/log/c_0.log", [mount])
    assert status.resources.linux == limits
    user = status.user.linux
    assert (user.uid, user.gid, list(user.supplemental_groups)) == (1000, 50, [50, 60])
    assert status.stop_signal == pb.SIGNAL_SIGUSR1


def test_container_without_resources_has_none() -> None:
    assert not status_of(records.container("s")).HasField("resources")


def test_container_shows_the_images_name_where_it_is_known() -> None:
    record = records.container("s", extra={"image_name": "docker.io/library/x:1"})
    assert status_of(record).image.image == "docker.io/library/x:1"
    for value in ("", 5):
        plain = dataclasses.replace(record, extra={"image_name": value})
        assert status_of(plain).image.image == "docker.io/library/busybox:1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIGTERM", pb.SIGNAL_SIGTERM),
        ("SIGRTMIN+3", pb.SIGNAL_SIGRTMINPLUS3),
        ("SIGRTMAX-1", pb.SIGNAL_SIGRTMAXMINUS1),
        ("SIGNONSENSE", pb.SIGNAL_RUNTIME_DEFAULT),
        ("", pb.SIGNAL_RUNTIME_DEFAULT),
    ],
)
def test_signal_value(name: str, value: int) -> None:
    assert views.signal_value(name) == value


def test_views_of_a_damaged_config_show_what_is_left() -> None:
    assert SandboxView(records.sandbox(config=b"\xff\xff")).labels == {}
    record = records.container("s", config=b"\xff\xff", mounts=(b"\xff\xff",))
    assert status_of(record).id == record.id


def test_sandbox_status_answer_holds_all_parts() -> None:
    view = SandboxView(records.sandbox())
    member = ContainerView(records.container(view.id))
    answer = pb.PodSandboxStatusResponse.FromString(
        views.sandbox_status_answer(view, {"info": "{}"}, [member], timestamp_ns=1 << 40)
    )
    assert answer.status.id == view.id
    assert dict(answer.info) == {"info": "{}"}
    assert [status.id for status in answer.containers_statuses] == [member.id]
    assert answer.timestamp == 1 << 40
    plain = pb.PodSandboxStatusResponse.FromString(views.sandbox_status_answer(view))
    assert (dict(plain.info), len(plain.containers_statuses), plain.timestamp) == ({}, 0, 0)


def test_container_status_answer_holds_info_when_there_is_any() -> None:
    view = ContainerView(records.container("s"))
    answer = pb.ContainerStatusResponse.FromString(views.container_status_answer(view, {"a": "b"}))
    assert (answer.status.id, dict(answer.info)) == (view.id, {"a": "b"})
    assert views.container_status_answer(view) == views.container_status_answer(view, {})
