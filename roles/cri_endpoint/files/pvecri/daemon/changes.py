# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log what becomes of sandboxes, whoever changes them: one line for each state."""

from __future__ import annotations

import logging

from pvecri.state.records import Phase, SandboxRecord
from pvecri.state.registry import Change, Listener


def log_sandboxes(log: logging.Logger) -> Listener:
    """Return a listener of the registry; containers' services log their own."""

    def heard(change: Change) -> None:
        old, new = change.old, change.new
        if isinstance(new, SandboxRecord):
            if old is None or old.phase is not new.phase:
                _log_phase(log, new)
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
