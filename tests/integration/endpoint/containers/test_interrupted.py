# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interrupt a container's making, start and removal between any two steps, by an error and by kill -9."""

from __future__ import annotations

import errno
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import creation, removal
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    Conflict,
    CoreError,
    WrongState,
)
from ansible_collections.pvecri.runtime.tests.support import cgroups, cri_client, endpoint
from ansible_collections.pvecri.runtime.tests.support.endpoint import IMAGE
from pvecri.api import cri_pb2 as pb
from pvecri.config.load import load
from pvecri.containers.exits import Exits
from pvecri.containers.service import ContainerService
from pvecri.daemon.assembly import build_context
from pvecri.disk.layers import layers_of
from pvecri.images.service import ImageService
from pvecri.state.records import Phase, SandboxRecord
from pvecri.state.registry import Registry

CONFIG = """
[server]
socket = "{top}/s.sock"
[paths]
state_dir = "{top}/s"
run_dir = "{top}/r"
[runtime]
crun = "{crun}"
"""

#: Between any two of these a create can be cut short.
CREATE_STEPS = [
    (Registry, "reserve_container"),
    (BundleManager, "stage"),
    (BundleManager, "commit"),
    (CrunRuntime, "create"),
    (creation, "_prepare"),
    (creation, "_launch"),
    (Registry, "update_container"),
]
REMOVE_STEPS = [
    (CrunRuntime, "delete"),
    (removal, "forget"),
    (BundleManager, "remove"),
    (Registry, "remove_container"),
]


class Node:
    """Services within this process, with a sandbox that is only a record: the host's namespaces."""

    def __init__(self, top: str) -> None:
        self.top = top
        self.context: t.Any = None
        self.open()
        pod = cri_client.pod("p", host_network=True, log_directory=f"{top}/logs")
        pod.linux.security_context.namespace_options.ipc = pb.NODE
        self.cgroup_parent = f"/pvecri-test/{os.path.basename(top)}"
        record = SandboxRecord(
            id=os.urandom(32).hex(),
            name="p",
            config=pod.SerializeToString(),
            created_at_ns=time.time_ns(),
            cgroup_parent=self.cgroup_parent,
        )
        self.sandbox = record.id
        self.context.registry.reserve_sandbox(record)
        self.context.registry.update_sandbox(record.id, phase=Phase.READY)
        self.config = cri_client.container("app", IMAGE, ["sleep", "1000"], log_path="app.log")

    def open(self) -> None:
        """Begin as a daemon does."""
        if self.context is not None:
            self.context.registry.close()
        self.context = build_context(load(f"{self.top}/c.toml"), logging.getLogger("test"))
        self.exits = Exits(self.context.registry, self.context.runtimes)
        self.service = ContainerService(
            self.context, ImageService(self.context, layers_of(self.context)), self.exits
        )

    def create(self) -> str:
        return self.service.create(self.sandbox, self.config)

    def in_child(self, act: t.Callable[[], t.Any]) -> int:
        """Do something in a process of its own that may die of it; return how it ended."""
        child = os.fork()
        if child == 0:
            try:
                act()
            except BaseException:
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def leftovers(self) -> list[str]:
        """Return what there is of containers."""
        paths = self.context.paths
        found = [record.id for record in self.context.registry.containers()]
        for folder in (paths.bundles, paths.runtime_root, paths.exits, f"{paths.run_dir}/monitors/cri"):
            if os.path.isdir(folder):
                found += os.listdir(folder)
        found += [mount for mount in syscalls.mounts_below(paths.bundles) if mount.startswith(self.top)]
        found += cgroups.below(self.cgroup_parent)
        processes = subprocess.run(["pgrep", "-f", self.top], capture_output=True, text=True, check=False)
        return found + processes.stdout.split()


@pytest.fixture(scope="module")
def image_store() -> t.Iterator[str]:
    """A store with the image, copied for each test."""
    reason = endpoint.missing()
    if reason:
        pytest.skip(reason)
    top = tempfile.mkdtemp(prefix="pi-", dir="/tmp")
    for name in ("s", "r"):
        os.mkdir(f"{top}/{name}")
    pathlib.Path(top, "c.toml").write_text(CONFIG.format(top=top, crun=endpoint.CRUN), encoding="utf-8")
    store = f"containers-storage:[overlay@{top}/s/storage+{top}/r/storage]{IMAGE}"
    source = f"oci:{endpoint.busybox_layout()}:latest"
    subprocess.run(["skopeo", "copy", "--quiet", "--insecure-policy", source, store], check=True)
    yield top
    for mount in sorted(syscalls.mounts_below(top), reverse=True):
        syscalls.umount2(mount, syscalls.MNT_DETACH)
    shutil.rmtree(top)
    cgroups.remove(f"/pvecri-test/{os.path.basename(top)}")


@pytest.fixture
def node(image_store: str) -> t.Iterator[Node]:
    made = Node(image_store)
    yield made
    for record in made.context.registry.containers():
        made.service.remove(record.id)
    assert made.leftovers() == []
    made.context.registry.remove_sandbox(made.sandbox)
    made.context.registry.close()


def interrupt(monkeypatch, holder, name, act, *, after):
    """Have ``act`` happen before or after the first call of a function."""
    real = getattr(holder, name)
    calls = []

    def wrapped(*args, **kwargs):
        calls.append(name)
        if len(calls) > 1:
            return real(*args, **kwargs)
        if after:
            real(*args, **kwargs)
        return act()

    monkeypatch.setattr(holder, name, wrapped)
    return calls


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def no_space():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("holder", "name"), CREATE_STEPS)
def test_create_killed_anywhere_is_repeated(node, monkeypatch, holder, name, after):
    with monkeypatch.context() as patched:
        interrupt(patched, holder, name, die, after=after)
        assert node.in_child(lambda: (node.open(), node.create())) == -signal.SIGKILL
    node.open()
    container = node.create()
    node.service.start(container)
    assert node.service.exec_sync(container, ["echo", "lives"], 20) == (b"lives\n", b"", 0)
    assert [record.id for record in node.context.registry.containers()] == [container]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("holder", "name"), CREATE_STEPS[1:])
def test_create_without_space_leaves_nothing(node, monkeypatch, holder, name, after):
    with monkeypatch.context() as patched:
        calls = interrupt(patched, holder, name, no_space, after=after)
        with pytest.raises((OSError, CoreError)):
            node.create()
    assert calls
    assert node.leftovers() == []
    node.service.start(node.create())


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("holder", "name"), REMOVE_STEPS)
def test_remove_killed_anywhere_is_repeated(node, monkeypatch, holder, name, after):
    container = node.create()
    node.service.start(container)
    with monkeypatch.context() as patched:
        interrupt(patched, holder, name, die, after=after)
        assert node.in_child(lambda: (node.open(), node.service.remove(container))) == -signal.SIGKILL
    node.open()
    node.service.remove(container)
    assert node.leftovers() == []


@pytest.mark.parametrize("after", [False, True])
def test_start_killed_is_found_out(node, monkeypatch, after):
    container = node.create()
    with monkeypatch.context() as patched:
        interrupt(patched, Registry, "started", die, after=after)
        assert node.in_child(lambda: (node.open(), node.service.start(container))) == -signal.SIGKILL
    node.open()
    state = node.context.crun.state(container)
    assert state.status == "running"
    node.service.stop(container, 0)
    assert node.context.registry.container(container).phase is Phase.EXITED


def test_bundle_deleted_under_a_container(node):
    container = node.create()
    node.service.start(container)
    bundle = node.context.bundles.path_of(container)
    for mount in sorted(syscalls.mounts_below(bundle), reverse=True):
        syscalls.umount2(mount, syscalls.MNT_DETACH)
    shutil.rmtree(bundle)
    assert "its bundle is missing" in node.service.status_info(container)["info"]
    assert node.service.exec_sync(container, ["true"], 20)[2] == 0
    node.service.stop(container, 0)
    node.service.remove(container)
    assert node.leftovers() == []


def test_record_of_a_bundle_damaged(node):
    container = node.create()
    path = os.path.join(node.context.bundles.path_of(container), "pvecri.json")
    pathlib.Path(path).write_text("{", encoding="ascii")
    assert "damaged" in node.service.status_info(container)["info"]
    node.service.remove(container)
    assert node.leftovers() == []


def test_runtime_state_lost(node):
    container = node.create()
    node.service.start(container)
    pid = node.context.crun.state(container).pid
    shutil.rmtree(os.path.join(node.context.paths.runtime_root, container))
    os.kill(pid, signal.SIGKILL)
    while node.context.crun.state(container).exit_code is None:
        time.sleep(0.01)
    assert node.exits.settle(container).exit_code == 137


def test_start_that_fails_ends_the_container(node, monkeypatch):
    container = node.create()

    def refuse(*_args):
        raise CoreError("crun has no luck")

    with monkeypatch.context() as patched:
        patched.setattr(CrunRuntime, "start", refuse)
        with pytest.raises(CoreError, match="no luck"):
            node.service.start(container)
    record = node.context.registry.container(container)
    assert (record.phase, record.exit_code, record.reason) == (Phase.EXITED, 128, "StartError")
    assert record.message == "crun has no luck"
    # A start that was given up may have come through: it must not run on.
    assert not node.context.crun.state(container).is_alive
    node.service.stop(container)
    node.service.remove(container)


def test_pod_stopped_while_a_container_is_made(node, monkeypatch):
    def stop_pod():
        node.context.registry.update_sandbox(node.sandbox, phase=Phase.STOPPED)

    with monkeypatch.context() as patched:
        interrupt(patched, CrunRuntime, "create", stop_pod, after=True)
        with pytest.raises(WrongState, match="stopped while"):
            node.create()
    assert node.leftovers() == []
    with pytest.raises(WrongState, match="not ready"):
        node.create()


def test_pod_stopped_before_a_start(node):
    container = node.create()
    node.context.registry.update_sandbox(node.sandbox, phase=Phase.STOPPED)
    with pytest.raises(WrongState, match="not ready"):
        node.service.start(container)


def test_same_name_is_made_by_one_alone(node, monkeypatch):
    with monkeypatch.context() as patched:
        interrupt(patched, CrunRuntime, "create", node.create, after=False)
        with pytest.raises(Conflict, match="is being made"):
            node.create()
    assert node.leftovers() == []


def test_end_is_only_noted_of_what_has_ended(node):
    container = node.create()
    assert node.exits.settle(container).phase is Phase.CREATED
    node.service.start(container)
    assert node.exits.settle(container).phase is Phase.RUNNING
    node.context.crun.stop(container, 9)
    ended = node.exits.settle(container)
    assert (ended.phase, ended.exit_code) == (Phase.EXITED, 137)
    assert node.exits.settle(container) == ended
    node.service.remove(container)
    assert node.exits.settle(container) is None
