# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know the names that the kernel and the OCI runtime specification give things."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

_CAPABILITY_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
)
_RLIMIT_NAMES = (
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"
)

#: Capabilities in the kernel's order: the index is the bit (capabilities(7)).
CAPABILITIES: t.Final = tuple(f"CAP_{name}" for name in _CAPABILITY_NAMES.split())

#: Stands for every capability in lists of what to add or drop.
ALL: t.Final = "ALL"

#: Resource limits and their numbers on Linux (getrlimit(2)).
RLIMITS: t.Final = {f"RLIMIT_{name}": number for number, name in enumerate(_RLIMIT_NAMES.split())}

#: What the kernel calls «no limit».
RLIM_INFINITY: t.Final = (1 << 64) - 1

#: Highest number that a list of CPUs or memory nodes may hold.
_HIGHEST_NUMBER = 1 << 16

HOOK_STAGES: t.Final = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)


def parse_number_list(text: str) -> frozenset[int] | None:
    """Return the numbers of a list such as ``0-3,7`` (cpuset(7), list format); None if it is none."""
    numbers: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        if not found:
            return None
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last > _HIGHEST_NUMBER:
            return None
        numbers.update(range(first, last + 1))
    return frozenset(numbers)


def near_matches(name: str, known: t.Iterable[str]) -> str:
    """Return «Did you mean A or B?», or what there is to choose from."""
    # Only who errs needs it, and it takes a while to load.
    import difflib  # noqa: PLC0415

    choices = list(known)
    by_folded = {choice.lower(): choice for choice in choices}
    found = [by_folded[near] for near in difflib.get_close_matches(name.lower(), by_folded, n=3, cutoff=0.6)]
    if found:
        return f"Did you mean {' or '.join(found)}?"
    return f"Known are {', '.join(choices)}"


def normalise_capability(name: str, field: str) -> str:
    """Return ``CAP_NET_ADMIN`` for ``net_admin``, ``cap_net_admin`` and the like, or ``ALL``.

    Raises InvalidSpec with the names that look similar for one that the kernel does not know.
    """
    upper = name.strip().upper()
    if upper == ALL:
        return ALL
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in CAPABILITIES:
        raise InvalidSpec(field, f"unknown capability '{name}'", hint=near_matches(full, CAPABILITIES))
    return full


def normalise_rlimit(kind: str, field: str) -> str:
    """Return ``RLIMIT_NOFILE`` for ``nofile`` and the like; raises InvalidSpec for an unknown one."""
    upper = kind.strip().upper()
    full = upper if upper.startswith("RLIMIT_") else f"RLIMIT_{upper}"
    if full not in RLIMITS:
        raise InvalidSpec(field, f"unknown resource limit '{kind}'", hint=near_matches(full, RLIMITS))
    return full
