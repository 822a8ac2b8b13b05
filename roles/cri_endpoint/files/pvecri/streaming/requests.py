# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which requests for streams are let through, on the socket and again when the client connects."""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from pvecri.api import cri_pb2 as pb
from pvecri.checks import check_text
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord
from pvecri.state.registry import Registry

_PORT_MAX: t.Final = 65535


class Kind(enum.StrEnum):
    """What streams are for; also the first part of their URL's path."""

    EXEC = "exec"
    ATTACH = "attach"
    FORWARD = "portforward"


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """A request that was let through."""

    kind: Kind
    #: Container of an exec or attach, sandbox of a port forwarding.
    object_id: str
    request: t.Any


def exec_grant(registry: Registry, request: pb.ExecRequest) -> Grant:
    """Return the grant of an Exec; raises InvalidSpec, NotFound, WrongState."""
    _check_container_id(request.container_id)
    if not request.cmd or not request.cmd[0]:
        raise InvalidSpec("cmd", "there is no program to run")
    for index, word in enumerate(request.cmd):
        check_text(word, f"cmd[{index}]")
    _check_streams(request)
    return Grant(Kind.EXEC, running(registry, request.container_id).id, request)


def attach_grant(registry: Registry, request: pb.AttachRequest) -> Grant:
    """Return the grant of an Attach; raises InvalidSpec, NotFound, WrongState."""
    _check_container_id(request.container_id)
    _check_streams(request)
    return Grant(Kind.ATTACH, living(registry, request.container_id).id, request)


def forward_grant(registry: Registry, request: pb.PortForwardRequest) -> Grant:
    """Return the grant of a PortForward; raises InvalidSpec, NotFound, WrongState."""
    if not request.pod_sandbox_id:
        raise InvalidSpec("pod_sandbox_id", "is missing")
    for index, port in enumerate(request.port):
        if not 1 <= port <= _PORT_MAX:
            raise InvalidSpec(f"port[{index}]", f"{port} is not between 1 and {_PORT_MAX}")
    return Grant(Kind.FORWARD, ready(registry, request.pod_sandbox_id).id, request)


def running(registry: Registry, container_id: str) -> ContainerRecord:
    """Return the record of a container that runs; raises NotFound, WrongState."""
    record = registry.container(container_id)
    if record.phase is not Phase.RUNNING:
        raise WrongState(f"container {record.id} is {record.phase}, not running")
    return record


def living(registry: Registry, container_id: str) -> ContainerRecord:
    """Return the record of a container that runs or waits for its start; raises NotFound, WrongState.

    Who attaches before the start sees all that it writes.
    """
    record = registry.container(container_id)
    return record if record.phase is Phase.CREATED else running(registry, container_id)


def ready(registry: Registry, sandbox_id: str) -> SandboxRecord:
    """Return the record of a sandbox that has its network; raises NotFound, WrongState."""
    record = registry.sandbox(sandbox_id)
    if record.phase is not Phase.READY:
        raise WrongState(f"sandbox {record.id} is {record.phase}, not ready")
    return record


def _check_container_id(container_id: str) -> None:
    if not container_id:
        raise InvalidSpec("container_id", "is missing")


def _check_streams(request: pb.ExecRequest | pb.AttachRequest) -> None:
    if request.tty and request.stderr:
        raise InvalidSpec("stderr", "a terminal has one output, stdout: tty and stderr exclude each other")
    if not (request.stdin or request.stdout or request.stderr):
        raise InvalidSpec("stdout", "none of stdin, stdout and stderr is asked for: at least one must be")
