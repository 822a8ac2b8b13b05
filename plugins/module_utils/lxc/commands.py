# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the command lines of LXC's own tools; nothing here touches the host."""

from __future__ import annotations

import dataclasses

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.include import inner_path
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LAUNCHER


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LxcPrograms:
    """Absolute paths of the programs."""

    lxc_attach: str = "/usr/bin/lxc-attach"
    #: Runs the holder, which needs nothing but the standard library.
    python: str = "/usr/bin/python3"


def attach_argv(programs: LxcPrograms, lxc_path: str, vmid: int, token: str) -> list[str]:
    """Return the command that runs the launcher in a container, where it connects to the socket ``token``.

    lxc-attach brings namespaces, cgroup, the label of the security module and the filter of system calls.
    Capabilities are the launcher's affair: it needs those that change its user, whatever the container has.
    """
    return [
        programs.lxc_attach,
        f"--lxcpath={lxc_path}",
        f"--name={vmid}",
        "--clear-env",
        # With a blank between it would be taken as the name of a program.
        "--elevated-privileges=CAP",
        "--",
        inner_path(LAUNCHER),
        inner_path(token),
    ]
