# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compress and decompress the header blocks of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00, section 2.6.10)."""

from __future__ import annotations

import struct
import typing as t
import zlib

from pvecri.streaming.wire import ProtocolError

MAX_BLOCK_BYTES = 4 * 1024
"""Of a header block when decompressed: a few hundred bytes are usual, and each open stream keeps its own."""
MAX_HEADERS = 32

_COUNT = struct.Struct(">I")

# The dictionary that both sides start from: words that stand in it as they would in a header block, each
# after its length, and then a text that does without.
_WORDS = (
    "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|age|"
    "allow|authorization|cache-control|connection|content-base|content-encoding|content-language|content-length|"
    "content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|"
    "if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|"
    "proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|"
    "upgrade|user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|"
    "public|set-cookie|keep-alive|origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = _WORDS.encode().split(b"|")
    return b"".join(_COUNT.pack(len(word)) + word for word in words) + _TEXT.encode()


DICTIONARY = _dictionary()

# A window of 2 KiB holds the dictionary; the default would cost 256 KiB of memory for each connection.
_WINDOW_BITS = 11
_MEMORY_LEVEL = 1


class HeaderCompressor:
    """The sending half: one for each connection, in the order of its frames."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(
            wbits=_WINDOW_BITS, memLevel=_MEMORY_LEVEL, zdict=DICTIONARY, strategy=zlib.Z_FIXED
        )

    def compress(self, headers: t.Mapping[str, str]) -> bytes:
        """Return the header block of a frame; names in lower case."""
        parts = [_COUNT.pack(len(headers))]
        for name, value in headers.items():
            for text in (name.encode("latin-1"), value.encode("latin-1")):
                parts += (_COUNT.pack(len(text)), text)
        return self._zlib.compress(b"".join(parts)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class HeaderDecompressor:
    """The receiving half: it must see every block, since each refers to those before it."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def decompress(self, block: bytes) -> dict[str, str]:
        """Return the headers of a frame; of a name with several values, the first.

        Raises `ProtocolError` when the block is damaged or becomes too large.
        """
        try:
            text = self._zlib.decompress(block, MAX_BLOCK_BYTES + 1)
        except zlib.error as exc:
            raise ProtocolError(f"a header block cannot be decompressed: {exc}") from exc
        if len(text) > MAX_BLOCK_BYTES or self._zlib.unconsumed_tail:
            raise ProtocolError(f"a header block is larger than {MAX_BLOCK_BYTES} bytes")
        return _parse(text)


def _parse(text: bytes) -> dict[str, str]:
    """Split a block: how many, then name and value of each, all after their lengths."""
    count, position = _number(text, 0)
    if count > MAX_HEADERS:
        raise ProtocolError(f"there are {count} headers in a block")
    headers: dict[str, str] = {}
    for _index in range(count):
        raw_name, position = _piece(text, position)
        raw_value, position = _piece(text, position)
        name = raw_name.decode("latin-1")
        if not name or name != name.lower() or name in headers:
            raise ProtocolError(f"the header name {name[:80]!r} is empty, not in lower case or there twice")
        headers[name] = raw_value.split(b"\0", 1)[0].decode("latin-1")
    if position != len(text):
        raise ProtocolError(f"{len(text) - position} bytes follow the last header")
    return headers


def _piece(text: bytes, position: int) -> tuple[bytes, int]:
    length, start = _number(text, position)
    end = start + length
    if end > len(text):
        raise ProtocolError("a header ends beyond its block")
    return text[start:end], end


def _number(text: bytes, position: int) -> tuple[int, int]:
    end = position + _COUNT.size
    if end > len(text):
        raise ProtocolError("a header block ends too early")
    return _COUNT.unpack_from(text, position)[0], end
