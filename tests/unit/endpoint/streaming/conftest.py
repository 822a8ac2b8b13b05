# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a test's coroutine in both event loops, and give it processes to run sessions with."""

from __future__ import annotations

import asyncio
import pathlib
import typing as t

import pytest
import uvloop

from ansible_collections.pvecri.runtime.tests.support.remote import LocalRuntime

RunLoop = t.Callable[[t.Coroutine[t.Any, t.Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run_loop(request: pytest.FixtureRequest) -> RunLoop:
    """Return what runs a coroutine to its end."""

    def run(work: t.Coroutine[t.Any, t.Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(work, 60))

    return run


@pytest.fixture
def runtime(tmp_path: pathlib.Path) -> LocalRuntime:
    """Commands on this host."""
    return LocalRuntime(tmp_path)
