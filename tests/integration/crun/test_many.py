# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many containers at once."""

from __future__ import annotations

import concurrent.futures
import os
import select
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed, SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

pytestmark = pytest.mark.host

Bundle = t.Callable[..., str]

MANY = 64


class CountingRunner(SubprocessRunner):
    """Run children for real and remember how many there were at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def run(self, argv: t.Sequence[str], **options: t.Any) -> Completed:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            return super().run(argv, **options)
        finally:
            with self._lock:
                self._now -= 1


def test_many_lives_at_once(runtime: CrunRuntime, paths: Paths, bundle: Bundle) -> None:
    runner = CountingRunner()
    driver = CrunRuntime(paths, runner, programs=runtime._host.programs, concurrency=6)
    bundles = [bundle("sh", "-c", f"exit {number}") for number in range(MANY)]
    handles = len(os.listdir("/proc/self/fd"))

    def live(number: int) -> int | None:
        name = f"c{number}"
        driver.create(bundles[number], name)
        driver.start(name)
        return driver.wait(name, 120)

    with driver.watch_exits() as watcher, concurrent.futures.ThreadPoolExecutor(MANY) as pool:
        codes = list(pool.map(live, range(MANY)))
        assert codes == list(range(MANY))
        seen: set[str] = set()
        while len(seen) < MANY:
            assert select.select([watcher], [], [], 20)[0]
            seen.update(watcher.read() or [])
        assert seen == {f"c{number}" for number in range(MANY)}
        assert sorted(driver.names()) == sorted(seen)
        list(pool.map(lambda name: driver.delete(name, force=True), sorted(seen)))
    assert driver.names() == []
    assert os.listdir(paths.runtime_root) == []
    assert 1 < runner.most <= 6
    assert len(os.listdir("/proc/self/fd")) == handles, "descriptors leak"
