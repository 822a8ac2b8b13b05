# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which namespaces a container shares with its pod, with another container, or with the host; pure."""

from __future__ import annotations

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap, Namespaces
from pvecri.api import cri_pb2
from pvecri.checks import id_maps
from pvecri.state.records import SandboxRecord


def pid_mode(asked: cri_pb2.NamespaceOption, pod: cri_pb2.NamespaceOption) -> int:
    """Return the mode of the PID namespace: POD means what the pod has, and is then CONTAINER or NODE too."""
    return pod.pid if asked.pid == cri_pb2.POD else asked.pid


def namespaces(
    asked: cri_pb2.NamespaceOption,
    pod: cri_pb2.NamespaceOption,
    sandbox: SandboxRecord,
    pid_path: str,
    *,
    privileged: bool,
) -> Namespaces:
    """Return the core's modes; ``pid_path`` is the namespace of the pod or of the target to join."""
    mode = pid_mode(asked, pod)
    if mode == cri_pb2.NODE:
        pid = "host"
    elif mode == cri_pb2.CONTAINER:
        pid = "private"
    elif pid_path:
        pid = pid_path
    else:
        raise WrongState("the process whose PID namespace the container is to share is gone")
    return Namespaces(
        pid=pid,
        network=sandbox.netns or "host",
        ipc=sandbox.ipcns or "host",
        uts=sandbox.utsns or "host",
        user=sandbox.userns or "host",
        # A privileged container works on the host's cgroups.
        cgroup="host" if privileged else "private",
    )


def pod_id_maps(
    pod: cri_pb2.PodSandboxConfig, sandbox: SandboxRecord
) -> tuple[tuple[IdMap, ...], tuple[IdMap, ...]]:
    """Return the id maps of the pod's user namespace; empty without one."""
    if not sandbox.userns:
        return (), ()
    options = pod.linux.security_context.namespace_options.userns_options
    return id_maps(options.uids), id_maps(options.gids)
