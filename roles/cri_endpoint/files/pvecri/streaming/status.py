# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say how a session ended, as clients of Kubernetes read it from the error stream; pure.

From ``v4.channel.k8s.io`` on it is an object ``Status`` of ``meta/v1`` in JSON, always one; before, it is a
text, and none stands for success.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    CoreError,
    InvalidSpec,
    NotFound,
    WrongState,
)

#: Protocols before the status had a form.
_PLAIN: t.Final = frozenset({"v1", "v2", "v3"})

#: The first class that fits counts; HTTP's codes by Kubernetes' names (meta/v1, "StatusReason").
_REASONS: t.Final[tuple[tuple[type[CoreError], str, int], ...]] = (
    (NotFound, "NotFound", 404),
    (WrongState, "Conflict", 409),
    (InvalidSpec, "Invalid", 422),
    (CommandTimeout, "Timeout", 504),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The end of a session; without a message it was a success."""

    message: str = ""
    reason: str = ""
    code: int = 0
    #: Of a command that failed by itself.
    exit_code: int | None = None

    def encode(self, protocol: str) -> bytes:
        """Return what the error stream carries in this protocol, ``v1`` to ``v5``."""
        if protocol in _PLAIN:
            return self.message.encode()
        return json.dumps(self._plain(), separators=(",", ":")).encode()

    def _plain(self) -> dict[str, t.Any]:
        if not self.message:
            return {"metadata": {}, "status": "Success"}
        failure = {
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.exit_code is None:
            return {**failure, "code": self.code}
        causes = [{"reason": "ExitCode", "message": str(self.exit_code)}]
        return {**failure, "details": {"causes": causes}}


SUCCESS: t.Final = Status()
STOPPING: t.Final = Status(message="the endpoint is stopping", reason="ServiceUnavailable", code=503)


def exited(exit_code: int, message: str = "") -> Status:
    """Return the status of a command that ended by itself; the message is in place of the usual one."""
    if exit_code == 0:
        return SUCCESS
    return Status(
        message=message or f"command terminated with non-zero exit code: {exit_code}",
        reason="NonZeroExitCode",
        exit_code=exit_code,
    )


def failed(what: str, error: Exception) -> Status:
    """Return the status of a session that the endpoint could not bring to its end."""
    for kind, reason, code in _REASONS:
        if isinstance(error, kind):
            return Status(message=f"{what}: {error}", reason=reason, code=code)
    return Status(message=f"{what}: {error}", reason="InternalError", code=500)
