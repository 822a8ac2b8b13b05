# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try a pod on an endpoint that fails in each way, and see what the probe says and clears away."""

from __future__ import annotations

import os
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.fake_endpoint import HANG, FakeEndpoint
from pvecri.api import cri_pb2 as pb
from pvecri.client.client import Client
from pvecri.probe import image, pod
from pvecri.probe.health import LABEL, NAMESPACE
from pvecri.probe.pod import PodProbe
from pvecri.probe.report import Trial
from pvecri.rpc.status import Code


class Node:
    """An endpoint on which all goes well, until a test says otherwise."""

    def __init__(self, place: pathlib.Path) -> None:
        self.pods: dict[str, t.Any] = {}
        self.has_image = True
        self.log = f"2026-01-01T00:00:00Z stdout F {image.LINE}\n"
        self.endpoint = FakeEndpoint(
            str(place / "s"),
            {
                "ListPodSandbox": lambda _r: pb.ListPodSandboxResponse(items=self.pods.values()),
                "ImageStatus": lambda _r: pb.ImageStatusResponse(
                    image=pb.Image(id="i") if self.has_image else None
                ),
                "PullImage": pb.PullImageResponse(image_ref="i"),
                "RemoveImage": pb.RemoveImageResponse(),
                "RunPodSandbox": self._run,
                "PodSandboxStatus": lambda r: (
                    self._status("10.0.0.2")
                    if r.pod_sandbox_id in self.pods
                    else (Code.NOT_FOUND, "no such pod")
                ),
                "CreateContainer": pb.CreateContainerResponse(container_id="c"),
                "StartContainer": pb.StartContainerResponse(),
                "ContainerStatus": pb.ContainerStatusResponse(
                    status=pb.ContainerStatus(state=pb.CONTAINER_EXITED, exit_code=0)
                ),
                "ExecSync": pb.ExecSyncResponse(stdout=b"pvecri-probe\n"),
                "StopContainer": pb.StopContainerResponse(),
                "StopPodSandbox": pb.StopPodSandboxResponse(),
                "RemovePodSandbox": self._remove,
            },
        )

    def _run(self, request: pb.RunPodSandboxRequest) -> t.Any:
        config = request.config
        self.pods["p"] = pb.PodSandbox(id="p", metadata=config.metadata, labels=config.labels)
        os.makedirs(config.log_directory, exist_ok=True)
        pathlib.Path(config.log_directory, "probe.log").write_text(self.log)
        return pb.RunPodSandboxResponse(pod_sandbox_id="p")

    def _remove(self, request: pb.RemovePodSandboxRequest) -> t.Any:
        self.pods.pop(request.pod_sandbox_id, None)
        return pb.RemovePodSandboxResponse()

    @staticmethod
    def _status(address: str, state: int = pb.SANDBOX_READY) -> t.Any:
        network = pb.PodSandboxNetworkStatus(ip=address)
        return pb.PodSandboxStatusResponse(status=pb.PodSandboxStatus(state=state, network=network))  # type: ignore[arg-type]

    def probe(self, *, own: bool = False, timeout_s: float = 20, has_network: bool = True) -> Trial:
        with Client(self.endpoint.path) as client:
            name = None if own else "q.io/a:1"
            return PodProbe(client, image=name, timeout_s=timeout_s, has_network=has_network).run()

    @property
    def called(self) -> list[str]:
        return [name for name, _request in self.endpoint.calls]

    def request(self, name: str) -> t.Any:
        return next(request for called, request in self.endpoint.calls if called == name)


@pytest.fixture
def node(tmp_path: pathlib.Path) -> t.Iterator[Node]:
    made = Node(tmp_path)
    with made.endpoint:
        yield made
    assert made.pods == {}
    assert not os.path.exists(f"{made.endpoint.path}.probe")


def _names(trial: Trial) -> list[str]:
    return [step.name for step in trial.steps]


def test_pod_is_known_by_namespace_and_label(node: Node) -> None:
    assert node.probe().problems == []
    config = node.request("RunPodSandbox").config
    assert (config.metadata.namespace, dict(config.labels)) == (NAMESPACE, {LABEL: "true"})
    assert config.linux.security_context.namespace_options.network == pb.POD
    assert "RemoveImage" not in node.called


def test_pod_without_network_is_in_that_of_the_host(node: Node) -> None:
    trial = node.probe(has_network=False)
    assert (trial.problems, "have address" in _names(trial)) == ([], False)
    assert node.request("RunPodSandbox").config.linux.security_context.namespace_options.network == pb.NODE


def test_image_that_was_pulled_is_removed(node: Node) -> None:
    node.has_image = False
    assert _names(node.probe())[-1] == "remove image"
    # Somebody uses it by now: that is no problem.
    node.endpoint.answers["RemoveImage"] = (Code.ALREADY_EXISTS, "in use")
    assert node.probe().problems == []
    node.endpoint.answers["RemoveImage"] = (Code.INTERNAL, "broken")
    trial = node.probe()
    assert trial.problems == [
        f"{name}: RemoveImage was answered INTERNAL: broken" for name in ("remove image", "clean up")
    ]


@pytest.mark.parametrize(
    ("method", "step"),
    [
        ("ImageStatus", "have image"),
        ("RunPodSandbox", "run pod"),
        ("PodSandboxStatus", "have address"),
        ("CreateContainer", "create"),
        ("StartContainer", "start"),
        ("ContainerStatus", "watch"),
        ("StopContainer", "stop container"),
    ],
)
def test_step_that_fails_is_the_last_but_clearing(node: Node, method: str, step: str) -> None:
    node.endpoint.answers[method] = (Code.INTERNAL, "broken")
    trial = node.probe()
    assert trial.problems == [f"{step}: {method} was answered INTERNAL: broken"]
    assert _names(trial)[-1] in {step, "clean up"}


@pytest.mark.parametrize("method", ["StopPodSandbox", "RemovePodSandbox"])
def test_what_cannot_be_cleared_away_is_told(node: Node, method: str) -> None:
    good = node.endpoint.answers[method]
    node.endpoint.answers[method] = (Code.INTERNAL, "broken")
    trial = node.probe()
    assert [problem.partition(":")[0] for problem in trial.problems][1:] == ["clean up"]
    node.endpoint.answers[method] = good
    assert _names(node.probe())[0] == "clear away"


def test_endpoint_that_lists_nothing(node: Node) -> None:
    node.endpoint.answers["ListPodSandbox"] = (Code.INTERNAL, "broken")
    assert _names(node.probe()) == ["clear away", "clean up"]


def test_pod_without_address(node: Node) -> None:
    node.endpoint.answers["PodSandboxStatus"] = node._status("")
    assert node.probe().problems == [
        "have address: the pod has no address. Look at the CNI configuration and its plugins"
    ]


def test_container_that_ends_badly(node: Node) -> None:
    status = pb.ContainerStatus(state=pb.CONTAINER_EXITED, exit_code=3, reason="Error")
    node.endpoint.answers["ContainerStatus"] = pb.ContainerStatusResponse(status=status)
    assert node.probe().problems == ["watch: the container ended with 3 (Error)"]


def test_container_that_goes_on(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod, "_WATCH_S", 0.05)
    status = pb.ContainerStatus(state=pb.CONTAINER_RUNNING)
    node.endpoint.answers["ContainerStatus"] = pb.ContainerStatusResponse(status=status)
    assert node.probe().problems == []
    assert node.called.count("ContainerStatus") > 1


@pytest.fixture
def _own_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "load_image", lambda _store: None)
    monkeypatch.setattr(PodProbe, "_store", lambda _self: None)


@pytest.mark.usefixtures("_own_image")
def test_own_image_is_tried_in_full(node: Node) -> None:
    trial = node.probe(own=True)
    assert trial.problems == []
    assert _names(trial)[-6:] == [
        "read log",
        "exec",
        "stop container",
        "stop pod",
        "remove pod",
        "remove image",
    ]
    assert list(node.request("ExecSync").cmd) == ["/probe", "end"]


@pytest.mark.usefixtures("_own_image")
@pytest.mark.parametrize("answer", [{"exit_code": 1, "stdout": b"pvecri-probe\n"}, {"stdout": b"x"}])
def test_exec_that_says_something_else(node: Node, answer: dict[str, t.Any]) -> None:
    node.endpoint.answers["ExecSync"] = pb.ExecSyncResponse(**answer)
    assert node.probe(own=True).problems[0].startswith("exec: it ended with ")


@pytest.mark.usefixtures("_own_image")
def test_log_without_its_line(node: Node) -> None:
    node.log = "2026-01-01T00:00:00Z stdout F other\n"
    problem = node.probe(own=True, timeout_s=0.5).problems[0]
    assert "does not have the line that the container wrote" in problem


@pytest.mark.parametrize("info", [{}, {"config": "{"}, {"config": "{}"}, {"config": '{"paths": 1}'}])
def test_endpoint_of_another_make_needs_an_image(node: Node, info: dict[str, str]) -> None:
    node.endpoint.answers["Status"] = pb.StatusResponse(info=info)
    problem = node.probe(own=True).problems[0]
    assert problem.startswith("load image: this endpoint does not say where its images are. Give an image")


def test_pod_that_is_taken_away_is_tried_again(node: Node) -> None:
    taken = iter([True, True, False])

    def create(_request: t.Any) -> t.Any:
        if next(taken):
            node.pods.clear()
            return Code.NOT_FOUND, "no such pod"
        return pb.CreateContainerResponse(container_id="c")

    node.endpoint.answers["CreateContainer"] = create
    trial = node.probe()
    assert (trial.problems, _names(trial).count("run pod")) == ([], 1)
    assert node.called.count("RunPodSandbox") == 3


def test_pod_that_is_always_stopped_is_given_up(node: Node) -> None:
    node.endpoint.answers["CreateContainer"] = (Code.FAILED_PRECONDITION, "not ready")
    node.endpoint.answers["PodSandboxStatus"] = node._status("10.0.0.2", pb.SANDBOX_NOTREADY)
    assert node.probe().problems == ["create: CreateContainer was answered FAILED_PRECONDITION: not ready"]
    assert node.called.count("RunPodSandbox") == 3


def test_endpoint_that_dies(node: Node) -> None:
    node.endpoint.answers["CreateContainer"] = (Code.INTERNAL, "broken")
    node.endpoint.answers["PodSandboxStatus"] = lambda _request: (
        (Code.INTERNAL, "broken") if "CreateContainer" in node.called else node._status("10.0.0.2")
    )
    assert node.probe().problems == ["create: CreateContainer was answered INTERNAL: broken"]


def test_pod_that_came_too_late_is_removed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    good = node.endpoint.answers["RunPodSandbox"]
    first = iter([HANG])
    node.endpoint.answers["RunPodSandbox"] = lambda request: next(first, None) or good(request)
    trial = node.probe(timeout_s=0.4)
    assert "DEADLINE_EXCEEDED" in trial.problems[0]
    assert _names(trial)[-1] == "clean up"
    requests = [request for name, request in node.endpoint.calls if name == "RunPodSandbox"]
    assert requests[0] == requests[1]


def test_probe_that_does_not_end_keeps_others_out(node: Node) -> None:
    entered, leave = threading.Event(), threading.Event()

    def wait(_request: t.Any) -> t.Any:
        entered.set()
        leave.wait(30)
        return pb.StartContainerResponse()

    node.endpoint.answers["StartContainer"] = wait
    first = threading.Thread(target=node.probe)
    first.start()
    assert entered.wait(30)
    trial = node.probe(timeout_s=0.05)
    leave.set()
    first.join()
    assert trial.problems == ["wait for others: another probe of this endpoint does not end. Look for it"]


def test_directory_that_cannot_be_used(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_unused: t.Any, **__: t.Any) -> t.NoReturn:
        raise OSError(13, "Permission denied", "/x")

    monkeypatch.setattr(PodProbe, "_bring_image", refuse)
    assert node.probe().problems == ["have image: /x: Permission denied"]


@pytest.mark.parametrize("method", ["RunPodSandbox", "CreateContainer", "ContainerStatus", "StopPodSandbox"])
def test_probe_that_is_asked_to_end_clears_away(node: Node, method: str) -> None:
    """As a handler of signals asks it: in the middle of a call."""
    with Client(node.endpoint.path) as client:
        probe = PodProbe(client, image="q.io/a:1", timeout_s=20, has_network=True)
        good = node.endpoint.answers[method]
        first = iter([True])

        def ask(request: t.Any) -> t.Any:
            if next(first, False):
                probe.end()
                return HANG
            return good(request) if callable(good) else good

        node.endpoint.answers[method] = ask
        trial = probe.run()
        probe.end()
    assert len(trial.problems) == 1
    assert "closed the connection" in trial.problems[0] or "connection broke" in trial.problems[0]


@pytest.mark.usefixtures("_own_image")
def test_probe_that_waits_can_be_asked_to_end(node: Node) -> None:
    node.log = "nothing"
    with Client(node.endpoint.path) as client:
        probe = PodProbe(client, image=None, timeout_s=20, has_network=True)
        good = node.endpoint.answers["StartContainer"]
        timer = threading.Timer(0.3, probe.end)
        node.endpoint.answers["StartContainer"] = lambda _request: timer.start() or good
        trial = probe.run()
        timer.join()
    assert trial.problems == ["read log: the probe was asked to end"]
