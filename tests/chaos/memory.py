# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client of the endpoint knows of its pods, and what everybody did last."""

from __future__ import annotations

import collections
import dataclasses
import time
import typing as t


class Wrong(Exception):
    """The endpoint did not do what it must."""


@dataclasses.dataclass(slots=True)
class Container:
    """What the client knows of a container of its own."""

    id: str
    config: t.Any
    #: created, started, ended, or maybe (the client killed it and waits).
    state: str = "created"
    #: What it exits with by itself; None: never.
    exit_code: int | None = None
    started_at: float = 0.0
    marker: str = ""
    #: Last weight of its CPU shares that was answered; 0: as created.
    shares: int = 0


@dataclasses.dataclass(slots=True)
class Pod:
    """What the client knows of a pod of its own."""

    id: str
    config: t.Any
    ip: str
    #: Runtime handler; with one, the pod's container is a guest of Proxmox VE.
    handler: str = ""
    is_stopped: bool = False
    containers: dict[str, Container] = dataclasses.field(default_factory=dict)


class History:
    """The last things that were done, by anybody."""

    def __init__(self) -> None:
        self._lines: collections.deque[str] = collections.deque(maxlen=60)
        self._begun = time.monotonic()
        self.counts: collections.Counter[str] = collections.Counter()

    def note(self, who: str, what: str, kind: str = "") -> None:
        """Remember one thing."""
        self._lines.append(f"{time.monotonic() - self._begun:8.3f} {who}: {what}")
        if kind:
            self.counts[kind] += 1

    def lines(self) -> list[str]:
        """Return what is remembered, the oldest first."""
        return list(self._lines)
