# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run tasks inside a container through ``crun exec`` on its host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: crun
short_description: Run tasks in containers through crun on their host
version_added: "0.1.0"
author:
  - The pvecri authors (@pvecri)
description:
  - Runs commands and copies files in containers that M(pvecri.runtime.crun_container) made, which need no
    SSH server and no network for it.
  - Works on the container's host itself, or over Ansible's own C(ssh) connection to the host, with all of
    that plugin's options and variables. O(ansible.builtin.ssh#connection:host) and C(ansible_user) are then
    the host and the login there.
  - On the host it must be allowed to run C(crun) on O(runtime_root), which is root's.
  - The container needs C(/bin/sh), C(cat) and C(dd), and Python for everything but C(raw). Commands have
    the environment of the container's own process.
notes:
  - Files are copied through C(crun exec), so they belong to O(remote_user) and may be of any size.
  - An exit code of 255 inside the container arrives as it is, and is not taken for a failure of the
    connection.
extends_documentation_fragment:
  - connection_pipelining
options:
  container:
    description:
      - Name of the container.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_crun_container
  transport:
    description:
      - How to reach the container's host. V(local) runs C(crun) right here, V(ssh) uses Ansible's C(ssh)
        connection plugin.
    type: str
    choices: [local, ssh]
    default: local
    vars:
      - name: ansible_crun_transport
    env:
      - name: ANSIBLE_CRUN_TRANSPORT
    ini:
      - section: crun_connection
        key: transport
  remote_user:
    description:
      - User inside the container that commands run as, by name or as C(uid[:gid]). A name other than
        C(root) needs C(su) there.
      - Not to be confused with the login on the container's host, which is C(ansible_user).
    type: str
    default: root
    vars:
      - name: ansible_crun_user
    env:
      - name: ANSIBLE_CRUN_USER
    ini:
      - section: crun_connection
        key: user
  crun_command:
    description:
      - The program on the container's host, with what has to stand before it, for example V(sudo -n crun)
        where the login is not C(root).
    type: str
    default: crun
    vars:
      - name: ansible_crun_command
    env:
      - name: ANSIBLE_CRUN_COMMAND
    ini:
      - section: crun_connection
        key: command
  runtime_root:
    description:
      - Directory in which crun keeps the states of its containers. The default is that of containers made
        by plays; those of a CRI endpoint are in V(/run/pvecri/crun/cri).
    type: str
    default: /run/pvecri/crun/play
    vars:
      - name: ansible_crun_root
    env:
      - name: ANSIBLE_CRUN_ROOT
    ini:
      - section: crun_connection
        key: root
"""

EXAMPLES = r"""
# inventory.yml: one container on this machine, one on another
all:
  children:
    containers:
      vars:
        ansible_connection: pvecri.runtime.crun
      hosts:
        web:
          ansible_crun_user: "1000"
        db:
          ansible_crun_container: db-main
          ansible_crun_transport: ssh
          ansible_crun_command: sudo -n crun
          ansible_host: host1.example.org
          ansible_user: admin
"""

import shlex

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import remote
from ansible_collections.pvecri.runtime.plugins.plugin_utils.container_connection import (
    ContainerConnection,
)


class Connection(ContainerConnection):
    """Enter containers by ``crun exec``."""

    transport = "pvecri.runtime.crun"
    program = "crun"

    @property
    def label(self) -> str:
        """Name of the container."""
        return str(self._option("container"))

    def _container(self) -> remote.Container:
        return remote.Container(
            str(self._option("container")),
            self._option("runtime_root"),
            self._option("remote_user"),
            tuple(shlex.split(self._option("crun_command"))),
        )
