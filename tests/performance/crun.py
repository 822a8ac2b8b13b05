# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure create and start by the core against crun alone, with the same bundle."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.tests.performance.context import Context, need_programs, need_root
from ansible_collections.pvecri.runtime.tests.performance.measure import Case, interleaved
from ansible_collections.pvecri.runtime.tests.performance.report import Section, Target, timing_table

TITLE = "crun driver: create and start against crun run --detach"

BARE = "crun run --detach"
FACTOR = 1.5
CONMON_MS = 40


def measure(context: Context) -> Section:
    """Start one container after the other, by crun alone and by the core with conmon."""
    from ansible_collections.pvecri.runtime.tests.support import bundles

    need_root()
    need_programs("crun", "conmon", "busybox")
    rootfs = bundles.make_rootfs(context.directory("rootfs"))
    bundle = bundles.make_bundle(context.directory("bundle"), rootfs, cgroup=f"/pvecri-bench/{os.getpid()}")
    bare_root = context.directory("crun")
    # conmon's sockets need a path that is short.
    short = tempfile.mkdtemp(prefix="pvecri-")
    driver = CrunRuntime(Paths(os.path.join(short, "s"), os.path.join(short, "r")), SubprocessRunner())

    def crun(*arguments: str) -> None:
        subprocess.run(
            ["crun", "--root", bare_root, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )

    def create_and_start() -> None:
        crun("create", "--bundle", bundle, "bench")
        crun("start", "bench")

    def core() -> None:
        driver.create(bundle, "bench")
        driver.start("bench")

    def delete_bare() -> None:
        crun("delete", "--force", "bench")

    def delete() -> None:
        driver.delete("bench", force=True)

    cases = [
        Case(BARE, lambda: crun("run", "--detach", "--bundle", bundle, "bench"), after=delete_bare),
        Case("crun create, crun start", create_and_start, after=delete_bare),
        Case("core: create and start under conmon", core, after=delete),
    ]
    try:
        series = interleaved(cases, context.runs, warm_ups=2, progress=context.progress)
    finally:
        with contextlib.suppress(Exception):
            driver.delete("bench", force=True)
        with contextlib.suppress(subprocess.CalledProcessError):
            delete_bare()
        shutil.rmtree(short)
    limit = series[0].median * 1000 * FACTOR + CONMON_MS
    return Section(
        "crun",
        TITLE,
        "All use one bundle made by hand from busybox, with five namespaces and a cgroup of its own.",
        (timing_table("Create and start", series, baseline=BARE),),
        (
            Target(
                f"core at most {FACTOR} × {BARE} plus {CONMON_MS} ms for conmon",
                series[2].median * 1000,
                limit,
                "ms",
            ),
        ),
    )
