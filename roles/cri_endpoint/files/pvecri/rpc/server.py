# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve the methods of the CRI over a unix socket.

A handler is a coroutine that takes the parsed request and returns the answer's bytes; no
serializer runs after it.  The handler of a method that streams is an asynchronous generator of
such answers instead.  A method without a handler is UNIMPLEMENTED.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import typing as t

from google.protobuf.message import DecodeError

from pvecri.api.methods import METHODS, Method
from pvecri.config.model import ServerConfig
from pvecri.rpc.call_task import CallTask, resumed
from pvecri.rpc.calls import Call, Refusal
from pvecri.rpc.errors import details_of, is_foreseen, reason_of_cancel, status_of
from pvecri.rpc.gate import Gate
from pvecri.rpc.http2 import UNFINISHED, Connection, Routes
from pvecri.rpc.status import Code

Handler = t.Callable[[t.Any], t.Awaitable[bytes]] | t.Callable[[t.Any], t.AsyncIterator[bytes]]
#: Told of each call that is over: its method, the name of its status, and its seconds.
Observe = t.Callable[[str, str, float], None]

#: Connections at once; a client needs one.
_MAX_CONNECTIONS: t.Final = 4096
_BACKLOG: t.Final = 512
#: Seconds for last words to reach their clients.
_LAST_WORDS_S: t.Final = 1.0

#: Methods whose handlers mostly have their answer at once.  They are stepped once without a task around them,
#: so that they must not begin with what wants one, such as `asyncio.timeout`.
_AT_ONCE: t.Final = frozenset(
    {
        "Version",
        "RuntimeConfig",
        "ListPodSandbox",
        "PodSandboxStatus",
        "ListContainers",
        "ContainerStatus",
        "ListImages",
        "ImageStatus",
    }
)

#: How severe the failures are that say more or less of the endpoint than of the request.
_LEVELS: t.Final = {
    Code.INTERNAL: logging.WARNING,
    Code.RESOURCE_EXHAUSTED: logging.WARNING,
    Code.NOT_FOUND: logging.DEBUG,
    Code.UNAVAILABLE: logging.DEBUG,
}


class Server:
    """The gRPC server: all methods, one socket."""

    def __init__(
        self,
        config: ServerConfig,
        handlers: t.Mapping[str, Handler],
        gate: Gate,
        log: logging.Logger,
        *,
        slow_s: float = 2.0,
        observe: Observe | None = None,
    ) -> None:
        """Set up; must be called where the event loop runs.

        ``observe`` is told the method, the name of the status code and the seconds of every call.
        """
        unknown = set(handlers) - set(METHODS)
        if unknown:
            raise ValueError(f"the CRI has no methods {sorted(unknown)}")
        self._gate = gate
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._observe = observe
        self._in_flight = 0
        self._is_idle = asyncio.Event()
        self._is_empty = asyncio.Event()
        #: Seconds from which on a request is logged.
        self.slow_s = slow_s
        # Not max_concurrent_rpcs itself: what is above it would wait, and Version with it.
        self.max_streams = 2 * config.max_concurrent_rpcs
        self.max_message = config.max_message_bytes
        self._max_unsent = UNFINISHED * self.max_message
        self.routes: Routes = {
            method.path.encode(): (method, handlers.get(method.name)) for method in METHODS.values()
        }
        self._connections: set[Connection] = set()
        self._running: set[CallTask] = set()
        self._listener: asyncio.Server | None = None

    @property
    def in_flight(self) -> int:
        """Requests that are worked on."""
        return self._in_flight

    async def start(self, path: str) -> None:
        """Listen on a path, which must not exist, and begin to answer."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listening.bind(path)
            self._listener = await self._loop.create_unix_server(
                lambda: Connection(self, self._loop), sock=listening, backlog=_BACKLOG
            )
        except BaseException:
            listening.close()
            raise

    async def stop(self, timeout_s: float) -> None:
        """Wait for the requests in flight, ``timeout_s`` seconds at most, and end.

        Clients are told at once to take new ones elsewhere.  Streams, and clients that hold a connection and
        ask for nothing, are not waited for.
        """
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.go_away()
        self._is_idle.clear()
        if self._in_flight:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), timeout_s)
        for running in list(self._running):
            running.end(Code.UNAVAILABLE, "the endpoint is stopping")
        for connection in list(self._connections):
            connection.close()
        self._is_empty.clear()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_empty.wait(), _LAST_WORDS_S)
        for connection in list(self._connections):
            connection.abort()

    # ---------------------------------------------------- what connections tell

    def joined(self, connection: Connection) -> bool:
        """Take note of a connection; False refuses it."""
        self._connections.add(connection)
        return len(self._connections) <= _MAX_CONNECTIONS

    def left(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if not self._connections:
            self._is_empty.set()

    def call_refused(self, call: Call, refusal: Refusal) -> None:
        """Answer a call whose request cannot be read."""
        name = call.route[0].name if call.route is not None else call.path[:100].decode(errors="replace")
        self._log.debug("request refused", extra={"rpc": name, "error": refusal.text})
        call.end(refusal.code, details_of(refusal.text))
        if self._observe is not None and call.route is not None:
            self._observe(name, refusal.code.name, 0.0)

    def call_begins(self, call: Call, message: bytes) -> None:
        """Begin a call whose request is there: parse, check, act, and say errors as statuses."""
        method, handler = t.cast("tuple[Method, Handler | None]", call.route)
        started = time.monotonic()
        if handler is None:
            self.call_refused(
                call, Refusal(Code.UNIMPLEMENTED, f"{method.name} is not implemented by this version")
            )
            return
        is_stream = method.is_streaming
        self._in_flight += not is_stream
        try:
            self._gate.check(method.name, self._in_flight)
            work: t.Any = handler(method.request.FromString(message))
            if is_stream:
                work = self._stream(call, work)
            elif method.name in _AT_ONCE:
                work = resumed(work, work.send(None))
        except StopIteration as done:
            self._answer(call, method, started, done.value)
        except (Exception, asyncio.CancelledError) as exc:
            self._fail(call, method, started, exc)
        else:
            running = CallTask(call, method, started, self._loop.create_task(work), self._ended)
            self._running.add(running)
            running.follow(self._loop)

    # -------------------------------------------------------------- ends of calls

    @staticmethod
    async def _stream(call: Call, answers: t.AsyncGenerator[bytes, None]) -> None:
        try:
            async with contextlib.aclosing(answers):
                async for answer in answers:
                    await call.send(answer)
        except asyncio.CancelledError as exc:
            reason = reason_of_cancel(exc)
            if reason is not None:
                raise reason from exc
            raise

    def _ended(self, running: CallTask) -> None:
        """Answer what a task has come to."""
        self._running.discard(running)
        call, method, started, task = running.call, running.method, running.started, running.task
        if task.cancelled():
            error: BaseException | None = asyncio.CancelledError()
        else:
            error = task.exception()
        if error is not None:
            self._fail(call, method, started, error)
        elif method.is_streaming:
            self._over(call, method, started, Code.OK)
        else:
            self._answer(call, method, started, task.result())

    def _answer(self, call: Call, method: Method, started: float, answer: bytes) -> None:
        if len(answer) > self.max_message:
            text = f"the answer is larger than {self.max_message} bytes (server.max_message_bytes)"
            self._over(call, method, started, Code.RESOURCE_EXHAUSTED, text)
            return
        if call.peer.unsent > self._max_unsent:
            self._over(call, method, started, Code.RESOURCE_EXHAUSTED, "the client does not read its answers")
            return
        if not (call.is_over or call.is_answered):
            call.answer(answer)
        self._over(call, method, started, Code.OK)

    def _fail(self, call: Call, method: Method, started: float, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            # Of the client, or of the daemon that ends: the first hears nothing of it.
            self._over(call, method, started, Code.UNAVAILABLE, "the endpoint is stopping")
        else:
            self._over(call, method, started, *self._status(method, error))

    def _over(self, call: Call, method: Method, started: float, code: Code, text: str = "") -> None:
        """Say how a call ended, unless somebody else did, and take note of it."""
        name = method.name
        if code is not Code.OK or method.is_streaming:
            if call.is_over and not call.is_answered:
                code = Code.CANCELLED
            call.end(code, text)
        took = time.monotonic() - started
        if not method.is_streaming:
            self._in_flight -= 1
            if not self._in_flight:
                self._is_idle.set()
            if took >= self.slow_s:
                self._log.info("slow request", extra={"rpc": name, "seconds": round(took, 3)})
        if self._observe is not None:
            self._observe(name, (call.code or code).name, took)

    def _status(self, method: Method, error: BaseException) -> tuple[Code, str]:
        """Return status and details of an error; one that nobody foresaw is logged under an id."""
        name = method.name
        if isinstance(error, DecodeError):
            text = f"the request is no {method.request.DESCRIPTOR.name}: {error}"
            return Code.INVALID_ARGUMENT, details_of(text)
        code = status_of(error)
        if is_foreseen(error):
            level = _LEVELS.get(code, logging.INFO)
            self._log.log(
                level, "request failed", extra={"rpc": name, "status": code.name, "error": str(error)}
            )
            return code, details_of(str(error))
        incident = os.urandom(4).hex()
        self._log.error("request crashed", exc_info=error, extra={"rpc": name, "incident": incident})
        text = f"internal error {incident} in {name}: {type(error).__name__}: {error}"
        return code, details_of(f"{text} (the endpoint's log has more)")
