# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the locks of bundles, and a manager that has its bundles to itself."""

from __future__ import annotations

import os
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.locks import FileLocks, ThreadLocks
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths


@pytest.fixture
def paths(tmp_path):
    return Paths(str(tmp_path / "state"), str(tmp_path / "run"))


@pytest.mark.parametrize("kind", ["files", "threads"])
def test_locks_exclude(kind, paths):
    locks = FileLocks(paths) if kind == "files" else ThreadLocks()
    with locks.held("a", 0):
        with locks.held("b", 0):
            pass
        with pytest.raises(Conflict, match="bundle a"), locks.held("a", 0.01):
            pytest.fail("held twice")
    with locks.held("a", 0):
        pass


def test_thread_locks_are_handed_on_and_forgotten():
    locks = ThreadLocks()
    seen = []

    def work(number):
        with locks.held("a", 10):
            seen.append(number)

    with locks.held("a", 0):
        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        assert seen == []
    for thread in threads:
        thread.join()
    assert sorted(seen) == [0, 1, 2]
    assert locks._locks._used == {}


def test_manager_with_thread_locks_leaves_no_files(paths):
    manager = BundleManager(paths, None, None, locks=ThreadLocks())
    os.makedirs(os.path.join(paths.bundles, ".new.old"))
    os.makedirs(os.path.join(paths.bundles, "a"))
    assert manager.remove("a")
    assert manager.sweep() == ["old"]
    assert os.listdir(paths.bundles) == []
    assert not os.path.exists(paths.locks)
