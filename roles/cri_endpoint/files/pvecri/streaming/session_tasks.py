# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the tasks that serve one client together: they end together, and none fails unheard."""

from __future__ import annotations

import asyncio
import typing as t


class ClientGone(Exception):
    """Nobody is there to be told how it ended."""


class SessionTasks:
    """The tasks of one session, and one that waits for the client to vanish."""

    def __init__(self, closed: asyncio.Event) -> None:
        self._tasks: list[asyncio.Task[t.Any]] = []
        self._gone = self.begin(closed.wait())

    def begin(self, work: t.Coroutine[t.Any, t.Any, t.Any]) -> asyncio.Task[t.Any]:
        """Add a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

    async def any_of(self, *awaited: asyncio.Task[t.Any]) -> None:
        """Wait until one of these is done; raises ClientGone, and what any task of the session raises."""
        while True:
            for task in self._tasks:
                # A session that cancels a task of its own is through with it.
                if task.done() and not task.cancelled():
                    task.result()
            if self._gone.done():
                raise ClientGone
            if any(task.done() for task in awaited):
                return
            running = [task for task in self._tasks if not task.done()]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)

    async def cancel(self) -> None:
        """Cancel all tasks and wait for their ends: from then on nobody uses what they used."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
