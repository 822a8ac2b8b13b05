# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer whether the daemon lives and is ready, and with its metrics, over HTTP.

Each connection has one request and is closed after its answer.  The event loop answers itself
whether it lives; what needs a look at the disk is done by a thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import logging
import typing as t

from pvecri.config.model import MetricsConfig
from pvecri.daemon.health import Readiness
from pvecri.daemon.operations import Operations, Pool
from pvecri.metrics.text import CONTENT_TYPE

if t.TYPE_CHECKING:
    from pvecri.streaming.http import HeadReader
    from pvecri.streaming.upgrade_request import UpgradeRequest

_log = logging.getLogger(__name__)

#: Connections at once: a scraper has one, and the hungry shall not eat the daemon's files.
CONNECTIONS: t.Final = 32

#: How long a client may take to send its request, and then to take its answer.
TIMEOUT_S: t.Final = 10.0

#: How often an address that is taken is tried again.
_RETRY_S: t.Final = 10.0

_BACKLOG = 32
_PLAIN = "text/plain"
_PATHS = "/healthz, /readyz and /metrics"


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    status: int
    text: str
    kind: str = _PLAIN
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Monitoring:
    """The listener; used from the event loop alone.

    ``readiness`` and ``metrics`` return calls that are made in a thread: what they need of the
    event loop is taken before.
    """

    def __init__(
        self,
        config: MetricsConfig,
        operations: Operations,
        *,
        readiness: t.Callable[[], t.Callable[[], Readiness]],
        metrics: t.Callable[[], t.Callable[[], str]],
        connections: int = CONNECTIONS,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._config = config
        self._operations = operations
        self._readiness = readiness
        self._metrics = metrics
        self._connections_max = connections
        self._timeout_s = timeout_s
        self._server: asyncio.Server | None = None
        self._readers: set[t.Any] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that is listened on; 0 before."""
        sockets = self._server.sockets if self._server is not None else ()
        return int(sockets[0].getsockname()[1]) if sockets else 0

    async def serve(self) -> None:
        """Listen until it is cancelled; an address that is taken is waited for."""
        try:
            await self._operations.call(_load_http, pool=Pool.QUERY)
        except ImportError as exc:
            _log.error("metrics are not served", extra={"error": str(exc)})
            return
        has_failed = False
        while self._server is None:
            try:
                await self._listen()
            except OSError as exc:
                if not has_failed:
                    facts = {"address": self._config.address, "port": self._config.port, "error": str(exc)}
                    _log.error("metrics cannot be served yet", extra=facts)
                has_failed = True
                await asyncio.sleep(_RETRY_S)
        facts = {"address": self._config.address, "port": self.port}
        if self._config.allow_remote:
            _log.warning("metrics are served to other hosts, too", extra=facts)
        else:
            _log.info("metrics are served", extra=facts)

    def close(self) -> None:
        """Listen no more, and let go of everybody."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        for reader in list(self._readers):
            reader.abort()

    async def _listen(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            self._connection, self._config.address, self._config.port, backlog=_BACKLOG
        )

    def _connection(self) -> asyncio.Protocol:
        """Return the protocol of a connection."""
        if len(self._readers) >= 2 * self._connections_max:
            return _Refusing()
        from pvecri.streaming.http import HeadReader  # noqa: PLC0415 loaded by `serve`, in a thread

        reader = HeadReader(self._on_head, self._readers.discard, timeout_s=self._timeout_s)
        self._readers.add(reader)
        return reader

    def _on_head(self, reader: HeadReader, request: UpgradeRequest) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(reader, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, reader: HeadReader, request: UpgradeRequest) -> None:
        is_full = len(self._readers) > self._connections_max
        reply = Reply(503, "too many connections") if is_full else await self._reply(request)
        reader.answer(
            reply.status,
            reply.text,
            (*reply.headers, (b"Cache-Control", b"no-store")),
            kind=reply.kind,
            has_body=request.method != "HEAD",
            linger_s=self._timeout_s,
        )

    async def _reply(self, request: UpgradeRequest) -> Reply:
        path = request.target.partition("?")[0]
        answers = {"/healthz": self._alive, "/readyz": self._ready, "/metrics": self._page}
        if path not in answers:
            return Reply(404, f"there is nothing at {path[:100]!r}, but at {_PATHS}")
        if request.method not in {"GET", "HEAD"}:
            return Reply(405, "only GET and HEAD are answered", headers=((b"Allow", b"GET, HEAD"),))
        try:
            return await answers[path]()
        except Exception:
            _log.exception("a request for %s failed", path)
            return Reply(500, "the endpoint's log says why this failed")

    async def _alive(self) -> Reply:
        return Reply(200, "ok\n")

    async def _ready(self) -> Reply:
        found = await self._operations.call(self._readiness(), pool=Pool.QUERY)
        return Reply(200 if found.is_ready else 503, found.text)

    async def _page(self) -> Reply:
        return Reply(200, await self._operations.call(self._metrics(), pool=Pool.QUERY), CONTENT_TYPE)


class _Refusing(asyncio.Protocol):
    """A connection of too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        t.cast("asyncio.Transport", transport).abort()


def _load_http() -> None:
    """Load what speaks HTTP, which a daemon that is never asked does without."""
    importlib.import_module("pvecri.streaming.http")
