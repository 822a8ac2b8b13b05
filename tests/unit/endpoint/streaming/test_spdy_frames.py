# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of SPDY: both directions, cut anywhere, and damaged."""

from __future__ import annotations

import contextlib
import itertools
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvecri.streaming import spdy_frames as frames
from pvecri.streaming.spdy_headers import (
    DICTIONARY,
    MAX_BLOCK_BYTES,
    HeaderCompressor,
    HeaderDecompressor,
)
from pvecri.streaming.wire import ProtocolError

#: A frame's length has 24 bits.
MAX_DATA_BYTES = 2**24 - 1

IDS = st.integers(1, 2**31 - 1)
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30).map(str.lower)
VALUES = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=60)
HEADERS = st.dictionaries(NAMES, VALUES, max_size=6)
FRAMES = st.one_of(
    st.builds(frames.SynStream, IDS, HEADERS, st.booleans(), st.booleans()),
    st.builds(frames.SynReply, IDS, HEADERS, st.booleans()),
    st.builds(frames.RstStream, IDS, st.integers(1, 11)),
    st.builds(frames.Settings, st.dictionaries(st.integers(1, 8), st.integers(0, 2**32 - 1), max_size=4)),
    st.builds(frames.Ping, st.integers(0, 2**32 - 1)),
    st.builds(frames.GoAway, IDS, st.integers(0, 2)),
    st.builds(frames.Headers, IDS, HEADERS, st.booleans()),
    st.builds(frames.WindowUpdate, st.integers(0, 2**31 - 1), IDS),
    st.builds(frames.Data, IDS, st.binary(max_size=300), st.booleans()),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def whole(pieces: list[frames.Frame]) -> list[frames.Frame]:
    """Join the pieces of data frames; a frame's own pieces follow one another directly."""
    joined: list[frames.Frame] = []
    for frame in pieces:
        last = joined[-1] if joined else None
        if (
            isinstance(frame, frames.Data)
            and isinstance(last, frames.Data)
            and last.stream_id == frame.stream_id
            and not last.fin
        ):
            joined[-1] = frames.Data(frame.stream_id, last.data + frame.data, frame.fin)
        else:
            joined.append(frame)
    return joined


@given(st.lists(FRAMES, max_size=12), st.lists(st.integers(0, 10**6), max_size=30))
@settings(max_examples=300, deadline=None)
def test_frames_come_back_however_they_are_cut(sent: list[frames.Frame], places: list[int]) -> None:
    encoder, decoder = frames.Encoder(), frames.Decoder()
    data = b"".join(encoder.encode(frame) for frame in sent)
    got = [frame for piece in cut(data, places) for frame in decoder.feed(piece)]
    assert whole(got) == whole(sent)


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
@settings(max_examples=300, deadline=None)
def test_frames_of_random_bytes_raise_nothing_but_protocol_errors(
    pieces: list[bytes], is_control: bool
) -> None:
    decoder = frames.Decoder()
    try:
        for piece in pieces:
            for frame in decoder.feed(b"\x80\x03\0" + piece if is_control else piece):
                assert isinstance(frame, frames.Frame)
    except ProtocolError:
        pass


@given(st.lists(FRAMES, min_size=1, max_size=4), st.integers(0), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_frames_with_a_byte_changed_raise_nothing_but_protocol_errors(
    sent: list[frames.Frame], place: int, value: int
) -> None:
    encoder, decoder = frames.Encoder(), frames.Decoder()
    data = bytearray(b"".join(encoder.encode(frame) for frame in sent))
    data[place % len(data)] = value
    with contextlib.suppress(ProtocolError):
        list(decoder.feed(bytes(data)))


def test_frames_byte_by_byte() -> None:
    encoder, decoder = frames.Encoder(), frames.Decoder()
    sent = [frames.SynStream(1, {"streamtype": "stdin"}), frames.Data(1, b"abc", True), frames.Ping(5)]
    data = b"".join(encoder.encode(frame) for frame in sent)
    got = [frame for index in range(len(data)) for frame in decoder.feed(data[index : index + 1])]
    assert whole(got) == sent


def test_frames_of_data_are_not_held_back_until_they_are_whole() -> None:
    decoder = frames.Decoder()
    assert list(decoder.feed(frames.data_head(3, MAX_DATA_BYTES, fin=True) + b"x" * 10)) == [
        frames.Data(3, b"x" * 10)
    ]
    assert list(decoder.feed(b"y" * (MAX_DATA_BYTES - 11))) == [frames.Data(3, b"y" * (MAX_DATA_BYTES - 11))]
    assert list(decoder.feed(b"z")) == [frames.Data(3, b"z", True)]


def test_frames_of_unknown_kind_are_skipped() -> None:
    decoder = frames.Decoder()
    unknown = struct.pack(">II", 0x80030000 | 0xF000, 3) + b"abc"
    assert list(decoder.feed(unknown + frames.Encoder().encode(frames.Ping(1)))) == [frames.Ping(1)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack(">II", 0x80020001, 10), "version 2"),
        (struct.pack(">II", 0x80030001, frames.MAX_CONTROL_BYTES + 1), "has 16385 bytes"),
        (struct.pack(">II", 0x80030003, 3) + b"abc", "type 3 has only 3 bytes"),
        (struct.pack(">II", 0x80030001, 4) + b"abcd", "type 1 has only 4 bytes"),
        (struct.pack(">II", 0x80030006, 0), "type 6 has only 0 bytes"),
        (struct.pack(">III", 0x80030004, 4, 2**30), "settings do not have 4 bytes"),
        (struct.pack(">II", 0x80030002, 8) + b"\0\0\0\1abcd", "cannot be decompressed"),
    ],
)
def test_frames_that_are_damaged_are_named(data: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        list(frames.Decoder().feed(data))


def block(*pairs: tuple[bytes, bytes], count: int | None = None, tail: bytes = b"") -> bytes:
    text = struct.pack(">I", len(pairs) if count is None else count)
    for pair in pairs:
        for piece in pair:
            text += struct.pack(">I", len(piece)) + piece
    packer = zlib.compressobj(zdict=DICTIONARY)
    return packer.compress(text + tail) + packer.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (block((b"Port", b"80")), "not in lower case"),
        (block((b"", b"80")), "is empty"),
        (block((b"a", b"1"), (b"a", b"2")), "there twice"),
        (block((b"a", b"1"), count=2), "ends too early"),
        (block((b"a", b"1"), count=2**32 - 1), "4294967295 headers"),
        (block((b"a", b"1"), tail=b"xyz"), "3 bytes follow"),
        (block(count=1, tail=struct.pack(">I", 2**32 - 1) + b"a"), "beyond its block"),
        (block(*((b"%d" % number, b"") for number in range(33))), "33 headers"),
        (block((b"a", b"x" * MAX_BLOCK_BYTES)), "larger than 4096"),
        (block((b"a", b"\0" * 10_000_000)), "larger than 4096"),
        (block(), None),
        (b"", "ends too early"),
    ],
)
def test_headers_that_are_damaged_are_named(data: bytes, words: str | None) -> None:
    if words is None:
        assert HeaderDecompressor().decompress(data) == {}
        return
    with pytest.raises(ProtocolError, match=words):
        HeaderDecompressor().decompress(data)


def test_headers_with_several_values_give_the_first() -> None:
    assert HeaderDecompressor().decompress(block((b"port", b"80\x0081"))) == {"port": "80"}


def test_headers_after_the_end_of_the_compressed_data_are_refused() -> None:
    packer = zlib.compressobj(zdict=DICTIONARY)
    unpacker = HeaderDecompressor()
    assert unpacker.decompress(packer.compress(b"\0\0\0\0") + packer.flush(zlib.Z_FINISH)) == {}
    with pytest.raises(ProtocolError):
        unpacker.decompress(block())


def test_headers_of_a_connection_refer_to_those_before() -> None:
    packer, unpacker = HeaderCompressor(), HeaderDecompressor()
    first = packer.compress({"streamtype": "data", "port": "8080", "requestid": "0"})
    second = packer.compress({"streamtype": "data", "port": "8080", "requestid": "1"})
    assert len(second) < len(first)
    assert unpacker.decompress(first)["requestid"] == "0"
    assert unpacker.decompress(second) == {"streamtype": "data", "port": "8080", "requestid": "1"}


def test_dictionary_is_the_specifications() -> None:
    """Its Adler-32 checksum is what every implementation writes into the head of its first block."""
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)
