# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver's verbs: what they start, and what they refuse, by the state that files tell of."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import typing as t
from unittest import mock

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import keeper, procfs, record
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Problem, Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    Conflict,
    CoreError,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths


def verbs(recorder: t.Any) -> list[list[str]]:
    """Return what crun was told, without program and root."""
    return [call[3:] for call in recorder.calls if call[0] == "/usr/bin/crun"]


def answering(pid: int = 0, message: str = "") -> t.Callable[[list[str], dict[str, t.Any]], None]:
    """Return conmon's part of a create."""

    def answer(_argv: list[str], options: dict[str, t.Any]) -> None:
        data = {"data": pid} if pid else {"data": -1, "message": message}
        os.write(int(options["env"]["_OCI_SYNCPIPE"]), json.dumps(data).encode() + b"\n")

    return answer


# ---- create -----


def test_create_writes_a_record_and_returns_the_pid(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any, paths: Paths
) -> None:
    os.makedirs(paths.exits)
    box.exit(9)
    box.monitor("oom")
    recorder.answers["conmon"] = answering(4321)
    assert runtime.create(box.bundle(), "box", log_path="/tmp/x/../box.log") == 4321
    made = record.load(box.layout)
    assert made is not None
    assert (made.bundle, made.log_path, made.is_complete) == (box.layout.bundle, "/tmp/x/../box.log", True)
    assert made.started_at is None
    assert not os.path.exists(box.layout.exit_file), "of an earlier life"
    assert not os.path.exists(box.layout.oom_file), "of an earlier life"
    [call] = recorder.calls
    assert call[0] == "/usr/bin/conmon"
    assert call[-1] == f"--runtime-opt={box.layout.bundle}"
    assert recorder.options[0]["cwd"] == box.layout.monitor_dir


def test_create_marks_the_record_while_conmon_is_at_work(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any
) -> None:
    seen = []

    def look(argv: list[str], options: dict[str, t.Any]) -> None:
        seen.append(runtime.state("box"))
        answering(1)(argv, options)

    recorder.answers["conmon"] = look
    runtime.create(box.bundle(), "box")
    assert (seen[0].status, seen[0].problems) == (Status.CREATING, (Problem.HALF_CREATED,))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("executable file `x` not found in $PATH: No such", InvalidSpec),
        ("strange", CommandError),
        ("", CommandError),
    ],
)
def test_create_that_fails_leaves_nothing(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any, message: str, kind: type[CoreError]
) -> None:
    recorder.answers["conmon"] = answering(message=message)
    with pytest.raises(kind):
        runtime.create(box.bundle(), "box")
    assert runtime.state("box") is None
    assert runtime.names() == []
    assert not os.path.exists(box.layout.monitor_dir)


def test_create_that_fails_with_crun_s_state_left(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    def half(argv: list[str], options: dict[str, t.Any]) -> None:
        os.makedirs(box.layout.runtime_dir)
        answering(message="no")(argv, options)

    recorder.answers["conmon"] = half
    recorder.answers["delete"] = lambda *_unused: os.rmdir(box.layout.runtime_dir)
    with pytest.raises(CommandError):
        runtime.create(box.bundle(), "box")
    assert verbs(recorder) == [["delete", "--force", "box"]]
    assert runtime.state("box") is None


@pytest.mark.parametrize("prepare", ["record", "alive", "dead"])
def test_create_of_what_exists(runtime: CrunRuntime, recorder: t.Any, box: t.Any, prepare: str) -> None:
    getattr(box, prepare)()
    with pytest.raises(Conflict, match="exists"):
        runtime.create(box.bundle(), "box")
    assert recorder.calls == []


def test_create_without_a_bundle(runtime: CrunRuntime, recorder: t.Any, tmp_path: pathlib.Path) -> None:
    with pytest.raises(NotFound, match=r"config\.json"):
        runtime.create(str(tmp_path), "box")
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"log_path": "x"}, "log_path"),
        ({"log_size_max": 16383}, "log_size_max"),
        ({"log_max_files": 0}, "log_max_files"),
    ],
)
def test_create_refuses(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any, options: dict[str, t.Any], field: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        runtime.create(box.bundle(), "box", **options)
    assert caught.value.field == field
    assert (recorder.calls, runtime.names()) == ([], [])


def test_create_starts_one_keeper(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any, tree: CgroupTree
) -> None:
    recorder.answers["conmon"] = answering(1)
    recorder.answers["-"] = (0, "")
    runtime.create(box.bundle(), "box", log_size_max=20000, log_max_files=3)
    [started] = [i for i, call in enumerate(recorder.calls) if "-" in call]
    assert recorder.calls[started][1:4] == ["-I", "-S", "-"]
    assert recorder.calls[started][-1] == "pvecri-log-keeper"
    assert b"def keep(" in recorder.options[started]["stdin"]
    compile(recorder.options[started]["stdin"], "keeper", "exec")


def test_create_with_a_keeper_that_cannot_start(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    recorder.answers["conmon"] = answering(1)
    recorder.answers["-"] = (1, "no python")
    assert runtime.create(box.bundle(), "box", log_size_max=20000, log_max_files=3) == 1


def test_create_with_a_keeper_that_runs(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.answers["conmon"] = answering(1)
    monkeypatch.setattr(keeper, "is_locked", lambda path: path == keeper.lock_path(box.layout))
    runtime.create(box.bundle(), "box", log_size_max=20000, log_max_files=3)
    assert [call[0] for call in recorder.calls] == ["/usr/bin/conmon"]


# ---- start, kill, pause -----


def test_start(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    box.record()
    box.alive(fifo=True)
    runtime.start("box")
    assert verbs(recorder) == [["start", "box"]]
    made = record.load(box.layout)
    assert made is not None
    assert made.started_at is not None


def test_start_lets_the_waiting_process_go(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    box.record()
    box.alive(fifo=True)
    fifo = made_fifo(box)
    with waiting_process(fifo) as process:
        runtime.start("box")
        assert process.stdout is not None
        assert process.stdout.read() == b"\0"
    assert not os.path.lexists(fifo)
    assert verbs(recorder) == []
    assert record.load(box.layout).started_at is not None  # type: ignore[union-attr]


def test_start_after_one_that_was_killed_halfway(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    """The container's process has been let go, and the fifo stands."""
    box.record()
    box.alive(fifo=True)
    fifo = made_fifo(box)
    runtime.start("box")
    assert not os.path.lexists(fifo)
    assert verbs(recorder) == []


def test_start_that_is_killed_before_it_removes_the_fifo_has_let_the_process_go(
    runtime: CrunRuntime, box: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.record()
    box.alive(fifo=True)
    fifo = made_fifo(box)
    with waiting_process(fifo) as process:
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", mock.Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                runtime.start("box")
        assert process.stdout is not None
        assert process.stdout.read() == b"\0"
    runtime.start("box")
    assert not os.path.lexists(fifo)


def test_start_leaves_hooks_to_crun(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    box.record()
    box.alive(fifo=True)
    made_fifo(box, hooks={"poststart": [{"path": "/bin/true"}]})
    runtime.start("box")
    assert verbs(recorder) == [["start", "box"]]


def made_fifo(box: t.Any, **config: t.Any) -> str:
    """Make what crun does for a process that waits to be started."""
    directory = pathlib.Path(box.layout.runtime_dir)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "exec.fifo").unlink()
    os.mkfifo(directory / "exec.fifo")
    return str(directory / "exec.fifo")


@contextlib.contextmanager
def waiting_process(fifo: str) -> t.Iterator[subprocess.Popen[bytes]]:
    """Yield a process that waits at the fifo, as crun's does, and says what it read."""
    handle = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    script = "import os, select, sys; select.select([0], [], []); sys.stdout.buffer.write(os.read(0, 9))"
    try:
        process = subprocess.Popen([sys.executable, "-c", script], stdin=handle, stdout=subprocess.PIPE)
    finally:
        os.close(handle)
    with process:
        yield process


def test_start_that_fails(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    box.record()
    box.alive(fifo=True)
    recorder.answers["start"] = (1, "the container `box` is not running")
    with pytest.raises(WrongState, match="does not run"):
        runtime.start("box")
    made = record.load(box.layout)
    assert made is not None
    assert made.started_at is None


def test_start_on_a_full_disk(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: t.Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    box.record()
    box.alive(fifo=True)
    monkeypatch.setattr(record, "save", full)
    runtime.start("box")
    assert verbs(recorder) == [["start", "box"]]


def test_start_of_a_container_without_a_record(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    box.alive(fifo=True)
    runtime.start("box")
    assert record.load(box.layout) is None


@pytest.mark.parametrize("prepare", ["alive", "dead"])
def test_start_in_another_state(runtime: CrunRuntime, recorder: t.Any, box: t.Any, prepare: str) -> None:
    box.record()
    getattr(box, prepare)()
    with pytest.raises(WrongState, match="not created"):
        runtime.start("box")
    assert recorder.calls == []


@pytest.mark.parametrize(
    "call",
    [
        lambda r: r.start("box"),
        lambda r: r.kill("box"),
        lambda r: r.stop("box"),
        lambda r: r.wait("box"),
        lambda r: r.pause("box"),
        lambda r: r.resume("box"),
        lambda r: r.update("box", {}),
        lambda r: r.exec("box", ["true"]),
        lambda r: r.attach("box"),
        lambda r: r.reopen_log("box"),
        lambda r: r.resize_terminal("box", 1, 1),
    ],
)
def test_verbs_of_nobody(
    runtime: CrunRuntime, recorder: t.Any, call: t.Callable[[CrunRuntime], object]
) -> None:
    with pytest.raises(NotFound, match="'box'"):
        call(runtime)
    assert recorder.calls == []


@pytest.fixture
def child() -> t.Iterator[subprocess.Popen[bytes]]:
    """A process that a test may call the container's."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def start_time(pid: int) -> int:
    stat = procfs.read_stat(pid)
    assert stat is not None
    return stat.start_time


def test_kill_signals_without_a_process(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any, child: subprocess.Popen[bytes]
) -> None:
    box.record()
    box.crun(child.pid, start_time(child.pid))
    runtime.kill("box", "KILL")
    assert child.wait(20) == -signal.SIGKILL
    assert recorder.calls == []
    with pytest.raises(WrongState, match="no process"):
        runtime.kill("box", "KILL")


def test_kill_everyone(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    box.record()
    box.alive()
    runtime.kill("box", "USR1", everyone=True)
    assert verbs(recorder) == [["kill", "--all", "box", str(int(signal.SIGUSR1))]]


def test_kill_of_one_that_ends_meanwhile(
    runtime: CrunRuntime, box: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.record()
    box.alive()
    monkeypatch.setattr(procfs, "send_signal", lambda *_unused: False)
    with pytest.raises(WrongState, match="no process"):
        runtime.kill("box")


@pytest.mark.parametrize(
    ("verb", "frozen", "fifo", "expected"),
    [
        ("pause", "0", False, [["pause", "box"]]),
        ("pause", "1", False, []),
        ("resume", "1", False, [["resume", "box"]]),
        ("resume", "0", False, []),
        ("pause", "0", True, None),
        ("resume", "0", True, None),
    ],
)
def test_pause_and_resume(
    runtime: CrunRuntime,
    recorder: t.Any,
    box: t.Any,
    tree: CgroupTree,
    verb: str,
    frozen: str,
    fifo: bool,
    expected: list[list[str]] | None,
) -> None:
    box.record()
    box.alive(fifo=fifo)
    os.mkdir(tree.path("group", ""))
    pathlib.Path(tree.path("group", "", "cgroup.freeze")).write_text(frozen)
    if expected is None:
        with pytest.raises(WrongState, match="created"):
            getattr(runtime, verb)("box")
    else:
        getattr(runtime, verb)("box")
    assert verbs(recorder) == (expected or [])


# ---- wait and stop -----


def test_wait_of_one_that_has_ended(runtime: CrunRuntime, box: t.Any) -> None:
    box.record()
    box.dead()
    assert runtime.wait("box") is None
    box.exit(4)
    assert runtime.wait("box") == 4


def test_wait_for_conmon_s_exit_file(
    runtime: CrunRuntime, box: t.Any, child: subprocess.Popen[bytes]
) -> None:
    """conmon is at work when the container's process is dead: its end is awaited."""
    box.record()
    box.dead()
    mark = f"--cuuid={box.layout.socket_id}"
    script = f"read x; echo 6 > {box.layout.exit_file}"
    os.makedirs(os.path.dirname(box.layout.exit_file))
    with subprocess.Popen(["sh", "-c", script, "conmon", mark], stdin=subprocess.PIPE) as conmon:
        box.monitor("conmon.pid", str(conmon.pid))
        with pytest.raises(CommandTimeout):
            runtime.wait("box", 0.01)
        assert conmon.stdin is not None
        threading.Timer(0.05, conmon.stdin.close).start()
        assert runtime.wait("box", 20) == 6


def test_wait_without_conmon(runtime: CrunRuntime, box: t.Any, child: subprocess.Popen[bytes]) -> None:
    box.record()
    box.crun(child.pid, start_time(child.pid))
    with pytest.raises(CommandTimeout, match=r"0\.01 s"):
        runtime.wait("box", 0.01)
    threading.Timer(0.05, child.kill).start()
    assert runtime.wait("box", 20) is None


def test_stop_kills_after_the_signal(
    runtime: CrunRuntime, box: t.Any, child: subprocess.Popen[bytes]
) -> None:
    box.record()
    box.crun(child.pid, start_time(child.pid))
    # Stopped once the state says so: it does not act upon TERM.
    os.kill(child.pid, signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert runtime.stop("box", "TERM", timeout_s=0.05) is None
    assert child.wait(20) == -signal.SIGKILL


def test_stop_of_a_created_container_kills_at_once(
    runtime: CrunRuntime, box: t.Any, child: subprocess.Popen[bytes]
) -> None:
    box.record()
    box.crun(child.pid, start_time(child.pid), fifo=True)
    assert runtime.stop("box", "TERM", timeout_s=1000) is None
    assert child.wait(20) == -signal.SIGKILL


def test_stop_resumes_what_is_paused(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any, tree: CgroupTree, child: subprocess.Popen[bytes]
) -> None:
    box.record()
    box.crun(child.pid, start_time(child.pid))
    os.mkdir(tree.path("group", ""))
    pathlib.Path(tree.path("group", "", "cgroup.freeze")).write_text("1")
    runtime.stop("box", "TERM", timeout_s=20)
    assert verbs(recorder) == [["resume", "box"]]
    assert child.wait(20) == -signal.SIGTERM


@pytest.mark.parametrize("is_dead", [True, False])
def test_stop_when_the_kernel_or_conmon_hangs(
    runtime: CrunRuntime, box: t.Any, monkeypatch: pytest.MonkeyPatch, is_dead: bool
) -> None:
    box.record()
    box.alive()
    monkeypatch.setattr(procfs, "send_signal", lambda *_unused: True)

    def hang(_name: str, timeout_s: float | None = None) -> int | None:
        if is_dead:
            box.dead()
        raise CommandTimeout("late")

    monkeypatch.setattr(runtime, "wait", hang)
    if is_dead:
        assert runtime.stop("box", "KILL") is None
    else:
        with pytest.raises(CommandTimeout):
            runtime.stop("box", "KILL")


def test_stop_refuses_what_is_no_signal(runtime: CrunRuntime, box: t.Any) -> None:
    box.record()
    with pytest.raises(InvalidSpec):
        runtime.stop("box", "NOPE")


# ---- delete and repair -----


def test_delete_forgets(runtime: CrunRuntime, recorder: t.Any, box: t.Any, paths: Paths) -> None:
    box.record()
    box.dead()
    box.exit(1)
    box.monitor("pid", "1")
    link = os.path.dirname(box.layout.attach_socket)
    os.makedirs(os.path.dirname(link))
    os.symlink(box.layout.monitor_dir, link)
    runtime.delete("box")
    assert verbs(recorder) == [["delete", "--force", "box"]]
    assert not os.path.lexists(link)
    assert os.listdir(paths.exits) == []
    assert not os.path.exists(box.layout.monitor_dir)
    assert record.load(box.layout) is None


@pytest.mark.parametrize("prepare", [None, "record"])
def test_delete_without_a_runtime_state_starts_nothing(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any, prepare: str | None
) -> None:
    if prepare:
        getattr(box, prepare)()
    runtime.delete("box")
    assert recorder.calls == []
    assert runtime.state("box") is None


def test_delete_of_one_that_runs(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any, child: subprocess.Popen[bytes]
) -> None:
    box.record()
    box.crun(child.pid, start_time(child.pid))
    with pytest.raises(WrongState, match="is running"):
        runtime.delete("box")
    assert child.poll() is None
    runtime.delete("box", force=True)
    assert child.wait(20) == -signal.SIGKILL
    assert verbs(recorder) == [["delete", "--force", "box"]]


def test_delete_that_crun_refuses_keeps_the_record(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    box.record()
    box.dead()
    recorder.answers["delete"] = (1, "strange")
    with pytest.raises(CommandError, match="strange"):
        runtime.delete("box")
    assert record.load(box.layout) is not None


def test_delete_removes_the_group_that_crun_left(runtime: CrunRuntime, box: t.Any, tree: CgroupTree) -> None:
    box.record()
    box.dead()
    os.mkdir(tree.path("group", ""))
    runtime.delete("box")
    assert not os.path.exists(tree.path("group", ""))


@pytest.mark.parametrize(
    ("config", "group"),
    [
        ({"linux": {"cgroupsPath": "/a/b"}}, "a/b"),
        ({"linux": {}}, "box"),
        ({"linux": {"cgroupsPath": "user.slice:x:y"}}, None),
        ({"linux": {"cgroupsPath": "/"}}, None),
        ({"linux": {"cgroupsPath": "/../x"}}, None),
        ({"linux": 5}, None),
    ],
)
def test_delete_of_a_half_created_one_removes_its_group(
    runtime: CrunRuntime, box: t.Any, tree: CgroupTree, config: dict[str, t.Any], group: str | None
) -> None:
    box.record(is_complete=False)
    box.bundle(**config)
    for name in ("a/b", "box", "x"):
        os.makedirs(tree.path(name, ""))
    runtime.delete("box")
    left = {name for name in ("a/b", "box", "x") if os.path.exists(tree.path(name, ""))}
    assert left == {"a/b", "box", "x"} - {group}


def test_repair_of_nothing_and_of_what_is_well(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    assert runtime.repair("box") == ()
    box.record()
    box.dead()
    box.exit(0)
    assert runtime.repair("box") == ()
    assert recorder.calls == []


def test_repair_kills_the_process_that_crun_does_not_know(
    runtime: CrunRuntime, box: t.Any, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    box.record(is_complete=False)
    box.bundle(linux={"cgroupsPath": "/mine"})
    box.monitor("pid", str(child.pid))
    monkeypatch.setattr(procfs, "cgroups", lambda pid: {"/theirs"})
    assert runtime.repair("box") == (Problem.HALF_CREATED,)
    assert child.poll() is None, "not in the container's group"
    box.record(is_complete=False)
    box.bundle(linux={"cgroupsPath": "/mine"})
    box.monitor("pid", str(child.pid))
    monkeypatch.setattr(procfs, "cgroups", lambda pid: {"/mine"})
    assert runtime.repair("box") == (Problem.HALF_CREATED,)
    assert child.wait(20) == -signal.SIGKILL


def test_repair_of_a_conmon_that_is_about_to_end(runtime: CrunRuntime, box: t.Any) -> None:
    box.record()
    box.dead()
    mark = f"--cuuid={box.layout.socket_id}"
    with subprocess.Popen(["sh", "-c", "read x", "conmon", mark], stdin=subprocess.PIPE) as conmon:
        box.monitor("conmon.pid", str(conmon.pid))
        assert conmon.stdin is not None
        threading.Timer(0.05, conmon.stdin.close).start()
        assert runtime.repair("box") == ()


# ---- update -----


@pytest.mark.parametrize(
    ("changes", "sent", "files"),
    [
        ({"memory": {"limit": 5}}, {"memory": {"limit": 5}}, {}),
        ({"pids": {"limit": 0}}, {"pids": {"limit": -1}}, {"pids.max": "max"}),
        ({"cpu": {"quota": -1}}, {"cpu": {"quota": -1}}, {"cpu.max": "max 100000"}),
        (
            {"cpu": {"quota": -1, "period": 5000}},
            {"cpu": {"quota": -1, "period": 5000}},
            {"cpu.max": "max 5000"},
        ),
        ({"devices": []}, {"devices": []}, {}),
    ],
)
def test_update_on_v2(
    runtime: CrunRuntime,
    recorder: t.Any,
    box: t.Any,
    tree: CgroupTree,
    changes: dict[str, t.Any],
    sent: dict[str, t.Any],
    files: dict[str, str],
) -> None:
    box.record()
    box.alive()
    os.mkdir(tree.path("group", ""))
    before = json.dumps(changes)
    runtime.update("box", changes)
    assert verbs(recorder) == [["update", "--resources", "/dev/stdin", "box"]]
    assert json.loads(recorder.options[0]["stdin"]) == sent
    directory = pathlib.Path(tree.path("group", ""))
    assert {path.name: path.read_text() for path in directory.iterdir()} == files
    assert json.dumps(changes) == before


@pytest.mark.parametrize(
    ("changes", "sent", "file", "text"),
    [
        ({"pids": {"limit": -1}}, None, "pids/group/pids.max", "max"),
        (
            {"cpu": {"quota": -1, "shares": 5}, "pids": {"limit": 3}},
            {"cpu": {"shares": 5}, "pids": {"limit": 3}},
            "cpu/group/cpu.cfs_quota_us",
            "-1",
        ),
    ],
)
def test_update_on_v1_lifts_by_itself(
    paths: Paths,
    recorder: t.Any,
    box: t.Any,
    tmp_path: pathlib.Path,
    changes: dict[str, t.Any],
    sent: dict[str, t.Any] | None,
    file: str,
    text: str,
) -> None:
    for controller in ("cpu", "pids"):
        (tmp_path / "v1" / controller / "group").mkdir(parents=True)
    runtime = CrunRuntime(paths, recorder, cgroups=CgroupTree(str(tmp_path / "v1")))
    box.record()
    box.alive()
    runtime.update("box", changes)
    assert [json.loads(options["stdin"]) for options in recorder.options] == ([sent] if sent else [])
    assert (tmp_path / "v1" / file).read_text() == text


@pytest.mark.parametrize(("limit", "is_refused"), [(999, True), (1000, False), (-1, False)])
def test_update_on_v2_does_not_kill(
    runtime: CrunRuntime, recorder: t.Any, box: t.Any, tree: CgroupTree, limit: int, is_refused: bool
) -> None:
    box.record()
    box.alive()
    os.mkdir(tree.path("group", ""))
    pathlib.Path(tree.path("group", "", "memory.stat")).write_text("anon 900\nfile 5000\nkernel_stack 100\n")
    pathlib.Path(tree.path("group", "", "memory.swap.max")).write_text("0\n")
    if is_refused:
        with pytest.raises(InvalidSpec, match="already use 1000 bytes"):
            runtime.update("box", {"memory": {"limit": limit}})
    else:
        runtime.update("box", {"memory": {"limit": limit}})
    assert bool(recorder.calls) is not is_refused


def test_update_refuses_devices_and_the_dead(runtime: CrunRuntime, recorder: t.Any, box: t.Any) -> None:
    box.record()
    box.alive()
    with pytest.raises(InvalidSpec):
        runtime.update("box", {"devices": [{"allow": True}]})
    box.dead()
    with pytest.raises(WrongState):
        runtime.update("box", {"pids": {"limit": 1}})
    assert recorder.calls == []


# ---- many -----


def test_names_and_list(runtime: CrunRuntime, box: t.Any, paths: Paths) -> None:
    assert (runtime.names(), list(runtime.list())) == ([], [])
    box.record()
    box.alive()
    os.makedirs(os.path.join(paths.runtime_root, "alien"))
    pathlib.Path(os.path.dirname(box.layout.record), "broken.json").write_text("{")
    assert runtime.names() == ["alien", "box", "broken"]
    assert [state.name for state in runtime.list()] == ["alien", "box"]


def test_settle_log(runtime: CrunRuntime, box: t.Any, tmp_path: pathlib.Path) -> None:
    runtime.settle_log("box")
    log = tmp_path / "a.log"
    log.write_text("1")
    box.record(log_path=str(log))
    runtime.settle_log("box")
    assert os.listdir(tmp_path).count(".a.log.held") == 0
    box.record(log_path=str(log), log_size_max=20000, log_max_files=2)
    runtime.settle_log("box")
    assert (tmp_path / ".a.log.held").read_text() == "1"
    runtime.delete("box")
    assert not (tmp_path / ".a.log.held").exists()
    assert log.read_text() == "1"


def test_watch_exits(runtime: CrunRuntime, paths: Paths) -> None:
    with runtime.watch_exits() as watcher:
        assert watcher.read() == []
        for name in ("one", "two"):
            temporary = os.path.join(paths.exits, "." + name)
            pathlib.Path(temporary).write_text("0")
            os.rename(temporary, os.path.join(paths.exits, name))
        pathlib.Path(paths.exits, "not-moved").write_text("")
        assert watcher.read() == ["one", "two"]
        assert watcher.read() == []


def test_children_are_bounded(paths: Paths, tree: CgroupTree, box: t.Any) -> None:
    now, most, lock = [0], [0], threading.Lock()
    gate = threading.Barrier(2, timeout=20)

    class Slow:
        def run(self, argv: t.Sequence[str], **_options: t.Any) -> None:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            gate.wait()
            with lock:
                now[0] -= 1

    driver = CrunRuntime(paths, Slow(), cgroups=tree, concurrency=2)
    box.record()
    box.alive()
    threads = [
        threading.Thread(target=driver.kill, args=("box", "USR1"), kwargs={"everyone": True})
        for _unused in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [2]
