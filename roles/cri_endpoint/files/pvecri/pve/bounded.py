# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let an API that hangs take only so many of the daemon's threads: containers under crun need the others."""

from __future__ import annotations

import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import ApiError
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import Path, PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection

#: Requests at a time: well below the threads that make, start and remove containers.
MOST: t.Final = 32

#: How long a request waits for others to be answered, which takes milliseconds each.
_WAIT_S = 2.0


class BoundedClient(PveClient):
    """A client whose requests are sent so many at a time; those that get no turn were not sent."""

    def __init__(self, connection: Connection, *, most: int = MOST) -> None:
        super().__init__(connection)
        self._turns = threading.BoundedSemaphore(most)
        self._most = most

    def request(self, method: str, path: Path, params: t.Mapping[str, t.Any] | None = None) -> t.Any:
        """Send one request as `PveClient.request` does; raises ApiError, unreachable, without a turn."""
        if not self._turns.acquire(timeout=_WAIT_S):
            raise ApiError(
                f"{self.connection.host}:{self.connection.port} has not answered any of {self._most} "
                f"requests within {_WAIT_S:g} s",
                method=method,
                path=str(path),
                hint="Look at pveproxy and pvedaemon, and at the storage that they wait for",
            )
        try:
            return super().request(method, path, params)
        finally:
            self._turns.release()
