# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what checkpoints in the making need on disk, so that a killed daemon's can be cleared away.

<state_dir>/checkpoints/<key>/journal.json    whom it paused, and where its archive begins
<state_dir>/checkpoints/<key>/archive/        what goes into the archive
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.files import remove_tree, write_atomic
from pvecri.checkpoints.writing import UNFINISHED, unfinished

_JOURNAL: t.Final = "journal.json"
#: How long is waited after each attempt to let a container go on, which nobody else does.
_TRIES_S: t.Final = (0.1, 0.5, 2.0, 0.0)


class Work(t.NamedTuple):
    """One checkpoint in the making."""

    #: Directory whose content becomes the archive.
    archive: str
    #: The archive until it is whole.
    temporary: str


class Journal:
    """The checkpoints of one daemon that are in the making."""

    def __init__(self, state_dir: str) -> None:
        self._top = os.path.join(state_dir, "checkpoints")

    @contextlib.contextmanager
    def work(self, target: str, containers: t.Sequence[str]) -> t.Iterator[Work]:
        """Give a directory to work in, which is gone afterwards; what is to be undone is on disk before."""
        key = os.urandom(8).hex()
        directory = os.path.join(self._top, key)
        temporary = unfinished(target, key)
        os.makedirs(self._top, mode=0o700, exist_ok=True)
        os.mkdir(directory, mode=0o700)
        try:
            entry = {"containers": list(containers), "temporary": temporary}
            write_atomic(os.path.join(directory, _JOURNAL), json.dumps(entry).encode(), mode=0o600)
            archive = os.path.join(directory, "archive")
            os.mkdir(archive, mode=0o700)
            yield Work(archive, temporary)
        finally:
            remove_tree(directory)

    def left_over(self) -> list[str]:
        """Return the keys of checkpoints that a killed daemon left; before the first one of this daemon."""
        try:
            return sorted(os.listdir(self._top))
        except FileNotFoundError:
            return []

    def clear(self, key: str, crun: CrunRuntime, log: logging.Logger) -> None:
        """Let containers go on that a killed daemon had paused, and remove what it had written."""
        directory = os.path.join(self._top, key)
        try:
            with open(os.path.join(directory, _JOURNAL), "rb") as stream:
                entry = json.load(stream)
            for container_id in entry["containers"]:
                resume(crun, container_id, log)
            temporary = str(entry["temporary"])
            if temporary.endswith(f".{key}{UNFINISHED}"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
        except (OSError, ValueError, KeyError, TypeError) as exc:
            log.warning("journal of a checkpoint cannot be read", extra={"journal": key, "error": str(exc)})
        with contextlib.suppress(OSError):
            remove_tree(directory)
        log.info("a checkpoint was cut short and is cleared away", extra={"journal": key})


def resume(crun: CrunRuntime, container_id: str, log: logging.Logger) -> None:
    """Let a container go on that was paused, if it still is; a failure is logged, since others wait."""
    for wait_s in _TRIES_S:
        try:
            state = crun.state(container_id)
            if state is not None and state.status is Status.PAUSED:
                crun.resume(container_id)
        except (CoreError, OSError) as exc:
            # The host may be short of processes, descriptors or memory just now.
            problem = exc
            time.sleep(wait_s)
        else:
            return
    log.error("a container cannot be resumed", extra={"container": container_id, "error": str(problem)})
