# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List in parts: everything once, filtered as lists are, and never much at a time."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tracemalloc
import types
import typing as t

import hypothesis
import hypothesis.strategies as st
import pytest

from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.api import cri_pb2 as pb
from pvecri.daemon.operations import Operations
from pvecri.rpc.lists import PART_BYTES, ListRpc, parts
from pvecri.state.records import Phase
from pvecri.state.registry import Registry
from pvecri.state.views import element


@hypothesis.given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 60))
def test_parts_have_everything_once_and_are_neither_empty_nor_too_large(
    items: list[bytes], size: int
) -> None:
    found = list(parts(items, size))
    assert b"".join(found) == b"".join(items)
    assert all(found)
    rest = list(items)
    for part in found:
        taken = []
        while len(b"".join(taken)) < len(part):
            taken.append(rest.pop(0))
        assert len(taken) == 1 or len(part) <= size


class Statistics:
    """Counts how far it was asked."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0
        self.asked: list[t.Any] = []

    def _each(self, kind: t.Any, wanted: t.Any) -> t.Iterator[bytes]:
        self.asked.append(wanted)
        for number in range(self.count):
            self.made += 1
            yield element(1, kind(number).SerializeToString())

    def container_items(self, wanted: pb.ContainerStatsFilter) -> t.Iterator[bytes]:
        def one(number: int) -> pb.ContainerStats:
            return pb.ContainerStats(
                attributes=pb.ContainerAttributes(id=f"{number}", labels={"x": "y" * 900})
            )

        return self._each(one, wanted)

    def pod_items(self, wanted: pb.PodSandboxStatsFilter) -> t.Iterator[bytes]:
        return self._each(
            lambda number: pb.PodSandboxStats(attributes=pb.PodSandboxAttributes(id=f"{number}")), wanted
        )

    def metric_items(self) -> t.Iterator[bytes]:
        return self._each(lambda number: pb.PodSandboxMetrics(pod_sandbox_id=f"{number}"), None)


class Images:
    """What lists ask of the image service."""

    def __init__(self, count: int) -> None:
        encoded = [
            pb.ListImagesResponse(images=[pb.Image(id=f"{number}")]).SerializeToString()
            for number in range(count)
        ]
        by_id = {str(number): types.SimpleNamespace(encoded=data) for number, data in enumerate(encoded)}
        snapshot = types.SimpleNamespace(by_id=by_id)
        self.catalogue = types.SimpleNamespace(snapshot=lambda: snapshot)
        self._encoded = encoded

    def list_bytes(self, wanted: pb.ImageFilter) -> bytes:
        return self._encoded[0] if wanted.image.image == "known" else b""


@contextlib.contextmanager
def listing(path: pathlib.Path, count: int = 3) -> t.Iterator[tuple[ListRpc, Registry, Statistics]]:
    with contextlib.closing(Registry.open(str(path / "db"))) as registry:
        operations = Operations()
        statistics = Statistics(count)
        images: t.Any = Images(count)
        service: t.Any = statistics
        try:
            yield ListRpc(registry, images, service, operations), registry, statistics
        finally:
            operations.close()


def ask(rpc: ListRpc, name: str, request: t.Any = None) -> list[t.Any]:
    """Return the parts of an answer."""

    async def collect() -> list[t.Any]:
        handler: t.Any = rpc.handlers()[name]
        request_ = request or getattr(pb, f"{name}Request")()
        kind = getattr(pb, f"{name}Response")
        return [kind.FromString(part) async for part in handler(request_)]

    return asyncio.run(collect())


def test_sandboxes_and_containers_are_filtered_as_lists_are(tmp_path: pathlib.Path) -> None:
    with listing(tmp_path) as (rpc, registry, _unused):
        pods = [registry.reserve_sandbox(records.sandbox(labels={"n": str(n % 2)})).id for n in range(4)]
        registry.reserve_sandbox(records.sandbox(phase=Phase.CREATING))
        apps = [registry.reserve_container(records.container(pod)).id for pod in pods]
        (answer,) = ask(rpc, "StreamPodSandboxes")
        assert [item.id for item in answer.pod_sandboxes] == pods
        (answer,) = ask(rpc, "StreamContainers")
        assert [item.id for item in answer.containers] == apps
        wanted = pb.PodSandboxFilter(label_selector={"n": "1"})
        (answer,) = ask(rpc, "StreamPodSandboxes", pb.StreamPodSandboxesRequest(filter=wanted))
        assert [item.id for item in answer.pod_sandboxes] == pods[1::2]
        chosen = pb.ContainerFilter(pod_sandbox_id=pods[2])
        (answer,) = ask(rpc, "StreamContainers", pb.StreamContainersRequest(filter=chosen))
        assert [item.id for item in answer.containers] == [apps[2]]
        nothing = pb.StreamContainersRequest(filter=pb.ContainerFilter(id="0" * 64))
        assert ask(rpc, "StreamContainers", nothing) == []


def test_images_are_all_or_the_one_that_is_named(tmp_path: pathlib.Path) -> None:
    with listing(tmp_path) as (rpc, _unused, _unused2):
        (answer,) = ask(rpc, "StreamImages")
        assert [image.id for image in answer.images] == ["0", "1", "2"]

        def named(name: str) -> pb.StreamImagesRequest:
            return pb.StreamImagesRequest(filter=pb.ImageFilter(image=pb.ImageSpec(image=name)))

        (answer,) = ask(rpc, "StreamImages", named("known"))
        assert [image.id for image in answer.images] == ["0"]
        assert ask(rpc, "StreamImages", named("other")) == []


@pytest.mark.parametrize(
    ("name", "field", "wanted"),
    [
        ("StreamContainerStats", "container_stats", pb.ContainerStatsFilter(pod_sandbox_id="p")),
        ("StreamPodSandboxStats", "pod_sandbox_stats", pb.PodSandboxStatsFilter(id="p")),
        ("StreamPodSandboxMetrics", "pod_sandbox_metrics", None),
    ],
)
def test_statistics_are_listed_with_their_filter(
    tmp_path: pathlib.Path, name: str, field: str, wanted: t.Any
) -> None:
    with listing(tmp_path) as (rpc, _unused, statistics):
        request = getattr(pb, f"{name}Request")(**({"filter": wanted} if wanted else {}))
        (answer,) = ask(rpc, name, request)
        assert len(getattr(answer, field)) == 3
        assert statistics.asked == [wanted]
    (tmp_path / "none").mkdir()
    with listing(tmp_path / "none", 0) as (rpc, _unused, _unused2):
        assert ask(rpc, name, request) == []


def test_statistics_are_measured_when_the_client_takes_them(tmp_path: pathlib.Path) -> None:
    with listing(tmp_path, 10_000) as (rpc, _unused, statistics):

        async def run() -> None:
            stream = rpc.container_stats(pb.StreamContainerStatsRequest())
            seen = 0
            async for part in stream:
                assert len(part) <= PART_BYTES
                seen += len(pb.StreamContainerStatsResponse.FromString(part).container_stats)
                # Never more than the one that did not fit any more.
                assert statistics.made <= seen + 1
            assert seen == 10_000

        asyncio.run(run())


def test_ten_thousand_containers_need_no_memory_of_their_own(tmp_path: pathlib.Path) -> None:
    with listing(tmp_path) as (rpc, registry, _unused):
        pod = registry.reserve_sandbox(records.sandbox()).id
        table = registry._containers
        for number in range(10_000):
            table.show(records.container(pod, f"c{number}", labels={"x": "y" * 900}))
        whole = len(registry.list_containers_bytes())
        assert whole > 10_000_000

        async def run() -> int:
            seen = 0
            async for part in rpc.containers(pb.StreamContainersRequest()):
                assert len(part) <= PART_BYTES
                seen += len(part)
            return seen

        asyncio.run(run())
        tracemalloc.start()
        try:
            assert asyncio.run(run()) == whole
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2_000_000
