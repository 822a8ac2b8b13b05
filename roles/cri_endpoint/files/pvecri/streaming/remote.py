# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve the clients of Exec and Attach: from their streams to the last word about how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.execution import ExecSession
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.daemon.operations import Operations, Pool
from pvecri.streaming import conmon, status
from pvecri.streaming.attachment import Attachment
from pvecri.streaming.backlog import TooSlow
from pvecri.streaming.channel import ChannelReset, RemoteChannels
from pvecri.streaming.command import Command, pipes
from pvecri.streaming.parking import Parking
from pvecri.streaming.session_tasks import ClientGone
from pvecri.streaming.status import Status
from pvecri.streaming.terminal import Sizes
from pvecri.streaming.times import Times
from pvecri.streaming.work import AttachWork, ExecWork

_log = logging.getLogger(__name__)

_CANNOT_RUN: t.Final = "the command cannot be run"
_CANNOT_ATTACH: t.Final = "cannot attach"

T = t.TypeVar("T")


class Runtime(t.Protocol):
    """What sessions ask of the core's driver, `CrunRuntime`."""

    def anticipate(self) -> None:
        """Learn that a command will be run in a moment."""

    def exec_session(self, name: str, request: ExecRequest, **streams: int) -> ExecSession:
        """Start a command in a container."""

    def attach(self, name: str) -> socket.socket:
        """Return a socket that is attached to a container."""

    def resize_terminal(self, name: str, width: int, height: int) -> None:
        """Set the size of a container's terminal."""


class RemoteSessions:
    """The sessions of one daemon's clients; used from the event loop alone."""

    def __init__(self, *, runtime: Runtime, operations: Operations, times: Times | None = None) -> None:
        self._runtime = runtime
        self._operations = operations
        self._times = times or Times()
        self._parking = Parking()
        #: Sessions that are over for their clients, but not yet for the host.
        self._endings: set[asyncio.Task[None]] = set()

    async def run_exec(self, channels: RemoteChannels, work: ExecWork) -> None:
        """Run a command for a client, tell how it ended, and close the channels.

        Raises CancelledError alone.
        """
        await self._serve(channels, self._exec(channels, work), work.container_id, _CANNOT_RUN)

    async def run_attach(self, channels: RemoteChannels, work: AttachWork) -> None:
        """Connect a client to a container until either leaves, tell how it ended, and close the channels.

        The container is not touched.  Raises CancelledError alone.
        """
        await self._serve(channels, self._attach(channels, work), work.container_id, _CANNOT_ATTACH)

    async def close(self) -> None:
        """Wait for the ends of sessions that were cancelled, and let go of containers."""
        while self._endings:
            await asyncio.wait(set(self._endings))
        await self._parking.close()

    async def _serve(
        self,
        channels: RemoteChannels,
        session: t.Coroutine[t.Any, t.Any, Status],
        container_id: str,
        problem: str,
    ) -> None:
        about = {"container": container_id}
        try:
            end = await session
        except ClientGone:
            _log.debug("the client of a stream is gone", extra=about)
            await channels.close(0)
        except TooSlow as exc:
            _log.warning("an attached client was too slow and is detached", extra=about)
            await self._part(channels, status.failed("detached", exc))
        except asyncio.CancelledError:
            await self._part(channels, status.STOPPING)
            raise
        except (CoreError, OSError) as exc:
            _log.info("a stream failed", extra={**about, "error": str(exc)})
            await self._tell(channels, status.failed(problem, exc))
        except Exception as exc:
            _log.exception("a stream crashed", extra=about)
            await self._tell(channels, status.failed(problem, RuntimeError(f"a fault: {type(exc).__name__}")))
        else:
            await self._tell(channels, end)

    async def _tell(self, channels: RemoteChannels, end: Status) -> None:
        """Say how it ended, after everything else, and close."""
        with contextlib.suppress(ChannelReset):
            await _say(channels, end)
        await channels.close(self._times.close_s)

    async def _part(self, channels: RemoteChannels, end: Status) -> None:
        """Say how it ended to a client that may not listen, and close."""
        is_told = False
        with contextlib.suppress(ChannelReset, TimeoutError):
            async with asyncio.timeout(self._times.farewell_s):
                await _say(channels, end)
                is_told = True
        # A client of WebSocket takes any other end than a plain one for the only reason.
        await channels.link.close(self._times.farewell_s, is_stopping=not is_told)

    def _end(self, work: t.Coroutine[t.Any, t.Any, None]) -> asyncio.Task[None]:
        """Do what has to be done at the end of a session, whoever still waits for it."""
        ending = asyncio.get_running_loop().create_task(work)
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return ending

    async def _made(self, make: t.Callable[[], T], drop: t.Callable[[T], object]) -> T:
        """Have something made in a thread; when nobody waits for it any more it is dropped."""
        loop = asyncio.get_running_loop()

        async def make_it() -> T:
            return await self._operations.call(make, pool=Pool.EXEC)

        async def drop_it() -> None:
            with contextlib.suppress(CoreError, OSError):
                made = await making
                await self._operations.call(lambda: drop(made), pool=Pool.HOUSE)

        making = loop.create_task(make_it())
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            self._end(drop_it())
            raise

    # ---- exec ------------------------------------------------------------------------------------------

    async def _exec(self, channels: RemoteChannels, work: ExecWork) -> Status:
        sizes = None if channels.resize is None else Sizes(channels.resize)
        reading = None if sizes is None else asyncio.get_running_loop().create_task(sizes.read())
        try:
            session = await self._begin(channels, work, sizes)
            try:
                command = Command(session, channels, self._operations, self._times)
            except OSError:
                self._end(self._operations.call(lambda: _drop(session), pool=Pool.HOUSE))
                raise
            grace_s = self._times.gone_s
            try:
                return await command.run(sizes)
            except asyncio.CancelledError:
                grace_s = self._times.stopping_s
                raise
            finally:
                await asyncio.shield(self._end(command.end(grace_s)))
        finally:
            if reading is not None:
                reading.cancel()

    async def _begin(self, channels: RemoteChannels, work: ExecWork, sizes: Sizes | None) -> ExecSession:
        size = None if sizes is None else await sizes.first(self._times.size_s)
        self._runtime.anticipate()
        request = ExecRequest(
            args=work.command,
            terminal=work.tty,
            terminal_size=size,
            env_defaults={"TERM": "xterm"} if work.tty else {},
        )
        streams = {} if work.tty else pipes(channels)

        return await self._made(
            lambda: self._runtime.exec_session(work.container_id, request, **streams), _drop
        )

    # ---- attach ----------------------------------------------------------------------------------------

    async def _attach(self, channels: RemoteChannels, work: AttachWork) -> Status:
        container_id = work.container_id

        async def resize(width: int, height: int) -> None:
            # It may have ended meanwhile, or have another kind of terminal than the client thinks.
            with contextlib.suppress(CoreError, OSError):
                await self._operations.call(
                    lambda: self._runtime.resize_terminal(container_id, width, height), pool=Pool.EXEC
                )

        connection = await self._parking.take(container_id) if work.must_stay else None
        if connection is None:
            connection = await self._made(
                lambda: self._runtime.attach(container_id), lambda made: made.close()
            )
        try:
            await Attachment(connection, channels, work, self._times).serve(resize)
            return status.SUCCESS
        finally:
            if work.must_stay:
                self._parking.park(container_id, connection)
            else:
                self._end(conmon.part(connection, self._times.linger_s))


def _drop(session: ExecSession) -> None:
    """End a command that nobody attends to."""
    session.kill()
    session.close()


async def _say(channels: RemoteChannels, end: Status) -> None:
    """Say how it ended on the error stream, and end the streams."""
    for channel in (channels.stdout, channels.stderr):
        if channel is not None:
            await channel.close_write()
    if channels.error is not None:
        if words := end.encode(channels.protocol):
            await channels.error.write(words)
        await channels.error.close_write()
