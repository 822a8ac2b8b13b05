# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new daemon finds: everything as it was, a restarted host, lost records, strangers' things."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.tests.support import records
from ansible_collections.pvecri.runtime.tests.support.node import Node
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb
from pvecri.daemon.assembly import database_path
from pvecri.state import spare
from pvecri.state.records import Phase

FAST = ("sh", "-c", "exit 5")


def database(node: Node) -> str:
    return database_path(node.paths.state_dir)


def lose_database(node: Node) -> None:
    node.context.registry.close()
    for suffix in ("", "-wal", "-shm"):
        pathlib.Path(database(node) + suffix).unlink(missing_ok=True)


def spoil(node: Node, statement: str, *values: t.Any) -> None:
    node.context.registry.close()
    connection = sqlite3.connect(database(node))
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def without_cgroups(node: Node) -> dict[str, t.Any]:
    """Return what is left but for pods' cgroups, which only the lost record named."""
    return {what: left for what, left in node.leftovers().items() if what != "cgroups"}


def pause_pod(node: Node, name: str = "web") -> str:
    """Run a pod whose containers share their processes."""
    config = node.pod_config(name)
    config.linux.security_context.namespace_options.pid = pb.POD
    return node.services.sandboxes.run(config)


# ---- as it was -----------------------------------------------------------------------------------------


def test_what_runs_goes_on_and_what_ended_has_its_exit_code(node: Node) -> None:
    pod = node.run_pod()
    lives = node.run_container(pod, "lives")
    created = node.create(pod, "created")
    ended = node.run_container(pod, "ended", FAST)
    node.context.crun.wait(ended, 20)
    before = {name: node.container(name) for name in (lives, created)}
    address = node.sandbox(pod).ips
    assert node.restart() == []
    assert {name: node.container(name) for name in (lives, created)} == before
    record = node.container(ended)
    assert (record.phase, record.exit_code, record.reason) == (Phase.EXITED, 5, "Error")
    assert record.finished_at_ns >= record.started_at_ns > 0
    assert (node.sandbox(pod).phase, node.sandbox(pod).ips) == (Phase.READY, address)
    assert node.services.containers.exec_sync(lives, ["echo", "hi"], 20)[0] == b"hi\n"


def test_a_survey_starts_no_process(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = pause_pod(node)
    node.run_container(pod, "lives")
    node.context.crun.wait(node.run_container(pod, "ended", FAST), 20)
    node.begin()
    monkeypatch.setattr(subprocess, "Popen", None)
    node.survey()


def test_a_container_whose_conmon_is_gone_is_ended(node: Node) -> None:
    container = node.run_container(node.run_pod())
    state = node.context.crun.state(container)
    procfs.send_signal(state.conmon_pid, 0, signal.SIGKILL)
    assert node.restart() == ["container to end"]
    record = node.container(container)
    assert (record.phase, record.exit_code, record.reason) == (Phase.EXITED, 137, "MonitorLost")
    assert not procfs.is_same_process(state.pid, state.pid_start_time)


def test_a_container_that_ended_after_its_conmon_is_unknown(node: Node) -> None:
    container = node.run_container(node.run_pod())
    state = node.context.crun.state(container)
    for pid in (state.conmon_pid, state.pid):
        procfs.send_signal(pid, 0, signal.SIGKILL)
        with procfs.held(pid) as pidfd:
            assert pidfd is None or procfs.await_end(pidfd, 20)
    node.restart()
    record = node.container(container)
    assert (record.phase, record.exit_code, record.reason) == (Phase.EXITED, None, "Unknown")
    status = pb.ContainerStatusResponse.FromString(node.context.registry.container_status_bytes(container))
    assert status.status.exit_code == 255


def test_a_container_that_crun_does_not_know_has_ended(node: Node) -> None:
    container = node.run_container(node.run_pod())
    node.context.crun.delete(container, force=True)
    assert node.restart() == []
    assert (node.container(container).phase, node.container(container).reason) == (Phase.EXITED, "Unknown")


def test_a_container_that_was_told_to_have_ended_is_ended(node: Node) -> None:
    container = node.run_container(node.run_pod())
    node.context.registry.exited(container, exit_code=128, finished_at_ns=time.time_ns(), reason="StartError")
    assert node.restart() == ["container to end"]
    state = node.context.crun.state(container)
    assert not state.is_alive
    assert node.container(container).exit_code == 128


def test_a_paused_container_goes_on(node: Node) -> None:
    container = node.run_container(node.run_pod())
    node.context.crun.pause(container)
    assert node.restart() == []
    assert node.container(container).phase is Phase.RUNNING
    node.context.crun.resume(container)


def test_a_pod_whose_pause_container_ended_is_stopped(node: Node) -> None:
    pod = pause_pod(node)
    assert node.restart() == []
    node.context.crun.stop(pod, signal.SIGKILL)
    assert node.restart() == ["sandbox to stop"]
    record = node.sandbox(pod)
    assert (record.phase, record.ips, node.leases()) == (Phase.STOPPED, (), [])
    assert "pause container" in record.message


@pytest.mark.parametrize("kind", ["netns", "ipcns", "utsns"])
def test_a_pod_that_lost_a_namespace_is_stopped(node: Node, kind: str) -> None:
    pod = node.run_pod()
    netns.unpin(getattr(node.sandbox(pod), kind))
    assert node.restart() == ["sandbox to stop"]
    record = node.sandbox(pod)
    assert (record.phase, record.ips, node.leases()) == (Phase.STOPPED, (), [])
    assert "namespace is gone" in record.message
    node.remove_all()
    assert node.leftovers() == {}


def test_a_stop_that_failed_is_finished(node: Node) -> None:
    pod = node.run_pod()
    node.context.registry.update_sandbox(pod, phase=Phase.STOPPED)
    assert node.restart() == ["sandbox to stop"]
    assert node.leases() == []
    assert node.restart() == []
    node.remove_all()
    assert node.leftovers() == {}


def test_commands_of_the_last_daemon_are_ended(node: Node) -> None:
    container = node.run_container(node.run_pod())
    state = node.context.crun.state(container)
    directory = layouts.sockets(node.paths)
    session = node.context.crun.exec_session(container, ExecRequest(args=("sleep", "12345")))
    pid = eventually(session.inner_pid)
    # An id that belongs to another process by now, and no id at all.
    older = pathlib.Path(directory, "older.pid")
    older.write_text(str(state.pid))
    os.utime(older, (1, 1))
    pathlib.Path(directory, "none.pid").write_text("x")
    node.begin()
    mends = node.survey()
    # A command of a client of the new daemon.
    new = node.context.crun.exec_session(container, ExecRequest(args=("sleep", "12345")))
    new_pid = eventually(new.inner_pid)
    for mend in mends:
        mend.act()
    assert procfs.is_same_process(new_pid, 0)
    new.kill()
    new.close()
    with procfs.held(pid) as pidfd:
        assert pidfd is None or procfs.await_end(pidfd, 20)
    assert [name for name in os.listdir(directory) if name.endswith(".pid")] == []
    assert node.context.crun.state(container).is_alive
    session.close()


# ---- after a restart of the host -----------------------------------------------------------------------


def test_after_a_restart_of_the_host_all_has_ended_and_names_are_kept(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = [node.run_pod("web"), pause_pod(node, "shared")]
    hosts = node.run_pod("hosts", host_network=True)
    lived = node.run_container(pods[0], "lived")
    created = node.create(pods[0], "created")
    inside = node.run_container(hosts, "inside")
    ended = node.run_container(pods[0], "ended", FAST)
    node.context.crun.wait(ended, 20)
    node.exits.settle(ended)
    assert len(node.leases()) == 2
    node.reboot()
    monkeypatch.setattr(procfs, "boot_id", lambda: "another boot")
    mended = node.restart()
    assert mended == ["sandbox to stop"] * 3
    for pod in (*pods, hosts):
        record = node.sandbox(pod)
        assert (record.phase, record.ips, record.message) == (Phase.STOPPED, (), "the host was restarted")
    assert node.leases() == []
    for container in (lived, created, inside):
        record = node.container(container)
        assert (record.phase, record.exit_code, record.reason) == (Phase.EXITED, None, "Unknown")
        assert record.finished_at_ns >= record.created_at_ns
        status = pb.ContainerStatusResponse.FromString(
            node.context.registry.container_status_bytes(container)
        ).status
        assert (status.state, status.exit_code) == (pb.CONTAINER_EXITED, 255)
        assert os.path.exists(record.log_path)
    assert node.container(ended).exit_code == 5
    # Names are taken still, and free after the removal.
    with pytest.raises(Conflict):
        node.run_pod("web")
    assert node.restart() == []
    node.remove_all()
    assert node.leftovers() == {}
    node.run_container(node.run_pod("web"), "lived")


def test_a_recovery_that_is_cut_short_after_a_restart_of_the_host_begins_anew(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without namespaces of its own only the boot tells.
    config = node.pod_config("hosts", host_network=True)
    config.linux.security_context.namespace_options.ipc = pb.NODE
    pod = node.services.sandboxes.run(config)
    node.restart()
    node.reboot()
    monkeypatch.setattr(procfs, "boot_id", lambda: "another boot")
    node.begin()
    with monkeypatch.context() as patch:
        patch.setattr(node.context.bundles, "sweep", None)
        patch.delattr("pvecri.daemon.recovery.Recovery._commands")
        with pytest.raises(AttributeError):
            node.survey()
    node.restart()
    assert node.sandbox(pod).phase is Phase.STOPPED


# ---- lost and damaged records --------------------------------------------------------------------------


def test_a_lost_database_is_rebuilt_from_what_is_there(node: Node) -> None:
    pod = node.run_pod("web")
    lives = node.run_container(pod, "lives")
    created = node.create(pod, "created")
    ended = node.run_container(pod, "ended", FAST)
    node.context.crun.wait(ended, 20)
    stopped = node.run_pod("stopped")
    node.services.sandboxes.stop(stopped)
    names = {name: node.container(name).name for name in (lives, created, ended)}
    address = node.sandbox(pod).ips
    started = node.container(lives).started_at_ns
    lose_database(node)
    node.restart()
    assert (node.sandbox(pod).phase, node.sandbox(pod).ips) == (Phase.READY, address)
    assert node.sandbox(stopped).phase is Phase.STOPPED
    phases = {name: node.container(name).phase for name in names}
    assert phases == {lives: Phase.RUNNING, created: Phase.CREATED, ended: Phase.EXITED}
    assert {name: node.container(name).name for name in names} == names
    assert node.container(ended).exit_code == 5
    assert abs(node.container(lives).started_at_ns - started) < 10**9
    assert node.run_pod("web") == pod
    assert node.create(pod, "lives") == lives
    node.services.containers.start(created)
    node.remove_all()
    assert node.leftovers() == {}


@pytest.mark.parametrize("spoilt", [{"extra": []}, {"extra": {"container": []}}])
def test_a_copy_that_makes_no_sense_keeps_nobody_from_the_start(node: Node, spoilt: dict[str, t.Any]) -> None:
    pod = node.run_pod(host_network=True)
    bad, good = node.run_container(pod, "bad"), node.run_container(pod, "good")
    path = pathlib.Path(node.paths.bundles, bad, "pvecri.json")
    whole = path.read_text()
    path.write_text(json.dumps({**json.loads(whole), **spoilt}))
    lose_database(node)
    node.restart()
    assert [record.id for record in node.context.registry.containers()] == [good]
    path.write_text(whole)
    node.restart()
    assert node.container(bad).phase is Phase.RUNNING


def test_a_database_that_is_lost_with_a_restart_of_the_host(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, hosts = node.run_pod("web"), node.run_pod("hosts", host_network=True)
    container = node.run_container(hosts)
    node.reboot()
    lose_database(node)
    monkeypatch.setattr(procfs, "boot_id", lambda: "another boot")
    assert node.restart() == ["sandbox to stop"]
    assert [node.sandbox(each).phase for each in (pod, hosts)] == [Phase.STOPPED] * 2
    assert (node.container(container).phase, node.leases()) == (Phase.EXITED, [])
    node.remove_all()
    assert node.leftovers() == {}


def test_a_damaged_database_is_kept_and_rebuilt(node: Node) -> None:
    container = node.run_container(node.run_pod())
    node.context.registry.close()
    with open(database(node), "r+b") as stream:
        stream.write(b"nonsense" * 20)
    for suffix in ("-wal", "-shm"):
        pathlib.Path(database(node) + suffix).unlink(missing_ok=True)
    node.restart()
    assert node.container(container).phase is Phase.RUNNING
    assert any(".damaged-" in name for name in os.listdir(node.paths.state_dir))


def test_damaged_records_are_restored_from_their_copies(node: Node) -> None:
    pod = node.run_pod()
    container = node.run_container(pod)
    pod_before, before = node.sandbox(pod), node.container(container)
    spoil(node, "UPDATE sandboxes SET record = 'x'")
    spoil(node, "UPDATE containers SET record = 'x'")
    node.begin()
    assert node.container(container).phase is Phase.UNKNOWN
    node.restart()
    assert node.sandbox(pod) == pod_before
    after = node.container(container)
    assert (after.phase, after.config, after.mounts) == (Phase.RUNNING, before.config, before.mounts)
    assert after.log_path == before.log_path


def test_damaged_records_without_copies_stay_unknown_and_can_be_removed(node: Node) -> None:
    pod = node.run_pod()
    container = node.run_container(pod)
    os.unlink(os.path.join(spare.sandbox_directory(node.paths, pod), "record.json"))
    path = os.path.join(node.paths.bundles, container, "pvecri.json")
    bundle = json.loads(pathlib.Path(path).read_text())
    bundle["extra"] = {}
    pathlib.Path(path).write_text(json.dumps(bundle))
    spoil(node, "UPDATE sandboxes SET record = 'x'")
    spoil(node, "UPDATE containers SET record = 'x'")
    node.restart()
    assert node.sandbox(pod).phase is Phase.UNKNOWN
    assert node.container(container).phase is Phase.UNKNOWN
    assert node.context.crun.state(container).is_alive
    node.remove_all()
    assert without_cgroups(node) == {}


def test_a_sandbox_whose_copy_is_damaged_too_is_kept_until_it_is_removed(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    pod = node.run_pod()
    pathlib.Path(spare.sandbox_directory(node.paths, pod), "record.json").write_text("{")
    lose_database(node)
    with caplog.at_level(logging.ERROR):
        node.restart()
    assert node.sandbox(pod).phase is Phase.UNKNOWN
    assert "kept, though no record tells of it" in caplog.text
    assert len(node.leases()) == 1
    node.remove_all()
    assert without_cgroups(node) == {}


def test_what_was_never_told_to_anybody_is_cleared_away(node: Node) -> None:
    pod = node.run_pod()
    half = node.create(pod, "half")
    layout = Layout(node.paths, half)
    record = json.loads(pathlib.Path(layout.record).read_text())
    pathlib.Path(layout.record).write_text(json.dumps({**record, "is_complete": False}))
    bare = node.create(pod, "bare")
    node.context.crun.delete(bare, force=True)
    os.unlink(os.path.join(spare.sandbox_directory(node.paths, pod), "record.json"))
    lose_database(node)
    mended = node.restart()
    assert sorted(mended) == sorted(
        [
            f"container {half}, whose create was cut short",
            f"container {bare}, whose create was cut short",
            "sandbox in the making",
        ]
    )
    assert without_cgroups(node) == {}


@pytest.mark.parametrize("part", ["files", "volatile", "attachment"])
def test_any_trace_of_a_sandbox_without_a_record_leads_to_all_of_it(node: Node, part: str) -> None:
    pod = node.run_pod()
    files = spare.sandbox_directory(node.paths, pod)
    if part == "files":
        os.unlink(os.path.join(files, "record.json"))
    else:
        shutil.rmtree(files)
    if part == "attachment":
        for path in (node.sandbox(pod).netns, node.sandbox(pod).ipcns, node.sandbox(pod).utsns):
            netns.unpin(path)
        subprocess.run(["umount", f"{node.paths.run_dir}/sandboxes/{pod}/shm"], check=False)
        shutil.rmtree(f"{node.paths.run_dir}/sandboxes/{pod}")
    lose_database(node)
    assert node.restart() == ["sandbox in the making"]
    assert without_cgroups(node) == {}


def test_strangers_things_are_kept(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    container = node.run_container(node.run_pod())
    bundle = os.path.join(node.paths.bundles, records.new_id())
    os.makedirs(bundle)
    named = os.path.join(node.paths.state_dir, "sandboxes", "not-an-id")
    os.makedirs(named)
    node.context.registry.close()
    spoil(node, "DELETE FROM containers")
    shutil.move(os.path.join(node.paths.bundles, container), node.top / "elsewhere")
    with caplog.at_level(logging.ERROR):
        node.restart()
    assert os.path.isdir(bundle)
    assert os.path.isdir(named)
    assert node.context.crun.state(container).is_alive
    assert f"bundle {os.path.basename(bundle)}" in caplog.text
    assert f"container {container} (running) without a bundle" in caplog.text
    shutil.rmtree(bundle)
    shutil.rmtree(named)
    node.context.crun.delete(container, force=True)
    shutil.move(node.top / "elsewhere", os.path.join(node.paths.bundles, container))
    node.context.bundles.remove(container)


def test_a_name_that_is_taken_does_not_hold_up_recovery(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    pod = node.run_pod()
    container = node.run_container(pod)
    spoil(node, "DELETE FROM containers WHERE id = ?", container)
    node.begin()
    other = node.create(pod)
    with caplog.at_level(logging.ERROR):
        node.restart()
    assert [record.id for record in node.context.registry.containers()] == [other]
    assert f"container {container}: name" in caplog.text
    assert node.context.crun.state(container).is_alive
    node.services.containers.remove(other)
    node.restart()
    assert node.container(container).phase is Phase.RUNNING


# ---- time limits ---------------------------------------------------------------------------------------


def test_an_object_that_hangs_is_unknown_and_comes_back(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = node.run_pod()
    stuck, fine = node.run_container(pod, "stuck"), node.run_container(pod, "fine")
    node.begin()
    real = node.context.crun.state

    def state(name: str) -> t.Any:
        if name == stuck:
            time.sleep(3)
        return real(name)

    with monkeypatch.context() as patch:
        patch.setattr(node.context.crun, "state", state)
        node.survey(limit_s=0.2)
        record = node.container(stuck)
        assert (record.phase, node.container(fine).phase) == (Phase.UNKNOWN, Phase.RUNNING)
        assert "could not be looked at" in record.message
        time.sleep(3)
    node.restart()
    assert node.container(stuck).phase is Phase.RUNNING
    assert node.container(stuck).message == ""


def test_an_object_that_cannot_be_looked_at_is_unknown(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = node.run_pod()
    node.begin()
    with monkeypatch.context() as patch:
        patch.setattr(netns, "is_pinned", _broken_disk)
        node.survey()
    assert node.sandbox(pod).phase is Phase.UNKNOWN
    assert node.restart() == []
    assert node.sandbox(pod).phase is Phase.READY


def _broken_disk(_path: str) -> bool:
    raise OSError("broken disk")
