# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speak with conmon's attach socket in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.attach import PACKET_MAX
from pvecri.streaming.pumps import Descriptor

#: Larger than any packet of conmon's.
_PACKET_ROOM: t.Final = 64 * 1024


async def receive(connection: socket.socket, descriptor: Descriptor) -> bytes | None:
    """Return the next packet: a byte for the stream and its bytes; None when conmon has left."""
    while True:
        try:
            # What waits is there even if conmon left without reading everything, which it tells first.
            with contextlib.suppress(ConnectionResetError):
                return connection.recv(_PACKET_ROOM) or None
        except BlockingIOError:
            await descriptor.readable()


async def send(connection: socket.socket, descriptor: Descriptor, data: bytes) -> bool:
    """Send input for the container; return False when it takes no more."""

    def write(_handle: int, piece: memoryview) -> int:
        return connection.send(piece, socket.MSG_NOSIGNAL)

    for start in range(0, len(data), PACKET_MAX):
        if not await descriptor.write_all(data[start : start + PACKET_MAX], write):
            return False
    return True


async def discard(connection: socket.socket) -> None:
    """Take and drop what conmon sends until it leaves."""
    descriptor = Descriptor(connection.fileno())
    while await receive(connection, descriptor) is not None:
        await asyncio.sleep(0)


async def part(connection: socket.socket, linger_s: float) -> None:
    """End the container's input, if it was this client's, and close.

    conmon learns of that first: of both directions at once it may forget the input.
    """
    try:
        connection.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(linger_s):
            await discard(connection)
    except (OSError, TimeoutError):
        pass
    finally:
        connection.close()
