# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Begin new logs for containers whose logs have grown, without losing a line.

conmon goes on writing to a file that was moved away until it is told to begin a new one, and then puts that
into the log's place, whatever is there.  So a log is moved and conmon told, in this order; a run that was
killed in between is known by the log that has no file, and the next one tells conmon then.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from pvecri.api import cri_pb2 as pb
from pvecri.client.client import Client
from pvecri.client.errors import CallFailed, NoEndpoint, Reason
from pvecri.rotation.files import LogFiles, has_writer
from pvecri.rpc.status import Code

_TIMEOUT_S = 30.0
#: Time that another run has to end.
_OTHERS_S = 5.0
#: The endpoint has told conmon nothing when it answers or does not answer so.
_UNTOLD_CODES: t.Final = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.UNIMPLEMENTED})
_UNTOLD_REASONS: t.Final = frozenset({Reason.MISSING, Reason.REFUSED, Reason.DENIED})


@dataclasses.dataclass(slots=True)
class Outcome:
    """What a run has done: lines for people."""

    done: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)


def rotate_all(client: Client, *, max_bytes: int, max_files: int) -> Outcome:
    """Look at the logs of all containers on record.

    A log has at most ``max_files`` files, the one that is written among them.  Raises NoEndpoint, CallFailed
    when the endpoint does not say what there is, and Conflict when another run does not end.
    """
    rotator = _Rotator(client, max_bytes, max_files)
    containers = client.call(pb.ListContainersRequest(), timeout_s=_TIMEOUT_S).containers
    # Not on a log's directory: whoever may look into that could keep every run out.
    lock = f"{os.path.abspath(client.socket_path)}.logs"
    with locked(lock, timeout_s=_OTHERS_S, what="the logs of containers"):
        for container in containers:
            rotator.try_one(container.id, functools.partial(rotator.look, container.id))
        # Last, and one after the other: a container may put a file of any size beside its log.
        for container_id, log, moved in rotator.rotated:
            rotator.try_one(container_id, functools.partial(log.pack, but=moved))
    return rotator.outcome


class _Rotator:
    def __init__(self, client: Client, max_bytes: int, max_files: int) -> None:
        self.outcome = Outcome()
        #: Container, log, and its file that is new and stays plain until the next time.
        self.rotated: list[tuple[str, LogFiles, str]] = []
        self._client = client
        self._max_bytes = max_bytes
        self._max_files = max_files

    def try_one(self, container_id: str, act: t.Callable[[], None]) -> None:
        """Do something for one container; what goes wrong is noted, as the others do not depend on it."""
        try:
            act()
        except NoEndpoint:
            raise
        except CallFailed as exc:
            if exc.status is not Code.NOT_FOUND:  # else it was removed since it was listed
                self._problem(container_id, exc)
        except CoreError as exc:
            self._problem(container_id, exc)
        except OSError as exc:
            self._problem(container_id, f"{exc.filename}: {exc.strerror}")

    def _problem(self, container_id: str, text: object) -> None:
        self.outcome.problems.append(f"container {container_id[:13]}: {text}")

    def look(self, container_id: str) -> None:
        """Do for one container what is to be done; nothing is moved when the endpoint does not know it."""
        status = self._client.call(
            pb.ContainerStatusRequest(container_id=container_id), timeout_s=_TIMEOUT_S
        ).status
        if not status.log_path:
            return
        log = LogFiles(status.log_path)
        is_running = status.state == pb.CONTAINER_RUNNING
        size = log.size()
        if log.is_missing():
            self._mend(container_id, log, is_running=is_running)
        elif is_running and size is not None and size > self._max_bytes:
            self._rotate(container_id, log, size)

    def _mend(self, container_id: str, log: LogFiles, *, is_running: bool) -> None:
        """Go on where a run was killed that had moved the log."""
        if is_running:
            self._reopen(container_id)
            self.outcome.done.append(f"{log.path}: begun anew, its file was not there")
            return
        moved = log.moved()
        if moved and not moved[-1].endswith(".gz") and not has_writer(moved[-1]) and log.move_back(moved[-1]):
            self.outcome.done.append(f"{log.path}: back in its place, its container has ended")

    def _rotate(self, container_id: str, log: LogFiles, size: int) -> None:
        log.tidy()
        removed = log.remove_excess(self._max_files - 2)
        moved = log.move()
        try:
            self._reopen(container_id)
        except CoreError as exc:
            # A conmon that was told may yet put a new file there, in place of what would be moved back.
            if _is_untold(exc) or not has_writer(moved):
                log.move_back(moved)
            raise
        self.rotated.append((container_id, log, moved))
        text = f"{log.path}: {size} bytes moved to {moved.rpartition('/')[2]}"
        self.outcome.done.append(text + (f", {len(removed)} older removed" if removed else ""))

    def _reopen(self, container_id: str) -> None:
        self._client.call(pb.ReopenContainerLogRequest(container_id=container_id), timeout_s=_TIMEOUT_S)


def _is_untold(error: CoreError) -> bool:
    if isinstance(error, NoEndpoint):
        return error.reason in _UNTOLD_REASONS
    return isinstance(error, CallFailed) and error.status in _UNTOLD_CODES
