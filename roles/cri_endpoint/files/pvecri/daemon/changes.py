# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log what becomes of sandboxes, and the ends of containers, whoever notes them: one line for each."""

from __future__ import annotations

import logging

from pvecri.state.records import ContainerRecord, Phase, SandboxRecord
from pvecri.state.registry import Change, Listener


def log_changes(log: logging.Logger) -> Listener:
    """Return a listener of the registry; what else becomes of containers is logged by whoever does it."""

    def heard(change: Change) -> None:
        old, new = change.old, change.new
        if isinstance(new, SandboxRecord):
            if old is None or old.phase is not new.phase:
                _log_phase(log, new)
        elif isinstance(new, ContainerRecord):
            if isinstance(old, ContainerRecord) and _end(new) not in {None, _end(old)}:
                _log_end(log, new)
        elif isinstance(old, SandboxRecord):
            log.info("sandbox removed", extra={"sandbox": old.id})

    return heard


def _log_phase(log: logging.Logger, record: SandboxRecord) -> None:
    if record.phase is Phase.READY:
        facts = {"pod": record.name, "handler": record.handler, "addresses": ",".join(record.ips)}
        log.info("sandbox ready", extra={"sandbox": record.id, **facts})
    elif record.phase is not Phase.CREATING:
        why = {"reason": record.message} if record.message else {}
        log.info(f"sandbox {record.phase}", extra={"sandbox": record.id, **why})


def _end(record: ContainerRecord) -> tuple[int | None] | None:
    """Return what is known of a container's end: its exit code, which may come late; None before."""
    return (record.exit_code,) if record.phase is Phase.EXITED else None


def _log_end(log: logging.Logger, record: ContainerRecord) -> None:
    code = "unknown" if record.exit_code is None else record.exit_code
    why = {"reason": record.reason} if record.reason else {}
    log.info(
        "container ended",
        extra={"container": record.id, "sandbox": record.sandbox_id, "exit_code": code, **why},
    )
