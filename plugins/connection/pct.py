# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run tasks inside a Proxmox VE container through ``pct`` on its node."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pct
short_description: Run tasks in Proxmox VE containers through pct on their node
version_added: "0.1.0"
author:
  - The pvecri authors (@pvecri)
description:
  - Runs commands and copies files in LXC containers of Proxmox VE that need no SSH server and no network
    for it.
  - Works on the node itself, or over Ansible's own C(ssh) connection to the node, with all of that plugin's
    options and variables. O(ansible.builtin.ssh#connection:host) and C(ansible_user) are then the node and
    the login there.
  - On the node it must be allowed to run C(pct), which is root's.
  - The container needs C(/bin/sh), C(env), C(cat) and C(dd), and Python for everything but C(raw).
notes:
  - Files are copied through C(pct exec), so they belong to O(remote_user) and may be of any size.
  - An exit code of 255 inside the container arrives as it is, and is not taken for a failure of the
    connection.
extends_documentation_fragment:
  - connection_pipelining
options:
  vmid:
    description:
      - Number of the container.
    type: int
    vars:
      - name: ansible_pct_vmid
      - name: proxmox_vmid
  transport:
    description:
      - How to reach the node. V(ssh) uses Ansible's C(ssh) connection plugin, V(local) runs C(pct) right
        here.
    type: str
    choices: [ssh, local]
    default: ssh
    vars:
      - name: ansible_pct_transport
    env:
      - name: ANSIBLE_PCT_TRANSPORT
    ini:
      - section: pct_connection
        key: transport
  remote_user:
    description:
      - User inside the container that commands run as. Another one than C(root) needs C(su) there.
      - Not to be confused with the login on the node, which is C(ansible_user).
    type: str
    default: root
    vars:
      - name: ansible_pct_user
    env:
      - name: ANSIBLE_PCT_USER
    ini:
      - section: pct_connection
        key: user
  pct_command:
    description:
      - The program on the node, with what has to stand before it, for example V(sudo -n pct) where the
        login is not C(root).
    type: str
    default: pct
    vars:
      - name: ansible_pct_command
    env:
      - name: ANSIBLE_PCT_COMMAND
    ini:
      - section: pct_connection
        key: command
"""

EXAMPLES = r"""
# inventory.yml: two containers of one node
all:
  children:
    containers:
      vars:
        ansible_connection: pvecri.runtime.pct
        ansible_host: pve1.example.org
        ansible_user: root
      hosts:
        web-1:
          ansible_pct_vmid: 201
        db-1:
          ansible_pct_vmid: 202
          ansible_pct_user: postgres
"""

import shlex

from ansible.errors import AnsibleError

from ansible_collections.pvecri.runtime.plugins.module_utils.pve import pct
from ansible_collections.pvecri.runtime.plugins.plugin_utils.container_connection import (
    ContainerConnection,
)


class Connection(ContainerConnection):
    """Enter containers by ``pct exec``."""

    transport = "pvecri.runtime.pct"
    program = "pct"

    @property
    def label(self) -> str:
        """Number of the container."""
        return str(self._option("vmid"))

    def _container(self) -> pct.Container:
        vmid = self._option("vmid")
        if vmid is None:
            raise AnsibleError("pct needs the container's number: set ansible_pct_vmid for the host")
        return pct.Container(
            vmid, self._option("remote_user"), tuple(shlex.split(self._option("pct_command")))
        )
