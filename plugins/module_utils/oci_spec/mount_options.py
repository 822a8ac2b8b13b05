# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know the options of mounts: which words there are and which exclude each other."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import near_matches

PROPAGATIONS: t.Final = ("rprivate", "private", "rslave", "slave", "rshared", "shared")

#: Groups of words of which a mount has at most one.
_EXCLUSIVE: t.Final = (
    ("ro", "rw"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("sync", "async"),
    ("dirsync",),
    ("atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime"),
    ("diratime", "nodiratime"),
    ("symfollow", "nosymfollow"),
    ("bind", "rbind"),
)

#: Words that an option of their own says.
_OWN_OPTION: t.Final = {
    **dict.fromkeys(PROPAGATIONS, "propagation"),
    "ro": "read_only",
    "rw": "read_only",
    "rro": "recursive_read_only",
    "idmap": "uid_maps and gid_maps",
    "ridmap": "uid_maps and gid_maps",
    "size": "size",
    "mode": "mode",
    "uid": "uid",
    "gid": "gid",
    "tmpcopyup": "the image: a volume is filled from it",
}

_WORDS: t.Final = tuple(word for group in _EXCLUSIVE for word in group)


def check_options(options: t.Sequence[str], field: str, present: set[str]) -> list[str]:
    """Return further mount options in the order given, without repeats and without ``present``.

    Raises InvalidSpec for a word that mount(8) does not know as independent of the
    file system, that another option of ours says, or that contradicts one before it.
    """
    chosen: list[str] = []
    for i, option in enumerate(options):
        word = option.strip()
        name = word.partition("=")[0]
        if word in present or word in chosen:
            continue
        if name in _OWN_OPTION:
            raise InvalidSpec(f"{field}[{i}]", f"'{word}' is said by {_OWN_OPTION[name]}")
        group = next((group for group in _EXCLUSIVE if word in group), None)
        if group is None:
            raise InvalidSpec(
                f"{field}[{i}]", f"unknown mount option '{word}'", hint=near_matches(word, _WORDS)
            )
        for other in group:
            # A bind mount is recursive unless the request says "bind".
            if other in chosen or (other in present and group != ("bind", "rbind")):
                raise InvalidSpec(f"{field}[{i}]", f"'{word}' contradicts '{other}'")
        chosen.append(word)
    return chosen
