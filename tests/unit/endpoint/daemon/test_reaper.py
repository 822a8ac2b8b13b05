# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reaper takes orphans and nothing else; each test runs in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

_PRELUDE = """
import os, signal, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from ansible_collections.pvecri.runtime.plugins.module_utils import children
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from pvecri.daemon.reaper import Reaper

reaper = Reaper()
signal.signal(signal.SIGCHLD, lambda *_: reaper.wake())
reaper.start()

def mine():
    return [s for e in os.listdir("/proc") if e.isdigit() and (s := procfs.read_stat(int(e)))
            and s.parent == os.getpid()]

def eventually(test):
    end = time.monotonic() + 20
    while not test():
        assert time.monotonic() < end, [str(s) for s in mine()]
        time.sleep(0.005)

def orphan(script):
    '''Start a process whose parent ends at once, and return its id.'''
    done = SubprocessRunner().run(["sh", "-c", f"sh -c 'sleep 0.1; {script}' >/dev/null 2>&1 & echo $!"])
    return int(done.stdout)
"""


def _run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_reaper_takes_an_orphan_and_remembers_its_exit_code() -> None:
    _run(
        """
        pid = orphan("exit 7")
        eventually(lambda: reaper.exit_code(pid) is not None)
        assert reaper.exit_code(pid) == 7
        killed = orphan("exec sleep 100")
        eventually(lambda: any(s.pid == killed for s in mine()))
        os.kill(killed, 9)
        eventually(lambda: reaper.exit_code(killed) == 137)
        eventually(lambda: mine() == [])
        assert reaper.exit_code(1) is None
        """
    )


def test_reaper_leaves_children_of_threads_to_them() -> None:
    _run(
        """
        runner = SubprocessRunner()

        def work(number):
            orphan("exit 3")
            code = number % 200
            assert runner.run(["sh", "-c", f"exit {code}"], check=False).rc == code

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(300)))
        eventually(lambda: mine() == [])
        """
    )


def test_reaper_finds_orphans_behind_a_child_that_nobody_waits_for_yet() -> None:
    _run(
        """
        child = children.Child(["true"])
        eventually(lambda: mine() and all(not s.is_alive for s in mine()))
        pids = [orphan("exit 4") for _ in range(5)]
        eventually(lambda: all(reaper.exit_code(pid) == 4 for pid in pids))
        assert [s.pid for s in mine()] == [child.pid]
        assert child.wait() == 0
        assert mine() == []
        """
    )


def test_reaper_stops() -> None:
    _run(
        """
        reaper.stop()
        pid = orphan("exit 0")
        eventually(lambda: any(s.pid == pid and not s.is_alive for s in mine()))
        assert reaper.exit_code(pid) is None
        """
    )


def test_reaper_forgets_the_oldest_exit_codes() -> None:
    _run(
        """
        from pvecri.daemon import reaper as module
        module._REMEMBERED = 3
        pids = [orphan("exit 1") for _ in range(5)]
        eventually(lambda: mine() == [])
        eventually(lambda: sum(reaper.exit_code(pid) == 1 for pid in pids) == 3)
        """
    )
