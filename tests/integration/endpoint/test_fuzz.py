# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send every method what no honest client sends: the endpoint answers, goes on, and keeps to its places."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import subprocess
import time
import typing as t

import grpc
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, Phase, given, settings

from ansible_collections.pvecri.runtime.tests.support import cgroups
from ansible_collections.pvecri.runtime.tests.support.cri_client import status_of, unique
from ansible_collections.pvecri.runtime.tests.support.endpoint import IMAGE, Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.hostile_messages import Hostile
from pvecri.api import cri_pb2 as pb
from pvecri.api.methods import METHODS, Method

#: Requests for each method, and seconds for all of them together: a longer run may be asked for.
EXAMPLES = int(os.environ.get("PVECRI_FUZZ_EXAMPLES", "12"))
SECONDS = float(os.environ.get("PVECRI_FUZZ_SECONDS", "30"))
_CALL_S = 8.0
#: Making a request smaller would send many more, to an endpoint that is no longer as it was.
_PHASES = (Phase.explicit, Phase.generate)

#: A fault of ours, or of something below us that the request does not decide.
_NEVER = {"UNKNOWN", "INTERNAL", "UNAVAILABLE", "ABORTED", "DATA_LOSS", "DEADLINE_EXCEEDED"}
#: What a registry that cannot be reached is answered with.
_NEVER_OF = {"PullImage": _NEVER - {"UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL"}}
#: A stop may take as long as it asks for.
_SLOW = {"StopContainer", "ExecSync", "PullImage"}


class Fuzz:
    """An endpoint with a pod and a container that requests can name, and what was answered so far."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.mark = f"fuzz-{os.urandom(6).hex()}"
        self.until = time.monotonic() + SECONDS
        self.answers: collections.Counter[str] = collections.Counter()
        self.config = endpoint.pod()
        self.pod = self.container = ""
        allowed = f"{endpoint.top}/allowed"
        os.mkdir(allowed)
        self.mount = pb.Mount(container_path="/mnt", host_path=allowed)
        self.device = pb.Device(container_path="/dev/zero2", host_path="/dev/zero", permissions="r")
        self.hostile = Hostile(
            self.mark,
            # What a client may do to the host by right stays where the test can clean up after it.
            fields={
                "host_path": [
                    allowed,
                    f"{allowed}/{self.mark}",
                    "",
                    "relative",
                    f"{allowed}/\0",
                    "/dev/null",
                ],
                "log_directory": [endpoint.pod_logs, "", "relative", f"{allowed}/{self.mark}"],
                "cgroup_parent": [endpoint.cgroup_parent, "", "..", f"/../../{self.mark}", "a\0b", "x.slice"],
            },
        )
        self.restore()

    def restore(self) -> None:
        """Make pod and container anew if a request has ended them, as it may."""
        cri = self.endpoint.cri
        with contextlib.suppress(grpc.RpcError):
            if cri.container_status(self.container).state == pb.CONTAINER_RUNNING:
                return
        cri.remove_pod(self.pod)
        self.pod = cri.run_pod(self.config)
        command = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]
        self.container = cri.create(self.pod, self.endpoint.container(command=command), self.config)
        cri.start(self.container)
        self.hostile.ids = [self.pod, self.container]

    def sound(self, method: Method) -> list[Message]:
        """Return requests of a method that are right, for a few pods or containers of different names."""
        found = []
        for _number in range(10):
            made: dict[str, t.Any] = {
                "pod_sandbox_id": self.pod,
                "container_id": self.container,
                "config": self.endpoint.pod(),
                "sandbox_config": self.config,
                "image": pb.ImageSpec(image=IMAGE),
                "cmd": ["true"],
            }
            if method.name == "CreateContainer":
                made["config"] = self.endpoint.container(
                    unique("other"), mounts=[self.mount], devices=[self.device]
                )
            names = [field.name for field in method.request.DESCRIPTOR.fields]
            found.append(method.request(**{name: made[name] for name in names if name in made}))
        return found

    def send(self, method: Method, request: bytes) -> str:
        """Send a request; return the code that was answered."""
        try:
            answer = self.endpoint.cri.raw(method.name, request, timeout_s=_CALL_S)
            if method.is_streaming:
                answer = next(iter(answer), None)
            code = "OK"
        except grpc.RpcError as exc:
            code = status_of(exc)
            self.detail = str(exc.details())  # type: ignore[attr-defined]
        self.answers[f"{method.name} {code}"] += 1
        return code


@pytest.fixture(scope="module")
def fuzz() -> t.Iterator[Fuzz]:
    with running_endpoint(settings={"log": {"level": "info"}}) as endpoint:
        made = Fuzz(endpoint)
        yield made
        print(f"{sum(made.answers.values())} requests", dict(sorted(made.answers.items())))


def shown(method: Method, request: bytes) -> str:
    """Return a request for a person: repeated lines once, and not too much of it."""
    try:
        lines = str(method.request.FromString(request)).splitlines()
    except DecodeError:
        return f"{len(request)} bytes that are no message: {request[:60]!r}"
    text = " ".join(dict.fromkeys(line.strip()[:100] for line in lines))
    return text[:700] + ("…" if len(text) > 700 else "")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_fuzz_answers_and_goes_on(fuzz, name):
    method = METHODS[name]
    fuzz.restore()
    never = _NEVER_OF.get(name, _NEVER)
    if method.is_streaming or name in _SLOW:
        never = never - {"DEADLINE_EXCEEDED"}

    bad: list[str] = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=_PHASES,
    )
    @given(request=fuzz.hostile.requests(method.request, fuzz.sound(method)))
    def send(request):
        if time.monotonic() > fuzz.until:
            return
        code = fuzz.send(method, request)
        if code in never:
            bad.append(f"{code}: {fuzz.detail[:300]} <- {shown(method, request)}")

    send()
    assert not bad, f"{len(bad)} answers that should have been others:\n" + "\n".join(bad[:8])
    assert fuzz.endpoint.is_running
    assert fuzz.endpoint.cri.version().runtime_name == "pvecri"
    assert not fuzz.endpoint.tracebacks()


def test_fuzz_leaves_nothing(fuzz):
    endpoint = fuzz.endpoint
    endpoint.remove_all()
    assert endpoint.leftovers() == []
    assert endpoint.cri.list_containers() == []
    pod_id, container_id = endpoint.run_container()
    assert endpoint.cri.exec_sync(container_id, ["echo", "still"]).stdout == b"still\n"
    endpoint.cri.remove_pod(pod_id)
    assert not endpoint.tracebacks()


def test_fuzz_wrote_nothing_outside(fuzz):
    endpoint = fuzz.endpoint
    mark = f"*{fuzz.mark}*"
    shallow = ["find", "/", "/var/lib", "/etc", "/dev", "-maxdepth", "3", "-xdev", "-name", mark]
    whole = ["find", "/tmp", "/run", *map(str, cgroups.hierarchies()), "-xdev", "-name", mark]
    runs = [
        subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        for argv in (shallow, whole)
    ]
    found = {path for run in runs for path in run.stdout.splitlines()}
    own = (f"{endpoint.top}/allowed", endpoint.pod_logs, endpoint.state_dir, endpoint.run_dir)
    assert [path for path in found if not path.startswith(own)] == []
    known = {"s", "r", "log", "net.d", "ipam", "config.toml", "pods", "allowed"}
    assert {path.name for path in pathlib.Path(endpoint.top).iterdir()} <= known
