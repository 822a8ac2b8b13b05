# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn what is asked of capabilities into the five sets of ``process.capabilities``."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Security
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import (
    ALL,
    CAPABILITIES,
    normalise_capability,
)

#: What a container gets when nothing is asked: enough for a server that starts as
#: root and gives it up, without raw sockets, device nodes or the audit log.
DEFAULT_CAPABILITIES: t.Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)


def effective_capabilities(security: Security, host: HostFacts, warnings: list[str]) -> frozenset[str]:
    """Return the set a container of root has: the defaults, what is added, not what is dropped.

    ``ALL`` comes before single names on either side, so that dropping ALL and adding one leaves one.
    What the host itself does not have is left out, with a warning if it was named.
    """
    if security.capabilities_exact is not None:
        return _granted(
            _normalised(security.capabilities_exact, "security.capabilities_exact"), host, warnings
        )
    added = _normalised(security.capabilities_add, "security.capabilities_add")
    dropped = _normalised(security.capabilities_drop, "security.capabilities_drop")
    for name in sorted(added & dropped):
        raise InvalidSpec(
            "security.capabilities_drop",
            f"'{name}' is also in security.capabilities_add",
            hint="Take it out of one of the two lists",
        )
    if ALL in dropped:
        base: set[str] = set()
    elif ALL in added or security.privileged:
        base = set(CAPABILITIES)
    else:
        base = set(DEFAULT_CAPABILITIES)
    wanted = (base | (added - {ALL})) - dropped
    return _granted(wanted, host, warnings, named=added | (base & set(DEFAULT_CAPABILITIES)))


def _granted(
    wanted: set[str], host: HostFacts, warnings: list[str], *, named: t.Collection[str] | None = None
) -> frozenset[str]:
    """Return what the host has of ``wanted``, with a warning about the rest as far as it was ``named``."""
    granted = frozenset(name for name in wanted if host.has_capability(name))
    missing = sorted(name for name in wanted - granted if named is None or name in named)
    if missing:
        warnings.append(f"this host does not have {', '.join(missing)}: the container goes without")
    return granted


def capability_sets(security: Security, uid: int, granted: frozenset[str]) -> dict[str, list[str]]:
    """Return the sets for ``process.capabilities``.

    Root has all that is granted, and nothing is inheritable (CVE-2022-24769: else a
    program with file capabilities would get more than it should).  Any other user
    would lose everything with the first execve(2), so what was added *by name or by
    ALL* becomes ambient for it, and the rest remains a bound for setuid programs.
    """
    bounding = _in_kernel_order(granted)
    if security.capabilities_exact is not None:
        ambient = _in_kernel_order(granted & set(security.capabilities_ambient))
        sets = {"bounding": bounding, "effective": bounding, "permitted": bounding}
        # A capability can only be ambient if it is inheritable, too (capabilities(7)).
        return {**sets, "inheritable": ambient, "ambient": ambient} if ambient else sets
    if uid == 0:
        return {"bounding": bounding, "effective": bounding, "permitted": bounding}
    added = _normalised(security.capabilities_add, "security.capabilities_add")
    own = bounding if ALL in added or security.privileged else [name for name in bounding if name in added]
    return {
        "bounding": bounding,
        "effective": own,
        "permitted": own,
        "inheritable": own,
        "ambient": own,
    }


def _normalised(names: t.Sequence[str], field: str) -> set[str]:
    return {normalise_capability(name, f"{field}[{i}]") for i, name in enumerate(names)}


def _in_kernel_order(names: t.Collection[str]) -> list[str]:
    return [name for name in CAPABILITIES if name in names]
