# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write frames of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00, section 2.6); no input or output here.

Either side's frames can be read and written: the endpoint is the server, tests are clients.
"""

from __future__ import annotations

import struct
import typing as t

from pvecri.streaming.spdy_headers import HeaderCompressor, HeaderDecompressor
from pvecri.streaming.wire import ProtocolError

MAX_CONTROL_BYTES = 16 * 1024
"""Of a control frame; those with headers have a few hundred bytes."""

_VERSION = 3
_CONTROL = 0x80000000
_FIN = 1
_UNIDIRECTIONAL = 2

_HEAD = struct.Struct(">II")
_NUMBER = struct.Struct(">I")
_SYN_STREAM_HEAD = struct.Struct(">IIBB")

# Numbers of GOAWAY and RST_STREAM: those that are used.
GOAWAY_OK, GOAWAY_PROTOCOL_ERROR = 0, 1
RST_REFUSED_STREAM, RST_CANCEL = 3, 5
SETTINGS_INITIAL_WINDOW_SIZE = 7


class SynStream(t.NamedTuple):
    """Open a stream."""

    stream_id: int
    headers: dict[str, str]
    fin: bool = False
    unidirectional: bool = False


class SynReply(t.NamedTuple):
    """Accept a stream."""

    stream_id: int
    headers: dict[str, str]
    fin: bool = False


class RstStream(t.NamedTuple):
    """End a stream in both directions."""

    stream_id: int
    status: int


class Settings(t.NamedTuple):
    """Say how one wants to be treated."""

    values: dict[int, int]


class Ping(t.NamedTuple):
    """Ask for the same frame back (odd numbers: from the client)."""

    number: int


class GoAway(t.NamedTuple):
    """Say that no more streams are taken, and which was the last."""

    last_stream_id: int
    status: int


class Headers(t.NamedTuple):
    """Add headers to a stream."""

    stream_id: int
    headers: dict[str, str]
    fin: bool = False


class WindowUpdate(t.NamedTuple):
    """Allow the peer to send more; stream 0 is all of the connection."""

    stream_id: int
    delta: int


class Data(t.NamedTuple):
    """Bytes of a stream: a frame, or a piece of one that has not come whole; ``fin`` with its last piece."""

    stream_id: int
    data: bytes
    fin: bool = False


Frame = SynStream | SynReply | RstStream | Settings | Ping | GoAway | Headers | WindowUpdate | Data


class Decoder:
    """Frames out of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._headers = HeaderDecompressor()
        self._pending = bytearray()  # the beginning of a control frame, or of a data frame's head
        self._needed = _HEAD.size
        self._data_left = 0
        self._data_id = 0
        self._data_fin = False

    def feed(self, data: bytes) -> t.Iterator[Frame]:
        """Return the frames that the bytes complete; raises `ProtocolError`, after which nothing can be read.

        The iterator must be used up before more is fed.
        """
        if self._pending:
            self._pending += data
            if len(self._pending) < self._needed:
                return
            data = bytes(self._pending)
            self._pending.clear()
        position, end = 0, len(data)
        while True:
            if self._data_left:
                piece = data[position : position + self._data_left]
                if not piece:
                    return
                position += len(piece)
                self._data_left -= len(piece)
                yield Data(self._data_id, piece, self._data_fin and not self._data_left)
                continue
            self._needed = self._need(data, position)
            if end - position < self._needed:
                self._pending += memoryview(data)[position:]
                return
            first, second = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            if first & _CONTROL:
                length = second & 0xFFFFFF
                frame = self._control(first & 0xFFFF, second >> 24, data[position : position + length])
                position += length
                if frame is not None:
                    yield frame
            else:
                self._data_id = first
                self._data_fin = bool(second >> 24 & _FIN)
                self._data_left = second & 0xFFFFFF
                if not self._data_left:
                    yield Data(first, b"", self._data_fin)

    @staticmethod
    def _need(data: bytes, position: int) -> int:
        """Return how many bytes the next step takes: a head, or a control frame whole."""
        if len(data) - position < _HEAD.size:
            return _HEAD.size
        first, second = _HEAD.unpack_from(data, position)
        if not first & _CONTROL:
            return _HEAD.size
        version, length = first >> 16 & 0x7FFF, second & 0xFFFFFF
        if version != _VERSION:
            raise ProtocolError(f"a frame is of version {version} of SPDY")
        if length > MAX_CONTROL_BYTES:
            raise ProtocolError(f"a control frame has {length} bytes")
        return int(_HEAD.size + length)

    def _control(self, kind: int, flags: int, body: bytes) -> Frame | None:
        reader = _READERS.get(kind)
        if reader is None:  # the specification says: ignore what is not known
            return None
        try:
            return reader(self._headers, flags, body)
        except (struct.error, IndexError) as exc:
            raise ProtocolError(f"a control frame of type {kind} has only {len(body)} bytes") from exc


def _number(body: bytes, position: int) -> int:
    return int(_NUMBER.unpack_from(body, position)[0])


def _id(body: bytes, position: int) -> int:
    return _number(body, position) & 0x7FFFFFFF


def _read_syn_stream(headers: HeaderDecompressor, flags: int, body: bytes) -> Frame:
    stream_id, _associated, _priority, _slot = _SYN_STREAM_HEAD.unpack_from(body)
    fields = headers.decompress(body[_SYN_STREAM_HEAD.size :])
    return SynStream(stream_id & 0x7FFFFFFF, fields, bool(flags & _FIN), bool(flags & _UNIDIRECTIONAL))


def _read_syn_reply(headers: HeaderDecompressor, flags: int, body: bytes) -> Frame:
    return SynReply(_id(body, 0), headers.decompress(body[4:]), bool(flags & _FIN))


def _read_rst_stream(_headers: HeaderDecompressor, _flags: int, body: bytes) -> Frame:
    return RstStream(_id(body, 0), _number(body, 4))


def _read_settings(_headers: HeaderDecompressor, _flags: int, body: bytes) -> Frame:
    count = _number(body, 0)
    if len(body) != 4 + 8 * count:
        raise ProtocolError(f"{count} settings do not have {len(body)} bytes")
    pairs = [_HEAD.unpack_from(body, 4 + 8 * index) for index in range(count)]
    return Settings({name & 0xFFFFFF: value for name, value in pairs})


def _read_ping(_headers: HeaderDecompressor, _flags: int, body: bytes) -> Frame:
    return Ping(_number(body, 0))


def _read_goaway(_headers: HeaderDecompressor, _flags: int, body: bytes) -> Frame:
    return GoAway(_id(body, 0), _number(body, 4))


def _read_headers(headers: HeaderDecompressor, flags: int, body: bytes) -> Frame:
    return Headers(_id(body, 0), headers.decompress(body[4:]), bool(flags & _FIN))


def _read_window_update(_headers: HeaderDecompressor, _flags: int, body: bytes) -> Frame:
    return WindowUpdate(_id(body, 0), _number(body, 4) & 0x7FFFFFFF)


_READERS: dict[int, t.Callable[[HeaderDecompressor, int, bytes], Frame]] = {
    1: _read_syn_stream,
    2: _read_syn_reply,
    3: _read_rst_stream,
    4: _read_settings,
    6: _read_ping,
    7: _read_goaway,
    8: _read_headers,
    9: _read_window_update,
}


class Encoder:
    """Bytes of frames; the order of those with headers is the order in which they must be sent."""

    def __init__(self) -> None:
        self._headers = HeaderCompressor()

    def encode(self, frame: Frame) -> bytes:
        """Return a whole frame."""
        flags = 0
        match frame:
            case Data(stream_id, data, fin):
                return data_head(stream_id, len(data), fin=fin) + data
            case SynStream(stream_id, headers, fin, unidirectional):
                kind, flags = 1, _FIN * fin | _UNIDIRECTIONAL * unidirectional
                body = _SYN_STREAM_HEAD.pack(stream_id, 0, 0, 0) + self._headers.compress(headers)
            case SynReply(stream_id, headers, fin):
                kind, flags, body = 2, _FIN * fin, _NUMBER.pack(stream_id) + self._headers.compress(headers)
            case RstStream(stream_id, status):
                kind, body = 3, _HEAD.pack(stream_id, status)
            case Settings(values):
                pairs = b"".join(_HEAD.pack(name, value) for name, value in values.items())
                kind, body = 4, _NUMBER.pack(len(values)) + pairs
            case Ping(number):
                kind, body = 6, _NUMBER.pack(number)
            case GoAway(last_stream_id, status):
                kind, body = 7, _HEAD.pack(last_stream_id, status)
            case Headers(stream_id, headers, fin):
                kind, flags, body = 8, _FIN * fin, _NUMBER.pack(stream_id) + self._headers.compress(headers)
            case WindowUpdate(stream_id, delta):
                kind, body = 9, _HEAD.pack(stream_id, delta)
        return _HEAD.pack(_CONTROL | _VERSION << 16 | kind, flags << 24 | len(body)) + body


def data_head(stream_id: int, length: int, *, fin: bool = False) -> bytes:
    """Return what stands before the bytes of a data frame."""
    return _HEAD.pack(stream_id, fin << 24 | length)
