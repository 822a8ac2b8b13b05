# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the page of metrics together."""

from __future__ import annotations

import logging
import os
import pathlib
import threading
import types
import typing as t

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.tests.support import records
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb
from pvecri.images.queue import QueueState
from pvecri.metrics import families
from pvecri.metrics.collect import Metrics, Now
from pvecri.metrics.counts import PullCounts, Recovered
from pvecri.metrics.text import Family
from pvecri.state.records import Phase
from pvecri.state.registry import Registry


class Images:
    """What the page asks of the image service."""

    def __init__(self) -> None:
        self.counts = PullCounts()
        snapshot = types.SimpleNamespace(by_id={"a": 1, "b": 2})
        self.catalogue = types.SimpleNamespace(snapshot=lambda: snapshot)

    def pulls(self) -> QueueState:
        return QueueState(waiting=3, running=4, idle=1)

    def fs_info_bytes(self) -> bytes:
        answer = pb.ImageFsInfoResponse()
        for place, size in ((answer.image_filesystems, 500), (answer.container_filesystems, 70)):
            usage = place.add()
            usage.used_bytes.value, usage.inodes_used.value = size, size // 10
        return answer.SerializeToString()


@pytest.fixture
def registry(tmp_path: pathlib.Path) -> t.Iterator[Registry]:
    made = Registry.open(str(tmp_path / "db"))
    yield made
    made.close()


def metrics(registry: Registry) -> tuple[Metrics, Images]:
    images: t.Any = Images()
    host = types.SimpleNamespace(crun_version=(1, 21), cgroup_version=2)
    context: t.Any = types.SimpleNamespace(registry=registry, host=host, log=logging.getLogger("x"))
    return Metrics(context, images), images


def now(**fields: t.Any) -> Now:
    usual: dict[str, t.Any] = {
        "is_ready": True,
        "in_flight": 2,
        "streams_open": {"events": 1},
        "streams_served": {"exec": 5},
        "recovered": None,
    }
    return Now(**{**usual, **fields})


def samples(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_page_tells_what_is_so_now(registry: Registry) -> None:
    made, images = metrics(registry)
    pods = [registry.reserve_sandbox(records.sandbox()).id for _number in range(3)]
    registry.reserve_container(records.container(pods[0], phase=Phase.RUNNING))
    registry.reserve_container(records.container(pods[0]))
    registry.update_sandbox(pods[2], phase=Phase.STOPPED)
    images.counts.ended(2.0, fetched_bytes=10)
    made.rpcs.observe("Version", "OK", 0.001)
    made.lxc_findings = {"renamed": 4}
    found = samples(made.page(now()))
    for name, labels, value in (
        ("pvecri_sandboxes", {"state": "ready"}, 2),
        ("pvecri_sandboxes", {"state": "stopped"}, 1),
        ("pvecri_containers", {"state": "running"}, 1),
        ("pvecri_containers", {"state": "created"}, 1),
        ("pvecri_containers", {"state": "exited"}, 0),
        ("pvecri_images", {}, 2),
        ("pvecri_lxc_findings_total", {"kind": "renamed"}, 4),
        ("pvecri_image_pulls_total", {"result": "success"}, 1),
        ("pvecri_image_pull_bytes_total", {}, 10),
        ("pvecri_image_pull_duration_seconds_count", {}, 1),
        ("pvecri_image_pulls_in_progress", {"state": "waiting"}, 3),
        ("pvecri_image_pulls_in_progress", {"state": "working"}, 3),
        ("pvecri_image_pulls_in_progress", {"state": "stalled"}, 1),
        ("pvecri_filesystem_used_bytes", {"kind": "images"}, 500),
        ("pvecri_filesystem_used_inodes", {"kind": "containers"}, 7),
        ("pvecri_rpc_requests_total", {"method": "Version", "code": "OK"}, 1),
        ("pvecri_rpcs_in_flight", {}, 2),
        ("pvecri_streams_open", {"kind": "events"}, 1),
        ("pvecri_stream_sessions_total", {"kind": "exec"}, 5),
        ("pvecri_ready", {}, 1),
    ):
        assert found[name, tuple(sorted(labels.items()))] == value, name
    (build,) = [labels for name, labels in found if name == "pvecri_build_info"]
    assert dict(build)["crun"] == "1.21"


def test_a_damaged_image_store_keeps_nothing_else_from_being_told(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    made, images = metrics(registry)

    def damaged() -> t.NoReturn:
        raise WrongState("its lists are damaged")

    images.catalogue.snapshot = damaged
    found = samples(made.page(now()))
    assert ("pvecri_images", ()) not in found
    assert found["pvecri_ready", ()] == 1
    assert "images cannot be counted" in caplog.text


def test_what_the_kernel_knows_of_the_daemon(registry: Registry) -> None:
    made, _images = metrics(registry)
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _number in range(3)]
    for thread in threads:
        thread.start()
    opened = [os.open("/", os.O_RDONLY) for _number in range(5)]
    few = samples(made.page(now()))
    stop.set()
    for handle in opened:
        os.close(handle)
    for thread in threads:
        thread.join()

    def without_threads() -> dict[tuple[str, tuple[tuple[str, str], ...]], float] | None:
        # The kernel has a thread for a moment after it was joined.
        found = samples(made.page(now()))
        return found if few["process_threads", ()] - found["process_threads", ()] == 3 else None

    fewer = eventually(without_threads, what="the end of three threads")
    assert few["process_open_fds", ()] - fewer["process_open_fds", ()] == 5
    assert few["process_resident_memory_bytes", ()] > 10_000_000
    assert few["process_virtual_memory_bytes", ()] > few["process_resident_memory_bytes", ()]
    assert 0 < fewer["process_start_time_seconds", ()] < 4e9


def test_recovery_is_told_when_it_is_done(registry: Registry) -> None:
    made, _images = metrics(registry)
    assert "pvecri_recovery" not in made.page(now(is_ready=False))
    recovered = Recovered(seconds=0.5, objects={"containers": 3}, mends={"done": 1})
    found = samples(made.page(now(recovered=recovered)))
    assert found["pvecri_recovery_duration_seconds", ()] == 0.5
    assert found["pvecri_recovery_objects", (("kind", "containers"),)] == 3
    assert found["pvecri_recovery_mends", (("result", "done"),)] == 1


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_names_are_as_prometheus_wants_them(family: Family) -> None:
    """Base units, a prefix, and an ending that says what it is: https://prometheus.io/docs/practices/naming/."""
    assert family.name.startswith(("pvecri_", "process_"))
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert family.kind in {"counter", "gauge", "histogram"}
    assert family.kind != "histogram" or family.name.endswith("_seconds")
    assert family.help.endswith(".")
    assert "le" not in family.labels
