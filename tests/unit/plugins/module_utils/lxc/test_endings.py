# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How processes end, told by the kernel, and counters of kills for want of memory."""

from __future__ import annotations

import os
import pathlib
import select
import subprocess
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import endings
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.endings import MemoryEvents
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually


def _tells() -> bool:
    """Say whether this kernel tells exit codes (Linux 6.15)."""
    return tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 15)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("exit 0", 0)], ids=["code", "signal", "success"]
)
def test_exit_status_of_a_process_that_somebody_else_has_reaped(script: str, code: int) -> None:
    if not _tells():
        pytest.skip("needs Linux 6.15, whose pidfds tell exit codes")
    with subprocess.Popen(
        ["sh", "-c", f"exec 3<&0; sh -c 'read x; {script}' <&3 & echo $!; wait $!; echo reaped; read y"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        assert endings.exit_status(pidfd) is None
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == b"reaped\n"
        status = endings.exit_status(pidfd)
        assert status is not None
        assert endings.exit_code(status) == code
        os.close(pidfd)


def test_exit_status_is_not_told_by_what_is_no_pidfd() -> None:
    with open(os.devnull, "rb") as stream:
        assert endings.exit_status(stream.fileno()) is None


def test_memory_events_see_a_kill_and_remember_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "memory.events"
    path.write_text("low 0\noom 1\noom_kill 0\noom_group_kill 5\n")
    events = MemoryEvents([str(path), str(tmp_path / "missing" / "memory.events")])
    assert list(events.waits.values()) == [select.POLLPRI]
    assert not events.look()
    path.write_text("low 0\noom 1\noom_kill 1\noom_group_kill 5\n")
    assert events.look()
    path.write_text("")
    assert events.look()


def test_memory_events_of_v1_need_a_cgroup(tmp_path: pathlib.Path) -> None:
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    events = MemoryEvents([str(tmp_path / "memory.oom_control")])
    assert events.waits == {}
    assert events.look()
    assert os.listdir(tmp_path) == ["memory.oom_control"]


@pytest.fixture
def group() -> t.Iterator[pathlib.Path]:
    """A memory cgroup of this host, of whichever version it has."""
    top = pathlib.Path("/sys/fs/cgroup")
    v1 = top / "memory"
    place = (v1 if v1.is_dir() else top) / f"pvecri-test-{os.getpid()}"
    try:
        place.mkdir()
    except OSError:
        pytest.skip("needs a cgroup file system that can be written to")
    if (place / "memory.events").exists() or (place / "memory.oom_control").exists():
        yield place
    else:
        place.rmdir()
        pytest.skip("needs the memory controller")
    if place.exists():
        place.rmdir()


def test_memory_events_tell_of_a_kill_while_it_happens(group: pathlib.Path) -> None:
    is_v2 = (group / "memory.events").exists()
    (group / ("memory.max" if is_v2 else "memory.limit_in_bytes")).write_text("8000000")
    if is_v2 and (group / "memory.swap.max").exists():
        (group / "memory.swap.max").write_text("0")
    events = MemoryEvents([str(group / ("memory.events" if is_v2 else "memory.oom_control"))])
    assert len(events.waits) == 1
    poller = select.poll()
    for handle, kind in events.waits.items():
        poller.register(handle, kind)
    assert poller.poll(0) == []
    script = f"echo $$ > {group}/cgroup.procs; exec tail /dev/zero"
    with subprocess.Popen(["sh", "-c", script]) as victim:
        ready = {handle for handle, _event in poller.poll(20000)}
        assert ready
        eventually(lambda: events.look(ready))
        victim.wait(20)
    eventually(lambda: not (group / "cgroup.procs").read_text().strip())
    group.rmdir()
    # The group is gone, and the kernel would tell so for ever.
    assert events.look(set(events.waits))
    assert all(kind == select.POLLIN for kind in events.waits.values())
