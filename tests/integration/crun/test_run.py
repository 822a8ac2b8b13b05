# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that are run to their end, attached ones, and their limits."""

from __future__ import annotations

import os
import signal
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.attach import Stream
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    InvalidSpec,
    WrongState,
)

pytestmark = pytest.mark.host

Bundle = t.Callable[..., str]


def test_run_gives_code_and_streams(runtime: CrunRuntime, bundle: Bundle) -> None:
    result = runtime.run(bundle("sh", "-c", "printf 'a\nb'; echo c >&2; exit 3"), "job", timeout_s=20)
    assert (result.rc, result.stdout, result.stderr, result.is_truncated) == (3, "a\nb", "c\n", False)
    state = runtime.state("job")
    assert state is not None
    assert state.status is Status.STOPPED


def test_run_is_exact_to_the_byte(runtime: CrunRuntime, bundle: Bundle) -> None:
    script = "i=0; while [ $i -lt 300 ]; do cat /bin/busybox | head -c 3000; i=$((i+1)); done"
    result = runtime.run(bundle("sh", "-c", script), "job", timeout_s=60)
    with open("/usr/bin/busybox", "rb") as stream:
        assert result.stdout_bytes == stream.read(3000) * 300


def test_run_feeds_input(runtime: CrunRuntime, bundle: Bundle) -> None:
    data = os.urandom(200_000)
    result = runtime.run(bundle("cat"), "job", stdin=data, timeout_s=60)
    assert result.rc == 0
    assert result.stdout_bytes == data


def test_run_of_a_container_that_does_not_read_its_input(runtime: CrunRuntime, bundle: Bundle) -> None:
    result = runtime.run(bundle("sh", "-c", "exit 6"), "job", stdin=b"x" * 500_000, timeout_s=60)
    assert result.rc == 6


def test_run_time_limit_kills_and_keeps_the_output(runtime: CrunRuntime, bundle: Bundle) -> None:
    with pytest.raises(CommandTimeout) as caught:
        runtime.run(bundle("sh", "-c", "trap '' TERM; echo begun; sleep 3000"), "job", timeout_s=1.0)
    assert caught.value.stdout == "begun\n"
    state = runtime.state("job")
    assert state is not None
    assert (state.status, state.exit_code) == (Status.STOPPED, 137)


def test_run_time_limit_holds_while_input_is_not_read(runtime: CrunRuntime, bundle: Bundle) -> None:
    with pytest.raises(CommandTimeout):
        runtime.run(bundle("sleep", "3000"), "job", stdin=b"x" * 2_000_000, timeout_s=1.0)


@pytest.mark.parametrize("command", ["head -c 500000 /dev/zero", "yes | head -c 500000"])
def test_run_output_limit(runtime: CrunRuntime, bundle: Bundle, command: str) -> None:
    result = runtime.run(bundle("sh", "-c", command + "; exit 2"), "job", limit_bytes=20_000, timeout_s=60)
    assert result.rc == 2
    assert result.is_truncated
    assert 0 < len(result.stdout_bytes) <= 20_000
    state = runtime.state("job")
    assert state is not None
    assert os.path.getsize(str(state.log_path)) < 20_000 * 8 + 20_000


def test_run_takes_no_rotation(runtime: CrunRuntime, bundle: Bundle) -> None:
    with pytest.raises(InvalidSpec) as caught:
        runtime.run(bundle("true"), "job", log_size_max=100_000)
    assert caught.value.field == "log_size_max"
    assert runtime.state("job") is None


def test_run_of_a_bundle_that_cannot_start_leaves_nothing(runtime: CrunRuntime, bundle: Bundle) -> None:
    with pytest.raises(InvalidSpec):
        runtime.run(bundle("nope"), "job")
    assert runtime.state("job") is None


def test_run_that_is_interrupted_leaves_nothing_running(
    runtime: CrunRuntime, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_name: str, _timeout_s: float | None = None) -> int | None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(runtime, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runtime.run(bundle(), "job")
    state = runtime.state("job")
    assert state is not None
    assert (state.status, state.exit_code) == (Status.STOPPED, 137)


def test_attach_sees_both_streams(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle("sh", "-c", "read x; echo out $x; echo err >&2; sleep 1000"), "one", stdin=True)
    with runtime.attach("one") as connection:
        runtime.start("one")
        connection.settimeout(20)
        connection.send(b"in\n")
        packets = [connection.recv(8193) for _unused in range(2)]
    assert sorted(packets) == [bytes([Stream.STDOUT]) + b"out in\n", bytes([Stream.STDERR]) + b"err\n"]


def test_attach_after_the_end(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle("true"), "one")
    runtime.start("one")
    runtime.wait("one", 20)
    for verb in (runtime.attach, runtime.reopen_log):
        with pytest.raises(WrongState, match="stopped"):
            verb("one")


def test_attach_without_conmon(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle(), "one")
    state = runtime.state("one")
    assert state is not None
    with procfs.held(state.conmon_pid or 0) as pidfd:
        assert pidfd is not None
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert procfs.await_end(pidfd, 20)
    for verb in (runtime.attach, runtime.reopen_log):
        with pytest.raises(WrongState, match="no conmon"):
            verb("one")


def test_input_that_stays_open(runtime: CrunRuntime, bundle: Bundle) -> None:
    runtime.create(bundle("sh", "-c", "read a; read b; echo $a$b"), "one", stdin=True)
    runtime.start("one")
    for line in (b"1\n", b"2\n"):
        with runtime.attach("one") as connection:
            connection.send(line)
    assert runtime.wait("one", 20) == 0


def test_terminal_of_a_container(runtime: CrunRuntime, bundle: Bundle) -> None:
    def terminal(config: t.Any) -> None:
        config["process"]["terminal"] = True

    script = "read x; until [ \"$(stty size)\" = '33 90' ]; do sleep 0.01; done; tty"
    runtime.create(bundle("sh", "-c", script, change=terminal), "one", terminal=True, stdin=True)
    with runtime.attach("one") as connection:
        connection.settimeout(20)
        runtime.start("one")
        connection.send(b"\n")
        runtime.resize_terminal("one", 90, 33)
        seen = b""
        while b"/dev/pts/0" not in seen:
            seen += connection.recv(8193)[1:]
    assert runtime.wait("one", 20) == 0


@pytest.mark.parametrize(("width", "height", "field"), [(0, 10, "width"), (10, 1001, "height")])
def test_terminal_size_out_of_range(
    runtime: CrunRuntime, bundle: Bundle, width: int, height: int, field: str
) -> None:
    runtime.create(bundle(), "one")
    with pytest.raises(InvalidSpec) as caught:
        runtime.resize_terminal("one", width, height)
    assert caught.value.field == field
