# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an HTTP request that wants to become streams consists of, and how it is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import typing as t


class UpgradeError(Exception):
    """The request cannot become streams; nothing was written, so HTTP answers it."""

    def __init__(self, status: int, text: str, headers: t.Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers


@dataclasses.dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """A request whose head was read, and the connection that it came on."""

    method: str
    target: str
    headers: t.Sequence[tuple[bytes, bytes]]
    transport: asyncio.Transport
    leftover: bytes
    """What was read beyond the request's head."""

    def values(self, name: str) -> list[str]:
        """Return every value of a header, in order; the name in any case."""
        wanted = name.lower().encode()
        return [value.decode("latin-1").strip() for key, value in self.headers if key.lower() == wanted]

    def listed(self, name: str) -> list[str]:
        """Return the items of a header that is a list with commas or stands several times."""
        items = (item.strip() for value in self.values(name) for item in value.split(","))
        return [item for item in items if item]
