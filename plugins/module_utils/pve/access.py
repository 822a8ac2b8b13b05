# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan what gives a program access to the Proxmox VE API: roles, a user, its token and permissions.  Pure.

`plan` compares a `Request` with a `State` and returns the requests to send, in an order in
which each prefix of them is a state that the next run completes:

- present: roles, user, token (its secret is written at once), permissions of the token, of the user;
- absent: the token, permissions of the user that no token of it has, the user, roles.

What was made carries a mark in its comment.  Roles have no comment: one is changed only while
nobody else has it, and removed only while nobody has it and it is as we would make it.
Source: PVE/API2/{User,Role,ACL}.pm of pve-access-control.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState

MARK = "pvecri.runtime"
_MARKED = re.compile(r"(?s)(?P<text>.*?) ?\(pvecri\.runtime(?: on (?P<host>\S+))?\)")
_DEFAULT_COMMENT = "Managed by Ansible"

_USER = re.compile(r"[^\s:/@]+@[A-Za-z][\w.-]+")
_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9._-]+")
_ROLE = re.compile(r"[A-Za-z0-9._-]+")
_PATH = re.compile(r"/|(?:/[A-Za-z0-9._-]+)+")


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """A permission that is asked for."""

    path: str
    role: str
    propagate: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A permission that somebody has; ``kind`` is user, group or token."""

    kind: str
    who: str
    path: str
    role: str
    propagate: bool = True

    @property
    def place(self) -> tuple[str, str]:
        """Return path and role."""
        return self.path, self.role


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token as the API lists it; ``expire`` in seconds since 1970, 0 for never."""

    comment: str = ""
    expire: int = 0
    has_privsep: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """A user with its tokens by name."""

    comment: str = ""
    is_enabled: bool = True
    expire: int = 0
    tokens: dict[str, Token] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Role:
    """A role; built-in ones cannot be changed."""

    privileges: frozenset[str]
    is_builtin: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What there is: roles and users by name, and everybody's permissions."""

    roles: dict[str, Role]
    users: dict[str, User]
    entries: tuple[Entry, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What is asked for; ``host`` is where the secret of the token lies."""

    user: str
    token: str
    host: str
    roles: dict[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    grants: tuple[Grant, ...] = ()
    privsep: bool = True
    expire: int = 0
    comment: str | None = None
    adopt: bool = False

    @property
    def token_id(self) -> str:
        """Return the token's full name."""
        return f"{self.user}!{self.token}"

    def checked(self, *, now_s: float) -> Request:
        """Return this request; raises InvalidSpec for what Proxmox VE would refuse halfway."""
        if not _USER.fullmatch(self.user):
            raise InvalidSpec("user", f"'{self.user}' has no realm", hint="Write it like pvecri@pve")
        if not _TOKEN.fullmatch(self.token):
            raise InvalidSpec(
                "token_id",
                f"'{self.token}' is no name for a token",
                hint="Use a letter, and one or more letters, digits and '._-' after it",
            )
        for name in self.roles:
            if not _ROLE.fullmatch(name) or name.lower().startswith("pve"):
                raise InvalidSpec(
                    f"roles.{name}",
                    "is no name for a role",
                    hint="Use letters, digits and '._-', and another beginning than PVE, in any case",
                )
        for number, grant in enumerate(self.grants):
            if not _PATH.fullmatch(grant.path):
                raise InvalidSpec(
                    f"acl[{number}].path", f"'{grant.path}' is no path", hint="Write it like /storage/local"
                )
        if self.expire and self.expire <= now_s:
            raise InvalidSpec("expire", f"{self.expire} is in the past", hint="Use 0 for a token without end")
        if "\n" in (self.comment or ""):
            raise InvalidSpec("comment", "has more than one line")
        return self


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One request to the API."""

    method: str
    path: tuple[str, ...]
    values: tuple[tuple[str, t.Any], ...] = ()

    @property
    def makes_token(self) -> bool:
        """Say whether the answer holds a secret."""
        return self.method == "POST" and self.path[-2] == "token"


@dataclasses.dataclass(slots=True)
class Plan:
    """The requests to send, what they change, and what stays although it was asked to go."""

    steps: list[Step] = dataclasses.field(default_factory=list)
    differences: DifferenceTracker = dataclasses.field(default_factory=DifferenceTracker)
    kept: list[str] = dataclasses.field(default_factory=list)

    def add(self, method: str, *path: str, **values: t.Any) -> None:
        """Append a request below /access."""
        self.steps.append(Step(method, ("access", *path), tuple(values.items())))

    def grant(self, entry: Entry, before: Entry | None) -> None:
        """Give or change one permission."""
        key = f"acl.{entry.who}.{entry.path}.{entry.role}"
        self.differences.add(key, _shown(before), _shown(entry))
        self._put(entry, propagate=entry.propagate)

    def revoke(self, entry: Entry) -> None:
        """Take one permission away."""
        self.differences.add(f"acl.{entry.who}.{entry.path}.{entry.role}", _shown(entry), None)
        self._put(entry, delete=True)

    def _put(self, entry: Entry, **values: t.Any) -> None:
        who = {f"{entry.kind}s": entry.who}
        self.add("PUT", "acl", path=entry.path, roles=entry.role, **who, **values)


def _shown(entry: Entry | None) -> str | None:
    if entry is None:
        return None
    return "with all below" if entry.propagate else "this path only"


def plan_present(request: Request, state: State, *, renewal: str | None) -> Plan:
    """Return what makes everything as asked for.

    ``renewal`` says why an existing token must be made anew (its secret is told once
    only), or is None.  Raises WrongState for what belongs to somebody else.
    """
    made = Plan()
    for name, privileges in request.roles.items():
        _plan_role(made, request, state, name, privileges)
    user = state.users.get(request.user)
    _plan_user(made, request, user)
    token = user.tokens.get(request.token) if user else None
    is_new = _plan_token(made, request, token, renewal)
    mine = _entries(state, "token", request.token_id)
    wanted = {(grant.path, grant.role): grant.propagate for grant in request.grants}
    if request.privsep:
        _plan_entries(made, "token", request.token_id, wanted, {} if is_new else mine)
        extra = [] if is_new else [entry for place, entry in mine.items() if place not in wanted]
    else:
        extra = list(mine.values())
    users = _entries(state, "user", request.user)
    _plan_entries(made, "user", request.user, wanted, users)
    for entry in [*extra, *_orphans(request, state, set(wanted))]:
        made.revoke(entry)
    return made


def _plan_role(made: Plan, request: Request, state: State, name: str, privileges: t.AbstractSet[str]) -> None:
    role = state.roles.get(name)
    privs = ",".join(sorted(privileges))
    if role is None:
        made.add("POST", "roles", roleid=name, privs=privs)
    elif role.privileges != privileges:
        others = _others_with(request, state, name)
        if others and not request.adopt:
            raise WrongState(
                f"role '{name}' has other privileges, and {', '.join(others)} has it too",
                hint="Name another role, give it exactly these privileges yourself, or set adopt: true",
            )
        made.add("PUT", "roles", name, privs=privs)
    made.differences.add(f"roles.{name}", sorted(role.privileges) if role else None, sorted(privileges))


def _others_with(request: Request, state: State, role: str) -> list[str]:
    """Return who has a role besides our user and its tokens."""
    mine = (request.user, f"{request.user}!")
    return sorted(
        {
            e.who
            for e in state.entries
            if e.role == role and e.who != mine[0] and not e.who.startswith(mine[1])
        }
    )


def _plan_user(made: Plan, request: Request, user: User | None) -> None:
    if user is None:
        comment = f"{request.comment or _DEFAULT_COMMENT} ({MARK})"
        made.add("POST", "users", userid=request.user, comment=comment)
        made.differences.add(f"users.{request.user}", None, comment)
        return
    if not _is_marked(user.comment) and not request.adopt:
        raise WrongState(
            f"user '{request.user}' was not made by this collection: its comment lacks '({MARK})'",
            hint="Name another user, or set adopt: true to give it the token and permissions",
        )
    if not user.is_enabled or user.expire:
        raise WrongState(
            f"user '{request.user}' is disabled or has an end",
            hint=f"Enable it (pveum user modify {request.user} --enable 1 --expire 0), or remove it",
        )


def _is_marked(comment: str) -> bool:
    return bool(_MARKED.fullmatch(comment))


def check_token(request: Request, token: Token) -> None:
    """Raise WrongState for a token that is not ours to touch."""
    found = _MARKED.fullmatch(token.comment)
    if request.adopt:
        return
    if found is None:
        raise WrongState(
            f"token '{request.token_id}' was not made by this collection: its comment lacks '({MARK} on …)'",
            hint="Name another token; adopt: true takes it over, and whoever uses it loses it",
        )
    if found["host"] not in (None, request.host):
        raise WrongState(
            f"token '{request.token_id}' belongs to host '{found['host']}', and only that has its secret",
            hint="Give each host a token of its own; adopt: true takes it over, and that host loses it",
        )


def _plan_token(made: Plan, request: Request, token: Token | None, renewal: str | None) -> bool:
    """Plan the token; return whether it will be new."""
    key = f"tokens.{request.token_id}"
    path = ("users", request.user, "token", request.token)
    mark = f"({MARK} on {request.host})"
    if token is not None:
        check_token(request, token)
    old = _MARKED.fullmatch(token.comment) if token else None
    text = request.comment or (old["text"] if old else token.comment if token else "") or _DEFAULT_COMMENT
    wanted: dict[str, t.Any] = {
        "comment": f"{text} {mark}",
        "expire": request.expire,
        "privsep": request.privsep,
    }
    is_now = {"comment": token.comment, "expire": token.expire, "privsep": token.has_privsep} if token else {}
    for name, value in wanted.items():
        made.differences.add(f"{key}.{name}", is_now.get(name), value)
    if token is not None and renewal is None:
        changed = {name: value for name, value in wanted.items() if is_now[name] != value}
        if changed:
            made.add("PUT", *path, **changed)
        return False
    if token is not None:
        made.differences.add(f"{key}.secret", "not usable here: " + (renewal or ""), "made anew")
        made.add("DELETE", *path)
    else:
        made.differences.add(f"{key}.secret", None, "made")
    made.add("POST", *path, **wanted)
    return True


def _entries(state: State, kind: str, who: str) -> dict[tuple[str, str], Entry]:
    return {entry.place: entry for entry in state.entries if entry.kind == kind and entry.who == who}


def _plan_entries(
    made: Plan,
    kind: str,
    who: str,
    wanted: t.Mapping[tuple[str, str], bool],
    found: t.Mapping[tuple[str, str], Entry],
) -> None:
    for place, propagate in wanted.items():
        before = found.get(place)
        if before is None or before.propagate != propagate:
            made.grant(Entry(kind, who, *place, propagate), before)


def _orphans(request: Request, state: State, wanted: set[tuple[str, str]]) -> list[Entry]:
    """Return permissions of our user that neither ``wanted`` nor another token of it has.

    A token has no more than its user has, so the user of several hosts holds what all of
    their tokens hold.  Beside a token without privilege separation nobody can tell.
    """
    user = state.users.get(request.user)
    if user is None:
        return []
    found = _entries(state, "user", request.user)
    if not _is_marked(user.comment):
        # Somebody's own user, adopted: of its permissions only those are known that are named.
        named = {(grant.path, grant.role) for grant in request.grants} if request.adopt else set()
        found = {place: entry for place, entry in found.items() if place in named}
    others = {name: token for name, token in user.tokens.items() if name != request.token}
    if not all(token.has_privsep for token in others.values()):
        return []
    needed = set(wanted)
    for name in others:
        needed |= _entries(state, "token", f"{request.user}!{name}").keys()
    return [entry for place, entry in found.items() if place not in needed]


def plan_absent(request: Request, state: State) -> Plan:
    """Return what removes the token and whatever of the rest only it needed.

    Raises WrongState for a token that is not ours.
    """
    made = Plan()
    user = state.users.get(request.user)
    gone: set[Entry] = set()
    if user is not None:
        token = user.tokens.get(request.token)
        if token is not None:
            check_token(request, token)
            made.differences.add(f"tokens.{request.token_id}.comment", token.comment, None)
            made.add("DELETE", "users", request.user, "token", request.token)
        gone.update(e for e in state.entries if e.who == request.token_id)
        orphans = _orphans(request, state, set())
        gone.update(orphans)
        for entry in orphans:
            made.revoke(entry)
        _plan_user_gone(made, request, user)
    for name, privileges in request.roles.items():
        _plan_role_gone(made, state, name, privileges, gone)
    return made


def _plan_user_gone(made: Plan, request: Request, user: User) -> None:
    others = sorted(name for name in user.tokens if name != request.token)
    if not _is_marked(user.comment):
        made.kept.append(f"user '{request.user}': its comment lacks '({MARK})'")
    elif others:
        made.kept.append(f"user '{request.user}': it has other tokens ({', '.join(others)})")
    else:
        made.differences.add(f"users.{request.user}", user.comment, None)
        made.add("DELETE", "users", request.user)


def _plan_role_gone(
    made: Plan, state: State, name: str, privileges: t.AbstractSet[str], gone: t.Container[Entry]
) -> None:
    role = state.roles.get(name)
    if role is None:
        return
    users = sorted({entry.who for entry in state.entries if entry.role == name and entry not in gone})
    if users:
        made.kept.append(f"role '{name}': {', '.join(users)} has it")
    elif role.privileges != privileges:
        made.kept.append(f"role '{name}': its privileges are not the ones that are named")
    else:
        made.differences.add(f"roles.{name}", sorted(role.privileges), None)
        made.add("DELETE", "roles", name)
