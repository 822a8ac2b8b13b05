# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe an endpoint by the life of a pod, and leave nothing of it."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.endpoint import IMAGE, Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.probe import image as probe_image
from pvecri.probe.health import LABEL, NAMESPACE

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def endpoint() -> t.Iterator[Endpoint]:
    with running_endpoint() as made:
        yield made


@pytest.fixture(autouse=True)
def _clean(endpoint: Endpoint) -> t.Iterator[None]:
    yield
    if not endpoint.is_running:
        endpoint.start()
    assert _left(endpoint) == []
    endpoint.remove_all()
    assert endpoint.leftovers() == []
    assert endpoint.tracebacks() == []


def _left(endpoint: Endpoint) -> list[str]:
    """Return what a probe has left."""
    left = [pod.id for pod in endpoint.cri.list_pods() if LABEL in pod.labels]
    left += [name for image in endpoint.cri.list_images() for name in image.repo_tags if name != IMAGE]
    return left + [path for path in (f"{endpoint.socket}.probe",) if os.path.exists(path)]


def _probe(endpoint: Endpoint, *options: str, code: int = 0, stdin: str = "") -> t.Any:
    done = endpoint.command("probe", "--json", *options, stdin=stdin)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def _steps(document: t.Any) -> list[str]:
    return [step["name"] for step in document["pod"]["steps"]]


_LIFE = ["run pod", "have address", "create", "start"]
_END = ["stop container", "stop pod", "remove pod"]


def test_life_of_a_pod(endpoint: Endpoint) -> None:
    document = _probe(endpoint, "--pod", "--network")
    assert document["ok"]
    assert document["pod"]["image"] == probe_image.NAME
    assert _steps(document) == ["load image", *_LIFE, "read log", "exec", *_END, "remove image"]
    assert all(step["ms"] > 0 and step["problem"] == "" for step in document["pod"]["steps"])


def test_life_of_a_pod_for_people(endpoint: Endpoint) -> None:
    done = endpoint.command("probe", "--pod")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[4:]][:2] == ["load image", "run pod"]


def test_images_that_are_there_stay(endpoint: Endpoint) -> None:
    document = _probe(endpoint, "--pod", "--image", IMAGE)
    assert _steps(document) == ["have image", *_LIFE, "watch", *_END]
    assert endpoint.cri.image_status(IMAGE) is not None


def test_image_that_cannot_be_had(endpoint: Endpoint) -> None:
    document = _probe(endpoint, "--pod", "--image", "127.0.0.1:1/none:1", code=1)
    assert _steps(document) == ["have image", "clean up"]
    assert document["problems"][0].startswith("have image: PullImage was answered UNKNOWN: Registry")


def test_own_containers_are_not_counted(endpoint: Endpoint) -> None:
    _pod, container = endpoint.run_container()
    before = _probe(endpoint)
    assert [each["id"] for each in before["running"]] == [container]
    document = _probe(endpoint, "--expect", "-", "--pod", stdin=json.dumps(before))
    assert (document["ok"], document["expected"]) == (True, 1)
    endpoint.restart()
    assert _probe(endpoint, "--wait", "20", "--expect", "-", stdin=json.dumps(before))["expected"] == 1


def test_lost_container_is_named(endpoint: Endpoint) -> None:
    _pod, container = endpoint.run_container()
    before = json.dumps(_probe(endpoint))
    endpoint.cri.stop(container)
    document = _probe(endpoint, "--expect", "-", "--pod", stdin=before, code=1)
    assert f"({container[:13]}) ended with exit code 137" in document["problems"][0]
    assert document["pod"] is None


def test_pod_without_network(endpoint: Endpoint) -> None:
    config = f"{endpoint.cni_conf}/10-test.conflist"
    os.rename(config, f"{config}.away")
    try:
        eventually(lambda: not _probe(endpoint)["conditions"]["NetworkReady"]["status"])
        assert "have address" not in _steps(_probe(endpoint, "--pod"))
        document = _probe(endpoint, "--pod", "--network", code=1)
        assert document["problems"][0].startswith("NetworkReady is not so: NetworkPluginNotReady")
        assert document["pod"] is None
    finally:
        os.rename(f"{config}.away", config)


@pytest.mark.parametrize("after_s", [0.2, 0.35, 0.5, 0.65, 0.8])
def test_next_probe_clears_away_what_a_killed_one_left(endpoint: Endpoint, after_s: float) -> None:
    killed = endpoint.begin_command("probe", "--pod")
    time.sleep(after_s)
    killed.kill()
    killed.wait()
    assert _probe(endpoint, "--pod")["ok"]


def test_probe_that_is_asked_to_end_clears_away(endpoint: Endpoint) -> None:
    asked = endpoint.begin_command("probe", "--pod", "--image", IMAGE)
    eventually(endpoint.cri.list_containers)
    asked.terminate()
    assert asked.wait(60) == 128 + signal.SIGTERM


def test_probes_wait_for_each_other(endpoint: Endpoint) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _unused: _probe(endpoint, "--pod"), range(2)))
    assert [document["ok"] for document in found] == [True, True]
    assert [_steps(document)[0] for document in found].count("wait for others") == 1


def test_pod_that_somebody_else_takes_away_is_tried_again(endpoint: Endpoint) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        probe = thread.submit(_probe, endpoint, "--pod", "--image", IMAGE)
        found: list[t.Any] = []
        eventually(
            lambda: (
                found.extend(p for p in endpoint.cri.list_pods() if p.metadata.namespace == NAMESPACE)
                or found
            ),
        )
        endpoint.cri.stop_pod(found[0].id)
        endpoint.cri.remove_pod(found[0].id)
        assert probe.result(60)["ok"]


def test_container_that_ends_badly(endpoint: Endpoint) -> None:
    # Its own command waits for its end; nothing of the image is at this path.
    before = endpoint.command("images", "list", "--json").stdout
    document = _probe(endpoint, "--pod", "--image", IMAGE, "--timeout", "0", code=1)
    assert document["problems"]
    assert endpoint.command("images", "list", "--json").stdout == before
