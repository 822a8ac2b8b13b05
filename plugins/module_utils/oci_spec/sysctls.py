# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check sysctls: only what belongs to a namespace of the container's own may be set."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Namespaces
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.paths import check_text

#: System V IPC settings that each IPC namespace has of its own (ipc_namespaces(7)).
_IPC: t.Final = frozenset(
    f"kernel.{name}"
    for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def build_sysctls(sysctls: t.Sequence[tuple[str, str]], namespaces: Namespaces) -> dict[str, str]:
    """Return ``linux.sysctl``.

    Raises InvalidSpec that names the sysctl and the namespace it needs; what belongs
    to no namespace would change the host and is always refused.
    """
    result: dict[str, str] = {}
    for asked, value in sysctls:
        name = dotted_name(asked)
        field = f"sysctls.{name}"
        if not re.fullmatch(r"[a-z0-9_]+(\.[A-Za-z0-9_*/:@-]+)+", name) or _leads_astray(name):
            raise InvalidSpec(field, "is not the name of a sysctl")
        needed = _namespace_of(name, field)
        if getattr(namespaces, needed) == "host":
            raise InvalidSpec(
                field,
                f"would change the host, because namespaces.{needed} is 'host'",
                hint="Give the container a namespace of its own, or set it with ansible.posix.sysctl",
            )
        if name in result and result[name] != value:
            raise InvalidSpec(field, "is set twice")
        result[name] = check_text(value, field)
    return result


def sysctl_path(name: str) -> str:
    """Return the path below /proc/sys of a sysctl by its dotted name: a slash stands for a dot of a part."""
    return name.translate({ord("/"): ".", ord("."): "/"})


def _leads_astray(name: str) -> bool:
    return not {"", ".", ".."}.isdisjoint(sysctl_path(name).split("/"))


def dotted_name(asked: str) -> str:
    """Return a sysctl's name with dots between its parts, as sysctl(8) reads either spelling."""
    separator = re.search(r"[./]", asked)
    if separator and separator[0] == "/":
        # In the other spelling, a dot is part of a name: of an interface such as eth0.100.
        return sysctl_path(asked)
    return asked


def _namespace_of(name: str, field: str) -> str:
    if name in _IPC or name.startswith("fs.mqueue."):
        return "ipc"
    if name.startswith("net."):
        return "network"
    if name == "kernel.domainname":
        return "uts"
    if name == "kernel.hostname":
        raise InvalidSpec(field, "the host name has an option of its own", hint="Set 'hostname'")
    raise InvalidSpec(
        field,
        "belongs to no namespace, so that setting it would change the host",
        hint="Set it on the host with ansible.posix.sysctl; containers may set net.*, fs.mqueue.*, "
        f"kernel.domainname, {', '.join(sorted(_IPC))}",
    )
