#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pve_lxc_container_info
short_description: List Proxmox VE containers
version_added: "0.1.0"
description:
  - Lists the LXC containers of a whole Proxmox VE cluster, filtered as asked.
  - Needs one API request for the cluster, and one more for each node that has a container so new that the
    cluster does not know its name or state yet.
author:
  - The pvecri authors (@pvecri)
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.pve
  - pvecri.runtime.attributes.info
  - pvecri.runtime.pve
options:
  vmid:
    description:
      - Numbers of the containers to list. The default is all that the user may see.
    type: list
    elements: int
  hostname:
    description:
      - Shell patterns for host names, for example V(web-*). A container that fits any of them is
        listed. The default is all.
    type: list
    elements: str
  node:
    description:
      - Nodes whose containers to list. The default is all.
    type: list
    elements: str
  tags:
    description:
      - Tags that a container must all have to be listed. The default is none.
    type: list
    elements: str
  status:
    description:
      - State that a container must be in. The default is any.
      - V(unknown) is that of containers on a node that is offline.
    type: str
    choices: [running, stopped, unknown]
  pool:
    description:
      - Resource pools whose containers to list. The default is to list them whatever their pool.
    type: list
    elements: str
  template:
    description:
      - Whether to list only templates (V(true)) or only what is none (V(false)). The default is both.
    type: bool
  current:
    description:
      - Ask each node for the present name and state of its containers, because the cluster's may be up to
        10 seconds old. Needs one API request more for each node.
    type: bool
    default: false
  config:
    description:
      - Read the configuration of each container that is listed too, which takes one API request each.
      - It holds the environment that was set for the container, with the secrets in it.
    type: bool
    default: false
  concurrency:
    description:
      - Number of API requests to have under way at once.
    type: int
    default: 8
seealso:
  - module: pvecri.runtime.pve_lxc_container
"""

EXAMPLES = r"""
- name: List every container of the cluster
  pvecri.runtime.pve_lxc_container_info:
  register: all

- name: List the running web servers with their configuration
  pvecri.runtime.pve_lxc_container_info:
    hostname: [web-*]
    tags: [production]
    status: running
    config: true
  register: web

- name: Show where they run
  ansible.builtin.debug:
    msg: "{{ item.name }} runs on {{ item.node }}"
  loop: "{{ web.containers }}"
"""

RETURN = r"""
containers:
  description: The containers, by rising number.
  returned: success
  type: list
  elements: dict
  contains:
    vmid:
      description: Number of the container.
      returned: success
      type: int
      sample: 201
    name:
      description: Host name.
      returned: success
      type: str
      sample: web-1
    node:
      description: The node that it is on.
      returned: success
      type: str
      sample: pve1
    status:
      description: V(running), V(stopped), or V(unknown) when its node is offline.
      returned: success
      type: str
      sample: running
    tags:
      description: Its tags.
      returned: success
      type: list
      elements: str
      sample: [production]
    pool:
      description: The resource pool that it is in, or null.
      returned: success
      type: str
      sample: null
    lock:
      description: The lock that a task holds on it, for example V(backup), or null.
      returned: success
      type: str
      sample: null
    template:
      description: Whether it is a template.
      returned: success
      type: bool
      sample: false
    ha_state:
      description: Its state in the high availability manager, or null.
      returned: success
      type: str
      sample: null
    cpus:
      description: Number of CPUs that it may use.
      returned: success
      type: float
      sample: 2
    memory:
      description: Limit of its memory in bytes.
      returned: success
      type: int
      sample: 536870912
    memory_used:
      description: Memory in use in bytes.
      returned: success
      type: int
      sample: 67108864
    disk:
      description: Size of its root file system in bytes.
      returned: success
      type: int
      sample: 8589934592
    disk_used:
      description: Space in use there in bytes.
      returned: success
      type: int
      sample: 1073741824
    uptime:
      description: Seconds since it was started.
      returned: success
      type: int
      sample: 3600
    config:
      description: Its configuration as Proxmox VE keeps it, without changes that wait for a restart.
      returned: with O(config=true), unless it could not be read
      type: dict
      sample:
        hostname: web-1
        memory: 512
nodes:
  description: The nodes of the cluster that the user may see.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the node.
      returned: success
      type: str
      sample: pve1
    online:
      description: Whether it is online.
      returned: success
      type: bool
      sample: true
"""

import fnmatch
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import cluster
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.options import (
    client_from_params,
    connection_argument_spec,
)


def is_wanted(guest: Guest, params: t.Mapping[str, t.Any]) -> bool:
    """Say whether a container passes every filter that was given."""
    patterns = params["hostname"]
    checks = (
        params["vmid"] is None or guest.vmid in params["vmid"],
        patterns is None or any(fnmatch.fnmatchcase(guest.name, pattern) for pattern in patterns),
        params["node"] is None or guest.node in params["node"],
        # Proxmox VE lower-cases tags unless told otherwise.
        {tag.lower() for tag in params["tags"] or ()} <= {tag.lower() for tag in guest.tags},
        params["status"] in (None, guest.status),
        params["pool"] is None or guest.pool in params["pool"],
        params["template"] in (None, guest.is_template),
    )
    return all(checks)


def perform(params: dict[str, t.Any], _context: Context) -> Outcome:
    limit = params["concurrency"]
    if limit < 1:
        raise InvalidSpec("concurrency", "must be at least 1")
    client = client_from_params(params)
    view = cluster.read_cluster(client, current=params["current"], limit=limit)
    wanted = [guest for guest in view.containers() if is_wanted(guest, params)]
    configs = cluster.read_configs(client, wanted, limit=limit) if params["config"] else {}
    containers, warnings = [], []
    for guest in wanted:
        entry = guest.as_dict()
        config = configs.get(guest.vmid)
        if isinstance(config, CoreError):
            warnings.append(f"the configuration of container {guest.vmid} could not be read: {config}")
        elif config is not None:
            entry["config"] = config
        containers.append(entry)
    nodes = [{"name": name, "online": view.nodes[name].is_online} for name in sorted(view.nodes)]
    return Outcome(values={"containers": containers, "nodes": nodes}, warnings=warnings)


def main() -> t.NoReturn:
    spec: dict[str, t.Any] = {
        "vmid": {"type": "list", "elements": "int"},
        "hostname": {"type": "list", "elements": "str"},
        "node": {"type": "list", "elements": "str"},
        "tags": {"type": "list", "elements": "str"},
        "status": {"type": "str", "choices": ["running", "stopped", "unknown"]},
        "pool": {"type": "list", "elements": "str"},
        "template": {"type": "bool"},
        "current": {"type": "bool", "default": False},
        "config": {"type": "bool", "default": False},
        "concurrency": {"type": "int", "default": 8},
    }
    run_module({**connection_argument_spec(), **spec}, perform)


if __name__ == "__main__":
    main()
