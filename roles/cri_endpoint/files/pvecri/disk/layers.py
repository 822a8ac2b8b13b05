# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know what each container has written to its root file system, without counting when somebody asks.

All layers are counted in one go beside, when somebody asks for one and the last count is
old; a new container's alone, when it is asked for the first time.
"""

from __future__ import annotations

import logging
import os
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from pvecri.context import Context
from pvecri.disk.pacing import Paced
from pvecri.disk.usage import Usage, count

#: The directory of a bundle that takes what its container writes.
_UPPER = "upper"


class Figure(t.NamedTuple):
    """What a container has written, and when that was counted (nanoseconds of the epoch)."""

    usage: Usage
    time_ns: int


class WritableLayers:
    """The running figures of all containers."""

    def __init__(
        self,
        bundles: str,
        runner: Runner,
        log: logging.Logger,
        *,
        whole: str | None = None,
        guests: t.Callable[[], t.Mapping[str, str]] = dict,
    ) -> None:
        """Set up; ``whole`` is the directory that `total` is of: those of other owners are in it, too.

        ``guests`` are the containers that do not write into their bundles, by their ids, with the
        directories that are counted instead; empty: none is.
        """
        self.directory = bundles
        self.whole = whole or bundles
        self._runner = runner
        self._guests = guests
        #: None: has no layer, or none yet.
        self._figures: dict[str, Figure | None] = {}
        self._total = Figure(Usage(), 0)
        self.paced = Paced("writable layers", self._count, log)

    def figures(self, wanted: t.Collection[str], *, wait_s: float = 0.0) -> dict[str, Figure]:
        """Return what is known of the containers with these ids; what has no layer is left out.

        For one that nobody has asked for yet it is waited ``wait_s`` seconds at most.
        """
        if self.paced.is_due:
            self.paced.begin()
        elif any(identity not in self._figures for identity in wanted):
            self.paced.begin(is_whole=False)
        if wait_s and any(identity not in self._figures for identity in wanted):
            self.paced.wait(wait_s)
        known = self._figures
        return {identity: figure for identity in wanted if (figure := known.get(identity)) is not None}

    def total(self) -> Figure:
        """Return what the whole directory takes, as it was counted last; at the time 0 it was not yet."""
        return self._total

    def _count(self, is_whole: bool) -> None:
        names = _names(self.directory)
        if not is_whole:
            names = [name for name in names if name not in self._figures]
        guests = self._guests()
        uppers = {name: guests.get(name, os.path.join(self.directory, name, _UPPER)) for name in names}
        paths = [path for path in uppers.values() if os.path.isdir(path)]
        # What du has counted it does not count again: of the whole directory there is left what is beside.
        whole = [self.whole] if is_whole and os.path.isdir(self.whole) else []
        counted = count(self._runner, [*paths, *whole])
        now = time.time_ns()
        figures = {
            name: Figure(counted[path], now) if path in counted else None for name, path in uppers.items()
        }
        if is_whole:
            self._figures = figures
            total = Usage()
            # Guests are elsewhere.
            for path in counted.keys() - set(guests.values()):
                total = total.plus(counted[path])
            self._total = Figure(total, now)
        else:
            self._figures = {**self._figures, **figures}


def layers_of(context: Context) -> WritableLayers:
    """Return the layers of the endpoint's containers."""
    paths = context.paths
    whole = os.path.join(paths.state_dir, "bundles")
    # It needs what is above.
    from pvecri.disk import guests  # noqa: PLC0415

    return WritableLayers(
        paths.bundles,
        context.runner,
        context.log,
        whole=whole,
        guests=lambda: guests.directories(context.registry, context.runtimes),
    )


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
