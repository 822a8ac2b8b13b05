# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give out URLs for streams, and serve the clients that come with them.

The listener, and all that speaks HTTP, SPDY and WebSocket, is loaded and started when the first
URL is asked for: many a node never needs it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from pvecri.context import Context
from pvecri.daemon.operations import Operations, Pool
from pvecri.errors import Unavailable
from pvecri.streaming.requests import Grant, Kind
from pvecri.streaming.tokens import Tokens

if t.TYPE_CHECKING:
    from pvecri.streaming.server import StreamingServer

_log = logging.getLogger(__name__)


class Streaming:
    """The streams of one daemon; used from the event loop alone."""

    def __init__(self, context: Context, operations: Operations) -> None:
        self._context = context
        self._operations = operations
        self._tokens: Tokens[Grant] = Tokens()
        self._server: StreamingServer | None = None
        self._starting = asyncio.Lock()
        self._is_closed = False

    async def url(self, grant: Grant) -> str:
        """Return the URL at which a client gets its streams, once and within a minute.

        Raises TooBusy when too many are out, WrongState when the address cannot be listened on or
        certificates are none, and Unavailable when the daemon is stopping.
        """
        server = self._server or await self._open()
        return f"{server.base}/{grant.kind}/{self._tokens.issue(grant.kind, grant)}"

    @property
    def sessions(self) -> t.Mapping[str, int]:
        """How many clients are served now, by kind."""
        return dict.fromkeys(Kind, 0) if self._server is None else self._server.open_by_kind()

    @property
    def served(self) -> t.Mapping[str, int]:
        """How many clients were served since the start, by kind."""
        return dict.fromkeys(Kind, 0) if self._server is None else dict(self._server.served)

    async def close(self, timeout_s: float) -> None:
        """Listen no more, and end all sessions with word of it to the clients; containers go on."""
        self._is_closed = True
        self._tokens.clear()
        if self._server is not None:
            await self._server.close(timeout_s)

    async def _open(self) -> StreamingServer:
        async with self._starting:
            if self._is_closed:
                raise Unavailable("the endpoint is stopping")
            if self._server is None:
                made = await self._operations.call(
                    functools.partial(_load, self._context, self._operations, self._tokens), pool=Pool.QUERY
                )
                await made.open()
                self._server = made
        return self._server


def _load(context: Context, operations: Operations, tokens: Tokens[Grant]) -> StreamingServer:
    from pvecri.streaming.server import StreamingServer  # noqa: PLC0415

    try:
        return StreamingServer(context, operations, tokens)
    except InvalidSpec as exc:
        # The request is right, the configuration is not.
        raise WrongState(str(exc)) from exc
