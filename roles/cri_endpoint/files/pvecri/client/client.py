# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call methods of the CRI and wait for their answers (grpc/doc/PROTOCOL-HTTP2.md).

    with Client("/run/pvecri/pvecri.sock") as client:
        client.call(pb.StopContainerRequest(container_id=container_id), timeout_s=30)

For commands that run beside the daemon; a client belongs to one thread.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
import urllib.parse

from google.protobuf.message import DecodeError, Message

from pvecri.api.methods import METHODS, Method
from pvecri.client.connection import Connection, Reply
from pvecri.client.errors import CallFailed, NoEndpoint, Reason
from pvecri.rpc.status import Code

DEFAULT_TIMEOUT_S: t.Final = 60.0

_PREFIX: t.Final = 5
#: The most that a grpc-timeout of milliseconds can say: eight digits.
_MAX_TIMEOUT_MS: t.Final = 99_999_999
_BY_REQUEST: t.Final = {method.request: method for method in METHODS.values() if not method.is_streaming}


class Client:
    """A client of the endpoint on a socket; connects with the first call, and again when it must."""

    def __init__(self, socket_path: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.socket_path = socket_path
        self.timeout_s = timeout_s
        self._connection: Connection | None = None

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; the next call makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def interrupt(self) -> None:
        """Let the call that is under way fail with NoEndpoint; may be called by a handler of signals.

        Nothing may be raised there: a callback of the library would lose it.
        """
        if self._connection is not None:
            self._connection.interrupt()

    def call(self, request: Message, *, timeout_s: float | None = None) -> t.Any:
        """Send a request to the method that takes it and return the response.

        Raises NoEndpoint, and CallFailed with the status; that is DEADLINE_EXCEEDED when ``timeout_s``
        have passed.  What the endpoint had begun by then goes on, and the same call again joins it.
        """
        method = _BY_REQUEST[type(request)]
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        try:
            reply = self._exchange(method, request.SerializeToString(), time.monotonic() + limit_s)
        except TimeoutError as exc:
            self.close()
            text = f"no answer came within {limit_s:g} s"
            raise CallFailed(method.name, Code.DEADLINE_EXCEEDED, text) from exc
        except BaseException:
            self.close()
            raise
        return self._answer(method, reply)

    def _exchange(self, method: Method, message: bytes, deadline: float) -> Reply:
        if self._connection is not None and not self._connection.is_usable:
            self.close()
        if self._connection is None:
            self._connection = Connection(self.socket_path, deadline)
        left_ms = min(max(1, int((deadline - time.monotonic()) * 1000)), _MAX_TIMEOUT_MS)
        fields = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", method.path.encode()),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"grpc-timeout", b"%dm" % left_ms),
        )
        return self._connection.call(fields, b"\0" + len(message).to_bytes(4, "big") + message, deadline)

    def _answer(self, method: Method, reply: Reply) -> t.Any:
        number = reply.fields.get(b"grpc-status", b"")
        if not number.isdigit():
            raise self._no_answer(method, reply)
        try:
            status = Code(int(number))
        except ValueError:
            status = Code.UNKNOWN
        if status is not Code.OK:
            text = urllib.parse.unquote(reply.fields.get(b"grpc-message", b"").decode(errors="replace"))
            raise CallFailed(method.name, status, text)
        response = method.response()
        data = bytes(reply.data)
        if (
            len(data) >= _PREFIX
            and data[0] == 0
            and int.from_bytes(data[1:_PREFIX], "big") == len(data) - _PREFIX
        ):
            with contextlib.suppress(DecodeError):
                response.ParseFromString(data[_PREFIX:])
                return response
        raise CallFailed(
            method.name, Code.INTERNAL, f"its {len(data)} bytes are no {method.response.__name__}"
        )

    def _no_answer(self, method: Method, reply: Reply) -> NoEndpoint:
        status = reply.fields.get(b":status", b"").decode(errors="replace")
        what = f"HTTP status {status}" if status else f"a reset stream (error {reply.error})"
        return NoEndpoint(
            f"{self.socket_path}: {method.name} was answered by {what} and no gRPC status",
            Reason.NOT_GRPC,
            hint="Name the endpoint's own socket (--socket)",
        )
