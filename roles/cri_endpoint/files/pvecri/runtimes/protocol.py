# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a runtime of containers does; `CrunRuntime` is one as it is.

What the verbs mean, what they raise and which of them may be called at the same time
is said there.
"""

from __future__ import annotations

import dataclasses
import socket
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import Bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.execution import ExecResult, ExecSession
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Problem
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, Image
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import Selection
from pvecri.containers.request import Request
from pvecri.stages import Stages
from pvecri.state.records import ContainerRecord


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A container that is asked for, before anything of it is made."""

    request: Request
    image: Image
    selection: Selection


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A container whose bundle stands and whose record is being kept."""

    wish: Wish
    record: ContainerRecord
    spec: ContainerSpec
    bundle: Bundle
    #: Absolute path; empty: no log.
    log_path: str
    #: Where the time goes, for the log.
    stages: Stages


class Runtime(t.Protocol):
    """What is asked of a container by its id, whatever runs it."""

    def state(self, name: str) -> ContainerState | None:
        """Return the state of a container from files alone, or None when nothing of it is known."""

    def names(self) -> list[str]:
        """Return the names of all containers that this runtime knows of, sorted."""

    def anticipate(self) -> None:
        """Learn that a process will be created or executed in a moment."""

    def start(self, name: str) -> None:
        """Let a created container run."""

    def stop(self, name: str, number: int | str, *, timeout_s: float = ...) -> int | None:
        """End a container: a signal, and the end of all its processes after ``timeout_s`` seconds."""

    def kill(self, name: str, number: int | str, *, everyone: bool = ...) -> None:
        """Send a signal to the first process, or to everyone."""

    def wait(self, name: str, timeout_s: float | None = ...) -> int | None:
        """Wait for the end of a container and return its exit code; None when nobody saw it."""

    def repair(self, name: str) -> tuple[Problem, ...]:
        """Mend what `state` lists as problems, as far as nothing that works is ended."""

    def delete(self, name: str, *, force: bool = ...) -> None:
        """Remove a container and everything that tells of it; its log and its bundle stay."""

    def update(self, name: str, changes: t.Mapping[str, t.Any]) -> None:
        """Apply OCI ``linux.resources`` to a living container."""

    def exec(
        self,
        name: str,
        args: t.Sequence[str],
        *,
        timeout_s: float | None = ...,
        limit_bytes: int | None = ...,
        stop: int | None = ...,
    ) -> ExecResult:
        """Run a command in a running container to its end."""

    def exec_session(self, name: str, request: ExecRequest, **streams: int) -> ExecSession:
        """Start a command and return the session with its pipes or terminal."""

    def attach(self, name: str) -> socket.socket:
        """Return a socket that is attached to a container's first process."""

    def reopen_log(self, name: str) -> None:
        """Go on in a new log file."""

    def resize_terminal(self, name: str, width: int, height: int) -> None:
        """Set the size of a container's terminal."""


class GuestRuntime(Runtime, t.Protocol):
    """A runtime beside crun, whose containers are guests of Proxmox VE."""

    def knows(self, name: str) -> bool:
        """Say whether a container is one of this runtime; asked at every verb, so it is cheap."""

    def check(self, wish: Wish) -> None:
        """Raise what keeps the container from being made here, before anything is."""

    def create(self, creation: Creation) -> None:
        """Create a container from its bundle; nothing is left behind when that fails."""

    def describe(self, name: str) -> dict[str, t.Any]:
        """Return what a verbose status says of a container beyond its state, as plain data."""
