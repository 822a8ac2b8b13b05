# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record differences once, so that ``changed`` and ``diff`` cannot disagree."""

from __future__ import annotations

import dataclasses
import typing as t

#: Shown in a diff in place of a value that must not be seen.
HIDDEN = "VALUE HIDDEN"


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One key whose actual and desired values differ."""

    key: str
    actual: t.Any
    desired: t.Any
    secret: bool = False


class DifferenceTracker:
    """Collect differences between what is and what is asked for.

    Keys are dotted paths (``resources.memory_bytes``); ``None`` as a value
    means that the key is absent on that side.
    """

    def __init__(self) -> None:
        self._found: dict[str, Difference] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def __iter__(self) -> t.Iterator[Difference]:
        return iter(self._found.values())

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def keys(self) -> list[str]:
        """Return the keys that differ, in the order they were compared."""
        return list(self._found)

    def add(self, key: str, actual: t.Any, desired: t.Any, *, secret: bool = False) -> bool:
        """Record ``key`` if the two values differ; return whether they do."""
        if actual == desired:
            return False
        self._found[key] = Difference(key, actual, desired, secret)
        return True

    def before(self) -> dict[str, t.Any]:
        """Return the left side for diff mode, flat, without keys absent there."""
        return {d.key: HIDDEN if d.secret else d.actual for d in self if d.actual is not None}

    def after(self) -> dict[str, t.Any]:
        """Return the right side for diff mode, flat, without keys absent there."""
        return {
            d.key: (HIDDEN + " (changed)" if d.actual is not None else HIDDEN) if d.secret else d.desired
            for d in self
            if d.desired is not None
        }

    def as_diff(self) -> dict[str, t.Any]:
        """Return the ``diff`` value of a module's result."""
        return {"before": self.before(), "after": self.after()}
