# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a byte stream of a client is, whichever protocol carries it, and what a session is made of."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import typing as t

READ_BYTES = 64 * 1024


class ChannelReset(ConnectionError):
    """The peer ended the stream before its time, or the connection is lost."""


class Channel(t.Protocol):
    """One byte stream in both directions; one task reads it, and one writes it."""

    headers: t.Mapping[str, str]
    """Those that the client opened it with, names in lower case: ``streamtype``, ``port``, ``requestid``."""

    async def read(self, max_bytes: int = READ_BYTES) -> bytes:
        """Wait for bytes; ``b""`` stands for the peer's end of its direction.

        Raises `ChannelReset`, after whatever came before it was read.
        """

    async def write(self, data: bytes | memoryview) -> None:
        """Send the data; return when they fit into the bounded send buffer.

        Whoever hands over a view must not change its memory afterwards.
        Raises `ChannelReset`.
        """

    async def close_write(self) -> None:
        """End one's own direction; what the peer sends is still read."""

    def reset(self) -> None:
        """End both directions at once; what was not sent or read yet is lost."""


class Link(t.Protocol):
    """The connection under channels."""

    closed: asyncio.Event

    async def close(self, timeout_s: float = 5, *, is_stopping: bool = False) -> None:
        """Send what was written, tell the peer that this is all, and close; after the time, abort.

        ``is_stopping`` tells a WebSocket client that the endpoint goes away (1001), not that all is done.
        """


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one connection."""

    creation_timeout_s: float = 30
    """How long the streams of a session are awaited."""
    idle_timeout_s: float = 4 * 3600
    """After how long without a byte in either direction the connection ends; 0 is never."""
    ping_interval_s: float = 30
    """How often a silent peer is asked whether it is still there; 0 is never."""
    linger_s: float = 30
    """How long a client that was told of the end may take to close; a slow one still reads what it got."""
    max_streams: int = 2048
    """Open streams of one connection (two for each forwarded connection)."""
    receive_buffer_bytes: int = 512 * 1024
    """Unread bytes, over all streams, at which no more is taken from the connection."""
    send_buffer_bytes: int = 256 * 1024
    """Unsent bytes at which `Channel.write` waits."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Which streams an exec or attach session has; a terminal's output is ``stdout`` alone."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False

    def names(self, protocol: str) -> list[str]:
        """Return the streams by name; a terminal is resized from v3 on."""
        wanted = {
            "error": True,
            "stdin": self.stdin,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "resize": self.tty and protocol not in ("v1", "v2"),
        }
        return [name for name, is_wanted in wanted.items() if is_wanted]


@dataclasses.dataclass(slots=True, kw_only=True)
class RemoteChannels:
    """The streams of one exec or attach session; those that were not asked for are None."""

    link: Link
    protocol: str
    """``v1`` to ``v5`` of ``channel.k8s.io``; from v4 on the error stream carries a JSON status."""
    stdin: Channel | None = None
    stdout: Channel | None = None
    stderr: Channel | None = None
    error: Channel | None = None
    resize: Channel | None = None
    """JSON objects ``{"Width": …, "Height": …}``, one after the other, with a terminal from v3 on."""

    @property
    def closed(self) -> asyncio.Event:
        """Set when the connection is lost or closed."""
        return self.link.closed

    async def close(self, timeout_s: float = 5, *, is_stopping: bool = False) -> None:
        """End the session when everything that was written has been sent."""
        await self.link.close(timeout_s, is_stopping=is_stopping)


class ForwardPair(t.NamedTuple):
    """One forwarded connection: its bytes, and a text that says why it failed."""

    port: int
    data: Channel
    error: Channel


class ForwardSession:
    """Every connection that one client forwards, as it opens them: ``async for pair in session``.

    The iteration ends with the connection.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._pairs: collections.deque[ForwardPair] = collections.deque()
        self._changed = asyncio.Event()

    @property
    def closed(self) -> asyncio.Event:
        """Set when the connection is lost or closed."""
        return self._link.closed

    def offer(self, pair: ForwardPair) -> None:
        """Hand over a connection that the client opened."""
        self._pairs.append(pair)
        self._changed.set()

    def end(self) -> None:
        """Say that no further connection will come."""
        self._changed.set()

    def __aiter__(self) -> t.Self:
        return self

    async def __anext__(self) -> ForwardPair:
        while not self._pairs:
            if self.closed.is_set():
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._pairs.popleft()

    async def close(self, timeout_s: float = 5, *, is_stopping: bool = False) -> None:
        """End the session when everything that was written has been sent."""
        await self._link.close(timeout_s, is_stopping=is_stopping)
