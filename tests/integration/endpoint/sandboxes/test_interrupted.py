# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon that dies between any two steps leaves nothing that the next one does not take apart."""

from __future__ import annotations

import os
import shutil
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import Cni
from pvecri.api import cri_pb2
from pvecri.sandboxes import cgroup, files, namespaces, pause, teardown
from pvecri.sandboxes.run import SandboxRun
from pvecri.state import spare
from pvecri.state.records import Phase
from pvecri.state.registry import Registry


class Killed(BaseException):
    """Stands for the end of the process: nothing after it is done."""


def _kill_at(monkeypatch: pytest.MonkeyPatch, owner: t.Any, name: str, *, after: bool) -> None:
    """Have a step end the process before or after what it does."""
    real = getattr(owner, name)

    def step(*args: t.Any, **options: t.Any) -> t.Any:
        if after:
            real(*args, **options)
        raise Killed(name)

    monkeypatch.setattr(owner, name, step)


_FIRST = {"reserve_sandbox", "prepare", "mount_shm", "_reserve", "write", "unmount_shm", "_run", "end"}


def _points(steps: t.Iterable[tuple[t.Any, str]]) -> t.Iterator[t.Any]:
    """Yield where to kill: after each step, and before those that no other step comes right before."""
    for owner, name in steps:
        for after in (False, True) if name in _FIRST else (True,):
            yield pytest.param(owner, name, after, id=f"{'after' if after else 'before'}-{name}")


MAKING = [
    (Registry, "reserve_sandbox"),
    (files, "prepare"),
    (netns, "pin_all"),
    (namespaces, "make"),
    (namespaces, "apply_sysctls"),
    (files, "mount_shm"),
    (cgroup.PodCgroup, "make"),
    (BundleManager, "create"),
    (CrunRuntime, "create"),
    (CrunRuntime, "start"),
    (pause, "start"),
    (Cni, "_reserve"),
    (Cni, "_chain"),
    (Cni, "add"),
    (files, "write"),
    (spare, "save_sandbox"),
    (Registry, "update_sandbox"),
]


def _config(pods: t.Any) -> cri_pb2.PodSandboxConfig:
    config = pods.pod("web")
    config.linux.security_context.namespace_options.pid = cri_pb2.POD
    config.port_mappings.add(container_port=80, host_port=8080)
    config.linux.resources.memory_limit_in_bytes = 64 << 20
    return t.cast("cri_pb2.PodSandboxConfig", config)


@pytest.mark.parametrize(("owner", "name", "after"), list(_points(MAKING)))
def test_killed_while_a_sandbox_is_made(
    pods: t.Any, monkeypatch: pytest.MonkeyPatch, owner: t.Any, name: str, after: bool
) -> None:
    config = _config(pods)
    with monkeypatch.context() as patch:
        patch.setattr(SandboxRun, "_undo", lambda *_args: None)
        _kill_at(patch, owner, name, after=after)
        with pytest.raises(Killed):
            pods.run(config)
    pods.restart()
    records = pods.context.registry.sandboxes()
    assert len(records) == (0 if name == "reserve_sandbox" and not after else 1)
    for record in records:
        assert record.phase is (Phase.READY if (name, after) == ("update_sandbox", True) else Phase.CREATING)
        # As recovery does.
        pods.service.remove(record.id)
    assert pods.leftovers() == {}
    # Nothing of it is in the way of the next one.
    assert pods.run(config).phase is Phase.READY


UNMAKING = [
    (Registry, "update_sandbox"),
    (pause, "end"),
    (CrunRuntime, "delete"),
    (BundleManager, "remove"),
    (files, "unmount_shm"),
    (Cni, "_run"),
    (Cni, "delete"),
    (namespaces, "release"),
    (cgroup.PodCgroup, "remove"),
    (teardown, "erase"),
    (files, "remove"),
    (Registry, "remove_sandbox"),
]


@pytest.mark.parametrize(("owner", "name", "after"), list(_points(UNMAKING)))
def test_killed_while_a_sandbox_is_removed(
    pods: t.Any, monkeypatch: pytest.MonkeyPatch, owner: t.Any, name: str, after: bool
) -> None:
    record = pods.run(_config(pods))
    with monkeypatch.context() as patch:
        _kill_at(patch, owner, name, after=after)
        if name == "erase":
            patch.setattr("pvecri.sandboxes.service.erase", teardown.erase)
        with pytest.raises(Killed):
            pods.service.remove(record.id)
    pods.restart()
    if (name, after) != ("remove_sandbox", True):
        assert pods.context.registry.sandbox(record.id).id == record.id
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_after_a_restart_of_the_host_the_addresses_come_back(pods: t.Any) -> None:
    record = pods.run(_config(pods))
    assert pods.leases()
    # What a reboot takes: processes, mounts, and everything volatile.
    pods.context.crun.kill(record.id, "KILL")
    pods.context.crun.wait(record.id, 10)
    rootfs.unmount_below(str(pods.top))
    shutil.rmtree(pods.paths.run_dir)
    pods.restart()
    assert not os.path.exists(record.netns)
    pods.service.stop(record.id)
    stopped = pods.context.registry.sandbox(record.id)
    assert (stopped.phase, stopped.ips, pods.leases()) == (Phase.STOPPED, (), [])
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_the_record_says_what_will_be_before_anything_is_done(
    pods: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[t.Any] = []
    real = files.prepare

    def prepare(places: t.Any) -> None:
        seen.append(pods.context.registry.sandbox(places.id))
        assert not os.path.exists(places.volatile)
        real(places)

    monkeypatch.setattr(files, "prepare", prepare)
    record = pods.run(_config(pods))
    (before,) = seen
    assert (before.phase, before.ips, before.netns) == (Phase.CREATING, (), record.netns)
    assert before.has_pause
    assert before.extra["owns_cgroup"] is True
    assert spare.load_sandbox(pods.paths, record.id) == record


def test_a_namespace_that_is_gone_does_not_hold_up_the_removal(pods: t.Any) -> None:
    record = pods.run(pods.pod("web"))
    netns.unpin(record.netns)
    netns.unpin(record.utsns)
    rootfs.unmount(pods.places(record).shm)
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_an_unknown_record_is_removed_by_its_id_alone(pods: t.Any) -> None:
    record = pods.run(pods.pod("web"))
    pods.context.registry.update_sandbox(record.id, phase=Phase.UNKNOWN, config=b"\xff", netns="", ipcns="")
    pods.service.stop(record.id)
    assert pods.context.registry.sandbox(record.id).phase is Phase.UNKNOWN
    assert pods.leases() == []
    assert "unreadable" in pods.service.status_info(record.id)["info"]
    pods.service.remove(record.id)
    assert pods.leftovers() == {}
