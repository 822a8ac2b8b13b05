# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold every error that the core raises on purpose.

    CoreError
    ├ InvalidSpec         the request itself is wrong; names the field
    ├ NotFound            the object asked for does not exist
    ├ Conflict            another object, or another writer, is in the way
    ├ WrongState          the object exists but cannot do this now
    ├ Unsupported         host, runtime or Proxmox VE version cannot do this
    ├ MissingDependency   a program, Python package or privilege is absent
    │ └ MissingPrivilege  the Proxmox VE user lacks a privilege; names it and its path
    └ CommandError        a child process failed
      ├ CommandTimeout    it did not end in time and was killed
      │ └ TaskTimeout     a Proxmox VE task is still running; nothing was killed
      ├ TaskFailed        a Proxmox VE task ended badly
      └ ApiError          a Proxmox VE API request failed
        ├ ApiTimeout      no answer in time (a CommandTimeout as well)
        └ LoginFailed     user, password, token or second factor was refused

Only the edges translate these: a module to ``fail_json``, the endpoint to a
gRPC status.  Callers branch on the class and the attributes, never on the
text.
"""

from __future__ import annotations

import shlex
import typing as t

# A failing command can print megabytes; the cause is nearly always at the end.
_OUTPUT_TAIL = 2000


class CoreError(Exception):
    """Report a failure that the core foresaw, with what to do about it."""

    #: Stable identifier returned to playbooks as ``error`` so that they can branch on it.
    code: t.ClassVar[str] = "core_error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message

    def details(self) -> dict[str, t.Any]:
        """Return plain data for ``fail_json``: at least the key ``error``."""
        return {"error": self.code}


class InvalidSpec(CoreError):
    """Refuse a request; ``field`` is the dotted path of the offending value."""

    code = "invalid_spec"

    def __init__(self, field: str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"{field}: {problem}" if field else problem, hint=hint)
        self.field = field
        self.problem = problem

    def details(self) -> dict[str, t.Any]:
        """Return ``error`` and the attributes of this class as plain data."""
        return {"error": self.code, "field": self.field}


class NotFound(CoreError):
    """Report that the named object does not exist."""

    code = "not_found"


class Conflict(CoreError):
    """Report that another object or writer holds what was asked for."""

    code = "conflict"


class WrongState(CoreError):
    """Report that the object cannot do this in the state it is in."""

    code = "wrong_state"


class Unsupported(CoreError):
    """Report that this host, runtime or server version cannot do this."""

    code = "unsupported"


class MissingDependency(CoreError):
    """Report a missing program, Python package or privilege."""

    code = "missing_dependency"


class MissingPrivilege(MissingDependency):
    """Report a privilege that the Proxmox VE user lacks.

    ``privilege`` and ``path`` are ``None`` when the server does not name them, as
    it does for what only root@pam may do.
    """

    code = "missing_privilege"

    def __init__(
        self,
        message: str,
        *,
        privilege: str | None = None,
        path: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.privilege = privilege
        self.path = path

    def details(self) -> dict[str, t.Any]:
        """Return plain data for ``fail_json``."""
        return {"error": self.code, "privilege": self.privilege, "path": self.path}


class CommandError(CoreError):
    """Report a child process that ended with an unexpected exit code.

    ``argv`` holds no secret: the core never passes one on a command line.
    """

    code = "command_failed"

    def __init__(
        self,
        message: str,
        *,
        argv: t.Sequence[str] = (),
        rc: int | None = None,
        stdout: str = "",
        stderr: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.argv = list(argv)
        self.rc = rc
        self.stdout = stdout
        self.stderr = stderr

    def details(self) -> dict[str, t.Any]:
        """Return ``error`` and the attributes of this class as plain data."""
        return {
            "error": self.code,
            "cmd": shlex.join(self.argv),
            "rc": self.rc,
            "stdout": self.stdout[-_OUTPUT_TAIL:],
            "stderr": self.stderr[-_OUTPUT_TAIL:],
        }


class CommandTimeout(CommandError):
    """Report a child process that was killed because its time was up."""

    code = "timeout"


class TaskTimeout(CommandTimeout):
    """Report a Proxmox VE task that outlasted the wait; it goes on as ``upid``."""

    def __init__(self, message: str, *, upid: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.upid = upid

    def details(self) -> dict[str, t.Any]:
        """Return plain data for ``fail_json``."""
        return {"error": self.code, "upid": self.upid}


class TaskFailed(CommandError):
    """Report a Proxmox VE task that ended neither OK nor with warnings."""

    code = "task_failed"

    def __init__(
        self,
        message: str,
        *,
        upid: str,
        exitstatus: str,
        log_tail: t.Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.upid = upid
        self.exitstatus = exitstatus
        self.log_tail = list(log_tail)

    def details(self) -> dict[str, t.Any]:
        """Return ``error`` and the attributes of this class as plain data."""
        return {
            "error": self.code,
            "upid": self.upid,
            "exitstatus": self.exitstatus,
            "task_log": self.log_tail,
        }


class ApiError(CommandError):
    """Report a Proxmox VE API request that failed.

    ``status`` is the HTTP status, or ``None`` when there was no answer at all.
    ``maybe_done`` says that a write was sent and its answer lost: the caller
    must read the state, not repeat the request.
    """

    code = "api_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        reason: str = "",
        method: str = "",
        path: str = "",
        maybe_done: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason
        self.method = method
        self.path = path
        self.maybe_done = maybe_done

    @property
    def is_unreachable(self) -> bool:
        """Say whether host or node did not answer, as opposed to refused."""
        return self.status is None or 595 <= self.status <= 599

    def details(self) -> dict[str, t.Any]:
        """Return plain data for ``fail_json``."""
        return {
            "error": self.code,
            "status": self.status,
            "reason": self.reason,
            "method": self.method,
            "path": self.path,
        }


class ApiTimeout(ApiError, CommandTimeout):
    """Report a Proxmox VE API request that was not answered in time."""

    code = "timeout"


class LoginFailed(ApiError):
    """Report that the Proxmox VE API refused user, password, token or second factor."""

    code = "login_failed"
