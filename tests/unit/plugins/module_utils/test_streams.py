# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Children whose bytes count: limits, input that is not read, pipes that are kept open."""

from __future__ import annotations

import os
import signal
import subprocess
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import streams
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import MissingDependency

SCRIPT = ["/bin/sh", "-c"]


@pytest.fixture
def spawn() -> t.Iterator[t.Callable[..., subprocess.Popen[bytes]]]:
    """Start shell scripts; all are ended afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def run(script: str, **options: t.Any) -> subprocess.Popen[bytes]:
        child = streams.spawn([*SCRIPT, script], **options)
        started.append(child)
        return child

    yield run
    for child in started:
        streams.end(child)


Spawn = t.Callable[..., subprocess.Popen[bytes]]


def test_collect(spawn: Spawn) -> None:
    done = streams.collect(spawn("echo out; echo err >&2; exit 3"))
    assert done == streams.Collected(3, b"out\n", b"err\n", False)


def test_collect_bytes_both_ways(spawn: Spawn) -> None:
    data = bytes(range(256)) * 8192
    assert streams.collect(spawn("cat"), stdin=data, timeout_s=60).stdout == data


def test_collect_of_a_child_that_does_not_read(spawn: Spawn) -> None:
    done = streams.collect(spawn("exec 0<&-; sleep 0.1; exit 4"), stdin=b"x" * 1_000_000, timeout_s=60)
    assert done.rc == 4


def test_collect_within_the_limit(spawn: Spawn) -> None:
    done = streams.collect(spawn("printf 12345; printf 67 >&2"), limit_bytes=5)
    assert done == streams.Collected(0, b"12345", b"67", False)


def test_collect_beyond_the_limit_does_not_block_the_child(spawn: Spawn) -> None:
    done = streams.collect(spawn("yes | head -c 3000000; printf 67 >&2"), limit_bytes=5, timeout_s=60)
    assert done == streams.Collected(0, b"y\ny\ny", b"67", True)


def test_collect_has_a_time_limit(spawn: Spawn) -> None:
    child = spawn("echo begun; exec sleep 1000")
    assert streams.collect(child, timeout_s=0.2) == streams.Collected(None, b"begun\n", b"", False)
    assert child.poll() is None
    assert streams.end(child) == -signal.SIGKILL


def test_collect_has_a_time_limit_for_one_that_never_stops_writing(spawn: Spawn) -> None:
    collected = streams.collect(spawn("exec yes"), timeout_s=0.2, limit_bytes=10)
    assert collected.rc is None
    assert collected.is_truncated


@pytest.mark.parametrize("script", ["sleep 60", "exec yes"])
def test_collect_can_be_called_off(spawn: Spawn, script: str) -> None:
    stop = os.eventfd(0)
    try:
        os.eventfd_write(stop, 1)
        assert streams.collect(spawn(script), limit_bytes=10, stop=stop).rc is None
    finally:
        os.close(stop)


def test_collect_does_not_wait_for_a_grandchild(spawn: Spawn) -> None:
    done = streams.collect(spawn("sleep 1000 & echo $!"), timeout_s=60)
    os.kill(int(done.stdout), signal.SIGKILL)
    assert done.rc == 0


def test_collect_does_not_wait_for_a_grandchild_that_goes_on_writing(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = spawn("exit 3", stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Whenever it is looked at, there is more.
    monkeypatch.setattr(os, "read", lambda _handle, count: b"y" * count)
    done = streams.collect(child, timeout_s=60, limit_bytes=3)
    monkeypatch.undo()
    assert done == streams.Collected(3, b"yyy", b"", True)


def test_collect_of_one_that_closes_its_output_early(spawn: Spawn) -> None:
    done = streams.collect(spawn("exec 1>&- 2>&-; sleep 0.1; exit 2"), timeout_s=60)
    assert done == streams.Collected(2, b"", b"", False)


def test_collect_without_pipes(spawn: Spawn) -> None:
    null = subprocess.DEVNULL
    done = streams.collect(spawn("exit 5", stdin=null, stdout=null, stderr=null), timeout_s=60)
    assert done == streams.Collected(5, b"", b"", False)


def test_end_kills_the_group(spawn: Spawn) -> None:
    child = spawn("sleep 1000 & echo $!; wait")
    assert child.stdout is not None
    grandchild = os.pidfd_open(int(child.stdout.readline()))
    assert streams.end(child) == -signal.SIGKILL
    import select

    assert select.select([grandchild], [], [], 20)[0]
    os.close(grandchild)
    assert streams.end(child) == -signal.SIGKILL, "can be repeated"


def test_spawn_builds_the_environment(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    done = streams.collect(spawn("env", env={"MORE": "1"}))
    names = {line.partition(b"=")[0] for line in done.stdout.splitlines()}
    assert b"SECRET" not in names
    assert {b"PATH", b"HOME", b"MORE"} <= names


def test_spawn_names_what_is_missing() -> None:
    with pytest.raises(MissingDependency, match="crun"):
        streams.spawn(["/no/such/crun"])
