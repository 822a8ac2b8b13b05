# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look up what decides, besides a request itself, whether Proxmox LXC can run a container."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from pvecri.api import cri_pb2
from pvecri.containers import selection
from pvecri.containers.spec.cdi import Catalogue, wanted_devices
from pvecri.pve.checks import PveFacts
from pvecri.pve.owners import Owners
from pvecri.runtimes.protocol import Wish
from pvecri.state.registry import Registry


class Lookup:
    """Looks around a request; one for the daemon."""

    def __init__(self, registry: Registry, host: HostFacts, cdi_dirs: t.Sequence[str]) -> None:
        self._registry = registry
        self._host = host
        self._devices = Catalogue(cdi_dirs)
        self._owners = Owners()

    def facts_of(self, wish: Wish, *, is_native: bool) -> PveFacts:
        """Return what decides on a wish; raises InvalidSpec for a device that no vendor describes."""
        config, request = wish.request.config, wish.request
        of_pod = self._registry.containers_of(request.sandbox.id)
        return PveFacts(
            is_native=is_native,
            has_selinux=self._host.has_selinux,
            unmapped=self._unmapped(config),
            edits=self._devices.edits(wanted_devices(config)),
            other=selection.other_guest(of_pod, config.metadata.name),
        )

    def _unmapped(self, config: cri_pb2.ContainerConfig) -> dict[int, str]:
        if config.linux.security_context.privileged:
            return {}
        found = {}
        for index, mount in enumerate(config.mounts):
            problem = self._owners.problem(mount.host_path) if mount.host_path else ""
            if problem:
                found[index] = problem
        return found
