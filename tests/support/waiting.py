# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for what comes about by itself."""

from __future__ import annotations

import time
import typing as t

T = t.TypeVar("T")


def eventually(look: t.Callable[[], T], *, timeout_s: float = 30, what: str = "it") -> T:
    """Look again and again until there is something to see, and return that; fail when time is up."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} did not come about within {timeout_s:g} s"
        time.sleep(0.01)
    return seen
