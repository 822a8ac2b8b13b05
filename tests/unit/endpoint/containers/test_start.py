# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A start that fails: what is noted, what is killed, and what the client hears."""

from __future__ import annotations

import errno
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout
from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.containers import start
from pvecri.errors import Locked, Unreached
from pvecri.state.records import Phase
from pvecri.state.registry import Registry


class Crun:
    """Does not start in time, and has trouble with the kill, too."""

    def __init__(self, registry):
        self.registry = registry
        self.killed = []

    def start(self, _name):
        raise CommandTimeout("crun did not end")

    def stop(self, name, number):
        self.killed.append((self.registry.container(name).reason, int(number)))
        raise OSError(errno.EMFILE, "too many open files")


def test_start_that_was_given_up_is_noted_and_killed(tmp_path):
    registry = Registry.open(str(tmp_path / "x.sqlite"))
    pod = registry.reserve_sandbox(records.sandbox())
    name = registry.reserve_container(records.container(pod.id, phase=Phase.CREATED)).id
    crun = Crun(registry)
    with pytest.raises(CommandTimeout, match="did not end"):
        start.start(types.SimpleNamespace(registry=registry, runtimes=crun), name)
    found = registry.container(name)
    assert (found.phase, found.exit_code, found.reason) == (Phase.EXITED, 128, "StartError")
    assert crun.killed == [("StartError", 9)]
    registry.close()


@pytest.mark.parametrize("error", [Unreached("the node is offline"), Locked("it is locked (backup)")])
def test_start_that_could_not_be_begun_can_be_repeated(tmp_path, error):
    registry = Registry.open(str(tmp_path / "x.sqlite"))
    pod = registry.reserve_sandbox(records.sandbox())
    name = registry.reserve_container(records.container(pod.id, phase=Phase.CREATED)).id

    def refuse(_name):
        raise error

    runtime = types.SimpleNamespace(start=refuse)
    with pytest.raises(type(error), match=str(error).partition(" (")[0]):
        start.start(types.SimpleNamespace(registry=registry, runtimes=runtime), name)
    assert registry.container(name).phase is Phase.CREATED
    registry.close()
