# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep connections to conmon whose clients have left.

When conmon sees any attached socket close it closes the input of a container that was created with
``stdin_once``, even if that client only looked on.  So the sockets of onlookers stay, with all output
taken and dropped, until the container ends or another onlooker takes one over: there are never more
than there were onlookers at once.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket

from pvecri.streaming.conmon import discard


class Parking:
    """The connections that were left, by container."""

    def __init__(self) -> None:
        self._places: dict[str, dict[socket.socket, asyncio.Task[None]]] = collections.defaultdict(dict)

    def park(self, container_id: str, connection: socket.socket) -> None:
        """Keep a connection; it is closed when conmon leaves."""
        keeping = asyncio.get_running_loop().create_task(self._keep(container_id, connection))
        self._places[container_id][connection] = keeping

    async def take(self, container_id: str) -> socket.socket | None:
        """Hand over a connection to a container, if one is there."""
        while places := self._places.get(container_id):
            connection, keeping = places.popitem()
            if not places:
                del self._places[container_id]
            keeping.cancel()
            await asyncio.wait({keeping})
            # One that came to its own end has closed it.
            if keeping.cancelled():
                return connection
        return None

    async def close(self) -> None:
        """Close all of them."""
        for container_id in list(self._places):
            while (connection := await self.take(container_id)) is not None:
                connection.close()

    async def _keep(self, container_id: str, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            await discard(connection)
        places = self._places.get(container_id, {})
        if places.pop(connection, None) is not None and not places:
            del self._places[container_id]
        connection.close()
