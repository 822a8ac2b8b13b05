# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve what the CRI asks of containers, without the protocol around it: synchronous, for threads."""

from __future__ import annotations

import typing as t

from pvecri.api import cri_pb2
from pvecri.checkpoints.restoring import Origin
from pvecri.containers import execute, log, remove, start, status, stop, update
from pvecri.containers.create import Creator
from pvecri.containers.exits import Exits
from pvecri.containers.notes import Notes
from pvecri.context import Context
from pvecri.images.service import ImageService


class ContainerService:
    """The containers of all pods; one for the daemon.

    Calls that change the same container are serialised by the caller, but for `stop`,
    `reopen_log`, `exec_sync` and `status_info`, which may come at any time: a second stop with a
    shorter time-out hastens the first.
    """

    def __init__(self, context: Context, images: ImageService, exits: Exits) -> None:
        self._context = context
        self._exits = exits
        self.notes = Notes(context.log)
        self._creator = Creator(context, images, self.notes)

    def create(self, sandbox_id: str, config: cri_pb2.ContainerConfig, origin: Origin | None = None) -> str:
        """Return the id of a new container; see `Creator.create`."""
        return self._creator.create(sandbox_id, config, origin)

    def start(self, container_id: str) -> None:
        """Let a created container run; raises NotFound, WrongState, and why it cannot be started."""
        start.start(self._context, container_id)

    def stop(self, container_id: str, timeout_s: float = 0) -> None:
        """End a container: its stop signal first, SIGKILL after ``timeout_s`` seconds; 0 is at once."""
        stop.stop(self._context, container_id, timeout_s, self._exits)

    def remove(self, container_id: str) -> None:
        """Remove a container, which is killed if it runs; its log stays, and one that is gone is fine."""
        remove.remove(self._context, container_id)

    def update_resources(self, container_id: str, resources: cri_pb2.LinuxContainerResources) -> None:
        """Change limits of a created or running container; what is not set stays."""
        update.update(self._context, container_id, resources, self.notes)

    def reopen_log(self, container_id: str) -> None:
        """Go on in a new log file, which is there when this returns."""
        log.reopen(self._context, container_id)

    def exec_sync(
        self,
        container_id: str,
        command: t.Sequence[str],
        timeout_s: float = 0,
        stop: execute.Stop | None = None,
    ) -> tuple[bytes, bytes, int]:
        """Run a command in a container and return what it printed and its exit code; 0 is no time-out."""
        return execute.exec_sync(self._context, container_id, command, timeout_s, stop)

    def status_info(self, container_id: str) -> dict[str, str]:
        """Return what the verbose status says beyond the usual one: JSON by name."""
        return status.info(self._context, container_id)
