# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold how children are waited for: at once when they end, no longer than was said, by one alone."""

from __future__ import annotations

import os
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import children
from ansible_collections.pvecri.runtime.plugins.module_utils.children import Child


@pytest.mark.parametrize(("argv", "code"), [(["true"], 0), (["sh", "-c", "exit 7"], 7)])
def test_wait_with_a_timeout_returns_the_exit_code_without_sleeping(monkeypatch, argv, code):
    monkeypatch.setattr(subprocess.time, "sleep", lambda _seconds: pytest.fail("it looked and slept"))
    child = Child(argv)
    assert child.wait(timeout=30) == code
    assert child.wait(timeout=30) == code


def test_wait_gives_up_when_time_is_over():
    child = Child(["sleep", "100"])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=0.01)
    finally:
        child.kill()
        assert child.wait(timeout=30) == -9


def test_wait_copes_with_a_child_that_somebody_else_has_taken():
    child = Child(["true"])
    os.waitpid(child.pid, 0)
    assert child.wait(timeout=30) == 0


def test_children_are_known_until_their_status_is_taken():
    told = []
    stop = children.listen(lambda: told.append(True))
    try:
        child = Child(["true"])
        assert child.pid in children._own
        child.wait(timeout=30)
        assert child.pid not in children._own
        assert told
    finally:
        stop()


def test_fork_is_waited_for_by_its_wait_status():
    pid = children.fork()
    if pid == 0:
        os._exit(3)
    assert os.waitstatus_to_exitcode(children.wait(pid)) == 3
