# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speak HTTP/2 with an endpoint as its client, one call after the other, waiting for each.

The functions that the library calls belong to one connection, which keeps them; a callback keeps what went
wrong in it for the call that led to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import socket
import time
import typing as t

from pvecri.client.errors import NoEndpoint, Reason
from pvecri.rpc.nghttp2 import (
    CALLBACK_FAILURE,
    INITIAL_WINDOW_SIZE,
    LIB,
    ON_CLOSE,
    ON_DATA,
    ON_FRAME,
    ON_HEADER,
    READ,
    Headers,
    Http2Error,
    Provider,
    Setting,
    check,
)

#: What an endpoint may send unasked for: its longest answers come in few pieces.
_WINDOW: t.Final = 4 << 20
_READ_BYTES: t.Final = 1 << 18
_SETTINGS: t.Final = 4
_END_OF_DATA: t.Final = b"\x01\0\0\0"
_STARTS: t.Final = "Start it (systemctl start pvecri), or name another socket (--socket)"

#: What is said of the errors of connect(2).
_REASONS: t.Final = {
    errno.ENOENT: (Reason.MISSING, "there is no such socket", _STARTS),
    errno.ENOTDIR: (Reason.MISSING, "there is no such socket", _STARTS),
    errno.ECONNREFUSED: (Reason.REFUSED, "nobody listens on it", _STARTS),
    errno.EACCES: (Reason.DENIED, "it may not be opened", "Run this as root"),
    errno.EPERM: (Reason.DENIED, "it may not be opened", "Run this as root"),
    errno.EPROTOTYPE: (Reason.NOT_GRPC, "it is no socket of streams", "Name the endpoint's (--socket)"),
    # A non-blocking connect to a socket whose queue is full.
    errno.EAGAIN: (Reason.OTHER, "its queue is full", "Look at what the daemon does"),
}


@dataclasses.dataclass(slots=True)
class Reply:
    """What came on a stream."""

    fields: dict[bytes, bytes] = dataclasses.field(default_factory=dict)
    data: bytearray = dataclasses.field(default_factory=bytearray)
    is_closed: bool = False
    #: Error of HTTP/2 with which the stream was reset.
    error: int = 0


class Connection:
    """A connection to the endpoint at ``path``; connecting takes until ``deadline`` at most.

    Deadlines are those of time.monotonic().  Raises NoEndpoint; TimeoutError when a deadline passes.
    """

    def __init__(self, path: str, deadline: float) -> None:
        self.path = path
        self._at: int | None = None
        self._replies: dict[int, Reply] = {}
        self._body = memoryview(b"")
        self._failure: BaseException | None = None
        self._has_settings = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(deadline)
            self._begin()
        except BaseException:
            self.close()
            raise

    def _connect(self, deadline: float) -> None:
        self._wait_until(deadline)
        try:
            self._socket.connect(self.path)
        except TimeoutError:
            raise
        except OSError as exc:
            if exc.errno is None:  # a path that is too long for a socket has an error without number
                reason, text, hint = Reason.OTHER, str(exc), "Name another one (--socket)"
            else:
                reason, text, hint = _REASONS.get(exc.errno, (Reason.OTHER, str(exc.strerror), _STARTS))
            raise NoEndpoint(f"{self.path}: {text}", reason, hint=hint) from exc

    def _wait_until(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def _begin(self) -> None:
        self._kept = (
            ON_HEADER(self._on_header),
            ON_DATA(self._on_data),
            ON_CLOSE(self._on_close),
            ON_FRAME(self._on_frame),
            READ(self._on_read),
        )
        self._provider = Provider(None, self._kept[4])
        callbacks, made = ctypes.c_void_p(), ctypes.c_void_p()
        check(LIB.nghttp2_session_callbacks_new(ctypes.byref(callbacks)))
        try:
            LIB.nghttp2_session_callbacks_set_on_header_callback(callbacks, self._kept[0])
            LIB.nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, self._kept[1])
            LIB.nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, self._kept[2])
            LIB.nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, self._kept[3])
            check(LIB.nghttp2_session_client_new(ctypes.byref(made), callbacks, None))
        finally:
            LIB.nghttp2_session_callbacks_del(callbacks)
        self._at = made.value
        setting = (Setting * 1)(Setting(INITIAL_WINDOW_SIZE, _WINDOW))
        check(LIB.nghttp2_submit_settings(self._at, 0, setting, 1))
        check(LIB.nghttp2_session_set_local_window_size(self._at, 0, 0, _WINDOW))

    def close(self) -> None:
        """End the connection; the endpoint cancels what it works on for it."""
        self._socket.close()
        if self._at is not None:
            LIB.nghttp2_session_del(self._at)
            self._at = None

    def interrupt(self) -> None:
        """End the connection for whoever waits for it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    @property
    def is_usable(self) -> bool:
        """Say whether another call can be made: neither side has closed, or said that it will."""
        if self._at is None or not LIB.nghttp2_session_check_request_allowed(self._at):
            return False
        try:
            # An endpoint that stops says so while nobody asks it anything.
            self._socket.setblocking(False)
            data = self._socket.recv(_READ_BYTES)
            if data:
                self._feed(data)
        except BlockingIOError:
            pass
        except (OSError, Http2Error):
            return False
        else:
            return bool(data) and bool(LIB.nghttp2_session_check_request_allowed(self._at))
        return True

    def call(self, fields: t.Sequence[tuple[bytes, bytes]], body: bytes, deadline: float) -> Reply:
        """Send one request and return what was answered; the connection is of no use after an error."""
        self._body = memoryview(body)
        headers = Headers(fields)
        stream_id = LIB.nghttp2_submit_request(
            self._at, None, headers.array, headers.count, ctypes.addressof(self._provider), None
        )
        check(stream_id)
        reply = self._replies[stream_id] = Reply()
        try:
            while not reply.is_closed:
                self._flush(deadline)
                if not (LIB.nghttp2_session_want_read(self._at)):
                    raise self._ended("it was ended for a breach of HTTP/2")
                self._wait_until(deadline)
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    raise self._ended("the endpoint closed the connection before it had answered")
                self._feed(data)
        except TimeoutError:
            raise
        except OSError as exc:
            raise self._ended(f"the connection broke: {exc.strerror}") from exc
        except Http2Error as exc:
            raise self._ended(f"what came is no HTTP/2: {exc}") from exc
        finally:
            del self._replies[stream_id]
        return reply

    def _ended(self, text: str) -> NoEndpoint:
        if self._has_settings:
            hint = "See why the daemon ended (journalctl -u pvecri)"
            return NoEndpoint(f"{self.path}: {text}", Reason.CLOSED, hint=hint)
        return NoEndpoint(
            f"{self.path}: who listens there is no gRPC server ({text})",
            Reason.NOT_GRPC,
            hint="Name the endpoint's own socket (--socket)",
        )

    def _flush(self, deadline: float) -> None:
        out = ctypes.c_void_p()
        while (length := LIB.nghttp2_session_mem_send(self._at, ctypes.byref(out))) > 0:
            data = ctypes.string_at(out.value or 0, length)
            self._wait_until(deadline)
            self._socket.sendall(data)
        self._check(length)

    def _feed(self, data: bytes) -> None:
        self._check(LIB.nghttp2_session_mem_recv(self._at, data, len(data)))

    def _check(self, done: int) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        check(done)

    # --------------------------------------------------- what the library tells

    def _guarded(self, act: t.Callable[[], int]) -> int:
        try:
            return act()
        except BaseException as exc:
            self._failure = exc
            return CALLBACK_FAILURE

    def _on_header(
        self,
        _session: int,
        frame: int,
        name: int,
        name_length: int,
        value: int,
        length: int,
        _flags: int,
        _user: int,
    ) -> int:
        def take() -> int:
            reply = self._replies.get(int.from_bytes(ctypes.string_at(frame + 8, 4), "little"))
            if reply is not None:
                reply.fields[ctypes.string_at(name, name_length)] = ctypes.string_at(value, length)
            return 0

        return self._guarded(take)

    def _on_data(self, _session: int, _flags: int, stream_id: int, data: int, length: int, _user: int) -> int:
        def take() -> int:
            reply = self._replies.get(stream_id)
            if reply is not None:
                reply.data += ctypes.string_at(data, length)
            return 0

        return self._guarded(take)

    def _on_close(self, _session: int, stream_id: int, error: int, _user: int) -> int:
        def take() -> int:
            reply = self._replies.get(stream_id)
            if reply is not None:
                reply.is_closed, reply.error = True, error
            return 0

        return self._guarded(take)

    def _on_frame(self, _session: int, frame: int, _user: int) -> int:
        def take() -> int:
            # nghttp2_frame_hd: size_t length, int32_t stream_id, uint8_t type
            self._has_settings |= ctypes.string_at(frame + 12, 1)[0] == _SETTINGS
            return 0

        return self._guarded(take)

    def _on_read(
        self, _session: int, _stream: int, at: int, limit: int, flags: int, _source: int, _user: int
    ) -> int:
        def take() -> int:
            part, self._body = self._body[:limit], self._body[limit:]
            ctypes.memmove(at, bytes(part), len(part))
            if not self._body:
                ctypes.memmove(flags, _END_OF_DATA, 4)
            return len(part)

        return self._guarded(take)
