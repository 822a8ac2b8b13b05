# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer those who follow what becomes of sandboxes and containers."""

from __future__ import annotations

import typing as t

from pvecri.api import cri_pb2 as pb
from pvecri.daemon.events import Events
from pvecri.rpc.server import Handler


class EventRpc:
    """Handler of the one method about events."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by the names of their methods."""
        return {"GetContainerEvents": self.follow}

    def follow(self, _request: pb.GetEventsRequest) -> t.AsyncGenerator[bytes, None]:
        """Tell each event once, until the client leaves."""
        return self._events.follow()
