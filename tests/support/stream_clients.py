# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A loopback listener that gives requests for streams to a handler, and clients that speak with it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import typing as t

import uvloop
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, TextMessage

from pvecri.streaming import spdy_frames as frames
from pvecri.streaming.channel import Limits, RemoteChannels, StreamOptions
from pvecri.streaming.http import HeadReader
from pvecri.streaming.upgrade import upgrade_remote
from pvecri.streaming.upgrade_request import UpgradeError, UpgradeRequest

Handler = t.Callable[[UpgradeRequest], t.Coroutine[t.Any, t.Any, None]]
T = t.TypeVar("T")

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run(main: t.Coroutine[t.Any, t.Any, T], loop: str = "uvloop", *, timeout_s: float = 20) -> T:
    """Run to the end in an event loop of the given kind."""

    async def limited() -> T:
        async with asyncio.timeout(timeout_s):
            return await main

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(limited())


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> t.AsyncIterator[int]:
    """Listen; the port.  At the end what a handler raised is raised here."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: HeadReader, request: UpgradeRequest) -> None:
        try:
            await handler(request)
        except UpgradeError as exc:
            reader.answer(exc.status, exc.text, exc.headers)

    def on_head(reader: HeadReader, request: UpgradeRequest) -> None:
        tasks.append(loop.create_task(serve(reader, request)))

    server = await loop.create_server(lambda: HeadReader(on_head), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*tasks)
    finally:
        server.close()
        for task in tasks:
            task.cancel()


class HttpAnswer(t.NamedTuple):
    """The head of an answer."""

    status: int
    headers: dict[str, str]
    text: str


class Client:
    """A connection that has asked for an upgrade."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: HttpAnswer
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.answer = answer

    @classmethod
    async def connect(
        cls,
        port: int,
        headers: t.Sequence[tuple[str, str]],
        *,
        method: str = "GET",
        early: bytes = b"",
        rcvbuf: int = 2**16,
    ) -> t.Self:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=rcvbuf)
        lines = [
            f"{method} /exec/token HTTP/1.1",
            "Host: 127.0.0.1",
            *(f"{n}: {v}" for n, v in headers),
            "",
            "",
        ]
        writer.write("\r\n".join(lines).encode() + early)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = head.strip().split("\r\n")
        fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
        status = int(first.split()[1])
        text = "" if status == 101 else (await reader.read()).decode()
        return cls(reader, writer, HttpAnswer(status, fields, text))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        return await self.reader.read(2**16)

    def vanish(self) -> None:
        """Break the connection off, as a client does that is killed."""
        self.writer.transport.abort()


SPDY_REMOTE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "SPDY/3.1"),
    ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
]
SPDY_FORWARD = [*SPDY_REMOTE[:2], ("X-Stream-Protocol-Version", "portforward.k8s.io")]


class SpdyClient(Client):
    """A client of SPDY that does nothing by itself."""

    def __init__(self, *arguments: t.Any) -> None:
        super().__init__(*arguments)
        self.encoder = frames.Encoder()
        self._decoder = frames.Decoder()
        self._frames: list[frames.Frame] = []
        self._next_id = 1

    async def put(self, *sent: frames.Frame) -> None:
        await self.send(b"".join(self.encoder.encode(frame) for frame in sent))

    async def open(self, **headers: str) -> int:
        """Open a stream and wait until it is accepted."""
        stream_id = self._next_id
        self._next_id += 2
        await self.put(frames.SynStream(stream_id, headers))
        reply = await self.get()
        assert reply == frames.SynReply(stream_id, {}), reply
        return stream_id

    async def open_all(self, *kinds: str) -> dict[str, int]:
        return {kind: await self.open(streamtype=kind) for kind in kinds}

    async def get(self) -> frames.Frame:
        """Wait for a frame; EOFError at the end of the connection."""
        while not self._frames:
            data = await self.receive()
            if not data:
                raise EOFError
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    async def get_data(self, stream_id: int, size: int = -1) -> bytes:
        """Read a stream, to its end or up to some size; it must be the only one that has data."""
        pieces = bytearray()
        while len(pieces) < size or size < 0:
            frame = await self.get()
            assert isinstance(frame, frames.Data), frame
            assert frame.stream_id == stream_id, frame
            pieces += frame.data
            if frame.fin:
                break
        return bytes(pieces)

    async def rest(self) -> list[frames.Frame]:
        """Return all frames up to GOAWAY or the end of the connection."""
        rest: list[frames.Frame] = []
        with contextlib.suppress(EOFError, ConnectionError):
            while not rest or not isinstance(rest[-1], frames.GoAway):
                rest.append(await self.get())
        return rest


def websocket_headers(*protocols: str, key: bytes = b"0123456789abcdef") -> list[tuple[str, str]]:
    headers = [
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", base64.b64encode(key).decode()),
    ]
    return [*headers, ("Sec-WebSocket-Protocol", ", ".join(protocols))] if protocols else headers


class WebSocketClient(Client):
    """A client of WebSocket: whole messages."""

    def __init__(self, *arguments: t.Any) -> None:
        super().__init__(*arguments)
        self.framing = Connection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def put(self, data: bytes | str) -> None:
        message: Message = TextMessage(data) if isinstance(data, str) else BytesMessage(data)
        await self.send(self.framing.send(message))

    async def event(self) -> Event:
        """Wait for an event; EOFError at the end of the connection."""
        while not self._events:
            data = await self.receive()
            if not data:
                raise EOFError
            self.framing.receive_data(data)
            self._events += self.framing.events()
        return self._events.pop(0)

    async def get(self) -> bytes:
        """Wait for a message."""
        whole = bytearray()
        while True:
            event = await self.event()
            assert isinstance(event, BytesMessage), event
            whole += event.data
            if event.message_finished:
                return bytes(whole)

    async def get_close(self) -> CloseConnection:
        """Wait for the close frame, answer it, and wait for the end of the connection."""
        while not isinstance(event := await self.event(), CloseConnection):
            pass
        if self.framing.state is ConnectionState.REMOTE_CLOSING:
            with contextlib.suppress(ConnectionError):
                await self.send(self.framing.send(event.response()))
        with contextlib.suppress(ConnectionError):
            assert await self.receive() == b""
        return event


async def echo(channels: RemoteChannels) -> None:
    """Send back what comes on stdin, then a status, then close."""
    assert channels.stdin
    assert channels.stdout
    assert channels.error
    while data := await channels.stdin.read():
        await channels.stdout.write(data)
    await channels.stdout.close_write()
    await channels.error.write(b"done")
    await channels.close()


SessionWork = t.Callable[[RemoteChannels, asyncio.Transport], t.Coroutine[t.Any, t.Any, None]]


@contextlib.asynccontextmanager
async def spdy_session(
    work: SessionWork, limits: Limits
) -> t.AsyncIterator[tuple[SpdyClient, dict[str, int]]]:
    """An exec session over SPDY with all its streams open."""

    async def handle(request: UpgradeRequest) -> None:
        channels = await upgrade_remote(request, StreamOptions(stdin=True, stdout=True), limits)
        await work(channels, request.transport)

    async with serving(handle) as port:
        client = await SpdyClient.connect(port, SPDY_REMOTE)
        try:
            yield client, await client.open_all("error", "stdin", "stdout")
        finally:
            client.vanish()
