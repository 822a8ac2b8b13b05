# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know whether Proxmox VE makes guests for us at the moment, and if not, why; found out beside."""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.disk.pacing import Paced

if t.TYPE_CHECKING:
    from pvecri.pve.node import PveNode

#: What guests are started and entered by.
PROGRAMS: t.Final = ("lxc-start", "lxc-attach")

#: What is not known yet is waited for so long.
_FIRST_S: t.Final = 2.0


class Standing:
    """The answer of the last time; it is asked again when that is old, and nobody waits for that."""

    def __init__(self, node: PveNode) -> None:
        self._node = node
        self._problem: str | None = None
        self._is_known = False
        self._paced = Paced("standing of Proxmox VE", self._look, node.log)

    @property
    def is_set_up(self) -> bool:
        """Whether the access to Proxmox VE can be read; nobody is asked."""
        try:
            _client = self._node.client
        except CoreError:
            return False
        return True

    def problem(self) -> str | None:
        """Return what keeps new guests from being made; None: nothing is known to."""
        if self._paced.is_due:
            self._paced.begin()
        if not self._is_known:
            self._paced.wait(_FIRST_S)
        if not self._is_known:
            return "Proxmox VE has not answered yet"
        return self._problem

    def plain(self) -> dict[str, t.Any]:
        """Return what people want to see of it."""
        node = self._node
        return {
            "access_file": node.config.access_file,
            "is_set_up": self.is_set_up,
            "problem": self.problem(),
            "node": node.config.node or os.path.basename(os.path.realpath(f"{node.config_dir}/local")),
            "vmid_range": list(node.vmid_range),
            "lxc_path": node.lxc_path,
        }

    def _look(self, _is_whole: bool) -> None:
        self._problem = self._found()
        self._is_known = True

    def _found(self) -> str | None:
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing:
            return f"there is no program {' and no '.join(missing)}"
        try:
            self._node.check()
        except CoreError as exc:
            return str(exc)
        return None
