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
import time
import typing as t

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from pvecri.api.methods import METHODS, Method
from pvecri.config.model import ServerConfig
from pvecri.rpc.errors import details_of, is_foreseen, reason_of_cancel, status_of
from pvecri.rpc.gate import Gate

Unary = t.Callable[[t.Any], t.Awaitable[bytes]]
Streaming = t.Callable[[t.Any], t.AsyncIterator[bytes]]
Handler = Unary | Streaming
Context = t.Any


#: How severe the failures are that say more or less of the endpoint than of the request.
_LEVELS: t.Final = {
    grpc.StatusCode.INTERNAL: logging.WARNING,
    grpc.StatusCode.RESOURCE_EXHAUSTED: logging.WARNING,
    grpc.StatusCode.NOT_FOUND: logging.DEBUG,
    grpc.StatusCode.UNAVAILABLE: logging.DEBUG,
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
    ) -> None:
        """Set up; must be called where the event loop runs."""
        self._config = config
        self._gate = gate
        self._log = log
        self._in_flight = 0
        self._is_idle = asyncio.Event()
        #: Seconds from which on a request is logged.
        self.slow_s = slow_s
        self._server = grpc.aio.server(
            # Not maximum_concurrent_rpcs: what is above it would wait, and Version with it.
            options=(
                ("grpc.max_concurrent_streams", 2 * config.max_concurrent_rpcs),
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", config.max_message_bytes),
                ("grpc.so_reuseport", 0),
            ),
        )
        self._register(handlers)

    async def start(self, socket: str) -> None:
        """Listen on a path, which must not exist, and begin to answer."""
        self._server.add_insecure_port(f"unix:{socket}")
        await self._server.start()

    async def stop(self, timeout_s: float) -> None:
        """Wait for the requests in flight, ``timeout_s`` seconds at most, and end.

        The gate keeps new ones out.  gRPC's own grace would also wait for clients that hold
        a connection and ask for nothing.
        """
        self._is_idle.clear()
        if self._in_flight:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), timeout_s)
        await self._server.stop(None)

    def _register(self, handlers: t.Mapping[str, Handler]) -> None:
        unknown = set(handlers) - set(METHODS)
        if unknown:
            raise ValueError(f"the CRI has no methods {sorted(unknown)}")
        services: dict[str, dict[str, t.Any]] = {}
        for method in METHODS.values():
            make = (
                grpc.unary_stream_rpc_method_handler
                if method.is_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            handler = handlers.get(method.name)
            behaviour: t.Any
            if handler is None:
                behaviour = _unimplemented(method)
            elif method.is_streaming:
                behaviour = self._streaming(method, t.cast("Streaming", handler))
            else:
                behaviour = self._behaviour(method, t.cast("Unary", handler))
            name = method.path.split("/")[1]
            services.setdefault(name, {})[method.name] = make(behaviour)
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, found) for name, found in services.items()]
        )

    def _behaviour(
        self, method: Method, handler: Unary
    ) -> t.Callable[[bytes, Context], t.Awaitable[bytes]]:
        """Return what gRPC calls for a method: parse, check, act, and say errors as statuses."""
        name = method.name
        parse = method.request.FromString
        gate, clock = self._gate, time.monotonic

        async def call(data: bytes, context: Context) -> bytes:
            started = clock()
            self._in_flight += 1
            try:
                gate.check(name, self._in_flight)
                return await handler(parse(data))
            except asyncio.CancelledError:
                raise
            except Exception as exc:
                await context.abort(*self._status(method, exc))
            finally:
                self._in_flight -= 1
                if not self._in_flight:
                    self._is_idle.set()
                took = clock() - started
                if took >= self.slow_s:
                    self._log.info("slow request", extra={"rpc": name, "seconds": round(took, 3)})
            raise AssertionError("abort always raises")

        return call

    def _streaming(
        self, method: Method, handler: Streaming
    ) -> t.Callable[[bytes, Context], t.AsyncIterator[bytes]]:
        """Return what gRPC calls for a method that streams.

        Streams last as long as their clients please: they count neither as requests in flight nor as slow.
        """
        parse = method.request.FromString

        async def stream(data: bytes, context: Context) -> t.AsyncIterator[bytes]:
            try:
                self._gate.check(method.name, self._in_flight)
                async for answer in handler(parse(data)):
                    yield answer
            except asyncio.CancelledError as exc:
                reason = reason_of_cancel(exc)
                if reason is None:
                    raise
                await context.abort(*self._status(method, reason))
            except Exception as exc:
                await context.abort(*self._status(method, exc))

        return stream

    def _status(self, method: Method, error: Exception) -> tuple[grpc.StatusCode, str]:
        """Return status and details of an error; one that nobody foresaw is logged under an id."""
        name = method.name
        if isinstance(error, DecodeError):
            text = f"the request is no {method.request.DESCRIPTOR.name}: {error}"
            return grpc.StatusCode.INVALID_ARGUMENT, details_of(text)
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


def _unimplemented(method: Method) -> t.Callable[[bytes, Context], t.Any]:
    text = f"{method.name} is not implemented by this version"

    async def refuse(_request: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, text)
        raise AssertionError("abort always raises")

    async def refuse_stream(_request: bytes, context: Context) -> t.AsyncIterator[bytes]:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, text)
        yield b""

    return refuse_stream if method.is_streaming else refuse
