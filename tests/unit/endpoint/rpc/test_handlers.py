# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take requests apart, and let services work on whole ids, under locks, once for all who ask the same."""

from __future__ import annotations

import asyncio
import concurrent.futures
import pathlib
import threading
import typing as t

import pytest
from google.protobuf.message import DecodeError

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound
from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.api import cri_pb2 as pb
from pvecri.daemon.operations import Operations
from pvecri.rpc.containers import ContainerRpc
from pvecri.rpc.images import ImageRpc
from pvecri.rpc.keys import known, settled
from pvecri.rpc.sandboxes import SandboxRpc
from pvecri.state.registry import Registry
from pvecri.state.table import AmbiguousError

POD, OTHER, APP = records.new_id("aa"), records.new_id("ab"), records.new_id("cc")


class Recorder:
    """Stands for a service: notes its calls, waits if it is told to, and answers as told."""

    def __init__(self, **answers: t.Any) -> None:
        self.answers = answers
        self.calls: list[tuple[t.Any, ...]] = []
        self.may_end = threading.Event()
        self.may_end.set()

    def __getattr__(self, name: str) -> t.Callable[..., t.Any]:
        def call(*args: t.Any, **options: t.Any) -> t.Any:
            self.calls.append((name, *args, *options.values()))
            self.may_end.wait(30)
            return self.answers.get(name)

        return call


class Bench:
    """Registry, operations and handlers over recorders."""

    def __init__(self, path: pathlib.Path, **answers: t.Any) -> None:
        self.registry = Registry.open(str(path / "db"))
        for identity in (POD, OTHER):
            self.registry.reserve_sandbox(records.sandbox(id=identity))
        self.registry.reserve_container(records.container(POD, id=APP))
        self.operations = Operations(self.registry.held)
        self.service = Recorder(**answers)
        service: t.Any = self.service
        self.handlers = {
            **SandboxRpc(service, self.operations, self.registry).handlers(),
            **ContainerRpc(service, self.operations, self.registry).handlers(),
            **ImageRpc(service, self.operations).handlers(),
        }

    async def call(self, name: str, **fields: t.Any) -> bytes:
        return await self.handlers[name](getattr(pb, f"{name}Request")(**fields))


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> t.Iterator[Bench]:
    made = Bench(
        tmp_path,
        run=POD,
        create=APP,
        exec_sync=(b"out", b"err", 3),
        status_info={"info": "{}"},
        list_bytes=b"list",
        list_bytes_now=None,
        status_bytes=b"status",
        status_bytes_now=None,
        fs_info_bytes=b"fs",
    )
    yield made
    made.operations.close()
    made.registry.close()


def ask(bench: Bench, name: str, **fields: t.Any) -> t.Any:
    """Return the answer's message, or its bytes where the recorder made them up."""
    data = asyncio.run(bench.call(name, **fields))
    try:
        return getattr(pb, f"{name}Response").FromString(data)
    except DecodeError:
        return data


POD_CONFIG = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="p"))
APP_CONFIG = pb.ContainerConfig(metadata=pb.ContainerMetadata(name="a"))
LIMITS = pb.LinuxContainerResources(cpu_shares=5)
IMAGE = pb.ImageSpec(image="x:1")

#: Method, fields of the request with shortened ids, and what the service is to be called with.
CALLS = [
    ("RunPodSandbox", {"config": POD_CONFIG, "runtime_handler": "h"}, ("run", POD_CONFIG, "h")),
    ("StopPodSandbox", {"pod_sandbox_id": "aa"}, ("stop", POD)),
    ("RemovePodSandbox", {"pod_sandbox_id": "aa"}, ("remove", POD)),
    ("PodSandboxStatus", {"pod_sandbox_id": "aa", "verbose": True}, ("status_info", POD)),
    (
        "UpdatePodSandboxResources",
        {"pod_sandbox_id": "aa", "overhead": LIMITS, "resources": LIMITS},
        ("update_resources", POD, LIMITS, LIMITS),
    ),
    (
        "CreateContainer",
        {"pod_sandbox_id": "aa", "config": APP_CONFIG, "sandbox_config": POD_CONFIG},
        ("create", POD, APP_CONFIG),
    ),
    ("StartContainer", {"container_id": "cc"}, ("start", APP)),
    ("StopContainer", {"container_id": "cc", "timeout": 7}, ("stop", APP, 7)),
    ("RemoveContainer", {"container_id": "cc"}, ("remove", APP)),
    ("ContainerStatus", {"container_id": "cc", "verbose": True}, ("status_info", APP)),
    (
        "UpdateContainerResources",
        {"container_id": "cc", "linux": LIMITS, "annotations": {"a": "b"}},
        ("update_resources", APP, LIMITS),
    ),
    ("ReopenContainerLog", {"container_id": "cc"}, ("reopen_log", APP)),
    ("RemoveImage", {"image": IMAGE}, ("remove", IMAGE)),
    ("ImageFsInfo", {}, ("fs_info_bytes",)),
]


@pytest.mark.parametrize(("name", "fields", "call"), CALLS, ids=[case[0] for case in CALLS])
def test_handler_asks_its_service(bench: Bench, name: str, fields: dict[str, t.Any], call: t.Any) -> None:
    ask(bench, name, **fields)
    assert bench.service.calls == [call]


def test_answers_are_what_services_say(bench: Bench) -> None:
    assert ask(bench, "RunPodSandbox", config=POD_CONFIG).pod_sandbox_id == POD
    assert ask(bench, "CreateContainer", pod_sandbox_id=POD).container_id == APP
    done = ask(bench, "ExecSync", container_id=APP, cmd=["a"], timeout=2)
    assert (done.stdout, done.stderr, done.exit_code) == (b"out", b"err", 3)
    assert bench.service.calls[-1][:4] == ("exec_sync", APP, ["a"], 2)


def test_list_and_status_come_from_memory(bench: Bench) -> None:
    assert {item.id for item in ask(bench, "ListPodSandbox").items} == {POD, OTHER}
    chosen = pb.PodSandboxFilter(id=POD)
    assert [item.id for item in ask(bench, "ListPodSandbox", filter=chosen).items] == [POD]
    assert [item.id for item in ask(bench, "ListContainers").containers] == [APP]
    assert ask(bench, "PodSandboxStatus", pod_sandbox_id="aa").status.id == POD
    assert ask(bench, "ContainerStatus", container_id="cc").status.id == APP
    assert bench.service.calls == []
    verbose = ask(bench, "ContainerStatus", container_id="cc", verbose=True)
    assert dict(verbose.info) == {"info": "{}"}


def test_images_come_from_memory_as_long_as_they_can(bench: Bench) -> None:
    assert asyncio.run(bench.call("ListImages")) == b"list"
    assert asyncio.run(bench.call("ImageStatus", image=IMAGE)) == b"status"
    bench.service.answers.update(list_bytes_now=b"known", status_bytes_now=b"known")
    assert asyncio.run(bench.call("ListImages")) == b"known"
    assert asyncio.run(bench.call("ImageStatus", image=IMAGE)) == b"known"
    bench.service.calls.clear()
    assert asyncio.run(bench.call("ImageStatus", image=IMAGE, verbose=True)) == b"status"
    assert bench.service.calls == [("status_bytes", IMAGE, True)]


@pytest.mark.parametrize("has_auth", [False, True])
def test_pull_waits_for_what_is_shared(bench: Bench, has_auth: bool) -> None:
    future: concurrent.futures.Future[str] = concurrent.futures.Future()
    bench.service.answers["begin_pull"] = future
    auth = {"auth": pb.AuthConfig(username="u")} if has_auth else {}

    async def run() -> None:
        leaver = asyncio.create_task(bench.call("PullImage", image=IMAGE, **auth))
        stayer = asyncio.create_task(bench.call("PullImage", image=IMAGE, **auth))
        await asyncio.sleep(0.01)
        leaver.cancel()
        await asyncio.sleep(0.01)
        assert leaver.cancelled()
        assert not future.cancelled()
        future.set_result("sha256:1")
        assert pb.PullImageResponse.FromString(await stayer).image_ref == "sha256:1"

    asyncio.run(run())
    assert bench.service.calls[0] == ("begin_pull", IMAGE, auth.get("auth"))


REPEATED = [
    ("RunPodSandbox", {"config": POD_CONFIG}),
    ("StopPodSandbox", {"pod_sandbox_id": POD}),
    ("RemovePodSandbox", {"pod_sandbox_id": POD}),
    ("CreateContainer", {"pod_sandbox_id": POD, "config": APP_CONFIG}),
    ("StartContainer", {"container_id": APP}),
    ("StopContainer", {"container_id": APP, "timeout": 1}),
    ("RemoveContainer", {"container_id": APP}),
    ("RemoveImage", {"image": IMAGE}),
]


@pytest.mark.parametrize(("name", "fields"), REPEATED, ids=[case[0] for case in REPEATED])
def test_repeat_joins_what_its_first_client_left(bench: Bench, name: str, fields: dict[str, t.Any]) -> None:
    bench.service.may_end.clear()

    async def run() -> None:
        first = asyncio.create_task(bench.call(name, **fields))
        while not bench.service.calls:
            await asyncio.sleep(0.001)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.create_task(bench.call(name, **fields))
        await asyncio.sleep(0.01)
        assert not second.done()
        bench.service.may_end.set()
        await second

    asyncio.run(run())
    assert len(bench.service.calls) == 1


def test_other_requests_for_the_same_object_do_not_join(bench: Bench) -> None:
    other = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="p"), hostname="other")

    async def run() -> None:
        await asyncio.gather(
            bench.call("RunPodSandbox", config=POD_CONFIG),
            bench.call("RunPodSandbox", config=POD_CONFIG, runtime_handler="h"),
            bench.call("RunPodSandbox", config=other),
            bench.call("StopContainer", container_id=APP, timeout=30),
            bench.call("StopContainer", container_id=APP, timeout=0),
            bench.call("ExecSync", container_id=APP, cmd=["a"]),
            bench.call("ExecSync", container_id=APP, cmd=["a"]),
        )

    asyncio.run(run())
    assert len(bench.service.calls) == 7


def test_exec_sync_is_called_off_when_its_client_leaves(bench: Bench) -> None:
    bench.service.may_end.clear()

    async def run() -> None:
        call = asyncio.create_task(bench.call("ExecSync", container_id=APP, cmd=["a"]))
        while not bench.service.calls:
            await asyncio.sleep(0.001)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    asyncio.run(run())
    stop = bench.service.calls[0][-1]
    with open(stop.fileno(), "rb", closefd=False, buffering=0) as handle:
        assert handle.read(8) == (1).to_bytes(8, "little")
    stop.close()
    bench.service.may_end.set()


GONE = "f" * 64


@pytest.mark.parametrize("name", ["StopPodSandbox", "RemovePodSandbox", "StopContainer", "RemoveContainer"])
@pytest.mark.parametrize("identity", [GONE, "", "../x", "a" * 100_000])
def test_what_is_gone_needs_no_work(bench: Bench, name: str, identity: str) -> None:
    key = "pod_sandbox_id" if "Pod" in name else "container_id"
    assert asyncio.run(bench.call(name, **{key: identity})) == b""
    assert bench.service.calls == []


@pytest.mark.parametrize(
    "name",
    [
        "PodSandboxStatus",
        "UpdatePodSandboxResources",
        "CreateContainer",
        "StartContainer",
        "ContainerStatus",
        "UpdateContainerResources",
        "ReopenContainerLog",
        "ExecSync",
    ],
)
def test_what_is_gone_is_not_found_by_the_others(bench: Bench, name: str) -> None:
    key = "pod_sandbox_id" if "Pod" in name or name == "CreateContainer" else "container_id"
    with pytest.raises(NotFound):
        asyncio.run(bench.call(name, **{key: GONE}))
    assert bench.service.calls == []


def test_beginning_of_several_ids_names_nobody(bench: Bench) -> None:
    for name in ("StopPodSandbox", "RemovePodSandbox", "PodSandboxStatus"):
        with pytest.raises(AmbiguousError):
            asyncio.run(bench.call(name, pod_sandbox_id="a"))
    assert known(bench.registry.sandbox, "aa") == POD
    assert known(bench.registry.sandbox, GONE) is None
    assert bench.service.calls == []


def test_settled_is_the_same_however_maps_are_ordered() -> None:
    names = [f"label-{number}" for number in range(30)]
    one = pb.PodSandboxConfig(labels=dict.fromkeys(names, "x"))
    two = pb.PodSandboxConfig(labels=dict.fromkeys(reversed(names), "x"))
    assert settled(one) == settled(two)
    assert settled(one) != settled(pb.PodSandboxConfig(labels={"a": "b"}))
    # The config's secrets are not to be read in it.
    assert len(settled(one)) == 64
