# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take clients in on the streaming port: look at each one's token, make its streams, and run its session."""

from __future__ import annotations

import asyncio
import collections
import functools
import json
import logging
import ssl
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec, NotFound
from pvecri.context import Context
from pvecri.daemon.operations import Operations, Pool
from pvecri.streaming import admission, forward
from pvecri.streaming.channel import ChannelReset, Limits, StreamOptions
from pvecri.streaming.http import HeadReader
from pvecri.streaming.listener import Listener, url_base
from pvecri.streaming.remote import RemoteSessions
from pvecri.streaming.requests import Grant, Kind, living, ready, running
from pvecri.streaming.tls import Tls
from pvecri.streaming.tokens import LIFETIME_S, Tokens
from pvecri.streaming.upgrade import upgrade_forward, upgrade_remote
from pvecri.streaming.upgrade_request import UpgradeError, UpgradeRequest
from pvecri.streaming.work import attach_work, exec_work

_log = logging.getLogger(__name__)

#: What Kubernetes calls the statuses of answers (meta/v1, "StatusReason").
_REASONS: t.Final = {
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    503: "ServiceUnavailable",
}
#: Clients that are served at once.
MAX_SESSIONS: t.Final = 1000
#: How long a client has to take the last word of a session.
_GOODBYE_S: t.Final = 1.0


class StreamingServer:
    """The listener with the sessions of the clients that came in."""

    def __init__(self, context: Context, operations: Operations, tokens: Tokens[Grant]) -> None:
        """Read the certificates, if any; raises InvalidSpec."""
        self._context = context
        self._operations = operations
        self._tokens = tokens
        self._config = config = context.config.streaming
        self._tls = Tls(config) if config.tls_cert else None
        self._listener = Listener(self._admit, tls=self._current_tls)
        self._remote = RemoteSessions(runtime=context.runtimes, operations=operations)
        self._limits = Limits(idle_timeout_s=config.idle_timeout_s)
        self._sessions: dict[asyncio.Task[None], Kind] = {}
        #: Clients so far, by kind.
        self.served: collections.Counter[str] = collections.Counter(dict.fromkeys(Kind, 0))
        #: How URLs begin; set by `open`.
        self.base = ""

    async def open(self) -> None:
        """Listen; raises WrongState when the address is not there or taken."""
        config = self._config
        port = await self._listener.start(config.address, config.port)
        self.base = url_base("https" if self._tls else "http", config.address, port, config.url_host)
        _log.info("serving streams", extra={"address": config.address, "port": port})

    def open_by_kind(self) -> dict[str, int]:
        """Return how many clients are served now, by kind."""
        return {kind: sum(each is kind for each in self._sessions.values()) for kind in Kind}

    async def close(self, timeout_s: float) -> None:
        """Let nobody in any more, and end the sessions."""
        await self._listener.close()
        for session in self._sessions:
            session.cancel()
        if self._sessions:
            _done, left = await asyncio.wait(set(self._sessions), timeout=timeout_s)
            if left:
                _log.warning("streams were cut off", extra={"sessions": len(left)})
        await self._remote.close()

    def _current_tls(self) -> ssl.SSLContext | None:
        if self._tls is None:
            return None
        try:
            self._tls.refresh()
        except InvalidSpec as exc:
            _log.error("the old certificate stays in use", extra={"error": str(exc)})
        return self._tls.context

    # ---- one client -----------------------------------------------------------------------------------

    def _admit(self, reader: HeadReader, request: UpgradeRequest) -> None:
        try:
            kind, token = admission.admitted(request, self.base)
            if len(self._sessions) >= MAX_SESSIONS:
                retry = (b"Retry-After", b"%d" % LIFETIME_S)
                raise UpgradeError(503, f"{len(self._sessions)} clients are served already", (retry,))
            grant = self._tokens.redeem(kind, token)
            if grant is None:
                raise admission.not_found()
        except UpgradeError as exc:
            # Whoever guesses tokens must not fill the log.
            _log.debug("client refused", extra={"status": exc.status, "error": exc.text})
            _refuse(reader, exc)
            return
        task = asyncio.get_running_loop().create_task(self._session(reader, request, grant))
        self._sessions[task] = kind
        self.served[kind] += 1
        task.add_done_callback(self._sessions.pop)

    async def _session(self, reader: HeadReader, request: UpgradeRequest, grant: Grant) -> None:
        """Serve one client to its end."""
        serve = {Kind.EXEC: self._exec, Kind.ATTACH: self._attach, Kind.FORWARD: self._forward}[grant.kind]
        about = {"kind": str(grant.kind), "id": grant.object_id}
        _log.debug("stream opened", extra=about)
        try:
            await serve(request, grant)
        except UpgradeError as exc:
            _log.info("stream refused", extra={**about, "error": exc.text})
            _refuse(reader, exc)
        except CoreError as exc:
            _log.info("stream refused", extra={**about, "error": str(exc)})
            _refuse(reader, UpgradeError(404 if isinstance(exc, NotFound) else 409, str(exc)))
        except ChannelReset as exc:
            _log.debug("the client left before it had its streams", extra={**about, "error": str(exc)})
        except asyncio.CancelledError:
            request.transport.close()
        except Exception as exc:
            _log.error("stream crashed", exc_info=exc, extra=about)
            request.transport.abort()
        finally:
            _log.debug("stream closed", extra=about)

    async def _exec(self, request: UpgradeRequest, grant: Grant) -> None:
        record = running(self._context.registry, grant.object_id)
        work = exec_work(record.id, grant.request)
        channels = await upgrade_remote(request, _options(grant.request), self._limits)
        await self._remote.run_exec(channels, work)

    async def _attach(self, request: UpgradeRequest, grant: Grant) -> None:
        record = living(self._context.registry, grant.object_id)
        work = attach_work(record, grant.request)
        channels = await upgrade_remote(request, _options(grant.request), self._limits)
        await self._remote.run_attach(channels, work)

    async def _forward(self, request: UpgradeRequest, grant: Grant) -> None:
        registry, operations = self._context.registry, self._operations
        sandbox_id = ready(registry, grant.object_id).id

        async def make_sockets() -> list[t.Any]:
            # Each time anew: the pod may have been stopped meanwhile.
            path = ready(registry, sandbox_id).netns
            return await operations.call(functools.partial(forward.make_sockets, path), pool=Pool.EXEC)

        session = await upgrade_forward(request, list(grant.request.port), self._limits)
        is_stopping = True
        try:
            await forward.forward(session, make_sockets)
            is_stopping = False
        finally:
            await session.close(_GOODBYE_S, is_stopping=is_stopping)


def _refuse(reader: HeadReader, error: UpgradeError) -> None:
    """Answer with a Status of meta/v1.

    Clients of Kubernetes try to read any answer as one, and make nothing of a text that is YAML by chance.
    """
    told = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.text,
        "reason": _REASONS.get(error.status, "BadRequest"),
        "code": error.status,
    }
    reader.answer(error.status, json.dumps(told), error.headers, kind="application/json")


def _options(request: t.Any) -> StreamOptions:
    return StreamOptions(stdin=request.stdin, stdout=request.stdout, stderr=request.stderr, tty=request.tty)
