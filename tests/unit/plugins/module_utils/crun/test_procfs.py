# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of this machine, looked at through /proc."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs


@pytest.fixture
def child() -> t.Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def test_read_stat_of_this_process() -> None:
    stat = procfs.read_stat(os.getpid())
    assert stat is not None
    assert (stat.parent, stat.session, stat.is_alive) == (os.getppid(), os.getsid(0), True)


def test_read_stat_of_a_process_with_a_strange_name(tmp_path: t.Any) -> None:
    program = tmp_path / "a) R (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "1000"]) as process:
        try:
            stat = procfs.read_stat(process.pid)
            assert stat is not None
            assert stat.parent == os.getpid()
        finally:
            process.kill()


def test_nobody() -> None:
    assert procfs.read_stat(2**22 + 1) is None
    assert not procfs.is_same_process(2**22 + 1, 0)
    assert not procfs.send_signal(2**22 + 1, 0, signal.SIGTERM)
    assert procfs.cgroups(2**22 + 1) == set()


def test_zombie_is_not_alive(child: subprocess.Popen[bytes]) -> None:
    with procfs.held(child.pid) as pidfd:
        assert pidfd is not None
        assert not procfs.await_end(pidfd, 0.01)
        child.send_signal(signal.SIGKILL)
        assert procfs.await_end(pidfd, 20)
        assert procfs.await_end(pidfd, None)
        stat = procfs.read_stat(child.pid)
        assert stat is not None
        assert not stat.is_alive
        assert not procfs.is_same_process(child.pid, stat.start_time)


def test_signal_only_for_the_process_meant(child: subprocess.Popen[bytes]) -> None:
    stat = procfs.read_stat(child.pid)
    assert stat is not None
    assert not procfs.send_signal(child.pid, stat.start_time + 1, signal.SIGKILL)
    assert child.poll() is None
    assert procfs.send_signal(child.pid, stat.start_time, signal.SIGKILL)
    assert child.wait(20) == -signal.SIGKILL


def test_signal_to_one_that_ends_meanwhile(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_pidfd: int, _number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(signal, "pidfd_send_signal", gone)
    assert procfs.send_signal(child.pid, 0, signal.SIGTERM) is False


def test_want_of_descriptors_is_no_end(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_pid: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "pidfd_open", full)
    with pytest.raises(OSError, match="too many"):
        procfs.send_signal(child.pid, 0, signal.SIGKILL)


def test_descendants_by_parent_and_session() -> None:
    script = "sleep 1001 & setsid sleep 1002 & echo ready; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            deadline = time.monotonic() + 20
            while len(found := procfs.descendants(process.pid)) < 2:
                assert time.monotonic() < deadline
            assert process.pid not in {stat.pid for stat in found}
            assert {stat.parent for stat in found} == {process.pid}
        finally:
            for stat in procfs.descendants(process.pid):
                os.kill(stat.pid, signal.SIGKILL)
            process.kill()


def test_nobody_is_killed_for_one_that_is_gone(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id is given to another process right after the first look."""
    found = procfs.read_stat(child.pid)
    looks, look = iter([None]), procfs.read_stat
    monkeypatch.setattr(
        procfs, "read_stat", lambda pid: next(looks, found) if pid == child.pid else look(pid)
    )
    procfs.kill_family(child.pid)
    assert child.poll() is None


def test_belonging_to(tmp_path: t.Any) -> None:
    here = str(tmp_path)
    command = ["sh", "-c", "read x", "--mark=1234", "other"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE) as marked,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=here) as working,
    ):
        found = procfs.belonging_to(here, "--mark=1234", "nobody")
        assert {stat.pid for stat in found} == {marked.pid, working.pid}
        assert procfs.belonging_to("/no/such/directory", "--mark=123") == []
        marked.communicate()
        working.communicate()
    assert procfs.belonging_to(here, "--mark=1234") == []


def test_cgroups_of_this_process() -> None:
    with open("/proc/self/cgroup", encoding="utf-8") as stream:
        assert procfs.cgroups(os.getpid()) == {line.rstrip().split(":", 2)[2] for line in stream}


def test_boot_id_is_the_same_twice() -> None:
    assert procfs.boot_id() == procfs.boot_id()
    assert len(procfs.boot_id()) == 36


def test_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    left = procfs.monotonic_deadline(2.0)
    assert left() == 2.0
    now[0] = 105.0
    assert left() == 0.0
    assert procfs.monotonic_deadline(None)() is None
