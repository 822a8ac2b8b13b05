# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What remains when something is killed, and what becomes of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Problem, Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

pytestmark = pytest.mark.host

Bundle = t.Callable[..., str]


def known(runtime: CrunRuntime, name: str) -> ContainerState:
    state = runtime.state(name)
    assert state is not None
    return state


def kill_and_wait(pid: int) -> None:
    with procfs.held(pid) as pidfd:
        assert pidfd is not None
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert procfs.await_end(pidfd, 20)


def test_container_killed_from_outside(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    runtime.start("one")
    os.kill(known(runtime, "one").pid or 0, signal.SIGKILL)
    assert runtime.wait("one", 20) == 137
    assert known(runtime, "one").problems == ()


def test_conmon_killed_while_the_container_runs(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    runtime.start("one")
    kill_and_wait(known(runtime, "one").conmon_pid or 0)
    state = known(runtime, "one")
    assert (state.status, state.problems) == (Status.RUNNING, (Problem.MONITOR_LOST,))
    assert runtime.repair("one") == (), "a container that works is not ended"
    assert known(runtime, "one").status is Status.RUNNING
    assert runtime.stop("one", timeout_s=0.2) is None
    state = known(runtime, "one")
    assert (state.status, state.exit_code) == (Status.STOPPED, None)
    assert state.problems == (Problem.EXIT_CODE_UNKNOWN,)
    runtime.delete("one")
    assert runtime.state("one") is None
    runtime.create(bundle(), "one")


def test_conmon_and_container_killed(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    runtime.start("one")
    state = known(runtime, "one")
    kill_and_wait(state.conmon_pid or 0)
    kill_and_wait(state.pid or 0)
    assert runtime.wait("one", 5) is None
    runtime.delete("one")
    assert runtime.names() == []


def test_conmon_left_over(runtime: CrunRuntime, paths: Paths, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    runtime.start("one")
    state = known(runtime, "one")
    conmon = state.conmon_pid or 0
    os.kill(conmon, signal.SIGSTOP)
    kill_and_wait(state.pid or 0)
    # Somebody removes the runtime state while conmon hangs.
    subprocess.run(
        [runtime._host.programs.crun, "--root", paths.runtime_root, "delete", "-f", "one"], check=True
    )
    state = known(runtime, "one")
    assert state.status is Status.STOPPED
    assert set(state.problems) == {Problem.RUNTIME_STATE_LOST, Problem.MONITOR_LEFT_OVER}
    assert runtime.repair("one") == (Problem.MONITOR_LEFT_OVER,)
    assert known(runtime, "one").conmon_pid is None
    runtime.delete("one")


def test_host_restart_while_running(
    runtime: CrunRuntime, paths: Paths, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bundle()
    runtime.create(path, "one")
    runtime.start("one")
    runtime.create(bundle("sh", "-c", "exit 4"), "two")
    runtime.start("two")
    assert runtime.wait("two", 20) == 4
    state = known(runtime, "one")
    kill_and_wait(state.conmon_pid or 0)
    kill_and_wait(state.pid or 0)
    shutil.rmtree(paths.run_dir)
    monkeypatch.setattr(procfs, "boot_id", lambda: "another boot")
    restarted = known(runtime, "one")
    assert (restarted.status, restarted.exit_code, restarted.bundle) == (Status.STOPPED, None, path)
    assert restarted.started_at == state.started_at
    assert restarted.problems == (Problem.HOST_RESTARTED, Problem.EXIT_CODE_UNKNOWN)
    ended = known(runtime, "two")
    assert (ended.status, ended.exit_code, ended.problems) == (Status.STOPPED, 4, ())
    assert runtime.wait("one", 5) is None
    with pytest.raises(WrongState):
        runtime.start("one")
    runtime.delete("one")
    runtime.create(path, "one")
    runtime.start("one")
    assert known(runtime, "one").problems == ()


def test_pid_of_another_process_deceives_nobody(runtime: CrunRuntime, paths: Paths, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    runtime.start("one")
    state = known(runtime, "one")
    kill_and_wait(state.conmon_pid or 0)
    kill_and_wait(state.pid or 0)
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        status = os.path.join(paths.runtime_root, "one", "status")
        with open(status, encoding="utf-8") as stream:
            content = json.load(stream)
        content["pid"] = stranger.pid
        with open(status, "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        layout = Layout(paths, "one")
        with open(layout.conmon_pid_file, "w", encoding="ascii") as stream:
            stream.write(str(stranger.pid))
        state = known(runtime, "one")
        assert (state.status, state.pid, state.conmon_pid) == (Status.STOPPED, None, None)
        assert runtime.wait("one", 5) is None
        assert runtime.stop("one", timeout_s=0.1) is None
        runtime.delete("one", force=True)
        assert stranger.poll() is None, "an innocent process was killed"
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("has_conmon", [True, False])
def test_status_file_that_cannot_be_read(
    runtime: CrunRuntime, paths: Paths, bundle: Bundle, has_conmon: bool
) -> None:
    runtime.create(bundle(), "one")
    pid = known(runtime, "one").pid or 0
    if not has_conmon:
        kill_and_wait(known(runtime, "one").conmon_pid or 0)
    with open(os.path.join(paths.runtime_root, "one", "status"), "w", encoding="utf-8") as stream:
        stream.write('{"pid": ')
    assert Problem.RUNTIME_STATE_BROKEN in known(runtime, "one").problems
    assert Problem.RUNTIME_STATE_BROKEN in runtime.repair("one")
    assert runtime.state("one") is None
    with procfs.held(pid) as pidfd:
        assert pidfd is None or procfs.await_end(pidfd, 20)
    runtime.create(bundle(), "one")


def test_runtime_directory_without_a_record(runtime: CrunRuntime, paths: Paths) -> None:
    os.makedirs(os.path.join(paths.runtime_root, "one"))
    state = known(runtime, "one")
    assert set(state.problems) == {Problem.RUNTIME_STATE_BROKEN, Problem.NOT_RECORDED}
    runtime.repair("one")
    assert runtime.state("one") is None


def test_container_made_by_somebody_else(runtime: CrunRuntime, paths: Paths, bundle: Bundle) -> None:
    path = bundle()
    crun = [runtime._host.programs.crun, "--root", paths.runtime_root]
    null = subprocess.DEVNULL
    subprocess.run(
        [*crun, "run", "--detach", "-b", path, "one"], check=True, stdin=null, stdout=null, stderr=null
    )
    state = known(runtime, "one")
    assert state.status is Status.RUNNING
    assert set(state.problems) == {Problem.NOT_RECORDED, Problem.MONITOR_LOST}
    assert runtime.exec("one", ["echo", "hi"]).stdout == "hi\n"
    runtime.delete("one", force=True)
    assert runtime.state("one") is None


def test_bundle_that_was_removed(runtime: CrunRuntime, bundle: Bundle) -> None:
    path = bundle()
    runtime.create(path, "one")
    runtime.start("one")
    shutil.rmtree(path)
    assert known(runtime, "one").problems == (Problem.BUNDLE_MISSING,)
    runtime.delete("one", force=True)
    assert runtime.state("one") is None


def test_host_that_hangs_in_a_hook(runtime: CrunRuntime, paths: Paths, bundle: Bundle) -> None:
    def hang(config: t.Any) -> None:
        config["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "3004"]}]}

    with pytest.raises(CoreError, match="did not report"):
        runtime.create(bundle(change=hang), "one", timeout_s=0.7)
    assert runtime.state("one") is None
    assert os.listdir(paths.runtime_root) == []
    runtime.create(bundle(), "one")


#: Names of functions before which the creating process is killed, in the order of their calls.
STEPS = [
    "layouts.prepare",
    "records.save",
    "os.mkdir",
    "argvs.create_argv",
    "conmon.launch",
    "conmon_pid",
    "amend",
]

_CREATE = """
import os, signal, sys
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import creation
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
state_dir, run_dir, bundle, step, crun, conmon = sys.argv[1:]
holder = creation
*modules, name = step.split(".")
for module in modules:
    holder = getattr(holder, module)
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(holder, name, die)
with locked(run_dir + "/lock"):
    CrunRuntime(
        Paths(state_dir, run_dir), SubprocessRunner(), programs=Programs(crun=crun, conmon=conmon)
    ).create(bundle, "one")
"""


@pytest.mark.parametrize("step", STEPS)
def test_create_killed_at_every_step(runtime: CrunRuntime, paths: Paths, bundle: Bundle, step: str) -> None:
    programs = runtime._host.programs
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _CREATE,
            paths.state_dir,
            paths.run_dir,
            bundle(),
            step,
            programs.crun,
            programs.conmon,
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    if step == "conmon.launch":
        assert known(runtime, "one").status is Status.CREATING
    runtime.repair("one")
    if known_or_none := runtime.state("one"):
        raise AssertionError(f"left after repair: {known_or_none}")
    assert not os.path.exists(paths.runtime_root) or os.listdir(paths.runtime_root) == []
    runtime.create(bundle("sh", "-c", "exit 3"), "one")
    runtime.start("one")
    assert runtime.wait("one", 20) == 3


@pytest.mark.parametrize("delay_ms", [0, 2, 4, 6, 8, 11, 14, 18, 23, 30, 45])
def test_create_killed_at_any_time(runtime: CrunRuntime, paths: Paths, bundle: Bundle, delay_ms: int) -> None:
    """Kill the creating process some time after conmon was launched, while crun is at work."""
    programs = runtime._host.programs
    script = _CREATE.replace("setattr(holder, name, die)", "print('go', flush=True)")
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            script,
            paths.state_dir,
            paths.run_dir,
            bundle(),
            "amend",
            programs.crun,
            programs.conmon,
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"go\n"
    time.sleep(delay_ms / 1000)
    child.kill()
    child.wait()
    child.stdout.close()
    # A child between fork and exec holds the lock on: nobody gets here before conmon can be seen.
    with locked(paths.run_dir + "/lock"):
        runtime.repair("one")
        state = runtime.state("one")
        if state is not None:
            assert (state.status, state.problems) == (Status.CREATED, ()), "either whole or gone"
            runtime.delete("one")
        runtime.create(bundle("sh", "-c", "exit 3"), "one")
    runtime.start("one")
    assert runtime.wait("one", 20) == 3
    runtime.delete("one")


_DELETE = """
import os, signal, sys
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import removal
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
state_dir, run_dir, step, crun, conmon = sys.argv[1:]
holder = removal
*modules, name = step.split(".")
for module in modules:
    holder = getattr(holder, module)
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(holder, name, die)
CrunRuntime(
    Paths(state_dir, run_dir), SubprocessRunner(), programs=Programs(crun=crun, conmon=conmon)
).delete("one", force=True)
"""


@pytest.mark.parametrize(
    "step",
    ["_end_monitor", "argvs.delete_argv", "_remove_cgroup", "forget", "shutil.rmtree", "records.remove"],
)
def test_delete_killed_at_every_step(runtime: CrunRuntime, paths: Paths, bundle: Bundle, step: str) -> None:
    path = bundle()
    runtime.create(path, "one", log_size_max=20_000, log_max_files=2)
    runtime.start("one")
    programs = runtime._host.programs
    done = subprocess.run(
        [sys.executable, "-c", _DELETE, paths.state_dir, paths.run_dir, step, programs.crun, programs.conmon],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert known(runtime, "one").status is Status.STOPPED
    runtime.delete("one")
    assert runtime.state("one") is None
    assert runtime.names() == []
    left = [paths.exits, paths.runtime_root, os.path.dirname(Layout(paths, "one").monitor_dir)]
    assert [entry for directory in left for entry in os.listdir(directory)] == []
    assert not [name for name in os.listdir(paths.logs) if name.startswith(".")]
    runtime.create(path, "one")


def test_containers_survive_the_process_that_made_them(
    runtime: CrunRuntime, paths: Paths, bundle: Bundle
) -> None:
    """The maker runs in a session of its own, which is killed as a whole."""
    programs = runtime._host.programs
    script = _CREATE.replace("setattr(holder, name, die)", "").replace(".create(bundle", ".run(bundle")
    path = bundle("sh", "-c", "echo begun; sleep 0.5; echo end; exit 8")
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            script,
            paths.state_dir,
            paths.run_dir,
            path,
            "amend",
            programs.crun,
            programs.conmon,
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    for _attempt in range(2000):
        state = runtime.state("one")
        if state is not None and state.status is Status.RUNNING:
            break
        time.sleep(0.005)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert runtime.wait("one", 20) == 8
    with open(str(known(runtime, "one").log_path), encoding="utf-8") as stream:
        assert [line.split()[-1] for line in stream] == ["begun", "end"]
