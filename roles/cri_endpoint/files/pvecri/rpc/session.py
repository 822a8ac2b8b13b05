# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let libnghttp2 work on one connection, and tell its owner what happens.

Lifetimes, on which no C code may be wrong:

- A session belongs to one `Session` object, which frees it once, in `close`, and never while the
  library is at work on it: a close from within a callback waits until the library has returned.
- The functions that the library calls, the table of them and the options are made once per process and
  never freed.  They find their object through ``_current``, which is set while the library works for it: it
  calls back only from within `receive` and `take`, and neither calls the other.
- No exception leaves a callback: it is kept, the callback fails, and the call that led to it raises.
- Memory that the library hands out (names, values, data, frames) is copied before the callback or call
  returns.  What is handed to it is copied by it at once, but for arrays made by `constant_headers`, which
  live as long as the process.
"""

from __future__ import annotations

import ctypes
import typing as t

from pvecri.rpc.nghttp2 import (
    CALLBACK_FAILURE,
    DATA,
    DEFERRED,
    END_STREAM,
    HEADERS,
    LIB,
    NO_COPY,
    NO_COPY_END,
    NO_ERROR,
    ON_CLOSE,
    ON_DATA,
    ON_FRAME,
    ON_HEADER,
    READ,
    SEND,
    TEMPORAL_CALLBACK_FAILURE,
    WOULDBLOCK,
    Buffer,
    Headers,
    Provider,
    Setting,
    check,
)

_string_at = ctypes.string_at
_memmove = ctypes.memmove


class Events(t.Protocol):
    """What a session tells its owner, in the order in which it happens.

    Called from within the library: nothing here may call `Session.receive`, `take` or `close`.
    """

    #: Bytes of the fields so far, each counted with 32 more: the owner sets it back for each stream, of
    #: which one with more than ``max_fields`` is refused.
    fields_size: int
    max_fields: int
    #: Most fields are of no interest; not to look at them saves a third of what it costs to read a request.
    wanted_lengths: t.Container[int]

    def on_open(self, stream_id: int) -> None:
        """Note that a peer's stream begins, or sends trailers: its fields follow."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field whose name is as long as one that is wanted."""

    def on_headers_end(self, stream_id: int, is_end: bool) -> None:
        """Note that all fields are there, and maybe the end of the stream."""

    def on_data(self, stream_id: int, data: bytes) -> None:
        """Take a part of a stream's data."""

    def on_end(self, stream_id: int) -> None:
        """Note that the peer sends no more on a stream."""

    def on_close(self, stream_id: int, error: int) -> None:
        """Forget a stream: it was answered, or reset by either side."""

    def measure(self, stream_id: int, limit: int) -> tuple[int, Headers | None] | None:
        """Return how many bytes to send, and with the last ones the trailers; None: not yet."""

    def read(self, stream_id: int, length: int, parts: list[Buffer]) -> None:
        """Append so many bytes, which `measure` has promised."""


_mem_recv = LIB.nghttp2_session_mem_recv
_mem_send = LIB.nghttp2_session_mem_send
_submit_response = LIB.nghttp2_submit_response
_submit_trailer = LIB.nghttp2_submit_trailer

#: Whose session the library works on at this moment, and what its callbacks could not do.
_current: t.Any = None
_failure: BaseException | None = None


class _Output:
    """What the session that is asked for it has put out so far, and how much more data it may."""

    __slots__ = ("parts", "room")

    def __init__(self) -> None:
        self.parts: list[Buffer] = []
        self.room = 0


_output = _Output()


def _callback(kind: t.Any) -> t.Callable[[t.Callable[..., int]], t.Any]:
    """Make a function one that C can call; the name that it is bound to keeps it alive."""

    def made(function: t.Callable[..., int]) -> t.Any:
        return kind(function)

    return made


def _failed(error: BaseException) -> int:
    global _failure  # noqa: PLW0603 - the library's functions have no other way to their caller
    _failure = error
    return CALLBACK_FAILURE


@_callback(ON_FRAME)
def _begin_headers(_session: int, frame: int, _user: int | None) -> int:
    try:
        _current.on_open(int.from_bytes(_string_at(frame + 8, 4), "little"))
    except BaseException as exc:
        return _failed(exc)
    return 0


@_callback(ON_HEADER)
def _header(
    _session: int, _frame: int, name: int, name_length: int, value: int, length: int, _flags: int, _user: None
) -> int:
    try:
        events = _current
        events.fields_size = size = events.fields_size + name_length + length + 32
        if size > events.max_fields:
            return TEMPORAL_CALLBACK_FAILURE
        if name_length in events.wanted_lengths:
            events.on_header(_string_at(name, name_length), _string_at(value, length))
    except BaseException as exc:
        return _failed(exc)
    return 0


@_callback(ON_FRAME)
def _frame(_session: int, frame: int, _user: int | None) -> int:
    try:
        # nghttp2_frame_hd: size_t length, int32_t stream_id, uint8_t type, uint8_t flags
        head = _string_at(frame + 8, 6)
        kind = head[4]
        if kind == DATA:
            if head[5] & END_STREAM:
                _current.on_end(int.from_bytes(head[:4], "little"))
        elif kind == HEADERS:
            _current.on_headers_end(int.from_bytes(head[:4], "little"), bool(head[5] & END_STREAM))
    except BaseException as exc:
        return _failed(exc)
    return 0


@_callback(ON_DATA)
def _data(_session: int, _flags: int, stream_id: int, data: int, length: int, _user: int | None) -> int:
    try:
        _current.on_data(stream_id, _string_at(data, length))
    except BaseException as exc:
        return _failed(exc)
    return 0


@_callback(ON_CLOSE)
def _close(_session: int, stream_id: int, error: int, _user: int | None) -> int:
    try:
        _current.on_close(stream_id, error)
    except BaseException as exc:
        return _failed(exc)
    return 0


@_callback(READ)
def _measure(session: int, stream_id: int, _at: int, limit: int, flags: int, _src: int, _user: None) -> int:
    try:
        found = _current.measure(stream_id, limit)
        if found is None:
            return DEFERRED
        size, trailers = found
        if trailers is None:
            _memmove(flags, NO_COPY, 4)
        else:
            _memmove(flags, NO_COPY_END, 4)
            _submit_trailer(session, stream_id, trailers.array, trailers.count)
    except BaseException as exc:
        return _failed(exc)
    return t.cast(int, size)


@_callback(SEND)
def _send(_session: int, frame: int, head: int, length: int, _source: int, _user: None) -> int:
    try:
        if _output.room <= 0:
            return WOULDBLOCK
        _output.room -= length
        _output.parts.append(_string_at(head, 9))
        if length:
            _current.read(int.from_bytes(_string_at(frame + 8, 4), "little"), length, _output.parts)
    except BaseException as exc:
        return _failed(exc)
    return 0


_PROVIDER: t.Final = Provider(None, _measure)
_PROVIDER_AT: t.Final = ctypes.addressof(_PROVIDER)


def _callbacks() -> int:
    made = ctypes.c_void_p()
    check(LIB.nghttp2_session_callbacks_new(ctypes.byref(made)))
    for name, function in (
        ("begin_headers", _begin_headers),
        ("header", _header),
        ("frame_recv", _frame),
        ("data_chunk_recv", _data),
        ("stream_close", _close),
    ):
        getattr(LIB, f"nghttp2_session_callbacks_set_on_{name}_callback")(made, function)
    LIB.nghttp2_session_callbacks_set_send_data_callback(made, _send)
    return t.cast(int, made.value)


def _options() -> int:
    made = ctypes.c_void_p()
    check(LIB.nghttp2_option_new(ctypes.byref(made)))
    # Closed streams are otherwise kept for their place in a tree of priorities that nobody uses.
    LIB.nghttp2_option_set_no_closed_streams(made, 1)
    return t.cast(int, made.value)


_CALLBACKS: t.Final = _callbacks()
_OPTIONS: t.Final = _options()


class Session:
    """The server's side of one connection."""

    __slots__ = ("_at", "_events", "_is_closed", "_is_inside", "_out", "_out_at")

    def __init__(self, events: Events, settings: t.Mapping[int, int], window: int) -> None:
        """Begin with the settings; ``window`` is how much a peer may send on all its streams unheard."""
        made = ctypes.c_void_p()
        check(LIB.nghttp2_session_server_new2(ctypes.byref(made), _CALLBACKS, None, _OPTIONS))
        self._at = made.value
        self._events = events
        self._is_inside = self._is_closed = False
        self._out = ctypes.c_void_p()
        self._out_at = ctypes.addressof(self._out)
        array = (Setting * len(settings))(*(Setting(*pair) for pair in settings.items()))
        check(LIB.nghttp2_submit_settings(self._at, 0, array, len(settings)))
        check(LIB.nghttp2_session_set_local_window_size(self._at, 0, 0, window))

    def receive(self, data: bytes) -> None:
        """Take what came from the peer; raises Http2Error when the connection cannot go on."""
        if self._is_closed:
            return
        self._begin_work()
        try:
            self._check_work(_mem_recv(self._at, data, len(data)))
        finally:
            self._end_work()

    def take(self, limit: int) -> tuple[list[Buffer], int]:
        """Return what is to be sent now, and its length: not much more than ``limit``."""
        parts: list[Buffer] = []
        size = 0
        if self._is_closed:
            return parts, size
        _output.parts, _output.room = parts, limit
        session, out, at = self._at, self._out, self._out_at
        self._begin_work()
        try:
            while size < limit and (length := _mem_send(session, at)) > 0:
                parts.append(_string_at(out.value or 0, length))
                size += length
            if size < limit:
                self._check_work(length)
            return parts, size + limit - _output.room
        finally:
            self._end_work()
            _output.parts = []

    def _begin_work(self) -> None:
        global _current  # noqa: PLW0603
        _current = self._events
        self._is_inside = True

    def _end_work(self) -> None:
        global _current  # noqa: PLW0603
        _current = None
        self._is_inside = False

    @staticmethod
    def _check_work(done: int) -> None:
        """Raise what a callback could not, or what the library says was wrong."""
        global _failure
        if _failure is not None:
            error, _failure = _failure, None
            raise error
        if done < 0:
            check(done)

    @property
    def is_over(self) -> bool:
        """Say whether the peer has nothing to say any more; ask when all that was to be sent is taken."""
        return self._is_closed or not LIB.nghttp2_session_want_read(self._at)

    @property
    def queued(self) -> int:
        """Frames that wait to be taken."""
        return 0 if self._is_closed else int(LIB.nghttp2_session_get_outbound_queue_size(self._at))

    def respond(self, stream_id: int, headers: Headers, *, has_data: bool) -> None:
        """Answer a stream; its data is asked for with `Events.read`, without data it ends."""
        if not self._is_closed:
            provider = _PROVIDER_AT if has_data else None
            _submit_response(self._at, stream_id, headers.array, headers.count, provider)

    def resume(self, stream_id: int) -> None:
        """Ask again for data that was not there yet."""
        if not self._is_closed:
            LIB.nghttp2_session_resume_data(self._at, stream_id)

    def go_away(self) -> None:
        """Take no more streams; those that the peer has begun go on."""
        if not self._is_closed:
            last = LIB.nghttp2_session_get_last_proc_stream_id(self._at)
            LIB.nghttp2_submit_goaway(self._at, 0, last, NO_ERROR, None, 0)

    def close(self) -> None:
        """Free the session; it does nothing any more afterwards."""
        if self._is_inside:
            raise RuntimeError("a session cannot be closed from within a callback")
        if not self._is_closed:
            self._is_closed = True
            LIB.nghttp2_session_del(self._at)
            self._at = None

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            self.close()
