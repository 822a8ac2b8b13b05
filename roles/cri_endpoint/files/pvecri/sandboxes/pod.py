# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe a sandbox that is asked for, checked and in the core's terms; pure data."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap, Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_ports import PortMapping

#: Who a pause process runs as when nobody says: no user of the host or of an image.
NOBODY = 65535


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """What resolv.conf(5) is to say."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.servers or self.searches or self.options)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod as it shall be."""

    #: Metadata joined to one text; different metadata give different texts.
    key: str
    name: str
    namespace: str
    uid: str
    #: Empty: the host's own name.
    hostname: str = ""
    has_host_network: bool = False
    has_host_ipc: bool = False
    #: Whether all containers see each other's processes, in a namespace that a pause process holds.
    shares_pid: bool = False
    #: Not empty: the pod has a user namespace of its own.
    uid_maps: tuple[IdMap, ...] = ()
    gid_maps: tuple[IdMap, ...] = ()
    dns: Dns = Dns()
    #: Those that lead from a port of the host.
    ports: tuple[PortMapping, ...] = ()
    #: The capability ``bandwidth`` of CNI; empty: no limit.
    bandwidth: dict[str, int] = dataclasses.field(default_factory=dict)
    annotations: dict[str, str] = dataclasses.field(default_factory=dict)
    #: By dotted name.
    sysctls: dict[str, str] = dataclasses.field(default_factory=dict)
    #: Absolute path, or name of a slice; empty: one of our own.
    cgroup_parent: str = ""
    #: Sum of the containers' resources and the overhead.
    resources: Resources = dataclasses.field(default_factory=Resources)
    #: User and group of the pause process.
    user: int = NOBODY
    group: int = NOBODY

    @property
    def has_user_namespace(self) -> bool:
        """Say whether the pod's ids differ from the host's."""
        return bool(self.uid_maps)

    def cni_args(self, sandbox_id: str) -> dict[str, str]:
        """Return CNI_ARGS, by the names that plugins of Kubernetes know."""
        return {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.namespace,
            "K8S_POD_NAME": self.name,
            "K8S_POD_INFRA_CONTAINER_ID": sandbox_id,
            "K8S_POD_UID": self.uid,
        }

    def capabilities(self, cgroup: str, pod_cidrs: t.Sequence[str] = ()) -> dict[str, t.Any]:
        """Return the runtime configuration for CNI plugins that declare it (conventions.md of CNI)."""
        found: dict[str, t.Any] = {
            "portMappings": [mapping.plain() for mapping in self.ports],
            "bandwidth": self.bandwidth,
            "ipRanges": [[{"subnet": cidr}] for cidr in pod_cidrs],
            "io.kubernetes.cri.pod-annotations": self.annotations,
            "cgroupPath": cgroup,
        }
        if self.dns:
            found["dns"] = {
                "servers": list(self.dns.servers),
                "searches": list(self.dns.searches),
                "options": list(self.dns.options),
            }
        return {key: value for key, value in found.items() if value}
