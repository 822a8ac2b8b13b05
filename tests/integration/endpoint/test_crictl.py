# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drive the endpoint with crictl, as a person does who looks after a node.

With PVECRI_TEST_PEER=containerd the same is done to Debian's containerd: what fails there, too, is
wrong in the test.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.tests.support import cgroups, containerd, crictl, endpoint, images
from ansible_collections.pvecri.runtime.tests.support.crictl import Crictl
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint
from ansible_collections.pvecri.runtime.tests.support.layout_registry import LayoutRegistry
from ansible_collections.pvecri.runtime.tests.support.private_host import PrivateHost
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

PEER = os.environ.get("PVECRI_TEST_PEER", "")
#: Counts until a file /stop appears; the first lines come at once.
COUNTING = "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo line $i; sleep 0.05; done; echo over; echo bad >&2"


class Node:
    """A runtime with crictl, a registry within its reach, and what a person types for it."""

    def __init__(self, crictl_: Crictl, registry: str, logs: str, cgroup_parent: str) -> None:
        self.crictl = crictl_
        self.image = f"{registry}/library/busybox:1"
        self.other_tag = f"{registry}/library/busybox:2"
        self._logs = logs
        self._cgroup_parent = cgroup_parent
        self._count = 0

    def pod(self, name: str | None = None, **fields: t.Any) -> str:
        """Write the config of a pod and return its path."""
        self._count += 1
        name = name or f"pod{self._count}"
        config = {
            "metadata": {"name": name, "namespace": "default", "uid": f"uid-{self._count}", "attempt": 1},
            "hostname": name,
            "log_directory": f"{self._logs}/{name}",
            "labels": {"app": name},
            "linux": {"cgroup_parent": f"{self._cgroup_parent}/{name}"},
            **fields,
        }
        return self.crictl.file(f"{name}.json", config)

    def container(self, name: str, script: str = "sleep 1000", **fields: t.Any) -> str:
        """Write the config of a container that runs a script and return its path."""
        config = {
            "metadata": {"name": name},
            "image": {"image": self.image},
            "command": ["sh", "-c", script],
            "log_path": f"{name}.log",
            "labels": {"part": name},
            "linux": {},
            **fields,
        }
        return self.crictl.file(f"container-{name}.json", config)

    def run(self, script: str = "sleep 1000", **fields: t.Any) -> tuple[str, str]:
        """Pull, run a pod, create and start a container; return the ids of both."""
        self.crictl("pull", self.image)
        pod = self.pod()
        pod_id = self.crictl("runp", pod)
        container_id = self.crictl("create", pod_id, self.container("app", script, **fields), pod)
        self.crictl("start", container_id)
        return pod_id, container_id

    def state(self, container_id: str) -> str:
        """Return CRI's state of a container."""
        return t.cast("str", self.crictl.json("inspect", container_id)["status"]["state"])


def within_network(host: PrivateHost, make: t.Callable[[], LayoutRegistry]) -> LayoutRegistry:
    """Return what ``make`` makes; its sockets belong to the network of the private host."""
    made: list[LayoutRegistry] = []

    def work() -> None:
        with open(f"/proc/{host.pid}/ns/net", "rb") as namespace:
            syscalls.setns(namespace.fileno())
        made.append(make())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return made[0]


@contextlib.contextmanager
def running_containerd(host: PrivateHost, layout: images.OciLayout, top: str) -> t.Iterator[str]:
    """Run the peer and yield its socket."""
    if not containerd.is_available():
        pytest.skip("needs containerd")
    place = Endpoint(host=host)  # for its network alone
    shutil.copytree(place.cni_conf, f"{top}/net.d")
    place.close()
    handlers = {"runc": shutil.which("runc") or "runc"}
    conf = f"{top}/net.d"
    peer = containerd.Containerd(host, top, pause="pause.test/p:1", cni_conf=conf, handlers=handlers)
    with peer:
        archive = f"docker-archive:{top}/pause.tar:pause.test/p:1"
        host.run(["skopeo", "copy", "--insecure-policy", f"oci:{layout.path}:pause", archive])
        peer.load(f"{top}/pause.tar")
        yield peer.socket


@pytest.fixture(scope="module")
def node() -> t.Iterator[Node]:
    """One node for all tests of this file."""
    reason = crictl.missing() or endpoint.missing()
    if reason:
        pytest.skip(reason)
    top = tempfile.mkdtemp(prefix="pcr-", dir="/tmp")
    layout = images.OciLayout(f"{top}/layout")
    config = {"Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"], "WorkingDir": "/tmp"}
    for tag in ("1", "2"):
        layout.add_image(tag, [images.busybox_layer()], config)
    # Removing an image by one name removes it by all.
    layout.add_image("pause", [images.busybox_layer()], {"Cmd": ["/bin/sleep", "1000001"]})
    empty = containerd.SHARED_DIRECTORIES if PEER else ()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, top, ignore_errors=True)
        cgroup_parent = f"/pvecri-test/{os.path.basename(top)}"
        stack.callback(cgroups.remove, cgroup_parent)
        host = stack.enter_context(PrivateHost(empty=empty))
        registry = within_network(host, lambda: LayoutRegistry(layout))
        stack.enter_context(registry)
        if PEER == "containerd":
            socket = stack.enter_context(running_containerd(host, layout, top))
        else:
            conf = pathlib.Path(top, "registries.conf")
            conf.write_text(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
            settings = {"images": {"registries_conf": str(conf)}}
            running = endpoint.running_endpoint(host=host, images={}, settings=settings)
            socket = stack.enter_context(running).socket
        tool = Crictl(socket, pathlib.Path(top))
        yield Node(tool, registry.address, f"{top}/logs", cgroup_parent)
        tool.try_("rmp", "--all", "--force")


@pytest.fixture(autouse=True)
def empty_node(node: Node) -> t.Iterator[None]:
    """Leave nothing of one test to the next."""
    yield
    node.crictl("rmp", "--all", "--force")
    assert node.crictl("ps", "--all", "--quiet") == ""
    assert node.crictl("pods", "--quiet") == ""
    node.crictl.try_("rmi", node.image, node.other_tag)


def test_version_and_info_tell_a_ready_node(node):
    assert "RuntimeApiVersion:  v1" in node.crictl("version")
    info = node.crictl.json("info")
    conditions = {item["type"]: item["status"] for item in info["status"]["conditions"]}
    assert conditions["RuntimeReady"] is True
    assert conditions["NetworkReady"] is True


def test_whole_life_of_pod_and_container(node):
    tool = node.crictl
    assert "Image is up to date" in tool("pull", node.image)
    pod = node.pod("web")
    pod_id = tool("runp", pod)
    assert tool("pods", "--quiet", "--no-trunc") == pod_id
    container_id = tool("create", pod_id, node.container("app", COUNTING), pod)
    assert node.state(container_id) == "CONTAINER_CREATED"
    assert tool("start", container_id) == container_id
    assert node.state(container_id) == "CONTAINER_RUNNING"
    assert tool("exec", "-s", container_id, "hostname") == "web"
    assert tool("stop", container_id) == container_id
    assert node.state(container_id) == "CONTAINER_EXITED"
    assert tool("rm", container_id) == container_id
    assert tool("stopp", pod_id) == f"Stopped sandbox {pod_id}"
    assert tool.json("inspectp", pod_id)["status"]["state"] == "SANDBOX_NOTREADY"
    assert tool("rmp", pod_id) == f"Removed sandbox {pod_id}"
    assert tool("pods", "--quiet") == ""
    tool("rmi", node.image)
    assert node.image.rpartition(":")[0] not in tool("images")


def test_run_does_it_all_at_once(node):
    container_id = node.crictl("run", node.container("once"), node.pod())
    assert node.state(container_id) == "CONTAINER_RUNNING"
    assert node.crictl("ps", "--quiet", "--no-trunc") == container_id


def test_images_of_two_tags_are_one(node):
    tool = node.crictl
    for name in (node.image, node.other_tag):
        tool("pull", name)
    listed = [image for image in tool.json("images")["images"] if node.image in image["repoTags"]]
    assert len(listed) == 1
    assert sorted(listed[0]["repoTags"]) == [node.image, node.other_tag]
    status = tool.json("inspecti", node.other_tag)["status"]
    assert status["id"] == listed[0]["id"]
    assert int(status["size"]) > 100_000
    digest = status["repoDigests"][0]
    assert digest.startswith(f"{node.image.rpartition(':')[0]}@sha256:")
    assert tool.json("inspecti", digest)["status"]["id"] == status["id"]
    tool("rmi", status["id"])
    assert status["id"][7:20] not in tool("images", "--no-trunc")


def test_pull_of_nothing_says_what_is_missing(node):
    missing = node.image.replace(":1", ":none")
    said = node.crictl.fails("pull", missing)
    assert "none" in said
    assert "code = NotFound" in said
    assert "no such image" in node.crictl.fails("inspecti", missing)


def test_lists_are_filtered(node):
    tool = node.crictl
    first_pod, first = node.run()
    second_pod, second = node.run("exit 3")
    wait_exited(node, second)
    assert tool("ps", "--quiet", "--no-trunc") == first
    assert tool("ps", "--all", "--quiet", "--no-trunc", "--state", "exited") == second
    assert tool("ps", "--quiet", "--no-trunc", "--pod", first_pod) == first
    assert tool("ps", "--quiet", "--no-trunc", "--label", "part=app") == first
    assert tool("ps", "--quiet", "--no-trunc", "--id", first[:12]) == first
    tool("stopp", second_pod)
    assert tool("pods", "--quiet", "--no-trunc", "--state", "ready") == first_pod
    assert tool("pods", "--quiet", "--no-trunc", "--state", "notready") == second_pod
    label = tool.json("inspectp", second_pod)["status"]["labels"]["app"]
    assert tool("pods", "--quiet", "--no-trunc", "--label", f"app={label}") == second_pod


def wait_exited(node: Node, container_id: str) -> dict[str, t.Any]:
    """Wait until a container has ended and return its status."""
    while True:
        status = node.crictl.json("inspect", container_id)["status"]
        if status["state"] == "CONTAINER_EXITED":
            return t.cast("dict[str, t.Any]", status)


def test_inspect_tells_how_a_container_ended(node):
    _pod_id, container_id = node.run("echo done; exit 3")
    status = wait_exited(node, container_id)
    assert status["exitCode"] == 3
    assert status["reason"] == "Error"
    # containerd notes the start after it; what is over at once ends before that.
    assert PEER or status["finishedAt"] >= status["startedAt"] >= status["createdAt"]
    assert status["image"]["userSpecifiedImage"] in ("", node.image)
    assert status["metadata"] == {"attempt": 0, "name": "app"}
    assert status["labels"] == {"part": "app"}


def test_inspectp_tells_the_address(node):
    pod_id, container_id = node.run()
    address = node.crictl.json("inspectp", pod_id)["status"]["network"]["ip"]
    assert f" {address}/" in node.crictl("exec", "-s", container_id, "ip", "-4", "address", "show", "eth0")


def test_exec_gives_output_and_exit_code(node):
    _pod_id, container_id = node.run()
    done = node.crictl.try_("exec", "-s", container_id, "sh", "-c", "echo out; echo bad >&2")
    assert (done.returncode, done.stdout.split()) == (0, ["out", "bad"])
    said = node.crictl.fails("exec", "-s", container_id, "sh", "-c", "echo why >&2; exit 7")
    assert "7" in said
    assert "why" in said


def test_exec_ends_with_its_timeout(node):
    _pod_id, container_id = node.run()
    said = node.crictl.fails("exec", "-s", "--timeout", "1", container_id, "sleep", "997")
    assert "DeadlineExceeded" in said
    assert "sleep 997" not in node.crictl("exec", "-s", container_id, "ps")


def test_logs_follow_while_the_container_writes(node):
    _pod_id, container_id = node.run(COUNTING)
    with node.crictl.running("logs", "--follow", container_id) as follower:
        assert follower.stdout is not None
        lines = [follower.stdout.readline() for _unused in range(5)]
        assert lines == [f"line {number}\n" for number in range(1, 6)]
        node.crictl("exec", "-s", container_id, "touch", "/stop")
        assert follower.stdout.read().splitlines()[-1] == "over"
        assert follower.wait(20) == 0
    done = node.crictl.try_("logs", "--tail", "2", container_id)
    assert (done.stdout, done.stderr) == ("over\n", "bad\n")


def test_logs_are_opened_anew_after_rotation(node):
    _pod_id, container_id = node.run(COUNTING)
    path = pathlib.Path(node.crictl.json("inspect", container_id)["status"]["logPath"])
    while "line 1" not in (path.read_text() if path.exists() else ""):
        pass
    path.rename(f"{path}.old")
    node.crictl("logs", "--reopen", container_id)
    while not path.exists() or "line" not in path.read_text():
        pass
    assert "line 1\n" not in path.read_text()


def test_logs_are_followed_over_a_rotation(node):
    _pod_id, container_id = node.run(COUNTING)
    path = pathlib.Path(node.crictl.json("inspect", container_id)["status"]["logPath"])
    with node.crictl.running("logs", "--follow", container_id) as follower:
        assert follower.stdout is not None
        lines = [follower.stdout.readline()]
        for number in range(3):
            # As kubelet does it.
            path.rename(f"{path}.{number}")
            node.crictl("logs", "--reopen", container_id)
            lines += [follower.stdout.readline() for _unused in range(30)]
        node.crictl("exec", "-s", container_id, "touch", "/stop")
        lines += follower.stdout.read().splitlines(keepends=True)
        assert follower.wait(20) == 0
    assert lines == [*(f"line {number}\n" for number in range(1, len(lines))), "over\n"]


def test_update_changes_limits_in_place(node):
    pod_id, container_id = node.run()
    node.crictl("update", "--memory", str(64 << 20), "--cpu-share", "512", container_id)
    read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert node.crictl("exec", "-s", container_id, "sh", "-c", read) == str(64 << 20)
    resources = node.crictl.json("inspect", container_id)["status"]["resources"]["linux"]
    assert resources["memoryLimitInBytes"] == str(64 << 20)
    assert resources["cpuShares"] == "512"
    assert node.crictl("ps", "--quiet", "--no-trunc", "--pod", pod_id) == container_id


def test_stats_tell_what_a_container_uses(node):
    _pod_id, container_id = node.run("dd if=/dev/zero of=/written bs=1000 count=300; while :; do :; done")
    while "written" not in node.crictl("exec", "-s", container_id, "ls", "/"):
        pass
    stats = node.crictl.json("stats", "--id", container_id)["stats"]
    assert [item["attributes"]["id"] for item in stats] == [container_id]
    assert stats[0]["attributes"]["labels"] == {"part": "app"}
    assert int(stats[0]["cpu"]["usageCoreNanoSeconds"]["value"]) > 0
    assert int(stats[0]["memory"]["workingSetBytes"]["value"]) > 0
    # A list does not wait for what is counted the first time.
    eventually(lambda: "writableLayer" in node.crictl.json("stats", "--id", container_id)["stats"][0])
    assert node.crictl.json("stats", "--label", "part=other")["stats"] == []


def test_running_things_are_removed_by_force_only(node):
    pod_id, container_id = node.run()
    node.crictl.fails("rm", container_id)
    node.crictl.fails("rmp", pod_id)
    assert node.state(container_id) == "CONTAINER_RUNNING"
    node.crictl("rm", "--force", container_id)
    node.crictl("rmp", "--force", pod_id)
    assert node.crictl("pods", "--quiet") == ""


def test_what_is_unknown_is_named(node):
    for command in ("inspect", "inspectp", "start"):
        said = node.crictl.fails(command, "0123456789ab")
        assert PEER or "0123456789ab" in said
        assert "NotFound" in said or "not found" in said


def test_wrong_configs_are_refused_with_the_reason(node):
    said = node.crictl.fails("runp", node.pod(metadata={"name": "", "namespace": "default", "uid": "u"}))
    assert "name" in said
    assert node.crictl("pods", "--quiet") == ""
    node.crictl("pull", node.image)
    pod = node.pod()
    pod_id = node.crictl("runp", pod)
    broken = node.container("broken", image={"image": f"{node.image}-missing"})
    node.crictl.fails("create", "--no-pull", pod_id, broken, pod)
    assert node.crictl("ps", "--all", "--quiet") == ""


def test_a_program_that_is_missing_is_named(node):
    node.crictl("pull", node.image)
    pod = node.pod()
    pod_id = node.crictl("runp", pod)
    config = node.container("wrong", command=["/no/such/program"])
    done = node.crictl.try_("create", pod_id, config, pod)
    said = done.stderr
    if done.returncode == 0:
        said = node.crictl.fails("start", done.stdout.strip())
        status = node.crictl.json("inspect", done.stdout.strip())["status"]
        assert status["state"] == "CONTAINER_EXITED"
        assert status["exitCode"] in (127, 128)
    assert "/no/such/program" in said
