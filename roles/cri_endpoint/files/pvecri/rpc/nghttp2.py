# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bind what is needed of libnghttp2, which does HTTP/2: frames, HPACK, flow control, defence.

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

Calls keep the interpreter's lock (PyDLL): each takes microseconds, and to give the lock away and wait for
it again at every callback would cost more than all else.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import typing as t

LIBRARY: t.Final = "libnghttp2.so.14"

#: Kinds of frames and flags (RFC 9113, section 6).
DATA, HEADERS = 0, 1
END_STREAM: t.Final = 0x1
#: Reasons of a reset or an end (RFC 9113, section 7).
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 1, 2, 7, 8
ENHANCE_YOUR_CALM: t.Final = 11
#: Settings (RFC 9113, section 6.5.2).
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE = 3, 4, 6

_WOULDBLOCK: t.Final = -504
_DEFERRED: t.Final = -508
_TEMPORAL_CALLBACK_FAILURE: t.Final = -521
_CALLBACK_FAILURE: t.Final = -902
#: Names and values are not copied, and a value may go into the table of the compression.
_NV_NO_COPY: t.Final = 0x02 | 0x04
#: For the flags of a data provider: the data is not copied into the frame; and it ends, but not the stream.
_NO_COPY, _NO_COPY_END = b"\x04\0\0\0", b"\x07\0\0\0"

_P = ctypes.c_void_p
_SIZE = ctypes.c_size_t
_ON_FRAME = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P, _P)
_ON_HEADER = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P, _P, _SIZE, _P, _SIZE, ctypes.c_uint8, _P)
_ON_DATA = ctypes.CFUNCTYPE(ctypes.c_int, _P, ctypes.c_uint8, ctypes.c_int32, _P, _SIZE, _P)
_ON_CLOSE = ctypes.CFUNCTYPE(ctypes.c_int, _P, ctypes.c_int32, ctypes.c_uint32, _P)
_READ = ctypes.CFUNCTYPE(ctypes.c_ssize_t, _P, ctypes.c_int32, _P, _SIZE, _P, _P, _P)
_SEND = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P, _P, _SIZE, _P, _P)

_string_at = ctypes.string_at
_memmove = ctypes.memmove


class _Pair(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("value", ctypes.c_char_p),
        ("name_length", _SIZE),
        ("value_length", _SIZE),
        ("flags", ctypes.c_uint8),
    )


class _Setting(ctypes.Structure):
    _fields_ = (("key", ctypes.c_int32), ("value", ctypes.c_uint32))


class _Provider(ctypes.Structure):
    _fields_ = (("source", _P), ("read", _READ))


class _Info(ctypes.Structure):
    _fields_ = (("age", ctypes.c_int), ("number", ctypes.c_int), ("text", ctypes.c_char_p))


class Headers:
    """An array of header fields as the library takes it."""

    __slots__ = ("array", "count", "pairs")

    def __init__(self, pairs: t.Sequence[tuple[bytes, bytes]], flags: int = 0) -> None:
        self.pairs = tuple(pairs)  # the array points into these
        self.count = len(self.pairs)
        self.array = (_Pair * self.count)(
            *(_Pair(name, value, len(name), len(value), flags) for name, value in self.pairs)
        )


_constants: list[Headers] = []


def constant_headers(*pairs: tuple[bytes, bytes]) -> Headers:
    """Return fields that are sent again and again: they are never copied, and never freed."""
    headers = Headers(pairs, _NV_NO_COPY)
    _constants.append(headers)
    return headers


class Http2Error(Exception):
    """Raise when a connection cannot go on."""


Buffer = bytes | memoryview


def version() -> str:
    """Return the version of the library."""
    info = _lib.nghttp2_version(0)
    return t.cast(bytes, info.contents.text).decode()


class Events(t.Protocol):
    """What a session tells its owner, in the order in which it happens.

    Called from within the library: nothing here may call `Session.receive`, `take` or `close`.
    """

    def on_open(self, stream_id: int) -> None:
        """Note that a peer's stream begins, or sends trailers: its fields follow."""

    def on_header(self, name: bytes, value: bytes) -> bool:
        """Take a header field; False refuses the stream."""

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


def _load() -> ctypes.PyDLL:
    lib = ctypes.PyDLL(LIBRARY)
    for name, result, arguments in (
        ("session_callbacks_new", ctypes.c_int, (_P,)),
        ("session_callbacks_set_on_begin_headers_callback", None, (_P, _ON_FRAME)),
        ("session_callbacks_set_on_header_callback", None, (_P, _ON_HEADER)),
        ("session_callbacks_set_on_frame_recv_callback", None, (_P, _ON_FRAME)),
        ("session_callbacks_set_on_data_chunk_recv_callback", None, (_P, _ON_DATA)),
        ("session_callbacks_set_on_stream_close_callback", None, (_P, _ON_CLOSE)),
        ("session_callbacks_set_send_data_callback", None, (_P, _SEND)),
        ("option_new", ctypes.c_int, (_P,)),
        ("option_set_no_closed_streams", None, (_P, ctypes.c_int)),
        ("session_server_new2", ctypes.c_int, (_P, _P, _P, _P)),
        ("session_del", None, (_P,)),
        ("session_mem_recv", ctypes.c_ssize_t, (_P, ctypes.c_char_p, _SIZE)),
        ("session_mem_send", ctypes.c_ssize_t, (_P, _P)),
        ("session_want_read", ctypes.c_int, (_P,)),
        ("session_want_write", ctypes.c_int, (_P,)),
        ("session_get_outbound_queue_size", _SIZE, (_P,)),
        ("session_set_local_window_size", ctypes.c_int, (_P, ctypes.c_uint8, ctypes.c_int32, ctypes.c_int32)),
        ("session_get_last_proc_stream_id", ctypes.c_int32, (_P,)),
        ("session_resume_data", ctypes.c_int, (_P, ctypes.c_int32)),
        ("submit_settings", ctypes.c_int, (_P, ctypes.c_uint8, _P, _SIZE)),
        ("submit_response", ctypes.c_int, (_P, ctypes.c_int32, _P, _SIZE, _P)),
        ("submit_trailer", ctypes.c_int, (_P, ctypes.c_int32, _P, _SIZE)),
        ("submit_rst_stream", ctypes.c_int, (_P, ctypes.c_uint8, ctypes.c_int32, ctypes.c_uint32)),
        ("submit_goaway", ctypes.c_int, (_P, ctypes.c_uint8, ctypes.c_int32, ctypes.c_uint32, _P, _SIZE)),
        ("strerror", ctypes.c_char_p, (ctypes.c_int,)),
        ("version", ctypes.POINTER(_Info), (ctypes.c_int,)),
    ):
        function = getattr(lib, f"nghttp2_{name}")
        function.restype, function.argtypes = result, arguments
    return lib


_lib = _load()
_mem_recv = _lib.nghttp2_session_mem_recv
_mem_send = _lib.nghttp2_session_mem_send
_submit_response = _lib.nghttp2_submit_response
_submit_trailer = _lib.nghttp2_submit_trailer

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
    return _CALLBACK_FAILURE


@_callback(_ON_FRAME)
def _begin_headers(_session: int, frame: int, _user: int | None) -> int:
    try:
        _current.on_open(int.from_bytes(_string_at(frame + 8, 4), "little"))
    except BaseException as exc:
        return _failed(exc)
    return 0


@_callback(_ON_HEADER)
def _header(
    _session: int, _frame: int, name: int, name_length: int, value: int, length: int, _flags: int, _user: None
) -> int:
    try:
        if not _current.on_header(_string_at(name, name_length), _string_at(value, length)):
            return _TEMPORAL_CALLBACK_FAILURE
    except BaseException as exc:
        return _failed(exc)
    return 0


@_callback(_ON_FRAME)
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


@_callback(_ON_DATA)
def _data(_session: int, _flags: int, stream_id: int, data: int, length: int, _user: int | None) -> int:
    try:
        _current.on_data(stream_id, _string_at(data, length))
    except BaseException as exc:
        return _failed(exc)
    return 0


@_callback(_ON_CLOSE)
def _close(_session: int, stream_id: int, error: int, _user: int | None) -> int:
    try:
        _current.on_close(stream_id, error)
    except BaseException as exc:
        return _failed(exc)
    return 0


@_callback(_READ)
def _measure(session: int, stream_id: int, _at: int, limit: int, flags: int, _src: int, _user: None) -> int:
    try:
        found = _current.measure(stream_id, limit)
        if found is None:
            return _DEFERRED
        size, trailers = found
        if trailers is None:
            _memmove(flags, _NO_COPY, 4)
        else:
            _memmove(flags, _NO_COPY_END, 4)
            _submit_trailer(session, stream_id, trailers.array, trailers.count)
    except BaseException as exc:
        return _failed(exc)
    return t.cast(int, size)


@_callback(_SEND)
def _send(_session: int, frame: int, head: int, length: int, _source: int, _user: None) -> int:
    try:
        if _output.room <= 0:
            return _WOULDBLOCK
        _output.room -= length
        _output.parts.append(_string_at(head, 9))
        if length:
            _current.read(int.from_bytes(_string_at(frame + 8, 4), "little"), length, _output.parts)
    except BaseException as exc:
        return _failed(exc)
    return 0


_PROVIDER: t.Final = _Provider(None, _measure)
_PROVIDER_AT: t.Final = ctypes.addressof(_PROVIDER)


def _callbacks() -> int:
    made = ctypes.c_void_p()
    _check(_lib.nghttp2_session_callbacks_new(ctypes.byref(made)))
    for name, function in (
        ("begin_headers", _begin_headers),
        ("header", _header),
        ("frame_recv", _frame),
        ("data_chunk_recv", _data),
        ("stream_close", _close),
    ):
        getattr(_lib, f"nghttp2_session_callbacks_set_on_{name}_callback")(made, function)
    _lib.nghttp2_session_callbacks_set_send_data_callback(made, _send)
    return t.cast(int, made.value)


def _options() -> int:
    made = ctypes.c_void_p()
    _check(_lib.nghttp2_option_new(ctypes.byref(made)))
    # Closed streams are otherwise kept for their place in a tree of priorities that nobody uses.
    _lib.nghttp2_option_set_no_closed_streams(made, 1)
    return t.cast(int, made.value)


def _check(code: int) -> None:
    if code < 0:
        raise Http2Error(_lib.nghttp2_strerror(code).decode())


_CALLBACKS: t.Final = _callbacks()
_OPTIONS: t.Final = _options()


class Session:
    """The server's side of one connection."""

    __slots__ = ("_at", "_events", "_is_closed", "_is_inside", "_out")

    def __init__(self, events: Events, settings: t.Mapping[int, int], window: int) -> None:
        """Begin with the settings; ``window`` is how much a peer may send on all its streams unheard."""
        made = ctypes.c_void_p()
        _check(_lib.nghttp2_session_server_new2(ctypes.byref(made), _CALLBACKS, None, _OPTIONS))
        self._at = made.value
        self._events = events
        self._is_inside = self._is_closed = False
        self._out = ctypes.c_void_p()
        array = (_Setting * len(settings))(*(_Setting(*pair) for pair in settings.items()))
        _check(_lib.nghttp2_submit_settings(self._at, 0, array, len(settings)))
        _check(_lib.nghttp2_session_set_local_window_size(self._at, 0, 0, window))

    def receive(self, data: bytes) -> None:
        """Take what came from the peer; raises Http2Error when the connection cannot go on."""
        if self._is_closed:
            return
        self._work(_mem_recv, data, len(data))

    def take(self, limit: int) -> tuple[list[Buffer], int]:
        """Return what is to be sent now, and its length: not much more than ``limit``."""
        parts: list[Buffer] = []
        size = 0
        if self._is_closed:
            return parts, size
        _output.parts, _output.room = parts, limit
        at = ctypes.byref(self._out)
        try:
            while size < limit and (length := self._work(_mem_send, at)) > 0:
                parts.append(_string_at(self._out.value or 0, length))
                size += length
            return parts, size + limit - _output.room
        finally:
            _output.parts = []

    def _work(self, function: t.Callable[..., int], *arguments: t.Any) -> int:
        global _current, _failure  # noqa: PLW0603
        _current = self._events
        self._is_inside = True
        try:
            done = function(self._at, *arguments)
        finally:
            self._is_inside = False
            _current = None
        if _failure is not None:
            error, _failure = _failure, None
            raise error
        if done < 0:
            _check(done)
        return done

    @property
    def is_over(self) -> bool:
        """Say whether neither side has anything to say any more."""
        return self._is_closed or not (
            _lib.nghttp2_session_want_read(self._at) or _lib.nghttp2_session_want_write(self._at)
        )

    @property
    def queued(self) -> int:
        """Frames that wait to be taken."""
        return 0 if self._is_closed else int(_lib.nghttp2_session_get_outbound_queue_size(self._at))

    def respond(self, stream_id: int, headers: Headers, *, has_data: bool) -> None:
        """Answer a stream; its data is asked for with `Events.read`, without data it ends."""
        if not self._is_closed:
            provider = _PROVIDER_AT if has_data else None
            _submit_response(self._at, stream_id, headers.array, headers.count, provider)

    def resume(self, stream_id: int) -> None:
        """Ask again for data that was not there yet."""
        if not self._is_closed:
            _lib.nghttp2_session_resume_data(self._at, stream_id)

    def go_away(self, error: int = NO_ERROR) -> None:
        """Take no more streams; those that the peer has begun go on."""
        if not self._is_closed:
            last = _lib.nghttp2_session_get_last_proc_stream_id(self._at)
            _lib.nghttp2_submit_goaway(self._at, 0, last, error, None, 0)

    def close(self) -> None:
        """Free the session; it does nothing any more afterwards."""
        if self._is_inside:
            raise RuntimeError("a session cannot be closed from within a callback")
        if not self._is_closed:
            self._is_closed = True
            _lib.nghttp2_session_del(self._at)
            self._at = None

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            self.close()
