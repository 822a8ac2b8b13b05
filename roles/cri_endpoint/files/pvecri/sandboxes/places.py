# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say where a sandbox's files and namespaces are; pure.

<state_dir>/sandboxes/<id>/     hostname, hosts, resolv.conf: they survive a reboot
<run_dir>/sandboxes/<id>/       ns/<kind>: pinned namespaces; shm: the pod's /dev/shm
"""

from __future__ import annotations

import dataclasses
import os

from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from pvecri.state import spare


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """The paths of one sandbox."""

    paths: Paths
    id: str

    @property
    def files(self) -> str:
        """Directory of the files that containers see."""
        return spare.sandbox_directory(self.paths, self.id)

    @property
    def volatile(self) -> str:
        """Directory of namespaces and mounts."""
        return os.path.join(self.paths.run_dir, "sandboxes", self.id)

    @property
    def hostname(self) -> str:
        """File for /etc/hostname."""
        return os.path.join(self.files, "hostname")

    @property
    def hosts(self) -> str:
        """File for /etc/hosts."""
        return os.path.join(self.files, "hosts")

    @property
    def resolv_conf(self) -> str:
        """File for /etc/resolv.conf."""
        return os.path.join(self.files, "resolv.conf")

    @property
    def shm(self) -> str:
        """Mount for /dev/shm of a pod that has an IPC namespace of its own."""
        return os.path.join(self.volatile, "shm")

    def namespace(self, kind: str) -> str:
        """Return where the pod's namespace of a kind (net, ipc, uts, user) is pinned."""
        return os.path.join(self.volatile, "ns", kind)
