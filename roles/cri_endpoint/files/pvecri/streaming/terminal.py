# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow the size of the client's terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import typing as t

from pvecri.streaming.channel import Channel, ChannelReset

#: conmon takes no larger terminal, and nobody has one.
_MAX: t.Final = 1000
#: Bytes of an unfinished message that are kept.
_UNFINISHED_MAX: t.Final = 256
_MESSAGE: t.Final = re.compile(rb"\{[^{}]*\}")


class Size(t.NamedTuple):
    """Columns and lines."""

    width: int
    height: int


class SizeParser:
    """Finds sizes in a stream of JSON objects, however it is cut; what is no size is left out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Size]:
        """Return the sizes that have become complete."""
        text = self._rest + data
        sizes, end = [], 0
        for match in _MESSAGE.finditer(text):
            end = match.end()
            if (size := _size(match.group())) is not None:
                sizes.append(size)
        self._rest = text[end:][-_UNFINISHED_MAX:]
        return sizes


def _size(message: bytes) -> Size | None:
    try:
        # Any case of the names will do, as in the clients' own decoder.
        fields = {name.lower(): value for name, value in json.loads(message).items()}
    except (ValueError, RecursionError):
        return None
    width, height = (_length(fields.get(name)) for name in ("width", "height"))
    return None if width is None or height is None else Size(width, height)


def _length(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX else None


class Sizes:
    """The sizes that a client sends; of a burst only the last counts.  A task of the session runs `read`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._latest: Size | None = None
        self._has_news = asyncio.Event()

    async def read(self) -> None:
        """Read to the end of the stream."""
        parser = SizeParser()
        with contextlib.suppress(ChannelReset):
            while data := await self._channel.read():
                for size in parser.feed(data):
                    self._latest = size
                    self._has_news.set()

    async def next(self) -> Size:
        """Wait for a size that was not returned before."""
        await self._has_news.wait()
        self._has_news.clear()
        assert self._latest is not None
        return self._latest

    async def first(self, timeout_s: float) -> Size | None:
        """Return the size if the client tells it at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await self.next()
        return None
