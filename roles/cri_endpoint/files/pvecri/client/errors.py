# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say why a call over the socket brought nothing.

CoreError
├ NoEndpoint    nobody that speaks gRPC answers on the socket
└ CallFailed    the endpoint answered with a status other than OK, or not in time
"""

from __future__ import annotations

import enum
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.rpc.status import Code


class Reason(enum.Enum):
    """Why nobody answers."""

    MISSING = "missing"
    REFUSED = "refused"
    DENIED = "denied"
    NOT_GRPC = "not_grpc"
    CLOSED = "closed"
    OTHER = "other"


class NoEndpoint(CoreError):
    """Report that no endpoint answers on a socket."""

    code = "no_endpoint"

    def __init__(self, message: str, reason: Reason, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason

    def details(self) -> dict[str, t.Any]:
        """Return plain data: ``error`` and ``reason``."""
        return {"error": self.code, "reason": self.reason.value}


class CallFailed(CoreError):
    """Report the status with which a call ended; ``method`` is its name in the CRI."""

    code = "call_failed"

    def __init__(self, method: str, status: Code, text: str) -> None:
        super().__init__(f"{method} was answered {status.name}" + (f": {text}" if text else ""))
        self.method = method
        self.status = status
        self.text = text

    @property
    def is_temporary(self) -> bool:
        """Say whether the same call may succeed soon: the endpoint is starting, or slow."""
        return self.status in {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}

    def details(self) -> dict[str, t.Any]:
        """Return plain data: ``error``, ``method``, ``status`` and ``text``."""
        return {"error": self.code, "method": self.method, "status": self.status.name, "text": self.text}
