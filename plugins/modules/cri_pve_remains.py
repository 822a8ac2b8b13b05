#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cri_pve_remains
short_description: Remove what LXC pods left on a Proxmox VE node whose CRI endpoint goes
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - A container of the endpoint is one of this node whose configuration includes a file in O(state_dir). It
    cannot be started without that file. With O(destroy) it is stopped and removed with its disks; otherwise
    the line is taken out of its configuration, and it can be used like any other container.
  - One that was copied from a pod's container, or that has lost one of the tags C(pvecri) and C(pvecri-cri)
    or the endpoint's line in its notes, is never removed. Its line is taken out.
  - Containers that have been moved to other nodes are not looked for.
  - The endpoint must not run. It is not needed, but its access to Proxmox VE is.
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.node
options:
  state_dir:
    description:
      - Directory of the endpoint's records.
    type: path
    default: /var/lib/pvecri
  destroy:
    description:
      - Whether containers of pods are removed.
    type: bool
    default: false
  archives:
    description:
      - Whether what the endpoint has put into the storage of templates is removed, which is archives of
        images and templates that it has downloaded. A template that was there before stays.
    type: bool
    default: false
  access_file:
    description:
      - File with the endpoint's access to Proxmox VE. Read if a container is to be removed.
    type: path
    default: /etc/pvecri/pve.json
  node:
    description:
      - Name of the node. Empty is what C(local) in O(config_dir) says.
    type: str
    default: ""
  config_dir:
    description:
      - Directory in which the cluster's configuration is mounted.
    type: path
    default: /etc/pve
  lock_dir:
    description:
      - Directory in which Proxmox VE locks configurations of containers.
    type: path
    default: /run/lock/lxc
  task_timeout:
    description:
      - Seconds that each task of Proxmox VE may take.
    type: float
    default: 600
seealso:
  - module: pvecri.runtime.cri_remains
"""

EXAMPLES = r"""
- name: Remove the containers of LXC pods
  pvecri.runtime.cri_pve_remains:
    destroy: true

- name: Leave them, and let them be used without the endpoint
  pvecri.runtime.cri_pve_remains:
"""

RETURN = r"""
removed:
  description: What was removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [container 900001, /var/lib/vz/template/cache/pvecri_web_0123456789abcdef01234567_01234567.tar]
released:
  description: Containers that do not include a file of the endpoint any more, or would not in check mode.
  returned: success
  type: list
  elements: int
  sample: [900002]
"""

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import MissingDependency, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_raw, pod_remains, token_file
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient

ARGUMENT_SPEC: dict[str, t.Any] = {
    "state_dir": {"type": "path", "default": "/var/lib/pvecri"},
    "destroy": {"type": "bool", "default": False},
    "archives": {"type": "bool", "default": False},
    "access_file": {"type": "path", "default": "/etc/pvecri/pve.json"},
    "node": {"type": "str", "default": ""},
    "config_dir": {"type": "path", "default": "/etc/pve"},
    "lock_dir": {"type": "path", "default": "/run/lock/lxc"},
    "task_timeout": {"type": "float", "default": 600},
}


def connect(params: dict[str, t.Any]) -> PveClient:
    """Return a client with the endpoint's own access; raises NotFound without it."""
    credentials = token_file.read(params["access_file"]).credentials
    if credentials is None:
        raise NotFound(
            f"{params['access_file']} does not say how to reach Proxmox VE, and containers are to be removed",
            hint="Remove them by hand (pct destroy), or set destroy: false to leave them",
        )
    connection = dataclasses.replace(credentials.connection(), task_timeout_s=params["task_timeout"])
    return PveClient(connection)


def own_node(params: dict[str, t.Any]) -> str:
    """Return the name of this node; raises MissingDependency without the cluster's configuration."""
    node = params["node"] or lxc_raw.local_node(os.path.join(params["config_dir"], "local"))
    if not node:
        raise MissingDependency(
            f"{params['config_dir']}/local does not say which node this is",
            hint="Look at 'systemctl status pve-cluster', or name the node",
        )
    return str(node)


def perform(params: dict[str, t.Any], context: Context) -> Outcome:
    """Find what is left, and remove or release it."""
    place = pod_remains.Place(
        state_dir=os.path.normpath(params["state_dir"]),
        config_dir=params["config_dir"],
        lock_dir=params["lock_dir"],
    )
    found = pod_remains.containers(place)
    doomed = [left for left in found if left.is_pod and params["destroy"]]
    kept = [left for left in found if left not in doomed]
    archives = pod_remains.archives(place) if params["archives"] else []
    if not context.check_mode:
        # What may be refused comes first.
        for left in kept:
            pod_remains.release(place, left)
        if doomed:
            client, node = connect(params), own_node(params)
            for left in doomed:
                pod_remains.destroy(client, node, left)
        for path in archives:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    removed = [*(f"container {left.vmid}" for left in doomed), *archives]
    released = [left.vmid for left in kept]
    diff = {"before": {"removed": removed, "released": released}, "after": {"removed": [], "released": []}}
    return Outcome(bool(removed or released), diff, {"removed": removed, "released": released})


def main() -> t.NoReturn:
    run_module(ARGUMENT_SPEC, perform)


if __name__ == "__main__":
    main()
