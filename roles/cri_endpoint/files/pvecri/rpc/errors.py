# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say errors of the core as gRPC statuses: the class decides, never the text.

InvalidSpec                              INVALID_ARGUMENT
NotFound                                 NOT_FOUND
Conflict                                 ALREADY_EXISTS
WrongState Unsupported MissingDependency FAILED_PRECONDITION
CommandTimeout, TimeoutError             DEADLINE_EXCEEDED
TooBusy, OSError for want of space       RESOURCE_EXHAUSTED
Unavailable                              UNAVAILABLE
PullError                                UNKNOWN, from which kubelet takes the word
anything else                            INTERNAL
"""

from __future__ import annotations

import errno

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    Conflict,
    CoreError,
    InvalidSpec,
    MissingDependency,
    NotFound,
    Unsupported,
    WrongState,
)
from pvecri.errors import TooBusy, Unavailable
from pvecri.images.errors import PullError
from pvecri.rpc.status import Code

#: A status travels in a header, for which clients have 8 KiB; a byte that is not ASCII becomes three there.
DETAILS_MAX = 4000

_CODES: tuple[tuple[type[BaseException], Code], ...] = (
    (InvalidSpec, Code.INVALID_ARGUMENT),
    (NotFound, Code.NOT_FOUND),
    (Conflict, Code.ALREADY_EXISTS),
    (WrongState, Code.FAILED_PRECONDITION),
    (Unsupported, Code.FAILED_PRECONDITION),
    (MissingDependency, Code.FAILED_PRECONDITION),
    (PullError, Code.UNKNOWN),
    (CommandTimeout, Code.DEADLINE_EXCEEDED),
    (TimeoutError, Code.DEADLINE_EXCEEDED),
)

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def reason_of_cancel(cancelled: BaseException) -> CoreError | None:
    """Return why a stream's task was cancelled by the endpoint itself: the message of `Task.cancel`.

    None: the client left.
    """
    reason = cancelled.args[0] if cancelled.args else None
    return reason if isinstance(reason, CoreError) else None


def status_of(error: BaseException) -> Code:
    """Return the status code that stands for an error."""
    if isinstance(error, Unavailable):
        return Code.UNAVAILABLE
    if isinstance(error, TooBusy) or _lacks_space(error):
        return Code.RESOURCE_EXHAUSTED
    return next((code for kind, code in _CODES if isinstance(error, kind)), Code.INTERNAL)


def is_foreseen(error: BaseException) -> bool:
    """Say whether the error was raised on purpose: its text is for the client, and no traceback is needed."""
    return isinstance(error, CoreError) or status_of(error) is not Code.INTERNAL


def details_of(text: str) -> str:
    """Return a text that fits a status, its end cut off where it is too long."""
    data = text.encode(errors="replace")
    cost = 0
    for length, byte in enumerate(data):
        cost += 1 if 0x20 <= byte < 0x7F else 3
        if cost > DETAILS_MAX:
            return data[:length].decode(errors="ignore") + "…"
    return data.decode()


def _lacks_space(error: BaseException | None) -> bool:
    """Say whether an error, or what it was made from, is the lack of disk space or quota."""
    for _unused in range(8):
        if error is None:
            return False
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            return True
        error = error.__cause__
    return False
