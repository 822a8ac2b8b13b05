# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accept connections on the streaming port and read each one's request."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
import ssl
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from pvecri.streaming.http import HEAD_TIMEOUT_S, HeadReader, OnHead

_log = logging.getLogger(__name__)

#: Connections whose request is awaited; another one takes the place of the one that waits longest.
MAX_WAITING: t.Final = 128
_BACKLOG: t.Final = 512
#: How long no connection is accepted when the process or the host has no descriptors left.
_PAUSE_S: t.Final = 0.1
_TEMPORARY: t.Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Tls = t.Callable[[], ssl.SSLContext | None]


class Listener:
    """One listening socket.

    Whoever can reach it may connect; ``on_head`` decides whom to serve.  Clients that say
    nothing cannot keep out others: of those that wait, the oldest goes first.
    """

    def __init__(
        self,
        on_head: OnHead,
        *,
        tls: Tls = lambda: None,
        timeout_s: float = HEAD_TIMEOUT_S,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._on_head = on_head
        self._tls = tls
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._waiting: dict[HeadReader, asyncio.Task[None]] = {}

    async def start(self, address: str, port: int) -> int:
        """Listen on an address or name and return the port; 0 leaves it to the kernel.  Raises WrongState."""
        where = f"{address}:{port}"
        try:
            self._socket = await _bound(address, port)
        except OSError as exc:
            raise WrongState(
                f"streams cannot be served on {where}: {exc.strerror or exc}",
                hint="Look at streaming.address and streaming.port",
            ) from exc
        self._accepting = asyncio.get_running_loop().create_task(self._accept(self._socket))
        return int(self._socket.getsockname()[1])

    async def close(self) -> None:
        """Accept no more, and drop who has not made a request."""
        if self._accepting is not None:
            self._accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._accepting
            self._accepting = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        tasks = list(self._waiting.values())
        for reader in list(self._waiting):
            self._drop(reader)
        if tasks:
            await asyncio.wait(tasks)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _peer = await loop.sock_accept(listening)
            except OSError as exc:
                # What else accept(2) reports is the fate of one connection.
                if exc.errno in _TEMPORARY:
                    _log.warning("no connection can be accepted", extra={"error": str(exc)})
                    await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._waiting) >= self._max_waiting:
                self._drop(next(iter(self._waiting)))
            reader = HeadReader(self._take, self._forget, timeout_s=self._timeout_s)
            self._waiting[reader] = loop.create_task(self._attend(reader, connection))

    async def _attend(self, reader: HeadReader, connection: socket.socket) -> None:
        """Give a connection to its reader, after the handshake where there is TLS."""
        loop = asyncio.get_running_loop()
        tls = self._tls()
        options: dict[str, t.Any] = {} if tls is None else {"ssl_handshake_timeout": self._timeout_s}
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(lambda: reader, connection, ssl=tls, **options)
        except (OSError, ssl.SSLError) as exc:
            _log.debug("connection refused", extra={"error": str(exc)})
            connection.close()
            self._forget(reader)
        except asyncio.CancelledError:
            connection.close()
            raise

    def _take(self, reader: HeadReader, request: t.Any) -> None:
        self._on_head(reader, request)
        # One that was refused has a while to take the answer: it counts as one that waits.
        if not reader.is_answered:
            self._forget(reader)

    def _forget(self, reader: HeadReader) -> None:
        self._waiting.pop(reader, None)

    def _drop(self, reader: HeadReader) -> None:
        task = self._waiting.pop(reader, None)
        if task is not None:
            task.cancel()
        reader.abort()


async def _bound(address: str, port: int) -> socket.socket:
    """Return a socket that listens; of a name's addresses the first."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    family, kind, protocol, _name, place = found[0]
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(place)
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def url_base(scheme: str, address: str, port: int, url_host: str = "") -> str:
    """Return the beginning of URLs that reach a listener.

    They have ``url_host`` if it is given, else the address as it was configured; in the place of one
    that means all addresses stands the loopback address of its kind.
    """
    host = url_host or address
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(host)
        if found.is_unspecified:
            found = ipaddress.ip_address("127.0.0.1" if found.version == 4 else "::1")
        host = f"[{found}]" if found.version == 6 else str(found)
    return f"{scheme}://{host}:{port}"
