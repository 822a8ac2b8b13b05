# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scrape a real endpoint: what it exposes is what the guide says, and Prometheus' tools find no fault."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import typing as t

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, missing, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb
from pvecri.metrics.families import FAMILIES

GUIDE = pathlib.Path(__file__).parents[3] / "docs" / "monitoring.md"
PORT = 9714

#: Asks from within the network of the endpoint, and prints status, type and body.
ASK = """
import json, sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}{sys.argv[2]}", timeout=20)
except urllib.error.HTTPError as exc:
    answer = exc
print(json.dumps([answer.status, answer.headers["Content-Type"], answer.read().decode()]))
"""


@pytest.fixture(scope="module")
def node() -> t.Iterator[Endpoint]:
    """One endpoint for all tests of this file."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with running_endpoint(settings={"metrics": {"port": PORT}}) as made:
        made.host.run(["ip", "link", "set", "lo", "up"])
        yield made


@pytest.fixture(autouse=True)
def empty_node(node: Endpoint) -> t.Iterator[None]:
    yield
    node.remove_all()
    assert node.tracebacks() == []


def ask(node: Endpoint, path: str) -> tuple[int, str, str]:
    def once() -> t.Any:
        done = subprocess.run(
            node.host.argv(["/usr/bin/python3", "-c", ASK, str(PORT), path]),
            capture_output=True,
            text=True,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None

    status, kind, body = eventually(once, what=f"an answer to {path}")
    return status, kind, body


def scrape(node: Endpoint) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the samples by name and labels."""
    status, kind, body = ask(node, "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def of(samples: t.Mapping[t.Any, float], name: str, **labels: str) -> float:
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)


#: What only a node of Proxmox VE has to tell; how its samples look is tested with the page.
OF_PROXMOX = {"pvecri_lxc_findings_total"}


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return kind and labels of the metrics in the guide's table."""
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \|([^|]*)\|", GUIDE.read_text(), re.MULTILINE)
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_guide_lists_what_there_is() -> None:
    assert documented() == {family.name: (family.kind, family.labels) for family in FAMILIES}


def test_what_is_exposed_is_what_the_guide_lists(node: Endpoint) -> None:
    node.run_container(["true"])
    _status, _kind, body = ask(node, "/metrics")
    exposed = {}
    for family in text_string_to_metric_families(body):
        # The parser takes the ending from the names of counters.
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if name in OF_PROXMOX:
            assert not family.samples
            continue
        assert family.samples or family.type == "histogram", f"{name} says nothing"
        exposed[name] = (family.type, labels)
    wanted = {name: (kind, set(labels)) for name, (kind, labels) in documented().items()}
    assert {name: about for name, about in wanted.items() if name not in OF_PROXMOX} == exposed


def test_promtool_finds_no_fault(node: Endpoint) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool (Debian's package prometheus)")
    node.run_container(["true"])
    _status, _kind, body = ask(node, "/metrics")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=body, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_health_and_readiness(node: Endpoint) -> None:
    assert ask(node, "/healthz")[::2] == (200, "ok\n")
    status, _kind, body = ask(node, "/readyz")
    assert (status, body) == (200, "requests: ok\nruntime: ok\nnetwork: ok\nready\n")
    hidden = pathlib.Path(node.cni_conf, "10-test.conflist")
    away = hidden.rename(pathlib.Path(node.top, "away"))
    try:
        status, _kind, body = ask(node, "/readyz")
        assert status == 200
        assert "network: warning: " in body
    finally:
        away.rename(hidden)


def test_lives_calls_and_ends_are_counted(node: Endpoint) -> None:
    before = scrape(node)
    _pod, app = node.run_container(["sh", "-c", "exit 3"])
    eventually(lambda: node.cri.container_status(app).state == pb.CONTAINER_EXITED)
    _other, _running = node.run_container()
    with pytest.raises(grpc.RpcError):
        node.cri.container_status("none")
    after = scrape(node)

    def grown(name: str, **labels: str) -> float:
        return of(after, name, **labels) - of(before, name, **labels)

    assert grown("pvecri_rpc_requests_total", method="RunPodSandbox", code="OK") == 2
    assert grown("pvecri_rpc_requests_total", method="ContainerStatus", code="NOT_FOUND") == 1
    assert grown("pvecri_rpc_duration_seconds_count", method="RunPodSandbox") == 2
    assert 0 < grown("pvecri_rpc_duration_seconds_sum", method="RunPodSandbox") < 120
    assert grown("pvecri_container_exits_total", reason="Error") == 1
    assert of(after, "pvecri_containers", state="exited") == 1
    assert of(after, "pvecri_containers", state="running") == 1
    assert of(after, "pvecri_sandboxes", state="ready") == 2
    assert of(after, "pvecri_ready") == 1
    assert of(after, "pvecri_images") == 1
    assert of(after, "pvecri_filesystem_used_bytes", kind="images") > 100_000
    assert of(after, "pvecri_rpcs_in_flight") == 0
    assert 20e6 < of(after, "process_resident_memory_bytes") < 200e6
    assert of(after, "process_cpu_seconds_total") > of(before, "process_cpu_seconds_total")


def test_followers_and_failed_pulls_are_seen(node: Endpoint) -> None:
    before = scrape(node)
    call = node.cri.call("GetContainerEvents")
    eventually(lambda: of(scrape(node), "pvecri_streams_open", kind="events") == 1)
    call.cancel()
    eventually(lambda: of(scrape(node), "pvecri_streams_open", kind="events") == 0)
    with pytest.raises(grpc.RpcError):
        node.cri.pull("127.0.0.1:1/none:1")
    after = scrape(node)
    ended = of(after, "pvecri_image_pulls_total", result="failure")
    assert ended - of(before, "pvecri_image_pulls_total", result="failure") == 1
    assert of(after, "pvecri_image_pull_duration_seconds_count") >= 1
    method = {"method": "GetContainerEvents", "code": "CANCELLED"}
    assert of(after, "pvecri_rpc_requests_total", **method) >= 1


def test_recovery_is_told(node: Endpoint) -> None:
    node.run_container()
    node.kill()
    node.start()
    samples = scrape(node)
    assert of(samples, "pvecri_recovery_objects", kind="containers") == 1
    assert of(samples, "pvecri_recovery_objects", kind="sandboxes") == 1
    assert 0 < of(samples, "pvecri_recovery_duration_seconds") < 30
    assert of(samples, "pvecri_recovery_mends", result="failed") == 0
