# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer what clients ask of the runtime itself: Version, Status, RuntimeConfig, UpdateRuntimeConfig."""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t

import pvecri
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import Runtime
from pvecri.api import cri_pb2 as pb
from pvecri.context import Context
from pvecri.daemon.operations import Operations, Pool
from pvecri.rpc.gate import Gate
from pvecri.rpc.server import Handler
from pvecri.sandboxes.service import SandboxService
from pvecri.status.features import (
    OF_GUESTS,
    Features,
    features_of,
    limitations,
    missing_programs,
    read_max_user_namespaces,
)
from pvecri.status.network import NetworkStatus
from pvecri.status.pod_cidr import keep, kept, parse_ranges, write_network

#: The kubelet's own runtime API, which never grew past this; every runtime answers the same.
KUBELET_API_VERSION = "0.1.0"


class RuntimeRpc:
    """Handlers of the runtime's own methods."""

    def __init__(
        self, context: Context, operations: Operations, gate: Gate, sandboxes: SandboxService
    ) -> None:
        self._context = context
        self._operations = operations
        self._gate = gate
        self._sandboxes = sandboxes
        sandboxes.pod_cidrs = kept(context.config.paths.state_dir)
        network = context.config.network
        self._network = NetworkStatus(network.conf_dir, network.plugin_dirs)
        self._version = pb.VersionResponse(
            version=KUBELET_API_VERSION,
            runtime_name="pvecri",
            runtime_version=pvecri.__version__,
            runtime_api_version="v1",
        ).SerializeToString()
        driver = pb.SYSTEMD if context.uses_systemd else pb.CGROUPFS
        self._config = pb.RuntimeConfigResponse(
            linux=pb.LinuxRuntimeConfiguration(cgroup_driver=driver)
        ).SerializeToString()
        self._features = features_of(context.host, max_user_namespaces=read_max_user_namespaces())
        self._limitations = limitations(context.host)
        for text in self._limitations:
            context.log.warning("limitation of this host", extra={"limitation": text})

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by the names of their methods."""
        return {
            "Version": self.version,
            "Status": self.status,
            "RuntimeConfig": self.runtime_config,
            "UpdateRuntimeConfig": self.update_runtime_config,
        }

    async def version(self, _request: pb.VersionRequest) -> bytes:
        """Say who answers, and which API."""
        return self._version

    async def status(self, request: pb.StatusRequest) -> bytes:
        """Say whether containers can be run and pods get a network, and what handlers there are."""
        return await self._operations.call(lambda: self._status(verbose=request.verbose), pool=Pool.QUERY)

    async def runtime_config(self, _request: pb.RuntimeConfigRequest) -> bytes:
        """Say who makes the cgroups, which kubelet follows."""
        return self._config

    async def update_runtime_config(self, request: pb.UpdateRuntimeConfigRequest) -> bytes:
        """Take the node's pod CIDR: plugins are told, and it fills in a template of CNI's configuration."""
        cidr = request.runtime_config.network_config.pod_cidr
        if cidr:
            path = await self._operations.run(
                ("UpdateRuntimeConfig", cidr), lambda: self._take_pod_cidr(cidr), pool=Pool.HOUSE
            )
            self._context.log.info("pod CIDR", extra={"cidr": cidr, "written": path or ""})
        return b""

    def _take_pod_cidr(self, cidr: str) -> str | None:
        """Keep the ranges for new pods and return the path of the configuration that was written."""
        network = self._context.config.network
        ranges = parse_ranges(cidr)
        path = write_network(ranges, network.conf_template, network.conf_dir)
        keep(self._context.config.paths.state_dir, cidr)
        self._sandboxes.pod_cidrs = tuple(ranges.values())
        return path

    def _status(self, *, verbose: bool) -> bytes:
        answer = pb.StatusResponse(
            status=pb.RuntimeStatus(
                conditions=[self._runtime_ready(), self._network_ready(), *self._guests_ready()]
            ),
            runtime_handlers=[_handler(name, features) for name, features in self._offered().items()],
            features=pb.RuntimeFeatures(
                supplemental_groups_policy=True,
                user_namespaces_host_network=self._features.user_namespaces,
            ),
        )
        if verbose:
            answer.info.update(self._info())
        return answer.SerializeToString()

    def _runtime_ready(self) -> pb.RuntimeCondition:
        runtime = self._context.config.runtime
        reason = message = ""
        if not self._gate.is_open:
            reason, message = "Starting", self._gate.reason or ""
        elif missing := missing_programs(runtime.crun, runtime.conmon):
            reason, message = "ProgramMissing", f"there is no program {' and no '.join(missing)}"
        return pb.RuntimeCondition(type="RuntimeReady", status=not reason, reason=reason, message=message)

    def _network_ready(self) -> pb.RuntimeCondition:
        problem = self._network.problem()
        return pb.RuntimeCondition(
            type="NetworkReady",
            status=problem is None,
            reason="" if problem is None else "NetworkPluginNotReady",
            message=problem or "",
        )

    def _guests_ready(self) -> list[pb.RuntimeCondition]:
        """Return a condition that kubelet passes over and people see; none without Proxmox LXC."""
        if self._context.pve is None:
            return []
        problem = self._context.pve.standing.problem()
        return [
            pb.RuntimeCondition(
                type="LxcReady",
                status=problem is None,
                reason="" if problem is None else "ProxmoxNotReady",
                message=problem or "",
            )
        ]

    def _offered(self) -> dict[str, Features]:
        """Return the handlers that pods run by, the unnamed one first, and what each can do.

        Those that stand for Proxmox LXC are there if it is set up, also while its API is down.
        """
        kinds = {Runtime.CRUN: self._features}
        if self._context.pve is not None and self._context.pve.standing.is_set_up:
            kinds[Runtime.PVE_LXC] = OF_GUESTS
        named = sorted(self._context.policy.handlers.items())
        return {"": self._features, **{name: kinds[kind] for name, kind in named if kind in kinds}}

    def _info(self) -> dict[str, str]:
        """Return what a verbose answer adds, as JSON texts."""
        context, network = self._context, self._network.config()
        host = {
            "cgroup_version": context.host.cgroup_version,
            "kernel": os.uname().release,
            "crun": ".".join(map(str, context.host.crun_version)),
            "limitations": self._limitations,
        }
        counts = {
            "sandboxes": len(context.registry.sandboxes()),
            "containers": len(context.registry.containers()),
        }
        info: dict[str, t.Any] = {
            "config": dataclasses.asdict(context.config),
            "host": host,
            "objects": counts,
            **({} if context.pve is None else {"lxc": context.pve.standing.plain()}),
            "cni": {
                "network": None if network is None else network.plain(),
                "problem": self._network.problem(),
            },
        }
        return {name: json.dumps(value, default=str) for name, value in info.items()}


def _handler(name: str, features: Features) -> pb.RuntimeHandler:
    return pb.RuntimeHandler(name=name, features=pb.RuntimeHandlerFeatures(**dataclasses.asdict(features)))
