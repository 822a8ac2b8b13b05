# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import threading
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import children, command
from ansible_collections.pvecri.runtime.plugins.module_utils.command import (
    SubprocessRunner,
    built_environment,
    last_line,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    MissingDependency,
)

RUNNER = SubprocessRunner()


def test_run_returns_output_and_code() -> None:
    done = RUNNER.run(["sh", "-c", "echo out; echo err >&2"])
    assert (done.rc, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_run_passes_stdin_and_default_is_empty() -> None:
    assert RUNNER.run(["cat"], stdin=b"abc").stdout == "abc"
    assert RUNNER.run(["cat"]).stdout == ""


def test_run_environment_is_built_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "leak")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    out = RUNNER.run(["env"], env={"EXTRA": "1"}).stdout
    assert "leak" not in out
    assert "HTTPS_PROXY=http://proxy:3128" in out
    assert "EXTRA=1" in out
    assert built_environment()["LC_ALL"] == "C.UTF-8"


def test_run_failure_carries_argv_code_and_last_line() -> None:
    with pytest.raises(CommandError, match="exit code 3: second") as caught:
        RUNNER.run(["sh", "-c", "echo first >&2; echo second >&2; exit 3"])
    assert caught.value.rc == 3
    assert caught.value.argv[0] == "sh"
    assert caught.value.stderr == "first\nsecond\n"


def test_run_silent_failure_says_so() -> None:
    with pytest.raises(CommandError, match="no output"):
        RUNNER.run(["false"])


def test_run_without_check_returns_code() -> None:
    assert RUNNER.run(["sh", "-c", "exit 7"], check=False).rc == 7


@pytest.mark.parametrize(
    ("program", "hint"),
    [("/nonexistent/crun", "Debian package 'crun'"), ("no-such-tool", "Install 'no-such-tool'")],
)
def test_run_missing_program_names_the_package(program: str, hint: str) -> None:
    with pytest.raises(MissingDependency, match=hint):
        RUNNER.run([program])


def test_run_missing_directory_is_not_taken_for_a_missing_program() -> None:
    with pytest.raises(FileNotFoundError):
        RUNNER.run(["true"], cwd="/nonexistent")


def test_run_timeout_kills_the_whole_group_and_keeps_output(tmp_path: object) -> None:
    with pytest.raises(CommandTimeout) as caught:
        RUNNER.run(["sh", "-c", "echo $$; sleep 1000 & sleep 1000"], timeout_s=0.3)
    group = int(caught.value.stdout)
    deadline = time.monotonic() + 10
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline, "a member of the group outlived the time-out"
        time.sleep(0.02)


def test_run_timeout_does_not_wait_for_a_child_that_left_the_group() -> None:
    with pytest.raises(CommandTimeout) as caught:
        RUNNER.run(["sh", "-c", "echo here; setsid sh -c 'echo $$; exec sleep 30'"], timeout_s=0.5)
    straggler = int(caught.value.stdout.split()[1])
    os.kill(straggler, 9)


def test_run_is_usable_from_threads() -> None:
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(RUNNER.run(["echo", str(n)]).stdout.strip()))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(str(n) for n in range(8))


def test_run_output_that_is_not_utf8_is_kept_readable() -> None:
    assert RUNNER.run(["printf", "a\\377b"]).stdout == "a\ufffdb"


@pytest.mark.parametrize(("text", "line"), [("", ""), ("a\nb\n\n", "b"), ("  x  ", "x"), ("\n\n", "")])
def test_last_line(text: str, line: str) -> None:
    assert last_line(text) == line


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[threading.Event]:
    """Let no killed child end before the event, as in uninterruptible sleep."""
    awake = threading.Event()
    real, real_poll = children.Child.wait, children.Child.poll

    def poll(child: children.Child) -> int | None:
        return real_poll(child) if awake.is_set() else None

    def wait(child: children.Child, timeout: float | None = None) -> int:
        if not awake.wait(timeout):
            raise subprocess.TimeoutExpired(child.args, timeout or 0)
        return real(child)

    def communicate(child: children.Child, _data: bytes | None = None, timeout: float | None = None) -> t.Any:
        raise subprocess.TimeoutExpired(child.args, timeout or 0, output=b"said")

    monkeypatch.setattr(children.Child, "poll", poll)
    monkeypatch.setattr(children.Child, "wait", wait)
    monkeypatch.setattr(children.Child, "communicate", communicate)
    monkeypatch.setattr(command, "_END_S", 0.01)
    yield awake
    awake.set()


def test_run_does_not_wait_for_a_killed_child_that_waits_for_the_kernel(stuck: threading.Event) -> None:
    with pytest.raises(CommandTimeout, match=r"process \d+ goes on all the same") as caught:
        SubprocessRunner().run(["sleep", "1000"], timeout_s=0.01)
    assert caught.value.stdout == "said"
    (waiting,) = [thread for thread in threading.enumerate() if thread.name == "lingering"]
    stuck.set()
    waiting.join(30)
    assert not waiting.is_alive()
