# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WebSocket messages cut anywhere, and random bytes."""

from __future__ import annotations

import asyncio
import base64
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage

from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    run,
)
from pvecri.streaming.inbox import Budget
from pvecri.streaming.websocket_channels import SocketChannels
from pvecri.streaming.wire import ProtocolError


def masked(head: bytes, payload: bytes = b"") -> bytes:
    return head + b"\0\0\0\0" + payload


class MemoryWire:
    """A wire that keeps what is sent."""

    peer = "a test"

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.budget = Budget(2**30, lambda: None, lambda: None)
        self.sent = b""
        self.end = ""

    def post(self, *buffers: bytes | memoryview) -> None:
        self.sent += b"".join(buffers)

    async def room(self) -> None:
        """There is always room."""

    def touch(self) -> None:
        """Nobody waits."""

    async def finish(self, timeout_s: float, *, is_stopping: bool = False) -> None:
        """It is gone at once."""

    def hang_up(self, reason: str) -> None:
        self.end = reason


MESSAGES = st.lists(
    st.tuples(st.integers(0, 5), st.lists(st.binary(max_size=40), min_size=1, max_size=4)), max_size=10
)


def frames_of(messages: list[tuple[int, list[bytes]]], *, is_base64: bool) -> bytes:
    """Write messages as a client does, each in as many fragments as it has parts."""
    framing, sent = Connection(ConnectionType.CLIENT), b""
    for number, parts in messages:
        if is_base64:
            text = b"%d" % number + base64.b64encode(b"".join(parts))
            step = len(parts[0]) + 1
            pieces = [text[start : start + step] for start in range(0, len(text), step)]
        else:
            pieces = [bytes((number,)), *parts]
        for index, piece in enumerate(pieces):
            sent += framing.send(BytesMessage(piece, message_finished=index == len(pieces) - 1))
    return sent


@given(MESSAGES, st.lists(st.integers(0, 10**6), max_size=20), st.booleans())
@settings(max_examples=200, deadline=None)
def test_messages_reach_their_channels_however_they_are_cut(
    messages: list[tuple[int, list[bytes]]], places: list[int], is_base64: bool
) -> None:
    async def main() -> None:
        channels = SocketChannels(MemoryWire(), is_base64=is_base64)
        for number in range(4):
            channels.open(number, streamtype="stdin")
        data = frames_of(messages, is_base64=is_base64)
        edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
        for start, end in itertools.pairwise(edges):
            channels.socket.receive(data[start:end])
        for number, channel in channels.channels.items():
            channel.inbox.end()
            wanted = b"".join(part for other, parts in messages for part in parts if other == number)
            assert await channel.read(2**20) == wanted

    run(main(), "asyncio")


@given(st.lists(st.binary(max_size=100), max_size=6), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_random_bytes_raise_nothing_but_protocol_errors(
    pieces: list[bytes], is_base64: bool, is_framed: bool
) -> None:
    async def main() -> None:
        wire = MemoryWire()
        channels = SocketChannels(wire, is_base64=is_base64, has_close=not is_base64)
        channels.open(0, streamtype="stdin")
        for piece in pieces:
            if is_framed:
                piece = masked(bytes((0x82, 0x80 | len(piece))), piece)
            try:
                channels.socket.receive(piece)
            except ProtocolError as exc:
                channels.socket.refuse(exc)
                return

    run(main(), "asyncio")
