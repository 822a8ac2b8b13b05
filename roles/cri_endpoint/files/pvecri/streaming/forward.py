# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry a client's connections to ports of a pod, as programs on the pod's loopback interface see them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from pvecri.streaming.channel import Channel, ChannelReset, ForwardPair, ForwardSession

CONNECT_TIMEOUT_S: t.Final = 30.0
#: Where a program of a pod may listen that is not on the pod's address alone.
_LOOPBACK: t.Final = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
_CHUNK: t.Final = 128 * 1024
#: How long a client has to end its side of a connection that is over.
_LEAVE_S: t.Final = 5.0

#: Makes an unconnected socket of each family, those of the pod's network.
MakeSockets = t.Callable[[], t.Awaitable[list[socket.socket]]]


def make_sockets(netns_path: str) -> list[socket.socket]:
    """Return a socket for each family that the network namespace at a path has; empty: one's own.

    Blocks for a moment, as a thread enters the namespace.  Raises NotFound when there is none.
    """
    return netns.run_inside(netns_path, _sockets) if netns_path else _sockets()


def _sockets() -> list[socket.socket]:
    made = []
    for family in _LOOPBACK:
        try:
            made.append(
                socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            )
        except OSError as exc:
            if exc.errno != errno.EAFNOSUPPORT:
                for other in made:
                    other.close()
                raise
    return made


async def forward(session: ForwardSession, make: MakeSockets) -> None:
    """Serve a session until its client ends it; a connection that fails is told and ends nothing else."""
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    try:
        async for pair in session:
            task = loop.create_task(_serve(pair, make))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _serve(pair: ForwardPair, make: MakeSockets) -> None:
    try:
        try:
            connection = await _connected(pair.port, make)
        except (OSError, CoreError, RuntimeError) as exc:
            # RuntimeError: no further thread can be started.
            await pair.error.write(_reason(pair.port, exc).encode())
            await pair.data.close_write()
        else:
            with connection:
                await _carry(pair.data, connection)
    except ChannelReset:
        pass
    # Never reset before it has ended by itself: clients take that for a failure of the whole session.
    with contextlib.suppress(ChannelReset, TimeoutError):
        await pair.error.close_write()
        async with asyncio.timeout(_LEAVE_S):
            await asyncio.gather(_drained(pair.data), _drained(pair.error))
    pair.data.reset()
    pair.error.reset()


async def _drained(channel: Channel) -> None:
    """Wait for the client's end of a channel."""
    with contextlib.suppress(ChannelReset):
        while await channel.read():
            pass


async def _connected(port: int, make: MakeSockets) -> socket.socket:
    """Return a connection to a port; raises the first address's OSError when none accepts."""
    loop = asyncio.get_running_loop()
    sockets = await make()
    failure: OSError | None = None
    for index, candidate in enumerate(sockets):
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.sock_connect(candidate, (_LOOPBACK[candidate.family], port))
        except OSError as exc:
            failure = failure or exc
            candidate.close()
        except BaseException:
            for each in sockets[index:]:
                each.close()
            raise
        else:
            for other in sockets[index + 1 :]:
                other.close()
            candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return candidate
    raise failure or OSError(errno.EAFNOSUPPORT, "the pod's network has neither IPv4 nor IPv6")


def _reason(port: int, error: Exception) -> str:
    if isinstance(error, NotFound):
        return f"port {port} cannot be reached: the pod has no network any more"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on port {port} of 127.0.0.1 and ::1 in the pod's network"
    if isinstance(error, TimeoutError):
        return f"port {port} did not accept a connection within {CONNECT_TIMEOUT_S:g} s"
    return f"port {port} cannot be reached: {error}"


async def _carry(channel: Channel, connection: socket.socket) -> None:
    """Copy both ways; the end of one direction is passed on, and the other goes on until its own.

    What is broken off on one side is broken off on the other.
    """
    loop = asyncio.get_running_loop()

    async def inward() -> None:
        while data := await channel.read(_CHUNK):
            await loop.sock_sendall(connection, data)
        connection.shutdown(socket.SHUT_WR)

    async def outward() -> None:
        while data := await loop.sock_recv(connection, _CHUNK):
            await channel.write(data)
        await channel.close_write()

    ways = [loop.create_task(inward()), loop.create_task(outward())]
    try:
        done, _pending = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
    try:
        for way in done:
            way.result()
    except OSError:
        channel.reset()
