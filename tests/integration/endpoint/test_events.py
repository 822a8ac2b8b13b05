# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow the events of a real endpoint, list in parts, and lose nothing over a restart."""

from __future__ import annotations

import functools
import itertools
import pathlib
import signal
import threading
import typing as t

import grpc
import pytest

from ansible_collections.pvecri.runtime.tests.support import cri_client, crictl
from ansible_collections.pvecri.runtime.tests.support.crictl import Crictl
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, missing, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

NAMES = {
    pb.CONTAINER_CREATED_EVENT: "created",
    pb.CONTAINER_STARTED_EVENT: "started",
    pb.CONTAINER_STOPPED_EVENT: "stopped",
    pb.CONTAINER_DELETED_EVENT: "deleted",
}


@pytest.fixture(scope="module")
def node() -> t.Iterator[Endpoint]:
    """One endpoint for all tests of this file."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with running_endpoint(network=False) as made:
        yield made


@pytest.fixture(autouse=True)
def empty_node(node: Endpoint) -> t.Iterator[None]:
    yield
    node.remove_all()
    assert node.tracebacks() == []


class Follower:
    """A subscriber in a thread, with a connection of its own."""

    def __init__(self, node: Endpoint) -> None:
        self._cri = cri_client.Cri(node.socket)
        self.call = self._cri.call("GetContainerEvents", timeout_s=120)
        self.events: list[pb.ContainerEventResponse] = []
        self.end: grpc.RpcError | None = None
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        try:
            self.events.extend(iter(self._next, None))
        except grpc.RpcError as exc:
            self.end = exc

    def _next(self) -> t.Any:
        return next(self.call)

    def told(self, *ids: str) -> list[tuple[str, str]]:
        """Return what was told of some objects."""
        return [
            (event.container_id, NAMES[event.container_event_type])
            for event in list(self.events)
            if event.container_id in ids
        ]

    def has_told(self, count: int, *ids: str) -> bool:
        """Say whether so much was told of some objects."""
        return len(self.told(*ids)) >= count

    def close(self) -> None:
        self.call.cancel()
        self._thread.join()
        self._cri.close()


def host_pod(node: Endpoint) -> t.Any:
    """Return the config of a pod that needs no network."""
    return node.pod(host_network=True)


def test_a_whole_life_is_told_once_with_the_status_of_its_moment(node: Endpoint) -> None:
    followers = [Follower(node), Follower(node)]
    try:
        pod, app = node.run_container(["sh", "-c", "exit 3"], pod=host_pod(node))
        eventually(lambda: node.cri.container_status(app).state == pb.CONTAINER_EXITED)
        node.cri.remove(app)
        node.cri.stop_pod(pod)
        node.cri.remove_pod(pod)
        expected = [
            (pod, "created"),
            (pod, "started"),
            (app, "created"),
            (app, "started"),
            (app, "stopped"),
            (app, "deleted"),
            (pod, "stopped"),
            (pod, "deleted"),
        ]
        for follower in followers:
            eventually(functools.partial(follower.has_told, len(expected), pod, app))
            assert follower.told(pod, app) == expected
            events = [event for event in follower.events if event.container_id in {pod, app}]
            stopped = events[4]
            assert stopped.containers_statuses[0].exit_code == 3
            assert stopped.containers_statuses[0].reason == "Error"
            assert all(event.pod_sandbox_status.id == pod for event in events)
            times = [event.created_at for event in events]
            assert times == sorted(set(times))
    finally:
        for follower in followers:
            follower.close()


def test_status_of_a_pod_has_its_containers_and_a_time_to_compare_with_events(node: Endpoint) -> None:
    follower = Follower(node)
    try:
        pod, app = node.run_container(pod=host_pod(node))
        answer = node.cri.call("PodSandboxStatus", pb.PodSandboxStatusRequest(pod_sandbox_id=pod))
        assert [status.id for status in answer.containers_statuses] == [app]
        eventually(lambda: (app, "started") in follower.told(app))
        assert follower.events[-1].created_at < answer.timestamp
        node.cri.stop(app)
        eventually(lambda: (app, "stopped") in follower.told(app))
        assert follower.events[-1].created_at > answer.timestamp
    finally:
        follower.close()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_ends_while_the_daemon_is_away_is_told_when_it_is_back(node: Endpoint, how: str) -> None:
    _pod, app = node.run_container(
        ["sh", "-c", "while [ ! -e /end ]; do sleep 0.05; done"], pod=host_pod(node)
    )
    _other_pod, other = node.run_container(pod=host_pod(node))
    follower = Follower(node)
    eventually(lambda: "started" in dict(follower.told(app)).values())
    root = f"{node.paths.bundles}/{app}/rootfs"
    exits = pathlib.Path(node.paths.exits, app)
    if how == "stop":
        assert node.stop() == 0
    else:
        node.kill()
    eventually(lambda: follower.end is not None)
    assert follower.end is not None
    assert cri_client.status_of(follower.end) == "UNAVAILABLE"
    follower.close()
    node.host.run(["touch", f"{root}/end"])
    eventually(exits.exists)
    node.start()
    follower = Follower(node)
    try:
        eventually(lambda: (app, "stopped") in follower.told(app))
        assert follower.told(app) == [(app, "stopped")]
        assert follower.told(other) == []
        node.cri.remove(app)
        eventually(lambda: len(follower.told(app)) == 2)
        assert follower.told(app) == [(app, "stopped"), (app, "deleted")]
    finally:
        follower.close()
    # Whoever comes later, but soon, hears of it, too.
    late = Follower(node)
    eventually(lambda: len(late.told(app)) == 2)
    late.close()


def test_lists_in_parts_say_what_lists_say(node: Endpoint) -> None:
    pairs = [node.run_container(pod=host_pod(node)) for _number in range(3)]

    def both(stream: str, plain: str, field: str) -> tuple[list[str], list[str]]:
        parts = [list(getattr(part, field)) for part in node.cri.call(stream)]
        assert all(parts), "a part has at least one item"
        whole = getattr(node.cri.call(plain), field)
        return [_id(item) for item in itertools.chain(*parts)], [_id(item) for item in whole]

    found = [item.id for part in node.cri.call("StreamPodSandboxes") for item in part.pod_sandboxes]
    assert found == [item.id for item in node.cri.list_pods()] == [pod for pod, _app in pairs]
    for stream, plain, field in (
        ("StreamContainers", "ListContainers", "containers"),
        ("StreamImages", "ListImages", "images"),
    ):
        found, expected = both(stream, plain, field)
        assert found == expected != []
    for stream, plain, streamed, listed in (
        ("StreamContainerStats", "ListContainerStats", "container_stats", "stats"),
        ("StreamPodSandboxStats", "ListPodSandboxStats", "pod_sandbox_stats", "stats"),
        ("StreamPodSandboxMetrics", "ListPodSandboxMetrics", "pod_sandbox_metrics", "pod_metrics"),
    ):
        found = [_id(item) for part in node.cri.call(stream) for item in getattr(part, streamed)]
        assert found == [_id(item) for item in getattr(node.cri.call(plain), listed)]
        assert len(found) == 3


def _id(item: t.Any) -> str:
    if hasattr(item, "attributes"):
        return t.cast(str, item.attributes.id)
    return t.cast(str, getattr(item, "pod_sandbox_id", "") or item.id)


def test_an_empty_list_has_no_parts(node: Endpoint) -> None:
    for name in ("StreamContainers", "StreamPodSandboxes", "StreamContainerStats", "StreamPodSandboxStats"):
        assert list(node.cri.call(name)) == []


def test_crictl_shows_events_as_they_come(node: Endpoint, tmp_path: pathlib.Path) -> None:
    reason = crictl.missing()
    if reason:
        pytest.skip(reason)
    tool = Crictl(node.socket, tmp_path)
    template = "{{.containerId}} {{.containerEventType}}"
    with tool.running("events", "--output", "go-template", "--template", template) as process:
        assert process.stdout is not None
        lines: list[str] = []
        read = process.stdout.readline
        reader = threading.Thread(target=lambda: lines.extend(iter(read, "")))
        reader.start()
        # It follows when it shows what happens.
        eventually(lambda: node.run_container(["true"], pod=host_pod(node)) and lines)
        pod, app = node.run_container(["true"], pod=host_pod(node))
        tool("rmp", "--force", pod)
        ends = [f"{app} CONTAINER_DELETED_EVENT", f"{pod} CONTAINER_DELETED_EVENT"]
        eventually(lambda: [line.strip() for line in lines][-2:] == ends)
        own = [line.split()[1] for line in lines if line.startswith(app)]
        assert own == [f"CONTAINER_{kind}_EVENT" for kind in ("CREATED", "STARTED", "STOPPED", "DELETED")]
        process.send_signal(signal.SIGINT)
        reader.join()
