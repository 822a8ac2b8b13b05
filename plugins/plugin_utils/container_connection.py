# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run tasks in a container through a program on its host: what such connection plugins have in common.

A plugin says which command enters the container, and how to see whether that runs.
The host is reached by Ansible's own ``ssh`` or ``local`` connection, which are given all
of their options and variables.
"""

from __future__ import annotations

import abc
import os
import secrets
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import connection_loader
from ansible.utils.display import Display

from ansible_collections.pvecri.runtime.plugins.module_utils import remote_shell
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError

display = Display()

_TRANSPORTS = ("ssh", "local")


class Inside(t.Protocol):
    """A container as its host's programs know it."""

    def exec_argv(self, command: str) -> list[str]:
        """Return the argument list that runs a shell command inside."""

    def status_argv(self) -> list[str]:
        """Return the argument list that prints the container's state."""

    def is_running(self, status: bytes) -> bool:
        """Say whether what `status_argv` printed means that it runs."""


class ContainerConnection(ConnectionBase, abc.ABC):
    """Hand each command to the connection with the host, wrapped in what enters the container."""

    has_pipelining = True
    #: Program that enters containers, for messages.
    program: t.ClassVar[str]

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._node: ConnectionBase | None = None
        self._node_options: tuple[t.Any, ...] = (None, None, None)
        self._is_known_to_run = False

    @abc.abstractmethod
    def _container(self) -> Inside:
        """Return the container that the options describe; may raise CoreError and ValueError."""

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """Name of the container in messages."""

    @property
    def container(self) -> Inside:
        """Return the container that the options describe."""
        try:
            return self._container()
        except (CoreError, ValueError) as exc:
            raise AnsibleError(f"{self.program}: {exc}") from exc

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

    def _connect(self) -> t.Self:
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Run a shell command in the container; return its exit code and output."""
        container = self.container
        display.vvv(f"{self.program.upper()} EXEC {cmd}", host=self.label)
        rc, stdout, stderr = self._on_node(container.exec_argv(cmd), in_data, sudoable)
        if rc != 0:
            self._require_running(container)
        return rc, stdout, stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file into the container."""
        if not os.path.exists(in_path):
            raise AnsibleFileNotFound(f"file or module does not exist: {in_path}")
        display.vvv(f"{self.program.upper()} PUT {in_path} TO {out_path}", host=self.label)
        with open(in_path, "rb") as stream:
            chunk = stream.read(remote_shell.CHUNK_BYTES)
            # Without input there is nothing to wait for the end of.
            self._copy(
                remote_shell.write_command(out_path, append=False, is_empty=not chunk),
                out_path,
                chunk or None,
            )
            while chunk := stream.read(remote_shell.CHUNK_BYTES):
                self._copy(remote_shell.write_command(out_path, append=True), out_path, chunk)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file out of the container."""
        display.vvv(f"{self.program.upper()} FETCH {in_path} TO {out_path}", host=self.label)
        with open(out_path, "wb") as stream:
            number, size = 0, remote_shell.CHUNK_BYTES
            while size == remote_shell.CHUNK_BYTES:
                chunk = self._copy(remote_shell.read_command(in_path, number), in_path, None)
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
        marker = f"pvecri-exit-{secrets.token_hex(8)}"
        command = remote_shell.node_command(argv, marker)
        rc, stdout, stderr = self.node.exec_command(command, in_data=in_data, sudoable=sudoable)
        return remote_shell.real_exit(rc, stdout, stderr, marker)

    def _copy(self, command: str, path: str, in_data: bytes | None) -> bytes:
        """Run one step of a copy, never on a terminal, which would change the bytes."""
        rc, stdout, stderr = self.exec_command(command, in_data=in_data, sudoable=False)
        if rc != 0:
            reason = stderr.decode("utf-8", "replace").strip() or f"exit code {rc}"
            raise AnsibleError(f"cannot copy {path} of container {self.label}: {reason}")
        return stdout

    def _require_running(self, container: Inside) -> None:
        """Raise AnsibleConnectionFailure if the container is the reason for a failure; asked once."""
        if self._is_known_to_run:
            return
        rc, stdout, stderr = self._on_node(container.status_argv(), None, False)
        if rc == 0 and container.is_running(stdout):
            self._is_known_to_run = True
            return
        said = (stdout.strip() or stderr.strip()).decode("utf-8", "replace")
        raise AnsibleConnectionFailure(
            f"container {self.label} cannot be worked in ({said or f'exit code {rc}'}): it must exist on "
            f"this host and be running, and '{self._option(f'{self.program}_command')}' must be allowed"
        )
