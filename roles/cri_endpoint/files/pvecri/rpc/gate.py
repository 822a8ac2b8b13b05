# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep requests out until the daemon knows what there is, when there are too many, and when it ends."""

from __future__ import annotations

import typing as t

from pvecri.errors import TooBusy, Unavailable

#: What may be asked at any time.  Who follows events waits for them anyway, and hears from the
#: beginning what a start finds out: kubelet gives events up after a few refusals.
_ALWAYS: t.Final = frozenset({"Version", "Status", "GetContainerEvents"})


class Gate:
    """Closed at first."""

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._reason: str | None = "the endpoint is starting: it is still looking at what runs here"

    def open(self) -> None:
        """Let everybody in."""
        self._reason = None

    def close(self, reason: str) -> None:
        """Let nobody in any more."""
        self._reason = reason

    @property
    def is_open(self) -> bool:
        """Say whether requests are let in."""
        return self._reason is None

    @property
    def reason(self) -> str | None:
        """Why requests are kept out; None when they are not."""
        return self._reason

    def check(self, method: str, in_flight: int) -> None:
        """Raise Unavailable for a method that has to wait, TooBusy when as many are in flight as may be."""
        if method in _ALWAYS:
            return
        if self._reason is not None:
            raise Unavailable(self._reason, hint="Try again")
        if in_flight > self._max_in_flight:
            raise TooBusy(
                f"more than {self._max_in_flight} requests are in flight",
                hint="Try again, or raise server.max_concurrent_rpcs",
            )
