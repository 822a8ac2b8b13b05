# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find user and groups of a container in the text of its /etc/passwd and /etc/group.

The files come out of an image, so nobody vouches for them: lines that are not
well-formed are passed over, and only the beginning of an absurdly large file counts.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

#: Ids are 32 bits wide and the last one means «leave unchanged» to chown(2) and setresuid(2).
MAX_ID: t.Final = (1 << 32) - 2

#: Characters of passwd or group that are looked at; tens of thousands of entries fit.
MAX_TEXT: t.Final = 8 << 20

#: Longest line that counts: a group's member list may be long, but not endless.
_MAX_LINE: t.Final = 1 << 16

_PASSWD_FIELDS: t.Final = 7
_GROUP_FIELDS: t.Final = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedUser:
    """Who the first process of a container is, in numbers."""

    uid: int = 0
    gid: int = 0
    #: In ascending order; without ``gid``, but for groups of a pod.
    additional_gids: tuple[int, ...] = ()
    home: str = "/"
    #: Empty when passwd does not know the number.
    name: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: frozenset[str]


def resolve_user(
    passwd_text: str,
    group_text: str,
    user: str | None,
    supplementary: t.Sequence[str] = (),
    merge: bool = True,
    *,
    pod_groups: bool = False,
    field: str = "user",
    groups_field: str = "supplementary_groups",
) -> ResolvedUser:
    """Return the numbers of ``user[:group]``, names or numbers, root when empty.

    A number needs no entry; its group then is 0 (OCI image specification, config.md,
    «User»).  ``merge`` adds the groups of which passwd's name is a member in group,
    as login does; it does not when a group is asked for explicitly, nor for a user
    without a name.  With ``pod_groups`` it does beside an explicit group, too, and the first
    group is one of the additional ones: else giving it up would be a way round rules that deny
    something to the group's members.  Raises InvalidSpec for a name that the files do not know.
    """
    text = (user or "").strip()
    user_part, colon, group_part = text.partition(":")
    if colon and not group_part:
        raise InvalidSpec(field, f"'{text}' has no group after the colon")
    entries = _parse_passwd(passwd_text)
    groups = _parse_group(group_text)
    found = _find_user(user_part, entries, field)
    gid = _group_id(group_part, groups, field) if group_part else found.gid
    additional = {_group_id(name, groups, f"{groups_field}[{i}]") for i, name in enumerate(supplementary)}
    if merge and (pod_groups or not group_part) and found.name:
        additional |= {group.gid for group in groups if found.name in group.members}
    if pod_groups:
        additional.add(gid)
    else:
        additional.discard(gid)
    return ResolvedUser(
        uid=found.uid,
        gid=gid,
        additional_gids=tuple(sorted(additional)),
        home=found.home or "/",
        name=found.name,
    )


def _find_user(part: str, entries: list[_User], field: str) -> _User:
    number = _number(part or "0", field)
    if number is None:
        for entry in entries:
            if entry.name == part:
                return entry
        raise InvalidSpec(
            field,
            f"no user '{part}' in /etc/passwd of the rootfs",
            hint="Use a number, or a user that the image knows",
        )
    return next((entry for entry in entries if entry.uid == number), _User("", number, 0, "/"))


def _group_id(part: str, groups: list[_Group], field: str) -> int:
    number = _number(part, field)
    if number is not None:
        return number
    for group in groups:
        if group.name == part:
            return group.gid
    raise InvalidSpec(
        field,
        f"no group '{part}' in /etc/group of the rootfs",
        hint="Use a number, or a group that the image knows",
    )


def _number(text: str, field: str) -> int | None:
    """Return an id, or None when the text is a name."""
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > len(str(MAX_ID)) or int(text) > MAX_ID:
        raise InvalidSpec(field, f"'{text[:32]}' is not an id", hint=f"Ids are 0 to {MAX_ID}")
    return int(text)


def _lines(text: str, fields: int) -> t.Iterator[list[str]]:
    for line in text[:MAX_TEXT].split("\n"):
        parts = line.split(":") if len(line) <= _MAX_LINE else []
        # Some images leave off empty fields at the end; name, password and id must be there.
        if len(parts) >= 3 and parts[0] and not parts[0].startswith("#"):
            yield parts[:fields] + [""] * (fields - len(parts))


def _parse_passwd(text: str) -> list[_User]:
    found = []
    for name, _password, uid, gid, _gecos, home, _shell in _lines(text, _PASSWD_FIELDS):
        numbers = _file_id(uid), _file_id(gid or "0")
        if numbers[0] is not None and numbers[1] is not None:
            found.append(_User(name, numbers[0], numbers[1], home if home.startswith("/") else "/"))
    return found


def _parse_group(text: str) -> list[_Group]:
    found = []
    for name, _password, gid, members in _lines(text, _GROUP_FIELDS):
        number = _file_id(gid)
        if number is not None:
            found.append(_Group(name, number, frozenset(filter(None, members.split(",")))))
    return found


def _file_id(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MAX_ID)):
        return None
    number = int(text)
    return number if number <= MAX_ID else None
