# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Break calls off in the midst of their requests and answers: the connection goes on as it was."""

from __future__ import annotations

import asyncio
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.http2_peer import Http2Peer, framed
from ansible_collections.pvecri.runtime.tests.unit.endpoint.rpc.test_hostile import PREFACE, block, frame
from ansible_collections.pvecri.runtime.tests.unit.endpoint.rpc.test_http2 import MESSAGE, served
from pvecri.rpc.status import Code

#: Far more than a socket and the transport take from somebody who does not read.
LONG = b"x" * 3_000_000


async def endless(_request: t.Any) -> t.AsyncIterator[bytes]:
    while True:
        yield LONG


def test_a_call_that_ends_within_a_frame_leaves_the_connection_whole(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with served(tmp_path, {"GetContainerEvents": endless}) as (_unused, server):
            peer = Http2Peer(*await asyncio.open_unix_connection(str(tmp_path / "s"), limit=1))
            peer.h2.initiate_connection()
            peer.h2.update_settings({4: 2**31 - 1})
            peer.h2.increment_flow_control_window(1 << 30)
            transport = t.cast(asyncio.Transport, peer.writer.transport)
            transport.pause_reading()
            stream = peer.open("GetContainerEvents", grpc_timeout="200m")
            peer.send(stream, framed(b""))
            while not server._running:
                await asyncio.sleep(0.01)
            while server._running:
                await asyncio.sleep(0.01)
            transport.resume_reading()
            answer = await peer.ended(stream)
            assert answer.status == Code.DEADLINE_EXCEEDED
            assert 0 < len(answer.data) < len(LONG)
            assert (await peer.call("Version")).messages == [MESSAGE]
            peer.writer.close()

    asyncio.run(run())
    assert not caplog.records


def test_a_request_that_is_reset_when_it_is_whole_is_counted_off_once(tmp_path: pathlib.Path) -> None:
    async def run() -> None:
        async with served(tmp_path) as (peer, server):
            assert (await peer.call("Version")).messages == [MESSAGE]
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            request = frame(1, 4, 1, block()) + frame(0, 1, 1, framed(b"x" * 1000))
            writer.write(PREFACE + request + frame(3, 0, 1, b"\0\0\0\x08") + frame(6, 0, 0, b"12345678"))
            assert b"12345678" in await reader.readuntil(b"12345678")
            assert [connection._unread for connection in server._connections] == [0, 0]
            writer.close()

    asyncio.run(run())
