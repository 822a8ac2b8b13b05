# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one command in a container for a client that is connected to it.

When the command has ended, everything that it wrote is delivered before its exit code.  Processes that
it left behind with its output still open get a moment, no more (`Times.drain_s`): a client must not
hang for as long as they please.

When the client is gone, input, output and terminal are closed, which ends most commands.  One that still
runs after half of `Times.gone_s` gets SIGHUP with all that it started, as from a terminal, and at the end
of it SIGKILL.  What a command that has ended by then left in the background with ``nohup`` goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import console
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.execution import ExecSession
from pvecri.daemon.operations import Operations, Pool
from pvecri.streaming import status
from pvecri.streaming.channel import RemoteChannels
from pvecri.streaming.pumps import Descriptor, Output, feed
from pvecri.streaming.session_tasks import SessionTasks
from pvecri.streaming.terminal import Sizes
from pvecri.streaming.times import Times

_log = logging.getLogger(__name__)


class Command:
    """A command that was started, between its client and its end."""

    def __init__(
        self, session: ExecSession, channels: RemoteChannels, operations: Operations, times: Times
    ) -> None:
        self._session = session
        self._channels = channels
        self._operations = operations
        self._times = times
        self._pidfd = os.pidfd_open(session.child.pid)
        self._tasks = SessionTasks(channels.closed)
        self._outputs: list[Output] = []

    async def run(self, sizes: Sizes | None) -> status.Status:
        """Return how the command ended, after its output was delivered; raises ClientGone."""
        outputs = self._begin(sizes)
        await self._tasks.any_of(self._tasks.begin(self._ended()))
        for output in self._outputs:
            output.command_ended()
        await self._tasks.any_of(self._tasks.begin(self._drain(outputs)))
        session = self._session
        code = session.child.wait()
        code = code if code >= 0 else 128 - code
        failure = session.failure(code)
        if failure is None:
            return status.exited(code)
        shell_code = session.shell_code()
        if shell_code is not None:
            # crun has told why on the command's own error output.
            return status.exited(shell_code, getattr(failure, "problem", failure.message))
        raise failure

    async def end(self, grace_s: float) -> None:
        """Leave nothing behind: a command that still runs gets ``grace_s`` seconds."""
        await self._tasks.cancel()
        session = self._session
        try:
            if session.child.poll() is None:
                await self._end_command(grace_s)
        finally:
            os.close(self._pidfd)
            if session.child.poll() is None:
                # Only a process that the kernel cannot end is still there.
                await self._operations.call(session.close, pool=Pool.EXEC)
            else:
                session.close()

    def _begin(self, sizes: Sizes | None) -> list[asyncio.Task[t.Any]]:
        """Begin to move bytes; return the tasks of the outputs."""
        child, terminal, channels = self._session.child, self._session.terminal, self._channels
        if terminal is not None:
            if channels.stdin is not None:
                self._tasks.begin(feed(channels.stdin, Descriptor(terminal).write_all))
            if sizes is not None:
                self._tasks.begin(self._resize(terminal, sizes))
            # crun has complaints of its own to tell on its error output, and nothing on its output.
            wanted: list[tuple[int | None, t.Any]] = [(terminal, channels.stdout)]
        else:
            if child.stdin is not None and channels.stdin is not None:
                self._tasks.begin(self._feed(child.stdin, channels))
            wanted = [(_handle(child.stdout), channels.stdout), (_handle(child.stderr), channels.stderr)]
        self._outputs = [Output(handle, channel) for handle, channel in wanted if handle is not None]
        return [self._tasks.begin(output.run()) for output in self._outputs]

    async def _ended(self) -> None:
        """Wait for the end of crun, which comes after the command's."""
        await Descriptor(self._pidfd).readable()

    async def _feed(self, pipe: t.IO[bytes], channels: RemoteChannels) -> None:
        assert channels.stdin is not None
        descriptor = Descriptor(pipe.fileno())

        async def write(data: bytes) -> bool:
            if await descriptor.write_all(data):
                return True
            pipe.close()
            return False

        await feed(channels.stdin, write)
        pipe.close()

    async def _resize(self, terminal: int, sizes: Sizes) -> None:
        while True:
            size = await sizes.next()
            with contextlib.suppress(OSError):
                console.resize(terminal, size.width, size.height)

    async def _drain(self, tasks: list[asyncio.Task[t.Any]]) -> None:
        if tasks:
            await asyncio.wait(tasks, timeout=self._times.drain_s)
            for output in self._outputs:
                output.enough()
            await asyncio.gather(*tasks)

    async def _end_command(self, grace_s: float) -> None:
        session = self._session
        session.hang_up()
        if await self._has_ended_within(grace_s / 2):
            return
        # Not refused, and not kept waiting by commands that take all the time they like.
        await self._operations.call(lambda: session.signal(signal.SIGHUP), pool=Pool.HOUSE)
        if await self._has_ended_within(grace_s / 2):
            return
        _log.info("a command whose client is gone is killed", extra={"pid": session.inner_pid()})
        await self._operations.call(session.kill, pool=Pool.HOUSE)
        await self._has_ended_within(grace_s)

    async def _has_ended_within(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended(), timeout_s)
            return True
        return False


def _handle(pipe: t.IO[bytes] | None) -> int | None:
    return None if pipe is None else pipe.fileno()


def pipes(channels: RemoteChannels) -> dict[str, int]:
    """Return which pipes a command without a terminal gets, as subprocess takes them."""
    wanted = {"stdin": channels.stdin, "stdout": channels.stdout, "stderr": channels.stderr}
    return {
        name: subprocess.DEVNULL if channel is None else subprocess.PIPE for name, channel in wanted.items()
    }
