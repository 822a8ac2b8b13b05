# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Go on in a task with what was begun without one."""

from __future__ import annotations

import asyncio
import inspect
import typing as t

import pytest

from pvecri.rpc.call_task import resumed


async def work(futures: t.Sequence[asyncio.Future[str]]) -> str:
    """Wait for each; say how those ended that failed."""
    found = ""
    for future in futures:
        try:
            found += await future
        except ValueError as exc:
            found += f"({exc})"
    return found


def begun(count: int) -> tuple[list[asyncio.Future[str]], t.Any]:
    """Return what the work waits for, and the rest of it."""
    futures = [asyncio.get_running_loop().create_future() for _unused in range(count)]
    coroutine = work(futures)
    return futures, resumed(coroutine, coroutine.send(None))


def test_resumed_work_gets_values_and_errors() -> None:
    asyncio.run(_values_and_errors())


async def _values_and_errors() -> None:
    futures, rest = begun(3)
    # Of any Python: newer ones refuse generators, which older ones took.
    assert inspect.iscoroutine(rest)
    task = asyncio.ensure_future(rest)
    futures[0].set_result("a")
    futures[1].set_exception(ValueError("b"))
    futures[2].set_result("c")
    assert await task == "a(b)c"


def test_resumed_work_is_cancelled() -> None:
    asyncio.run(_cancelled())


async def _cancelled() -> None:
    futures, rest = begun(1)
    task = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert futures[0].cancelled()
