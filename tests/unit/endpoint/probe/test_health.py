# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask an endpoint whether it is ready."""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.fake_endpoint import HANG, FakeEndpoint
from pvecri import cli
from pvecri.api import cri_pb2 as pb
from pvecri.client.client import Client
from pvecri.client.errors import CallFailed, NoEndpoint
from pvecri.probe import health
from pvecri.probe.expect import differences
from pvecri.rpc.status import Code

_VERSION = pb.VersionResponse(runtime_name="fake", runtime_version="2", runtime_api_version="v1")


def _status(*, network: bool = True, runtime: bool = True) -> pb.StatusResponse:
    conditions = [
        pb.RuntimeCondition(type="RuntimeReady", status=runtime, reason="" if runtime else "Starting"),
        pb.RuntimeCondition(type="NetworkReady", status=network, message="" if network else "no network"),
    ]
    return pb.StatusResponse(status=pb.RuntimeStatus(conditions=conditions))


def _pod(number: int, *, probe: bool = False) -> pb.PodSandbox:
    namespace = health.NAMESPACE if probe else "shop"
    return pb.PodSandbox(
        id=f"pod{number}",
        metadata=pb.PodSandboxMetadata(name=f"p{number}", namespace=namespace),
        labels={health.LABEL: "true"} if probe else {},
    )


def _container(number: int) -> pb.Container:
    return pb.Container(
        id=f"c{number}",
        pod_sandbox_id=f"pod{number}",
        metadata=pb.ContainerMetadata(name=f"n{number}"),
        state=pb.CONTAINER_RUNNING,
    )


def _container_status(request: pb.ContainerStatusRequest) -> t.Any:
    if request.container_id == "c3":
        return Code.NOT_FOUND, "it is gone"
    return pb.ContainerStatusResponse(status=pb.ContainerStatus(id=request.container_id, started_at=77))


@pytest.fixture
def endpoint(tmp_path: pathlib.Path) -> t.Iterator[FakeEndpoint]:
    answers = {
        "Version": _VERSION,
        "Status": _status(),
        "ListPodSandbox": pb.ListPodSandboxResponse(items=[_pod(2), _pod(1), _pod(3), _pod(4, probe=True)]),
        "ListContainers": pb.ListContainersResponse(containers=[_container(n) for n in (2, 1, 3, 4, 5)]),
        "ContainerStatus": _container_status,
    }
    with FakeEndpoint(str(tmp_path / "s"), answers) as made:
        yield made


def test_look_tells_what_runs(endpoint: FakeEndpoint) -> None:
    with Client(endpoint.path) as client:
        found = health.look(client)
    assert (found.runtime, found.version, found.api) == ("fake", "2", "v1")
    # c3 went meanwhile, c4 is a probe's, the pod of c5 went.
    assert found.running == (
        health.Running("c1", "n1", "p1", "shop", 77),
        health.Running("c2", "n2", "p2", "shop", 77),
    )
    asked = dict(endpoint.calls)["ListContainers"]
    assert asked.filter.state.state == pb.CONTAINER_RUNNING


@pytest.mark.parametrize(
    ("status", "needs_network", "problems"),
    [
        (_status(), True, []),
        (_status(network=False), False, []),
        (_status(network=False), True, ["NetworkReady is not so: no network"]),
        (_status(runtime=False), False, ["RuntimeReady is not so: Starting"]),
        (pb.StatusResponse(), False, ["RuntimeReady is not so: it is not among the conditions"]),
    ],
)
def test_problems(endpoint: FakeEndpoint, status: t.Any, needs_network: bool, problems: list[str]) -> None:
    endpoint.answers["Status"] = status
    with Client(endpoint.path) as client:
        assert health.look(client).problems(needs_network=needs_network) == problems


def test_errors_of_a_container_are_errors(endpoint: FakeEndpoint) -> None:
    endpoint.answers["ContainerStatus"] = (Code.INTERNAL, "broken")
    with Client(endpoint.path) as client, pytest.raises(CallFailed, match="INTERNAL: broken"):
        health.look(client)


def test_wait_goes_on_until_all_is_ready(endpoint: FakeEndpoint) -> None:
    answers = iter([(Code.UNAVAILABLE, "starting"), _status(runtime=False), _status()])
    endpoint.answers["Status"] = lambda _request: next(answers)
    with Client(endpoint.path) as client:
        assert health.wait(client, wait_s=30).problems(needs_network=True) == []
    assert next(answers, None) is None


def test_wait_tells_in_the_end_what_is_missing(endpoint: FakeEndpoint) -> None:
    endpoint.answers["Status"] = _status(network=False)
    with Client(endpoint.path) as client:
        assert health.wait(client, wait_s=30).problems(needs_network=False) == []
        assert health.wait(client, wait_s=0.1, needs_network=True).problems(needs_network=True)


def test_wait_does_not_wait_for_what_will_not_change(endpoint: FakeEndpoint) -> None:
    endpoint.answers["Status"] = (Code.UNIMPLEMENTED, "what?")
    with Client(endpoint.path) as client, pytest.raises(CallFailed, match="UNIMPLEMENTED"):
        health.wait(client, wait_s=1000)


def test_wait_ends(tmp_path: pathlib.Path, endpoint: FakeEndpoint) -> None:
    with Client(str(tmp_path / "none")) as client, pytest.raises(NoEndpoint):
        health.wait(client, wait_s=0.1)
    endpoint.answers["Status"] = (Code.UNAVAILABLE, "starting")
    with Client(endpoint.path) as client, pytest.raises(CallFailed, match="starting"):
        health.wait(client, wait_s=0.1)


def _probe(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, t.Any, str]:
    code = cli.main(["probe", "--json", *argv])
    printed = capsys.readouterr()
    return code, json.loads(printed.out), printed.err


def test_command_prints_a_document(endpoint: FakeEndpoint, capsys: pytest.CaptureFixture[str]) -> None:
    code, document, errors = _probe(capsys, "--socket", endpoint.path)
    assert (code, errors) == (0, "")
    assert document.pop("ready_ms") >= 0
    assert document == {
        "ok": True,
        "problems": [],
        "socket": endpoint.path,
        "answers": True,
        "runtime": {"name": "fake", "version": "2", "api": "v1"},
        "conditions": {
            "RuntimeReady": {"status": True, "reason": "", "message": ""},
            "NetworkReady": {"status": True, "reason": "", "message": ""},
        },
        "running": [
            {"id": f"c{n}", "name": f"n{n}", "pod": f"p{n}", "namespace": "shop", "started_at": 77}
            for n in (1, 2)
        ],
        "pod": None,
        "expected": None,
    }


def test_command_is_for_people_too(endpoint: FakeEndpoint, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint.answers["Status"] = _status(network=False)
    assert cli.main(["probe", "--network", "--socket", endpoint.path]) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].endswith(f"ms  fake 2, CRI v1, on {endpoint.path}")
    assert lines[1].split() == ["RuntimeReady", "yes"]
    assert lines[2].split(maxsplit=1) == ["NetworkReady", "no: no network"]
    assert lines[3].split(maxsplit=1) == ["running", "containers: 2, pods: 2"]
    assert printed.err == "error: NetworkReady is not so: no network\n"


@pytest.mark.parametrize(
    ("answer", "code", "answers"),
    [((Code.UNAVAILABLE, "starting"), 1, True), ((Code.UNIMPLEMENTED, ""), 1, True), (HANG, 3, False)],
)
def test_command_tells_silence_from_refusal(
    endpoint: FakeEndpoint,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: t.Any,
    code: int,
    answers: bool,
) -> None:
    monkeypatch.setattr(health, "_LOOK_S", 0.2)
    monkeypatch.setattr(health.look, "__kwdefaults__", {"timeout_s": 0.2})
    endpoint.answers["Status"] = answer
    found, document, _errors = _probe(capsys, "--socket", endpoint.path)
    assert (found, document["answers"], document["ok"]) == (code, answers, False)
    assert len(document["problems"]) == 1


def test_command_takes_the_socket_of_the_configuration(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[server]\nsocket = "{tmp_path}/none"\n')
    code, document, _errors = _probe(capsys, "--config", str(config))
    assert (code, document["answers"], document["runtime"]) == (3, False, None)
    assert document["problems"][0].startswith(f"{tmp_path}/none: there is no such socket. Start it")


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf", "86401", ""])
def test_seconds_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no number of seconds"):
        cli._seconds(text)


@pytest.mark.parametrize("name", ["lost", "again", "other", "completed", "odd"])
def test_expected_containers(
    endpoint: FakeEndpoint, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    old = {"id": "c1", "name": "n1", "pod": "p1", "namespace": "shop", "started_at": 77}
    same = old | {"id": "c2", "name": "n2", "pod": "p2"}
    changes = {
        "lost": ({"id": "c3", "name": "x"}, r"container x of shop/p1 \(c3\) is gone$"),
        "again": ({"started_at": 76}, r"container n1 of shop/p1 \(c1\) was started again$"),
        "other": (
            {"id": "c7"},
            r"n1 of shop/p1 \(c7\) ended with exit code 9 \(Error\); another one runs in its place \(c1\)$",
        ),
        "completed": ({"id": "c8"}, None),
        "odd": ({"id": "c9", "name": "y"}, r"is in the state CONTAINER_CREATED$"),
    }
    ends = {
        "c7": pb.ContainerStatus(state=pb.CONTAINER_EXITED, exit_code=9, reason="Error"),
        "c8": pb.ContainerStatus(state=pb.CONTAINER_EXITED, exit_code=0),
        "c9": pb.ContainerStatus(state=pb.CONTAINER_CREATED),
    }
    endpoint.answers["ContainerStatus"] = lambda request: (
        pb.ContainerStatusResponse(status=ends[request.container_id])
        if request.container_id in ends
        else _container_status(request)
    )
    change, problem = changes[name]
    file = tmp_path / "before"
    file.write_text(json.dumps({"running": [{**old, **change}, same]}))
    code, document, _errors = _probe(capsys, "--expect", str(file), "--socket", endpoint.path, "--pod")
    if problem is None:
        # The pod is tried then, which this endpoint cannot.
        assert document["expected"] == 2
        assert document["pod"]["ok"] is False
        return
    assert (code, document["expected"], document["pod"]) == (1, 1, None)
    assert len(document["problems"]) == 1
    assert re.search(problem, document["problems"][0])


def test_expect_fails_when_the_fate_cannot_be_asked(endpoint: FakeEndpoint) -> None:
    endpoint.answers["ContainerStatus"] = (Code.INTERNAL, "broken")
    gone = health.Running("c0", "n", "p", "s", 1)
    with Client(endpoint.path) as client, pytest.raises(CallFailed, match="broken"):
        differences(client, [gone], [])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not what a probe has printed"),
        ("[]", "is not what a probe has printed"),
        ('{"running": [{}]}', "is not what a probe has printed"),
        (
            '{"running": [{"id": 1, "name": "", "pod": "", "namespace": "", "started_at": 1}]}',
            "is not what a probe has printed",
        ),
    ],
)
def test_expectations_that_are_none(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], text: str | None, match: str
) -> None:
    file = tmp_path / "before"
    if text is not None:
        file.write_text(text)
    assert cli.main(["probe", "--expect", str(file), "--socket", "/none"]) == 1
    assert match in capsys.readouterr().err
