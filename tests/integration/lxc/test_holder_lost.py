# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the driver says of a container whose holder was killed: no exit code is made up."""

from __future__ import annotations

import os
import signal

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Problem, Status
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import handover
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.state import holder_pid
from ansible_collections.pvecri.runtime.tests.support.lxc_world import World
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_exit_code_is_unknown_when_the_holder_was_ended(world: World, number: signal.Signals) -> None:
    ct = world.ct("sh", "-c", "while test ! -e /end; do sleep 0.05; done; exit 5")
    ct.start()
    holder = holder_pid(ct.layout.crun)
    assert holder is not None
    os.kill(holder, number)
    eventually(lambda: Problem.MONITOR_LOST in ct.state.problems)
    assert ct.state.status is Status.RUNNING
    assert world.driver.exec(ct.name, ["touch", "/end"]).rc == 0
    eventually(lambda: not ct.state.is_alive)
    assert (ct.state.status, ct.state.exit_code) == (Status.STOPPED, None)
    assert Problem.EXIT_CODE_UNKNOWN in ct.state.problems
    assert world.driver.wait(ct.name, 20) is None
    answer = handover.read_answer(ct.layout.answer)
    assert answer is not None
    assert answer.exit_source == ""
