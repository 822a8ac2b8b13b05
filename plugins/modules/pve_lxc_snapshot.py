#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pve_lxc_snapshot
short_description: Take, remove and roll back snapshots of Proxmox VE containers
version_added: "0.1.0"
description:
  - Takes a snapshot of an LXC container on a Proxmox VE cluster, removes one, or rolls the container back.
  - Finds the container's node itself. Needs two or three API requests when there is nothing to do.
  - Waits for a task that holds the container's lock, such as a backup, before it starts its own.
author:
  - The pvecri authors (@pvecri)
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.pve
  - pvecri.runtime.pve
attributes:
  idempotent:
    support: partial
    details:
      - A rollback is a change every time, because nobody can tell whether the disks changed since.
options:
  vmid:
    description:
      - Number of the container. Required unless O(hostname) is given.
    type: int
  hostname:
    description:
      - Host name of the container, which must be unique in the cluster, or on O(node). Required without
        O(vmid).
      - Beside O(vmid) it is a safeguard, and the container must have that name.
    type: str
  node:
    description:
      - Node that the container must be on. The default is to find it.
    type: str
  snapname:
    description:
      - Name of the snapshot, 2 to 40 letters, digits, V(-) and V(_), a letter first.
      - V(current) and V(vzdump) are reserved by Proxmox VE.
    type: str
    required: true
  state:
    description:
      - V(present) takes the snapshot if there is none of that name. One that an interrupted task left
        unfinished is removed and taken again.
      - V(absent) removes the snapshot.
      - V(rolledback) sets configuration and volumes of the container back to the snapshot.
        A running container is stopped.
    type: str
    choices: [present, absent, rolledback]
    default: present
  description:
    description:
      - Text stored with the snapshot. One that exists is given the new text.
      - The default is to leave the text of an existing snapshot alone.
    type: str
  force:
    description:
      - With O(state=absent), remove the snapshot from the configuration even if its volumes cannot be.
    type: bool
    default: false
  start:
    description:
      - With O(state=rolledback), start the container afterwards.
    type: bool
    default: false
  retention:
    description:
      - With O(state=present), keep this many snapshots and remove the oldest beyond that number,
        never O(snapname) itself.
      - V(0) keeps all.
    type: int
    default: 0
  retention_pattern:
    description:
      - Shell pattern for the names that O(retention) counts and removes, for example V(nightly-*).
    type: str
    default: "*"
  adopt:
    description:
      - Whether a container that was not made by this collection (that lacks the tag C(pvecri)) may be
        rolled back, and snapshots of it be removed, O(retention) included. The task fails otherwise.
        The container does not get the tag.
      - A container of a Kubernetes pod (tag C(pvecri-cri)) needs O(vmid) as well.
      - Taking a snapshot, and giving it another text, needs neither, because nothing is lost by it.
    type: bool
    default: false
seealso:
  - module: pvecri.runtime.pve_lxc_container
  - module: pvecri.runtime.pve_lxc_backup
"""

EXAMPLES = r"""
- name: Take a snapshot before an upgrade
  pvecri.runtime.pve_lxc_snapshot:
    vmid: 201
    snapname: before-upgrade
    description: Taken by the upgrade play

- name: Take tonight's snapshot and keep the last seven
  pvecri.runtime.pve_lxc_snapshot:
    hostname: db-1
    snapname: "nightly-{{ lookup('ansible.builtin.pipe', 'date +%Y%m%d') }}"
    retention: 7
    retention_pattern: nightly-*

- name: Go back to it and start again
  pvecri.runtime.pve_lxc_snapshot:
    vmid: 201
    snapname: before-upgrade
    state: rolledback
    start: true

- name: Remove it
  pvecri.runtime.pve_lxc_snapshot:
    vmid: 201
    snapname: before-upgrade
    state: absent
"""

RETURN = r"""
container:
  description: The container that was worked on.
  returned: success
  type: dict
  contains:
    vmid:
      description: Its number.
      returned: success
      type: int
      sample: 201
    name:
      description: Its host name.
      returned: success
      type: str
      sample: db-1
    node:
      description: The node that it is on.
      returned: success
      type: str
      sample: pve1
    snapshots:
      description: Its snapshots after the module ran, oldest first. In check mode those before.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: Name of the snapshot.
          returned: success
          type: str
          sample: before-upgrade
        description:
          description: Its text, without the newline that Proxmox VE appends.
          returned: success
          type: str
          sample: Taken by the upgrade play
        time:
          description: When it was taken, in seconds since 1970.
          returned: success
          type: int
          sample: 1767225600
        parent:
          description: The snapshot that the container was based on when it was taken, or null.
          returned: success
          type: str
          sample: null
"""

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import cluster, guests, snapshots
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.options import (
    client_from_params,
    connection_argument_spec,
)


def perform(params: dict[str, t.Any], context: Context) -> Outcome:
    wanted = snapshots.Request(
        name=params["snapname"],
        state=params["state"],
        description=params["description"],
        force=params["force"],
        start=params["start"],
        retention=params["retention"],
        retention_pattern=params["retention_pattern"],
        adopt=params["adopt"],
        by_id=params["vmid"] is not None,
    )
    client = client_from_params(params)
    view = cluster.read_cluster(client)
    guest = guests.locate(view, vmid=params["vmid"], name=params["hostname"], node=params["node"])
    before = snapshots.read(client, guest)
    steps, warnings = snapshots.reconcile(client, guest, wanted, before, check_mode=context.check_mode)
    changed_now = steps.has_steps and not context.check_mode
    after = snapshots.read(client, guest) if changed_now else before
    container = {
        "vmid": guest.vmid,
        "name": guest.name,
        "node": guest.node,
        "snapshots": [snapshot.as_dict() for snapshot in after],
    }
    return Outcome(steps.has_steps, steps.differences.as_diff(), {"container": container}, warnings)


def main() -> t.NoReturn:
    spec: dict[str, t.Any] = {
        "vmid": {"type": "int"},
        "hostname": {"type": "str"},
        "node": {"type": "str"},
        "snapname": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent", "rolledback"], "default": "present"},
        "description": {"type": "str"},
        "force": {"type": "bool", "default": False},
        "start": {"type": "bool", "default": False},
        "retention": {"type": "int", "default": 0},
        "retention_pattern": {"type": "str", "default": "*"},
        "adopt": {"type": "bool", "default": False},
    }
    run_module({**connection_argument_spec(), **spec}, perform, required_one_of=[("vmid", "hostname")])


if __name__ == "__main__":
    main()
