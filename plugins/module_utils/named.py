# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep one thing for each name, such as a lock, as long as anybody uses it."""

from __future__ import annotations

import contextlib
import threading
import typing as t

T = t.TypeVar("T")


class Named(t.Generic[T]):
    """Makes things when they are wanted first and drops them after their last use; for any thread."""

    def __init__(self, make: t.Callable[[], T]) -> None:
        self._make = make
        self._guard = threading.Lock()
        #: Each with how many use it.
        self._used: dict[str, tuple[T, int]] = {}

    @contextlib.contextmanager
    def of(self, name: str) -> t.Iterator[T]:
        """Use the thing of a name: all who do so at a time have the same."""
        with self._guard:
            thing, users = self._used.get(name) or (self._make(), 0)
            self._used[name] = thing, users + 1
        try:
            yield thing
        finally:
            with self._guard:
                thing, users = self._used[name]
                if users == 1:
                    del self._used[name]
                else:
                    self._used[name] = thing, users - 1
