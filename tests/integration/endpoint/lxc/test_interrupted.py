# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon that is killed while Proxmox VE works for it: nothing is made twice, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal

import grpc
import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

MOMENTS = pytest.mark.parametrize("at_end", [False, True], ids=["begun", "done"])
#: Whether the task goes on before the daemon is back, or when it has looked around.
ORDERS = pytest.mark.parametrize("late", [False, True], ids=["meanwhile", "afterwards"])


def begin_create(lab, pod, config):
    request = pb.CreateContainerRequest(pod_sandbox_id=pod, config=config, sandbox_config=lab.config_of(pod))
    return lab.cri.begin("CreateContainer", request)


@contextlib.contextmanager
def killed_during(lab, kind, *, at_end, late):
    """Kill the daemon while a task of a kind is at work, which the block has asked for.

    The block adds its call to what it gets: one that nobody holds is cancelled, perhaps before it is sent.
    """
    calls = []
    with lab.node.holding(kind, at_end=at_end) as gate:
        yield calls
        assert gate.reached.wait(30), f"no {kind} was begun"
        lab.endpoint.kill()
        if not late:
            gate.open()
            eventually(lambda: all(task["status"] == "stopped" for task in lab.node.tasks(kind)))
        lab.endpoint.start()


@MOMENTS
@ORDERS
def test_while_a_guest_is_created(lab, at_end, late):
    pod = lab.pod()
    config = lab.endpoint.container("app", ["sh", "-c", "echo here; sleep 1000"])
    with killed_during(lab, "vzcreate", at_end=at_end, late=late) as calls:
        calls.append(begin_create(lab, pod, config))
    container = lab.cri.create(pod, config, lab.config_of(pod))
    lab.cri.start(container)
    lab.printed(container, "here")
    # The guest of the first attempt is gone or became this one.
    eventually(lambda: lab.node.vmids() == lab.vmids(container), what="one guest")
    assert [each.id for each in lab.cri.list_containers()] == [container]


def test_half_made_guest_is_removed_when_nobody_asks_again(lab):
    pod = lab.pod()
    with killed_during(lab, "vzcreate", at_end=True, late=True) as calls:
        calls.append(begin_create(lab, pod, lab.endpoint.container("app")))
    eventually(lambda: lab.node.vmids() == [], what="the half-made guest's end")
    eventually(lambda: lab.cri.list_containers() == [])


@MOMENTS
@ORDERS
def test_while_a_guest_is_started(lab, at_end, late):
    pod = lab.pod()
    container = lab.create(pod, "echo here; exec sleep 1000")
    with killed_during(lab, "vzstart", at_end=at_end, late=late) as calls:
        calls.append(lab.cri.begin("StartContainer", pb.StartContainerRequest(container_id=container)))
    # The first start may go on without the daemon, which the next one sees sooner or later.
    with contextlib.suppress(grpc.RpcError):
        lab.cri.start(container)
    eventually(lambda: lab.status(container).state == pb.CONTAINER_RUNNING)
    lab.printed(container, "here")
    assert lab.log(container) == ["here"]
    assert lab.sh(container, "echo inside") == "inside"
    assert lab.node.vmids() == lab.vmids(container)


@MOMENTS
def test_while_a_guest_is_stopped(lab, at_end):
    container = lab.run(script="trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")
    lab.printed(container, "up")
    with killed_during(lab, "vzshutdown", at_end=at_end, late=False) as calls:
        calls.append(
            lab.cri.begin("StopContainer", pb.StopContainerRequest(container_id=container, timeout=30))
        )
    lab.cri.stop(container, 30)
    assert lab.ended(container).exit_code == 5


@MOMENTS
@ORDERS
def test_while_a_guest_is_removed(lab, at_end, late):
    container = lab.run(script="exit 0")
    lab.ended(container)
    with killed_during(lab, "vzdestroy", at_end=at_end, late=late) as calls:
        calls.append(lab.cri.begin("RemoveContainer", pb.RemoveContainerRequest(container_id=container)))
    lab.cri.remove(container)
    assert lab.node.vmids() == []
    assert (lab.node.leftovers(), lab.files()) == ([], [])


def test_running_guests_live_through_a_kill_with_log_and_exit_code(lab):
    pod = lab.pod()
    script = "echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo after; exit 6"
    container = lab.run(pod, script)
    lab.printed(container, "before")
    lab.endpoint.kill()
    pathlib.Path(lab.node.machine.files(lab.vmid(container)), "tmp/go").touch()
    eventually(lambda: not lab.node.machine.is_up(lab.vmid(container)))
    lab.endpoint.start()
    assert lab.ended(container).exit_code == 6
    assert lab.log(container) == ["before", "after"]


def test_streams_and_stop_after_a_kill(lab):
    before = len(lab.node.tasks("vzcreate"))
    container = lab.run(script="trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done")
    lab.printed(container, "up")
    lab.endpoint.kill()
    lab.endpoint.start()
    assert lab.status(container).state == pb.CONTAINER_RUNNING
    assert lab.sh(container, "echo here") == "here"
    path = lab.status(container).log_path
    os.rename(path, f"{path}.old")
    lab.cri.reopen_log(container)
    lab.cri.stop(container, 30)
    assert lab.status(container).exit_code == 4
    assert len(lab.node.tasks("vzcreate")) == before + 1


def test_created_guest_can_be_started_by_the_next_daemon(lab):
    container = lab.create(lab.pod(), "echo here; exec sleep 1000")
    lab.endpoint.kill()
    lab.endpoint.start()
    assert lab.status(container).state == pb.CONTAINER_CREATED
    lab.cri.start(container)
    lab.printed(container, "here")


def test_daemon_that_starts_while_proxmox_is_down(lab):
    running = lab.run()
    lab.endpoint.kill()
    lab.node.down()
    try:
        lab.endpoint.start()
        assert lab.status(running).state == pb.CONTAINER_RUNNING
        assert lab.sh(running, "echo here") == "here"
    finally:
        lab.node.up()
    lab.cri.stop(running, 0)
    lab.cri.remove(running)
    assert lab.node.vmids() == []


def test_killed_holder_ends_the_guest(lab):
    container = lab.run()
    vmid = lab.vmid(container)
    for pid in lab.endpoint.host.processes():
        if "holder.py" in procfs_command(pid):
            os.kill(pid, signal.SIGKILL)
    status = lab.ended(container)
    assert status.exit_code != 0
    eventually(lambda: not lab.node.machine.is_up(vmid))


def procfs_command(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def test_restart_of_the_host(lab):
    pod = lab.pod()
    running = lab.run(pod)
    other = lab.pod()
    created = lab.create(other)
    before = lab.node.vmids()
    reboot(lab)
    assert lab.status(running).state == pb.CONTAINER_EXITED
    assert lab.status(created).state == pb.CONTAINER_EXITED
    assert lab.node.vmids() == before
    assert {each.state for each in lab.cri.list_pods()} == {pb.SANDBOX_NOTREADY}
    # It cannot be started by accident: its network is gone.
    assert lab.node.gui_start(before[0]) != "OK"
    again = lab.run()
    assert lab.sh(again, "echo here") == "here"


def reboot(lab):
    """Take what a restart of the host takes: processes, mounts and everything volatile."""
    endpoint = lab.endpoint
    endpoint.kill()
    for vmid in lab.node.vmids():
        lab.node.machine.stop(vmid)
    for pid in endpoint.host.processes():
        with contextlib.suppress(ProcessLookupError), procfs.held(pid) as pidfd:
            os.kill(pid, signal.SIGKILL)
            assert pidfd is None or procfs.await_end(pidfd, 10)
    for path in sorted(endpoint.host.mounts(endpoint.top), reverse=True):
        endpoint.host.run(["umount", "-l", path], check=False)
    shutil.rmtree(endpoint.run_dir)
    endpoint.start()
