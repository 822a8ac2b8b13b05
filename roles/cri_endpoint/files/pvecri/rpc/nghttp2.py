# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bind what is needed of libnghttp2, which does HTTP/2: frames, HPACK, flow control, defence.

Calls keep the interpreter's lock (PyDLL): each takes microseconds, and to give the lock away and wait for
it again at every callback would cost more than all else.  `session` says who keeps what alive.
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
NO_ERROR, INTERNAL_ERROR = 0, 2
#: Settings (RFC 9113, section 6.5.2).
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE = 3, 4, 6

WOULDBLOCK: t.Final = -504
DEFERRED: t.Final = -508
TEMPORAL_CALLBACK_FAILURE: t.Final = -521
CALLBACK_FAILURE: t.Final = -902
#: Names and values are not copied, and a value may go into the table of the compression.
_NV_NO_COPY: t.Final = 0x02 | 0x04
#: For the flags of a data provider: the data is not copied into the frame; and it ends, but not the stream.
NO_COPY, NO_COPY_END = b"\x04\0\0\0", b"\x07\0\0\0"

_P = ctypes.c_void_p
_SIZE = ctypes.c_size_t
ON_FRAME = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P, _P)
ON_HEADER = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P, _P, _SIZE, _P, _SIZE, ctypes.c_uint8, _P)
ON_DATA = ctypes.CFUNCTYPE(ctypes.c_int, _P, ctypes.c_uint8, ctypes.c_int32, _P, _SIZE, _P)
ON_CLOSE = ctypes.CFUNCTYPE(ctypes.c_int, _P, ctypes.c_int32, ctypes.c_uint32, _P)
READ = ctypes.CFUNCTYPE(ctypes.c_ssize_t, _P, ctypes.c_int32, _P, _SIZE, _P, _P, _P)
SEND = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P, _P, _SIZE, _P, _P)


class _Pair(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("value", ctypes.c_char_p),
        ("name_length", _SIZE),
        ("value_length", _SIZE),
        ("flags", ctypes.c_uint8),
    )


class Setting(ctypes.Structure):
    """nghttp2_settings_entry."""

    _fields_ = (("key", ctypes.c_int32), ("value", ctypes.c_uint32))


class Provider(ctypes.Structure):
    """nghttp2_data_provider."""

    _fields_ = (("source", _P), ("read", READ))


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
    info = LIB.nghttp2_version(0)
    return t.cast(bytes, info.contents.text).decode()


def _load() -> ctypes.PyDLL:
    lib = ctypes.PyDLL(LIBRARY)
    for name, result, arguments in (
        ("session_callbacks_new", ctypes.c_int, (_P,)),
        ("session_callbacks_del", None, (_P,)),
        ("session_callbacks_set_on_begin_headers_callback", None, (_P, ON_FRAME)),
        ("session_callbacks_set_on_header_callback", None, (_P, ON_HEADER)),
        ("session_callbacks_set_on_frame_recv_callback", None, (_P, ON_FRAME)),
        ("session_callbacks_set_on_data_chunk_recv_callback", None, (_P, ON_DATA)),
        ("session_callbacks_set_on_stream_close_callback", None, (_P, ON_CLOSE)),
        ("session_callbacks_set_send_data_callback", None, (_P, SEND)),
        ("option_new", ctypes.c_int, (_P,)),
        ("option_set_no_closed_streams", None, (_P, ctypes.c_int)),
        ("session_server_new2", ctypes.c_int, (_P, _P, _P, _P)),
        ("session_client_new", ctypes.c_int, (_P, _P, _P)),
        ("session_del", None, (_P,)),
        ("session_mem_recv", ctypes.c_ssize_t, (_P, ctypes.c_char_p, _SIZE)),
        ("session_mem_send", ctypes.c_ssize_t, (_P, _P)),
        ("session_want_read", ctypes.c_int, (_P,)),
        ("session_check_request_allowed", ctypes.c_int, (_P,)),
        ("session_get_outbound_queue_size", _SIZE, (_P,)),
        ("session_set_local_window_size", ctypes.c_int, (_P, ctypes.c_uint8, ctypes.c_int32, ctypes.c_int32)),
        ("session_get_last_proc_stream_id", ctypes.c_int32, (_P,)),
        ("session_resume_data", ctypes.c_int, (_P, ctypes.c_int32)),
        ("submit_settings", ctypes.c_int, (_P, ctypes.c_uint8, _P, _SIZE)),
        ("submit_request", ctypes.c_int32, (_P, _P, _P, _SIZE, _P, _P)),
        ("submit_response", ctypes.c_int, (_P, ctypes.c_int32, _P, _SIZE, _P)),
        ("submit_trailer", ctypes.c_int, (_P, ctypes.c_int32, _P, _SIZE)),
        ("submit_goaway", ctypes.c_int, (_P, ctypes.c_uint8, ctypes.c_int32, ctypes.c_uint32, _P, _SIZE)),
        ("strerror", ctypes.c_char_p, (ctypes.c_int,)),
        ("version", ctypes.POINTER(_Info), (ctypes.c_int,)),
    ):
        function = getattr(lib, f"nghttp2_{name}")
        function.restype, function.argtypes = result, arguments
    return lib


LIB = _load()


def check(code: int) -> None:
    """Raise Http2Error for a code that stands for a failure."""
    if code < 0:
        raise Http2Error(LIB.nghttp2_strerror(code).decode())
