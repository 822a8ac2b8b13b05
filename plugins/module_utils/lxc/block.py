# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write an OCI process object as the block of memory that the launcher works from; pure.

The launcher maps it at a fixed address, so the block holds ready-made pointers: the argument list and the
environment go to execve(2) as they stand.  Numbers are 64 bits, little endian:

    0 flags   8 bounding set   16 uid   24 gid   32 number of groups   40 groups   48 working directory
    56 arguments   64 environment   72 umask   80 effective, 88 permitted, 96 inheritable, 104 ambient set
    112 directories to make when the working directory is missing   120 candidates for the program … 0

It may hold secrets, as any environment does.
"""

from __future__ import annotations

import os
import struct
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import CAPABILITIES
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.process import DEFAULT_PATH

#: Where the launcher maps it.
ADDRESS: t.Final = 0x20000000
#: As much as it maps; the kernel itself takes less for arguments and environment together.
SIZE_MAX: t.Final = 8 << 20

_TERMINAL, _NO_NEW_PRIVILEGES, _READ_ONLY_ROOT = 1, 2, 4
_HEAD = struct.Struct("<15Q")
_ID_MAX = (1 << 32) - 2
_GROUPS_MAX = 65536
_UMASK_DEFAULT = 0o022
_BITS: t.Final = {name: 1 << number for number, name in enumerate(CAPABILITIES)}


def encode(
    process: t.Mapping[str, t.Any], *, read_only_root: bool = False, make_directory: bool = False
) -> bytes:
    """Return the block for ``process`` of a config.json (OCI runtime specification 1.2, "Process").

    With ``read_only_root`` the launcher makes the root read-only; with ``make_directory`` it makes the
    working directory where that is missing.  Raises InvalidSpec for what cannot be run so.
    """
    user = process.get("user") or {}
    arguments = [_text(word, f"process.args[{i}]") for i, word in enumerate(process.get("args") or ())]
    if not arguments or not arguments[0]:
        raise InvalidSpec("process.args", "there is no program to run", hint="Give a command")
    environment = [_text(word, f"process.env[{i}]") for i, word in enumerate(process.get("env") or ())]
    directory = _directory(process.get("cwd"))
    groups = [
        _id(number, f"process.user.additionalGids[{i}]")
        for i, number in enumerate(user.get("additionalGids") or ())
    ]
    if len(groups) > _GROUPS_MAX:
        raise InvalidSpec("process.user.additionalGids", f"{len(groups)} are more than the kernel takes")
    bounding, effective, permitted, inheritable, ambient = _capability_sets(process.get("capabilities") or {})
    umask = user.get("umask")
    flags = (
        (_TERMINAL if process.get("terminal") else 0)
        | (_NO_NEW_PRIVILEGES if process.get("noNewPrivileges") else 0)
        | (_READ_ONLY_ROOT if read_only_root else 0)
    )
    made = _ancestors(directory) if make_directory else []
    lists = [_candidates(arguments[0], environment), made, arguments, environment]
    packed, (_found, to_make, argv, envp), at_groups, (at_directory,) = _packed(lists, groups, [directory])
    head = _HEAD.pack(
        flags,
        bounding,
        _id(user.get("uid", 0), "process.user.uid"),
        _id(user.get("gid", 0), "process.user.gid"),
        len(groups),
        at_groups,
        at_directory,
        argv,
        envp,
        _UMASK_DEFAULT if umask is None else int(umask) & 0o777,
        effective,
        permitted,
        inheritable,
        ambient,
        to_make,
    )
    if len(head) + len(packed) > SIZE_MAX:
        raise InvalidSpec(
            "process.args",
            f"arguments and environment are together longer than {SIZE_MAX >> 20} MiB",
            hint="Pass what is long in a file or on standard input",
        )
    return head + packed


def _packed(
    lists: t.Sequence[t.Sequence[bytes]], groups: t.Sequence[int], singles: t.Sequence[bytes]
) -> tuple[bytes, list[int], int, list[int]]:
    """Return what follows the head, and the addresses of the lists, of the groups and of the single texts.

    First the lists of pointers, each with a closing 0 and the first one next to the head, then the groups,
    then all texts.
    """
    starts = []
    place = ADDRESS + _HEAD.size
    for words in lists:
        starts.append(place)
        place += 8 * (len(words) + 1)
    at_groups = place
    place += (4 * len(groups) + 7) & ~7
    pointers: list[bytes] = []
    texts: list[bytes] = []
    for words in lists:
        for word in words:
            pointers.append(struct.pack("<Q", place))
            texts.append(word + b"\0")
            place += len(word) + 1
        pointers.append(bytes(8))
    alone = []
    for word in singles:
        alone.append(place)
        texts.append(word + b"\0")
        place += len(word) + 1
    numbers = struct.pack(f"<{len(groups)}I", *groups)
    padding = bytes(-len(numbers) % 8)
    return b"".join([*pointers, numbers, padding, *texts]), starts, at_groups, alone


def _text(value: t.Any, field: str) -> bytes:
    """Return a text as the kernel takes it; text that was no UTF-8 comes back as it was."""
    if not isinstance(value, str):
        raise InvalidSpec(field, f"{value!r} is no text")
    try:
        text = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as exc:
        raise InvalidSpec(field, "it has half a surrogate pair, which is no character") from exc
    if b"\0" in text:
        raise InvalidSpec(field, "it has a NUL character, which no argument of a program can have")
    return text


def _directory(value: t.Any) -> bytes:
    path = _text(value or "/", "process.cwd")
    if not path.startswith(b"/"):
        raise InvalidSpec("process.cwd", f"'{os.fsdecode(path)}' is no absolute path")
    return path


def _ancestors(directory: bytes) -> list[bytes]:
    """Return a directory and all above it but the root, from the top."""
    parts = [part for part in directory.split(b"/") if part]
    return [b"/" + b"/".join(parts[: i + 1]) for i in range(len(parts))]


def _id(value: t.Any, field: str) -> int:
    number = int(value or 0)
    if not 0 <= number <= _ID_MAX:
        raise InvalidSpec(field, f"{number} is no user or group id")
    return number


def _candidates(name: bytes, environment: t.Sequence[bytes]) -> list[bytes]:
    """Return the paths to try, as execvp(3) does with the PATH that the program will have."""
    if b"/" in name:
        return [name]
    # The first one counts, as for getenv(3).
    values = (value for key, _sign, value in (word.partition(b"=") for word in environment) if key == b"PATH")
    search = next(values, DEFAULT_PATH.encode())
    return list(dict.fromkeys(os.path.join(directory or b".", name) for directory in search.split(b":")))


def _capability_sets(sets: t.Mapping[str, t.Any]) -> tuple[int, int, int, int, int]:
    """Return bounding, effective, permitted, inheritable and ambient set, each within what it needs.

    The kernel takes nothing effective or ambient that is not permitted, and nothing ambient that is not
    inheritable (capabilities(7)); what is not in the bounding set a program gets in no other way either.
    """
    bounding, effective, permitted, inheritable, ambient = (
        _mask(sets.get(name) or (), f"process.capabilities.{name}")
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
    )
    inheritable &= bounding
    return bounding, effective & permitted, permitted, inheritable, ambient & permitted & inheritable


def _mask(names: t.Sequence[str], field: str) -> int:
    mask = 0
    for name in names:
        if name not in _BITS:
            raise InvalidSpec(field, f"'{name}' is no capability")
        mask |= _BITS[name]
    return mask
