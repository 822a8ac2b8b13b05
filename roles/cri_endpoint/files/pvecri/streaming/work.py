# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a client wants of a container; pure."""

from __future__ import annotations

import dataclasses

from pvecri.api import cri_pb2 as pb
from pvecri.state.records import ContainerRecord


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExecWork:
    """A command to run; which streams it gets the client's channels say."""

    container_id: str
    command: tuple[str, ...]
    tty: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttachWork:
    """What matters of a client's input, and of the streams that the container has."""

    container_id: str
    stdin: bool = False
    has_stdin: bool = False
    stdin_once: bool = False
    has_tty: bool = False

    @property
    def feeds(self) -> bool:
        """Whether the client's input goes to the container."""
        return self.stdin and self.has_stdin

    @property
    def must_stay(self) -> bool:
        """Whether the container would lose its input by the leaving of a client that has not given any.

        conmon takes whoever leaves first for the one whose input it was.
        """
        return self.has_stdin and self.stdin_once and not self.stdin


def exec_work(container_id: str, request: pb.ExecRequest) -> ExecWork:
    """Return what a request asks for."""
    return ExecWork(container_id=container_id, command=tuple(request.cmd), tty=request.tty)


def attach_work(record: ContainerRecord, request: pb.AttachRequest) -> AttachWork:
    """Return what a request asks of a container."""
    config = pb.ContainerConfig.FromString(record.config)
    return AttachWork(
        container_id=record.id,
        stdin=request.stdin,
        has_stdin=config.stdin,
        stdin_once=config.stdin_once,
        has_tty=config.tty,
    )
