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

import os
import secrets
import shlex
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import connection_loader
from ansible.utils.display import Display

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import pct

display = Display()

_TRANSPORTS = ("ssh", "local")


class Connection(ConnectionBase):
    """Hand each command to the connection with the node, wrapped in ``pct exec``."""

    transport = "pvecri.runtime.pct"
    has_pipelining = True

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._node: ConnectionBase | None = None
        self._node_options: tuple[t.Any, ...] = (None, None, None)
        self._is_known_to_run = False

    def _resolve_option_variables(self, variables: dict[str, t.Any], templar: t.Any) -> dict[str, t.Any]:
        """Template the variables of the node's connection plugins too, which Ansible would not pass on."""
        resolved: dict[str, t.Any] = super()._resolve_option_variables(variables, templar)  # type: ignore[no-untyped-call]
        for plugin in _TRANSPORTS:
            # Loading the class makes its options known.
            connection_loader.get(plugin, class_only=True)
            for name in C.config.get_plugin_vars("connection", plugin):
                if name in variables and name not in resolved:
                    resolved[name] = templar.template(variables[name])
        return resolved

    def set_options(self, task_keys: t.Any = None, var_options: t.Any = None, direct: t.Any = None) -> None:
        """Set our own options, and remember what the node's connection will want."""
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)  # type: ignore[no-untyped-call]
        self._node_options = (task_keys, var_options, direct)
        self._node = None

    def _option(self, name: str) -> t.Any:
        return self.get_option(name)  # type: ignore[no-untyped-call]

    @property
    def node(self) -> ConnectionBase:
        """Return the connection with the node, with this task's context and become plugin."""
        if self._node is None:
            self._node = connection_loader.get(self._option("transport"), self._play_context)
            task_keys, var_options, direct = self._node_options
            self._node.set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._node._play_context = self._play_context  # noqa: SLF001 - Ansible replaces ours after making it
        self._node.become = self.become
        return self._node

    @property
    def container(self) -> pct.Container:
        """Return the container that the options describe."""
        vmid = self._option("vmid")
        if vmid is None:
            raise AnsibleError("pct needs the container's number: set ansible_pct_vmid for the host")
        try:
            command = tuple(shlex.split(self._option("pct_command")))
            return pct.Container(vmid, self._option("remote_user"), command)
        except (CoreError, ValueError) as exc:
            raise AnsibleError(f"pct: {exc}") from exc

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Run a shell command in the container; return its exit code and output."""
        container = self.container
        display.vvv(f"PCT EXEC {cmd}", host=str(container.vmid))
        rc, stdout, stderr = self._on_node(container.exec_argv(cmd), in_data, sudoable)
        if rc != 0:
            self._require_running(container)
        return rc, stdout, stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file into the container."""
        if not os.path.exists(in_path):
            raise AnsibleFileNotFound(f"file or module does not exist: {in_path}")
        display.vvv(f"PCT PUT {in_path} TO {out_path}", host=str(self._option("vmid")))
        with open(in_path, "rb") as stream:
            chunk = stream.read(pct.CHUNK_BYTES)
            # Without input there is nothing to wait for the end of.
            self._copy(pct.write_command(out_path, append=False, is_empty=not chunk), out_path, chunk or None)
            while chunk := stream.read(pct.CHUNK_BYTES):
                self._copy(pct.write_command(out_path, append=True), out_path, chunk)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file out of the container."""
        display.vvv(f"PCT FETCH {in_path} TO {out_path}", host=str(self._option("vmid")))
        with open(out_path, "wb") as stream:
            number, size = 0, pct.CHUNK_BYTES
            while size == pct.CHUNK_BYTES:
                chunk = self._copy(pct.read_command(in_path, number), in_path, None)
                stream.write(chunk)
                number, size = number + 1, len(chunk)

    def reset(self) -> None:
        """Forget the connection with the node, and ssh's shared one with it."""
        self._is_known_to_run = False
        if self._option("transport") == "ssh":
            self.node.reset()

    def close(self) -> None:
        """Close the connection with the node."""
        if self._node is not None:
            self._node.close()
        self._connected = False

    def _on_node(self, argv: list[str], in_data: bytes | None, sudoable: bool) -> tuple[int, bytes, bytes]:
        marker = f"pct-exit-{secrets.token_hex(8)}"
        command = pct.node_command(argv, marker)
        rc, stdout, stderr = self.node.exec_command(command, in_data=in_data, sudoable=sudoable)
        return pct.real_exit(rc, stdout, stderr, marker)

    def _copy(self, command: str, path: str, in_data: bytes | None) -> bytes:
        """Run one step of a copy, never on a terminal, which would change the bytes."""
        rc, stdout, stderr = self.exec_command(command, in_data=in_data, sudoable=False)
        if rc != 0:
            reason = stderr.decode("utf-8", "replace").strip() or f"exit code {rc}"
            raise AnsibleError(f"cannot copy {path} of container {self._option('vmid')}: {reason}")
        return stdout

    def _require_running(self, container: pct.Container) -> None:
        """Raise AnsibleConnectionFailure if the container is the reason for a failure; asked once."""
        if self._is_known_to_run:
            return
        rc, stdout, stderr = self._on_node(container.status_argv(), None, False)
        if rc == 0 and stdout.strip() == b"status: running":
            self._is_known_to_run = True
            return
        said = (stdout.strip() or stderr.strip()).decode("utf-8", "replace")
        raise AnsibleConnectionFailure(
            f"container {container.vmid} cannot be worked in ({said or f'exit code {rc}'}): it must exist on "
            f"this node and be running, and '{shlex.join(container.pct)}' must be allowed"
        )
