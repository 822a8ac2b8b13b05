# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what config.json tells others of a container; pure."""

from __future__ import annotations

import re
import typing as t

from pvecri.api import cri_pb2
from pvecri.state.records import SandboxRecord

#: By such annotations a runtime runs programs of the host, writes its files or loads modules: whoever
#: may make a pod must not have that power.
_STEERING: t.Final = ("run.oci.", "org.systemd.property.", "org.criu.", "io.podman.", "module.wasm.")

#: Names that tools which look at containers know from other runtimes.
_PREFIX: t.Final = "io.kubernetes.cri."

#: How long systemd waits for a container that does not end with the host: crun hands this to its scope.
_STOP_TIMEOUT: t.Final = "org.systemd.property.TimeoutStopUSec"
_STOP_TIMEOUT_S: t.Final = 10
#: What kubelet says of the pod, in seconds; more than systemd's own default would hold up the host.
_GRACE_PERIOD: t.Final = "io.kubernetes.pod.terminationGracePeriod"
_MAX_STOP_TIMEOUT_S: t.Final = 90


def annotations_of(
    config: cri_pb2.ContainerConfig, pod: cri_pb2.PodSandboxConfig, sandbox: SandboxRecord, image: str
) -> tuple[tuple[str, str], ...]:
    """Return the request's annotations but for those that steer the runtime, then what the container is."""
    found = {key: value for key, value in sorted(config.annotations.items()) if not key.startswith(_STEERING)}
    found.update(
        {
            f"{_PREFIX}container-type": "container",
            f"{_PREFIX}container-name": config.metadata.name,
            f"{_PREFIX}sandbox-id": sandbox.id,
            f"{_PREFIX}sandbox-name": pod.metadata.name,
            f"{_PREFIX}sandbox-namespace": pod.metadata.namespace,
            f"{_PREFIX}sandbox-uid": pod.metadata.uid,
            f"{_PREFIX}image-name": image,
        }
    )
    if sandbox.cgroup_parent.endswith(".slice"):
        found[_STOP_TIMEOUT] = f"uint64 {_stop_timeout_s(config.annotations.get(_GRACE_PERIOD, '')) * 10**6}"
    return tuple(found.items())


def _stop_timeout_s(grace_period: str) -> int:
    """Return the seconds that systemd is to wait, to which 0 means without end."""
    if re.fullmatch(r"[0-9]{1,9}", grace_period) is None:
        return _STOP_TIMEOUT_S
    return min(max(int(grace_period), 1), _MAX_STOP_TIMEOUT_S)
