# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the errors of pulls that kubelet has names of its own for.

It goes by the first word of the message, and only when the status is UNKNOWN.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    CoreError,
)


class PullError(CommandError):
    """Report a pull that failed for a reason that kubelet knows."""

    #: The first word of the message.
    word: t.ClassVar[str]

    @classmethod
    def of(cls, error: CommandError, message: str | None = None) -> t.Self:
        """Return the error that says so of ``error``."""
        return cls(
            f"{cls.word}: {message or error.message}",
            argv=error.argv,
            rc=error.rc,
            stdout=error.stdout,
            stderr=error.stderr,
            hint=error.hint,
        )


class RegistryUnavailable(PullError):
    """Report a registry that does not answer, or is out of order."""

    code = "registry_unavailable"
    word = "RegistryUnavailable"


class SignatureRejected(PullError):
    """Report an image that the signature policy does not admit."""

    code = "signature_rejected"
    word = "SignatureValidationFailed"


#: skopeo's words; the program has no exit codes for them.
_UNAVAILABLE = (
    # No address, nobody listening, no way there, no answer.
    "dial tcp",
    "i/o timeout",
    "TLS handshake timeout",
    "connection reset",
    # 500, 502, 503 and 504, which are not said in one way.
    "Internal Server Error",
    "Bad Gateway",
    "Service Unavailable",
    "Gateway Timeout",
)
_REJECTED = ("Source image rejected",)


def classify(error: CoreError) -> CoreError:
    """Return the error of a pull in the kind that kubelet knows, where it knows one."""
    if not isinstance(error, CommandError) or isinstance(error, CommandTimeout):
        return error
    if any(sign in error.message for sign in _REJECTED):
        return SignatureRejected.of(error)
    if any(sign in error.message for sign in _UNAVAILABLE):
        return RegistryUnavailable.of(error)
    return error
