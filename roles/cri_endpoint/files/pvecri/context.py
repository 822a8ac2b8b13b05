# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand every service what it works with."""

from __future__ import annotations

import dataclasses
import logging
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import Cni
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import Policy
from pvecri.config.model import Config
from pvecri.runtimes.runtimes import Runtimes
from pvecri.state.registry import Registry

if t.TYPE_CHECKING:
    from pvecri.pve.parts import PveParts


@dataclasses.dataclass(slots=True, kw_only=True)
class Context:
    """The drivers of the core and the daemon's own memory; made once, shared by all threads.

    Only a reload changes it, and only ``policy``: ask for it each time.
    """

    config: Config
    paths: Paths
    registry: Registry
    runner: Runner
    store: ImageStore
    bundles: BundleManager
    crun: CrunRuntime
    cni: Cni
    policy: Policy
    host: HostFacts
    log: logging.Logger
    #: Soft and hard limit of open files that the daemon was started with, before it raised its own;
    #: containers get these.  None: it raised nothing.
    open_files: tuple[int, int] | None = None
    #: What belongs to Proxmox LXC, which is loaded only where it is wanted; None: crun runs all containers.
    pve: PveParts | None = None
    #: Both as one: what asks by a container's id asks here.
    runtimes: Runtimes = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.runtimes = Runtimes(self.crun, None if self.pve is None else self.pve.runtime)

    @property
    def uses_systemd(self) -> bool:
        """Whether systemd makes the cgroups (``slice:prefix:name``), rather than crun itself."""
        driver = self.config.runtime.cgroup_driver
        return self.host.has_systemd if driver == "auto" else driver == "systemd"
