# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read who may use the Proxmox VE API, and carry out a plan of `access`; the secret goes to its file only."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import ApiError, CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import access, answers, token_file
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.token_file import Credentials, Server


class Client(t.Protocol):
    """The part of PveClient and PveshClient that is needed."""

    def request(
        self, method: str, path: t.Sequence[str], params: t.Mapping[str, t.Any] | None = None
    ) -> t.Any:
        """Send one request and return the data of its answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class SecretFile:
    """Where the secret is kept, and how who reads it reaches the API."""

    path: str
    server: Server
    timeout_s: float = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What was, or would be, done."""

    plan: access.Plan
    #: Why the token was made anew, or None.
    renewal: str | None = None


def read_state(client: Client) -> access.State:
    """Return roles, users with their tokens, and permissions, by three requests."""
    roles = client.request("GET", ("access", "roles"))
    users = client.request("GET", ("access", "users"), {"full": True})
    entries = client.request("GET", ("access", "acl"))
    with answers.understood("GET /access/…"):
        return access.State(
            {
                str(role["roleid"]): access.Role(
                    frozenset(filter(None, str(role.get("privs") or "").split(","))),
                    _truth(role.get("special")),
                )
                for role in roles
            },
            {str(user["userid"]): _user(user) for user in users},
            tuple(
                access.Entry(
                    str(entry["type"]),
                    str(entry["ugid"]),
                    str(entry["path"]),
                    str(entry["roleid"]),
                    _truth(entry.get("propagate", 1)),
                )
                for entry in entries
            ),
        )


def _user(user: t.Mapping[str, t.Any]) -> access.User:
    return access.User(
        str(user.get("comment") or ""),
        _truth(user.get("enable", 1)),
        int(user.get("expire") or 0),
        {
            str(token["tokenid"]): access.Token(
                str(token.get("comment") or ""),
                int(token.get("expire") or 0),
                _truth(token.get("privsep", 1)),
            )
            for token in user.get("tokens") or ()
        },
    )


def _truth(value: t.Any) -> bool:
    return str(value).lower() in ("1", "true")


def make_present(client: Client, request: access.Request, file: SecretFile, *, check_mode: bool) -> Result:
    """Converge everything; raises InvalidSpec and WrongState before anything is changed."""
    request.checked(now_s=time.time())
    state = read_state(client)
    found = token_file.read(file.path)
    renewal = _renewal(request, state, found, file)
    made = access.plan_present(request, state, renewal=renewal)
    _plan_file(made, request, file, found)
    if check_mode:
        return Result(made, renewal)
    if made.steps and not os.path.isdir(os.path.dirname(file.path)):
        raise InvalidSpec("secret_file", f"the directory of '{file.path}' is missing", hint="Make it first")
    _apply(client, request, file, made)
    kept = found.credentials
    is_new = any(step.makes_token for step in made.steps)
    if not is_new and kept is not None and (kept.server != file.server or not found.is_private):
        token_file.write(file.path, dataclasses.replace(kept, server=file.server))
    return Result(made, renewal)


def make_absent(client: Client, request: access.Request, path: str | None, *, check_mode: bool) -> Result:
    """Remove what is ours and nobody else needs, and the file of the secret."""
    state = read_state(client)
    made = access.plan_absent(request, state)
    found = token_file.read(path) if path else token_file.Found()
    is_mine = found.credentials is not None and _names(found.credentials, request)
    if found.exists and is_mine:
        made.differences.add("secret_file", path, None)
    elif found.exists:
        made.kept.append(f"file '{path}': it is not of token '{request.token_id}'")
    if not check_mode:
        _send(client, made.steps)
        if path and is_mine:
            token_file.remove(path)
    return Result(made)


def _names(credentials: Credentials, request: access.Request) -> bool:
    return (credentials.user, credentials.token_id) == (request.user, request.token)


def _renewal(
    request: access.Request, state: access.State, found: token_file.Found, file: SecretFile
) -> str | None:
    """Return why the secret of an existing token is of no use here, or None."""
    user = state.users.get(request.user)
    token = user.tokens.get(request.token) if user else None
    if token is None:
        return None
    # Before the file is looked at: the secret of somebody else's token is none of our business.
    access.check_token(request, token)
    if not found.exists:
        return "the file is missing"
    if found.credentials is None:
        return "the file is not readable as credentials"
    if not _names(found.credentials, request):
        return "the file is of another token"
    if token.expire and token.expire <= time.time():
        return "the token has expired"
    tried = dataclasses.replace(found.credentials, server=file.server)
    return None if token_file.is_accepted(tried, timeout_s=file.timeout_s) else "the API refuses it"


def _plan_file(made: access.Plan, request: access.Request, file: SecretFile, found: token_file.Found) -> None:
    """Record how the file changes, without the secret in it."""
    kept = found.credentials
    made.differences.add("secret_file.path", file.path if found.exists else None, file.path)
    for field in dataclasses.fields(Server):
        was = getattr(kept.server, field.name) if kept else None
        made.differences.add(f"secret_file.{field.name}", was, getattr(file.server, field.name))
    made.differences.add("secret_file.private", found.is_private if found.exists else None, True)


def _apply(client: Client, request: access.Request, file: SecretFile, made: access.Plan) -> None:
    """Send the steps; when another host made the same role or user meanwhile, go on with what is left."""
    steps = made.steps
    while True:
        done, trouble = _until_trouble(client, request, file, steps)
        if trouble is None:
            return
        state = read_state(client)
        # Asked anew: the answer with the secret of a token may be what did not come.
        renewal = _renewal(request, state, token_file.read(file.path), file)
        left = access.plan_present(request, state, renewal=renewal).steps
        # Each round is shorter, as what stopped it has been done by somebody.
        if steps[done] in left or len(left) >= len(steps):
            raise trouble
        steps = left


def _until_trouble(
    client: Client, request: access.Request, file: SecretFile, steps: t.Sequence[access.Step]
) -> tuple[int, ApiError | None]:
    """Return how many steps were done, and what stopped the next."""
    for number, step in enumerate(steps):
        try:
            answer = client.request(step.method, step.path, dict(step.values))
        except ApiError as exc:
            return number, exc
        if step.makes_token:
            _keep_secret(request, file, answer)
    return len(steps), None


def _keep_secret(request: access.Request, file: SecretFile, answer: t.Any) -> None:
    secret = answer.get("value") if isinstance(answer, dict) else None
    if not isinstance(secret, str) or not secret:
        raise ApiError(
            f"Proxmox VE made token '{request.token_id}' and did not tell its secret",
            hint="Run the task again: it makes the token anew",
        )
    credentials = Credentials(file.server, request.user, request.token, secret)
    token_file.write(file.path, credentials)
    if not token_file.is_accepted(credentials, timeout_s=file.timeout_s):
        raise CoreError(
            f"{file.server.host}:{file.server.port} refuses the new token '{request.token_id}'",
            hint="Check that server.host and server.port are of the same cluster, and its nodes' clocks",
        )


def _send(client: Client, steps: t.Iterable[access.Step]) -> None:
    for step in steps:
        client.request(step.method, step.path, dict(step.values))
