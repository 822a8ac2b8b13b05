# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a request that was allowed on the CRI socket be redeemed once, and soon, on the streaming port."""

from __future__ import annotations

import base64
import hashlib
import os
import time
import typing as t

from pvecri.errors import TooBusy

T = t.TypeVar("T")

LIFETIME_S: t.Final = 60.0
MAX_OUTSTANDING: t.Final = 1000
_RANDOM_BYTES: t.Final = 32


class Tokens(t.Generic[T]):
    """Requests by tokens that nobody can guess.

    What is kept is a hash of each token: neither a dump of memory nor the time that a look-up takes
    tells one.  Each call does a bounded amount of work.
    """

    def __init__(
        self,
        *,
        lifetime_s: float = LIFETIME_S,
        max_outstanding: int = MAX_OUTSTANDING,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self._lifetime_s = lifetime_s
        self._max_outstanding = max_outstanding
        self._clock = clock
        #: In the order of their expiry, since all live equally long.
        self._kept: dict[bytes, tuple[float, T]] = {}

    def __len__(self) -> int:
        """Count those that can still be redeemed."""
        self._expire()
        return len(self._kept)

    def issue(self, kind: str, request: T) -> str:
        """Return a token for a request of a kind (``exec``, …); raises TooBusy when too many are out."""
        self._expire()
        if len(self._kept) >= self._max_outstanding:
            raise TooBusy(
                f"{self._max_outstanding} requests for streams wait for their clients to connect",
                hint=f"Try again; each waits {self._lifetime_s:g} s at most",
            )
        token = base64.urlsafe_b64encode(os.urandom(_RANDOM_BYTES)).rstrip(b"=").decode()
        self._kept[_key(kind, token)] = (self._clock() + self._lifetime_s, request)
        return token

    def redeem(self, kind: str, token: str) -> T | None:
        """Return the request of a token and forget it; None for one that is unknown, used or expired."""
        self._expire()
        found = self._kept.pop(_key(kind, token), None)
        return None if found is None else found[1]

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def _expire(self) -> None:
        now = self._clock()
        while self._kept:
            first = next(iter(self._kept))
            if self._kept[first][0] > now:
                return
            del self._kept[first]


def _key(kind: str, token: str) -> bytes:
    return hashlib.sha256(f"{kind}/{token}".encode(errors="replace")).digest()
