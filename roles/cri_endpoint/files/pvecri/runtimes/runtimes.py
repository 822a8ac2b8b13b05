# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send each verb to the runtime that the container is one of."""

from __future__ import annotations

import socket
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.execution import ExecResult, ExecSession
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.exits import ExitWatcher
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Problem
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.linux import is_systemd_path
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import Selection
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import (
    Runtime as RuntimeName,
)
from pvecri.runtimes.protocol import Creation, GuestRuntime, Runtime, Wish


class Runtimes:
    """All runtimes of this host as one; without ``guests`` there is only crun.

    The ends of all containers are told in one directory, since conmon watches them all.
    """

    def __init__(self, crun: CrunRuntime, guests: GuestRuntime | None = None) -> None:
        self._crun = crun
        #: Proxmox LXC; None: this host has none, or it is not configured.
        self.guests = guests

    def of(self, name: str) -> Runtime:
        """Return the runtime that a container is one of; crun for one that nobody knows."""
        if self.guests is not None and self.guests.knows(name):
            return self.guests
        return self._crun

    # ---- making -------------------------------------------------------------------------------------------

    def check(self, wish: Wish) -> None:
        """Raise what keeps a container from being made by its runtime; nothing is made before.

        Raises Unsupported, whose message names the field, and what asking Proxmox VE raises.
        """
        if wish.selection.runtime is RuntimeName.PVE_LXC:
            self._available(wish.selection).check(wish)

    def create(self, creation: Creation) -> None:
        """Create a container; nothing but the bundle is left behind when that fails."""
        if creation.wish.selection.runtime is RuntimeName.PVE_LXC:
            self._available(creation.wish.selection).create(creation)
            return
        config = creation.wish.request.config
        self._crun.create(
            creation.bundle.path,
            creation.record.id,
            log_path=creation.log_path,
            terminal=config.tty,
            stdin=config.stdin,
            stdin_once=config.stdin_once,
            systemd_cgroup=is_systemd_path(creation.spec.cgroups_path or ""),
        )

    def _available(self, selection: Selection) -> GuestRuntime:
        if self.guests is None:
            raise Unsupported(
                f"this host has no runtime '{selection.runtime}' (Proxmox LXC); it was selected because "
                f"{selection.reason}",
                hint="Configure the section [pve], choose another runtime handler, or change the policy",
            )
        return self.guests

    def describe(self, name: str) -> dict[str, t.Any]:
        """Return what a verbose status says of a container beyond its state; empty for crun's."""
        return self.guests.describe(name) if self.guests is not None and self.guests.knows(name) else {}

    # ---- the verbs of `Runtime` ---------------------------------------------------------------------------

    def state(self, name: str) -> ContainerState | None:
        """Return the state of a container, or None when nothing of it is known."""
        return self.of(name).state(name)

    def names(self) -> list[str]:
        """Return the names of all containers, sorted."""
        found = set(self._crun.names())
        if self.guests is not None:
            found.update(self.guests.names())
        return sorted(found)

    def watch_exits(self) -> ExitWatcher:
        """Return a watcher that names containers as they end."""
        return self._crun.watch_exits()

    def anticipate(self) -> None:
        """Learn that a process will be created or executed in a moment."""
        self._crun.anticipate()

    def start(self, name: str) -> None:
        """Let a created container run."""
        self.of(name).start(name)

    def stop(self, name: str, number: int | str, *, timeout_s: float = 10.0) -> int | None:
        """End a container and return its exit code."""
        return self.of(name).stop(name, number, timeout_s=timeout_s)

    def kill(self, name: str, number: int | str, *, everyone: bool = False) -> None:
        """Send a signal to the first process, or to everyone."""
        self.of(name).kill(name, number, everyone=everyone)

    def wait(self, name: str, timeout_s: float | None = None) -> int | None:
        """Wait for the end of a container and return its exit code."""
        return self.of(name).wait(name, timeout_s)

    def repair(self, name: str) -> tuple[Problem, ...]:
        """Mend what `state` lists as problems."""
        return self.of(name).repair(name)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Remove a container and everything that tells of it."""
        self.of(name).delete(name, force=force)

    def update(self, name: str, changes: t.Mapping[str, t.Any]) -> None:
        """Apply OCI ``linux.resources`` to a living container."""
        self.of(name).update(name, changes)

    def exec(
        self,
        name: str,
        args: t.Sequence[str],
        *,
        timeout_s: float | None = 60.0,
        limit_bytes: int | None = None,
        stop: int | None = None,
    ) -> ExecResult:
        """Run a command in a running container to its end."""
        return self.of(name).exec(name, args, timeout_s=timeout_s, limit_bytes=limit_bytes, stop=stop)

    def exec_session(self, name: str, request: ExecRequest, **streams: int) -> ExecSession:
        """Start a command and return the session with its pipes or terminal."""
        return self.of(name).exec_session(name, request, **streams)

    def attach(self, name: str) -> socket.socket:
        """Return a socket that is attached to a container's first process."""
        return self.of(name).attach(name)

    def reopen_log(self, name: str) -> None:
        """Go on in a new log file."""
        self.of(name).reopen_log(name)

    def resize_terminal(self, name: str, width: int, height: int) -> None:
        """Set the size of a container's terminal."""
        self.of(name).resize_terminal(name, width, height)
