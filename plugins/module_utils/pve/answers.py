# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn what the Proxmox VE API answers, or fails to answer, into the core's errors."""

from __future__ import annotations

import contextlib
import json
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    CoreError,
    InvalidSpec,
    LoginFailed,
    MissingPrivilege,
)

#: pveproxy's own numbers for what went wrong between it and the node that should answer.
_PROXY_PROBLEMS = {
    595: "could not be reached",
    596: "did not complete the TLS handshake or the request, or took too long",
    597: "broke off its answer",
    598: "was given up on",
    599: "could not be asked",
}

#: With these the request was, or may have been, on its way to what should carry it out.
_MAYBE_DONE = frozenset({502, 504, 596, 597, 598})

# Requests that Proxmox VE refuses without naming a privilege, because alternatives exist.
_UNNAMED = (
    ("POST", r"/nodes/[^/]+/lxc", "VM.Allocate", "/vms/{vmid} of the new container, or on its pool"),
    (
        "POST",
        r"/nodes/[^/]+/lxc/\d+/clone",
        "VM.Allocate",
        "/vms/{newid} of the new container, or on its pool",
    ),
)

#: Longest text of a server that is repeated in an error.
_LONGEST_TEXT = 2000

_PERMISSION = re.compile(r"Permission check failed \((?P<path>/[^,)]*),\s*(?P<privilege>[A-Za-z.|, ]+)\)")

# What to do about the failures that users meet most; only the advice depends on the text.
_ADVICE = (
    ("no quorum", "Bring enough cluster nodes back online: without quorum the configuration is read-only"),
    ("is locked", "Wait for the task that holds the lock; 'pct unlock' only after one that died"),
    ("got timeout", "Another task works on the same container: try again when it has ended"),
    ("protection mode", "Set 'protection' to false first"),
    ("hostname lookup", "Check the node's name: the cluster has no node of that name"),
    ("no space left", "Free space on the storage, or name another one"),
)


def decode_reason(reason: str | None) -> str:
    """Return the reason line as text: HTTP hands it over as latin-1, PVE wrote UTF-8."""
    try:
        return (reason or "").encode("latin-1").decode("utf-8", "replace").strip()
    except UnicodeEncodeError:
        return (reason or "").strip()


def parse_body(text: str) -> dict[str, t.Any]:
    """Return the JSON object of an answer, or an empty one for anything else."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


@contextlib.contextmanager
def understood(request: str) -> t.Iterator[None]:
    """Turn what goes wrong while an answer is taken apart into an ApiError about ``request``.

    For the lines that read the answer only: elsewhere it would hide defects.
    """
    try:
        yield
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as exc:
        raise ApiError(
            f"{request}: the answer is not like one of Proxmox VE ({type(exc).__name__}: {_short(str(exc))})",
            status=200,
            hint="Check api_host and api_port: something else, or an unknown version, seems to listen there",
        ) from exc


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def error_of_answer(
    status: int, reason: str, body: t.Mapping[str, t.Any], *, method: str, path: str, host: str
) -> CoreError:
    """Return the exception for an answer of ``status`` 300 or more.

    400 → InvalidSpec with the refused parameters, 401 → LoginFailed, 403 →
    MissingPrivilege, 5xx → ApiError.  ``body`` is the decoded JSON object.
    """
    said = _short(str(body.get("message") or "").strip() or reason or "no reason given")
    request = f"{method} {path}"
    if status == 400:
        return _bad_request(said, body.get("errors"), request)
    if status == 401:
        return LoginFailed(
            f"{host} refused the login: {said}",
            status=status,
            reason=said,
            method=method,
            path=path,
            hint="Check user and realm (user@pam), password or token id and secret, the second factor, "
            "whether the account is enabled and the token unexpired, and the clocks of both hosts",
        )
    if status == 403:
        return _forbidden(said, request, _unnamed(method, path))
    maybe_done = method != "GET" and status in _MAYBE_DONE
    if status in _PROXY_PROBLEMS:
        node = node_of(path)
        who = f"node '{node}'" if node else "the node that should answer"
        message = f"{who} {_PROXY_PROBLEMS[status]} ({status} {said}, asked through {host})"
        hint: str | None = "Check that the node is online and that its pveproxy and pvedaemon run"
    else:
        message = f"{request} failed with status {status}: {said}"
        hint = next((advice for text, advice in _ADVICE if text in said.lower()), None)
        if status == 501:
            hint = "This Proxmox VE version does not know the request: see GET /version"
        elif 300 <= status < 400:
            hint = f"{host} sends elsewhere: give the API's own host and port"
    if maybe_done:
        message += "; whether it was carried out is unknown"
    return ApiError(
        message, status=status, reason=said, method=method, path=path, maybe_done=maybe_done, hint=hint
    )


def node_of(path: str) -> str | None:
    """Return the node that a request path is about, or ``None``."""
    parts = path.strip("/").split("/")
    return parts[1] if len(parts) > 1 and parts[0] == "nodes" else None


def _bad_request(said: str, errors: t.Any, request: str) -> InvalidSpec:
    if not isinstance(errors, dict) or not errors:
        return InvalidSpec("", f"{request} was refused: {said}")
    texts = {_short(str(name)): _short(str(text).strip()) for name, text in sorted(errors.items())}
    problem = "; ".join(f"{name}: {text}" for name, text in list(texts.items())[1:])
    first = next(iter(texts))
    more = f"; {problem}" if problem else ""
    return InvalidSpec(
        first if len(texts) == 1 else ", ".join(texts),
        f"{texts[first] if len(texts) == 1 else f'{first}: {texts[first]}{more}'} ({request})",
    )


def _unnamed(method: str, path: str) -> tuple[str, str] | None:
    """Return privilege and path that a refusal without a reason most likely means, or ``None``."""
    for verb, pattern, privilege, where in _UNNAMED:
        if verb == method and re.fullmatch(pattern, path):
            return privilege, where
    return None


def _forbidden(said: str, request: str, unnamed: tuple[str, str] | None) -> MissingPrivilege:
    found = _PERMISSION.search(said)
    if found or (unnamed and "(" not in said):
        privilege, path = (found["privilege"].strip(), found["path"]) if found else unnamed or ("", "")
        return MissingPrivilege(
            f"the Proxmox VE user lacks the privilege {privilege} on {path} ({request})",
            privilege=privilege,
            path=path,
            hint="Give the user, and a token with privilege separation too, a role that has it on that path",
        )
    hint = "Give the user or token a role that allows it"
    if "root" in said:
        hint = "Only root@pam itself may do this, with a password: no API token, not even one of root@pam"
    return MissingPrivilege(f"{request} is not allowed: {said}", hint=hint)
