# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep requests out until the daemon knows what there is, and again when it ends."""

from __future__ import annotations

import typing as t

from pvecri.rpc.errors import Unavailable

#: What may be asked at any time.
_ALWAYS: t.Final = frozenset({"Version", "Status"})


class Gate:
    """Closed at first."""

    def __init__(self) -> None:
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

    def check(self, method: str) -> None:
        """Raise Unavailable for a method that has to wait."""
        if self._reason is not None and method not in _ALWAYS:
            raise Unavailable(self._reason, hint="Try again")
