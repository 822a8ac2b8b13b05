#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cri_pve_info
short_description: Tell what a Proxmox VE node lacks to run LXC pods
version_added: "0.1.0"
description:
  - Looks at version, node name, quorum, storages, pool, container numbers and tools of the Proxmox VE node
    that the task runs on, through C(pvesh) as root, and says of everything that is wrong what to do about
    it.
  - On a host without Proxmox VE it says just that.
author:
  - The pvecri authors (@pvecri)
extends_documentation_fragment:
  - pvecri.runtime.attributes.info
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.node
options:
  required:
    description: Whether a host without Proxmox VE is a problem.
    type: bool
    default: false
  rootfs_storage:
    description:
      - Storage for the root file systems of LXC pods. Empty takes V(local-lvm) or V(local-zfs) if they have
        content C(rootdir), else the first by name that has.
    type: str
    default: ""
  template_storage:
    description:
      - Storage for what LXC pods are made from. Empty takes V(local) if it has content C(vztmpl), else the
        first by name that has.
    type: str
    default: ""
  pool:
    description: Pool of the containers, which must exist. Empty is none.
    type: str
    default: ""
  vmid_range:
    description: First and last number for the containers, which nothing else may have.
    type: list
    elements: int
    default: [900000, 999999]
  min_free_mib:
    description: Space that O(rootfs_storage) needs to have, in MiB.
    type: int
    default: 8192
  config_dir:
    description: Directory in which the cluster's configuration is mounted.
    type: path
    default: /etc/pve
  lxc_path:
    description: Directory in which LXC keeps its containers.
    type: path
    default: /var/lib/lxc
  pvesh_command:
    description: Program to ask.
    type: str
    default: pvesh
  timeout:
    description: Seconds that it may take for each answer.
    type: float
    default: 30
seealso:
  - module: pvecri.runtime.cri_host_info
  - module: pvecri.runtime.pve_access
"""

EXAMPLES = r"""
- name: Look at the node
  pvecri.runtime.cri_pve_info:
    rootfs_storage: tank
  register: found

- name: Refuse it
  ansible.builtin.assert:
    that: found.pve.problems | length == 0
    fail_msg: "{{ found.pve.problems }}"
"""

RETURN = r"""
pve:
  description: What was found.
  returned: success
  type: dict
  contains:
    is_node:
      description:
        - Whether the host has Proxmox VE. Otherwise all but C(problems) is empty.
      returned: success
      type: bool
    node:
      description: Name of the node.
      returned: success
      type: str
      sample: pve1
    version:
      description: Version of Proxmox VE.
      returned: success
      type: str
      sample: 9.1.2
    rootfs_storage:
      description: The storage that was named or chosen.
      returned: success
      type: str
      sample: local-lvm
    template_storage:
      description: The storage that was named or chosen.
      returned: success
      type: str
      sample: local
    problems:
      description: What is in the way, each with C(check), the check's name, C(problem) and C(remedy).
      returned: success
      type: list
      elements: dict
      sample:
        - check: pve_pool
          problem: there is no pool 'pods' (cri_endpoint_pve_pool)
          remedy: Make it (pvesh create /pools --poolid pods), or name another one
    warnings:
      description: What is not as it should be and does not hinder.
      returned: success
      type: list
      elements: str
      sample: []
"""

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import node, node_places
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.pvesh import PveshClient


def perform(params: dict[str, t.Any], _context: Context) -> Outcome:
    if len(params["vmid_range"]) != 2:
        raise InvalidSpec(
            "vmid_range", "is not the first and the last number", hint="Write it like [9000, 9999]"
        )
    found, about = node.Findings(), {"node": "", "version": ""}
    is_node = node.is_node(params["pvesh_command"])
    if is_node:
        client = PveshClient(
            SubprocessRunner(), program=params["pvesh_command"], timeout_s=max(params["timeout"], 1.0)
        )
        wanted = node.Wanted(
            params["rootfs_storage"],
            params["template_storage"],
            params["pool"],
            tuple(params["vmid_range"]),
            params["min_free_mib"],
        )
        try:
            facts = node.gather(client, node.own_hostname())
        except CoreError as exc:
            found.refuse(
                "pve_cluster",
                f"Proxmox VE does not answer: {exc.message}",
                exc.hint or "Look at 'systemctl status pve-cluster pvedaemon', and mend what it says",
            )
        else:
            found = node.examine(facts, wanted)
            places = node_places.gather(params["config_dir"], params["lxc_path"])
            node_places.examine(found, places, found.template_storage)
            about = {"node": facts.node, "version": facts.version}
    elif params["required"]:
        found.refuse(
            "pve_node",
            f"the program {params['pvesh_command']} is missing, so this is no node of Proxmox VE",
            "Set cri_endpoint_pve: auto to do without LXC pods there, or install Proxmox VE",
        )
    values = {
        "is_node": is_node,
        **about,
        "rootfs_storage": found.rootfs_storage,
        "template_storage": found.template_storage,
        "problems": found.problems,
        "warnings": found.warnings,
    }
    return Outcome(False, None, {"pve": values}, list(found.warnings))


def main() -> t.NoReturn:
    spec: dict[str, t.Any] = {
        "required": {"type": "bool", "default": False},
        "rootfs_storage": {"type": "str", "default": ""},
        "template_storage": {"type": "str", "default": ""},
        "pool": {"type": "str", "default": ""},
        "vmid_range": {"type": "list", "elements": "int", "default": [900000, 999999]},
        "min_free_mib": {"type": "int", "default": 8192},
        "config_dir": {"type": "path", "default": "/etc/pve"},
        "lxc_path": {"type": "path", "default": "/var/lib/lxc"},
        "pvesh_command": {"type": "str", "default": "pvesh"},
        "timeout": {"type": "float", "default": 30},
    }
    run_module(spec, perform)


if __name__ == "__main__":
    main()
