# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at an HTTP request before it may become streams; pure."""

from __future__ import annotations

import typing as t
import urllib.parse

from pvecri.streaming.requests import Kind
from pvecri.streaming.upgrade_request import UpgradeError, UpgradeRequest

_METHODS: t.Final = ("GET", "POST")
#: Longer than any token.
_TOKEN_MAX: t.Final = 100


def admitted(request: UpgradeRequest, origin: str) -> tuple[Kind, str]:
    """Return what a request is for, and its token; ``origin`` is the endpoint's own.

    Raises UpgradeError.
    """
    kind, token = _place(request.target)
    if request.method not in _METHODS:
        allow = (b"Allow", ", ".join(_METHODS).encode())
        raise UpgradeError(405, f"{request.method} is not allowed here", (allow,))
    _check_origin(request, origin)
    return kind, token


def not_found() -> UpgradeError:
    """Return the answer for all that is not there: paths, and tokens that are unknown, used or expired."""
    return UpgradeError(404, "there is no such stream: a URL is for one connection, within a minute")


def _place(target: str) -> tuple[Kind, str]:
    path = target.partition("?")[0]
    parts = path.split("/")
    if len(parts) != 3 or parts[0] or parts[1] not in set(Kind) or not 0 < len(parts[2]) <= _TOKEN_MAX:
        raise not_found()
    return Kind(parts[1]), parts[2]


def _check_origin(request: UpgradeRequest, own: str) -> None:
    """Refuse what a page of another site has a browser ask for.

    kubelet passes on the Origin of the client that it serves, which it has let through itself, and
    says so by X-Forwarded-For; a page can give a WebSocket no header.
    """
    origins = request.values("origin")
    if not origins or request.values("x-forwarded-for"):
        return
    wanted = urllib.parse.urlsplit(own)
    for origin in origins:
        try:
            found = urllib.parse.urlsplit(origin)
            is_own = (found.scheme, found.hostname, found.port) == (
                wanted.scheme,
                wanted.hostname,
                wanted.port,
            )
        except ValueError:
            is_own = False
        if not is_own:
            raise UpgradeError(403, "pages of other sites must not ask for streams")
