# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lives of real containers, from create to delete."""

from __future__ import annotations

import os
import signal
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.container import logs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import attach
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    Conflict,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

pytestmark = pytest.mark.host

Bundle = t.Callable[..., str]

#: A first process that ignores TERM and says when it is ready to.
STUBBORN = ("sh", "-c", "trap 'echo no' TERM; echo ready; while true; do sleep 0.05; done")


def test_life_from_create_to_delete(runtime: CrunRuntime, paths: Paths, bundle: Bundle) -> None:
    path = bundle("sh", "-c", "echo out; echo err >&2; exit 7")
    pid = runtime.create(path, "one")
    created = runtime.state("one")
    assert created is not None
    assert (created.status, created.pid, created.problems) == (Status.CREATED, pid, ())
    assert created.bundle == path
    assert created.started_at is None
    assert created.conmon_pid is not None
    runtime.start("one")
    assert runtime.wait("one", 20) == 7
    ended = runtime.state("one")
    assert ended is not None
    assert (ended.status, ended.exit_code, ended.pid, ended.problems) == (Status.STOPPED, 7, None, ())
    assert ended.created_at is not None
    assert ended.started_at is not None
    assert ended.finished_at is not None
    assert ended.created_at <= ended.started_at + 1
    assert logs.read_streams(str(ended.log_path)) == {"stdout": "out\n", "stderr": "err\n"}
    runtime.delete("one")
    assert runtime.state("one") is None
    assert runtime.names() == []
    assert os.listdir(paths.exits) == []
    assert os.listdir(paths.runtime_root) == []
    assert os.path.exists(str(ended.log_path)), "a log outlives its container"
    assert os.listdir(path) == ["config.json"], "nothing is written into a bundle"


def test_delete_of_what_is_gone_is_fine(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.delete("never-was")
    runtime.create(bundle(), "one")
    runtime.delete("one")
    runtime.delete("one")
    assert runtime.state("one") is None


def test_delete_of_a_running_container_wants_force(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    runtime.start("one")
    with pytest.raises(WrongState, match="Stop it first"):
        runtime.delete("one")
    runtime.delete("one", force=True)
    assert runtime.state("one") is None


def test_create_twice_is_a_conflict_and_harms_nothing(runtime: CrunRuntime, bundle: Bundle) -> None:
    pid = runtime.create(bundle(), "one")
    with pytest.raises(Conflict):
        runtime.create(bundle(), "one")
    state = runtime.state("one")
    assert state is not None
    assert state.pid == pid


@pytest.mark.parametrize("verb", ["start", "stop", "kill", "pause", "resume", "wait", "attach", "reopen_log"])
def test_verbs_of_an_unknown_container(runtime: CrunRuntime, verb: str) -> None:
    with pytest.raises(NotFound):
        getattr(runtime, verb)("nobody")


def test_start_twice_is_a_wrong_state(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    runtime.start("one")
    with pytest.raises(WrongState, match="running, not created"):
        runtime.start("one")


@pytest.mark.parametrize(
    ("args", "field"),
    [
        (("no-such-program",), "process.args"),
        (("/no/such/program",), "process.args"),
        (("/etc/passwd",), "process.args"),
    ],
)
def test_create_without_a_program_leaves_nothing(
    runtime: CrunRuntime, paths: Paths, bundle: Bundle, args: tuple[str, ...], field: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        runtime.create(bundle(*args), "one")
    assert caught.value.field == field
    assert caught.value.hint
    assert runtime.state("one") is None
    assert os.listdir(paths.runtime_root) == []
    runtime.create(bundle(), "one")


def test_create_without_a_bundle(runtime: CrunRuntime, paths: Paths) -> None:
    with pytest.raises(NotFound, match=r"config\.json"):
        runtime.create(os.path.join(paths.bundles, "none"), "one")
    assert runtime.state("one") is None


def test_stop_by_signal(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle("sh", "-c", "trap 'exit 5' TERM; while true; do sleep 0.05; done"), "one")
    runtime.start("one")
    wait_for_trap(runtime, "one", signal.SIGTERM)
    assert runtime.stop("one", "SIGTERM", timeout_s=20) == 5
    assert runtime.stop("one") == 5, "what has ended is left as it is"


def test_stop_kills_what_ignores_the_signal(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(*STUBBORN), "one")
    runtime.start("one")
    wait_for_trap(runtime, "one", signal.SIGTERM)
    assert runtime.stop("one", timeout_s=0.3) == 128 + signal.SIGKILL


def test_stop_of_a_created_container(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    assert runtime.stop("one") == 128 + signal.SIGKILL


def test_kill_by_name_and_wait(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle("sh", "-c", "trap 'exit 9' USR1; while true; do sleep 0.05; done"), "one")
    runtime.start("one")
    wait_for_trap(runtime, "one", signal.SIGUSR1)
    runtime.kill("one", "usr1")
    assert runtime.wait("one", 20) == 9
    with pytest.raises(WrongState, match="has ended"):
        runtime.kill("one", "usr1")


def test_kill_everyone(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle("sh", "-c", "sleep 1000 & sleep 1000 & wait; exit 3"), "one")
    runtime.start("one")
    state = runtime.state("one")
    assert state is not None
    runtime.kill("one", signal.SIGKILL, everyone=True)
    assert runtime.wait("one", 20) == 128 + signal.SIGKILL


def test_wait_has_a_time_limit(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    runtime.start("one")
    with pytest.raises(CommandTimeout):
        runtime.wait("one", 0.05)
    state = runtime.state("one")
    assert state is not None
    assert state.status is Status.RUNNING


def test_pause_and_resume(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    with pytest.raises(WrongState, match="created, not running"):
        runtime.pause("one")
    runtime.start("one")
    runtime.pause("one")
    runtime.pause("one")
    state = runtime.state("one")
    assert state is not None
    assert state.status is Status.PAUSED
    with pytest.raises(WrongState, match="paused"):
        runtime.exec("one", ["true"])
    runtime.resume("one")
    runtime.resume("one")
    state = runtime.state("one")
    assert state is not None
    assert state.status is Status.RUNNING
    runtime.pause("one")
    assert runtime.stop("one", timeout_s=0.2) == 128 + signal.SIGKILL


def test_delete_of_a_paused_container(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    runtime.start("one")
    runtime.pause("one")
    runtime.delete("one", force=True)
    assert runtime.state("one") is None


def test_standard_input_of_a_detached_container_is_at_its_end(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle("sh", "-c", "cat; echo end"), "one")
    runtime.start("one")
    assert runtime.wait("one", 20) == 0
    state = runtime.state("one")
    assert state is not None
    assert logs.read_streams(str(state.log_path))["stdout"] == "end\n"


def test_children_that_nobody_waits_for_do_not_keep_the_container(
    runtime: CrunRuntime, bundle: Bundle
) -> None:
    # The child becomes a zombie of a first process that never reaps, then that one ends.
    runtime.create(bundle("sh", "-c", "(exit 4) & exec sleep 0.2"), "one")
    runtime.start("one")
    assert runtime.wait("one", 20) == 0
    runtime.delete("one")
    assert runtime.state("one") is None


def test_names_of_the_longest_kind(runtime: CrunRuntime, bundle: Bundle) -> None:
    name = "n" * 128
    runtime.create(bundle("sh", "-c", "cat"), name, stdin=True, stdin_once=True)
    runtime.start(name)
    with runtime.attach(name) as connection:
        attach.feed(connection, b"x", timeout_s=20)
    assert runtime.wait(name, 20) == 0
    runtime.delete(name)


def test_out_of_memory_is_seen(runtime: CrunRuntime, bundle: Bundle) -> None:
    def limit(config: t.Any) -> None:
        config["linux"]["resources"]["memory"] = {"limit": 8 << 20, "swap": 8 << 20}

    runtime.create(bundle("sh", "-c", "x=a; while true; do x=$x$x; done", change=limit), "one")
    runtime.start("one")
    assert runtime.wait("one", 30) not in {0, None}
    state = runtime.state("one")
    assert state is not None
    assert state.oom_killed


def test_list_tells_of_all(runtime: CrunRuntime, bundle: Bundle) -> None:
    for name in ("b", "a"):
        runtime.create(bundle(), name)
    runtime.start("b")
    assert [(state.name, str(state.status)) for state in runtime.list()] == [
        ("a", "created"),
        ("b", "running"),
    ]


def wait_for_trap(runtime: CrunRuntime, name: str, number: int) -> None:
    """Return when the first process of a container has set its handler (SigCgt of /proc/PID/status)."""
    state = runtime.state(name)
    assert state is not None
    for _attempt in range(2000):
        with open(f"/proc/{state.pid}/status", encoding="ascii") as stream:
            fields = dict(line.split(":", 1) for line in stream)
        if int(fields["SigCgt"], 16) >> (number - 1) & 1:
            return
        signal.sigtimedwait([], 0.01)
    raise AssertionError("no handler")
