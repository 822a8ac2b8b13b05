# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name what tasks ask for, what containers are, and what can be done about the difference."""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import Plain, Rule
from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker


class State(enum.StrEnum):
    """What a task asks for."""

    CREATED = "created"
    STARTED = "started"
    STOPPED = "stopped"
    PAUSED = "paused"
    RESTARTED = "restarted"
    HEALTHY = "healthy"
    ABSENT = "absent"


class Status(enum.StrEnum):
    """What a container is: the states of the OCI runtime specification, paused, and absent."""

    ABSENT = "absent"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"

    @property
    def is_alive(self) -> bool:
        """Tell whether the container has a process."""
        return self in {Status.CREATED, Status.RUNNING, Status.PAUSED}


class Effect(enum.IntEnum):
    """How deep a changed key reaches; the deepest of all changed keys decides."""

    NONE = 0
    #: Only our own record holds it.
    RECORD = 1
    #: The runtime changes it under a running container.
    LIVE = 2
    #: The processes have to be started anew; the root file system stays.
    RESTART = 3
    #: A new bundle has to be made.
    RECREATE = 4


class Step(enum.StrEnum):
    """One thing to do; the service has a verb for each."""

    STAGE = "build the new bundle beside the old one"
    RESUME = "let the paused processes go on"
    STOP = "stop the processes"
    DELETE = "delete the runtime's state"
    NETWORK_DOWN = "take the network down"
    COMMIT = "put the new bundle in place"
    MARK = "note that an update has begun"
    LIVE_UPDATE = "update the limits"
    RECORD = "record the request"
    WRITE_UNIT = "write the systemd unit"
    REMOVE_UNIT = "remove the systemd unit"
    CREATE = "create the container"
    START = "start the container"
    PAUSE = "pause the processes"
    SIGNAL = "send the signal"
    REMOVE = "remove the bundle"
    WAIT_EXIT = "wait for the end"
    WAIT_HEALTHY = "wait until healthy"


#: Steps that only look: a plan without others changes nothing.
WAITING = frozenset({Step.WAIT_EXIT, Step.WAIT_HEALTHY})

Recreate = t.Literal["auto", "always", "never"]
Rerun = t.Literal["always", "failed", "never"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What the task asks for."""

    name: str
    state: State
    #: The shaped request; None when only the state is asked for.
    request: Plain | None = None
    #: Without a source of the rootfs only the keys given are compared, and nothing can be made anew.
    has_source: bool = True
    rules: t.Mapping[str, Rule] = dataclasses.field(default_factory=dict)
    recreate: Recreate = "auto"
    #: Wait for the container's end.
    is_attached: bool = False
    #: Whether to start a container again that has ended by itself.
    rerun: Rerun = "always"
    signal: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """What there is."""

    status: Status = Status.ABSENT
    has_bundle: bool = False
    #: The runtime knows the container, alive or ended.
    has_runtime: bool = False
    #: The shaped request that was recorded.
    request: Plain = dataclasses.field(default_factory=dict)
    #: Why the bundle cannot be used as it is, if so.
    broken: str | None = None
    #: Limits of live updates that were begun and not recorded as done.
    pending: list[Plain] = dataclasses.field(default_factory=list)
    #: None when unknown or not ended.
    exit_code: int | None = None
    #: A task stopped it, it did not end by itself.
    was_stopped: bool = False
    #: Text of the systemd unit.
    unit: str | None = None
    #: Something of the network is still there.
    has_network: bool = False
    #: Files beside the bundle are there, whether or not there is a bundle.
    has_files: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to do, and how what there is differs from what is asked for."""

    steps: tuple[Step, ...]
    differences: DifferenceTracker
    effect: Effect = Effect.NONE
    #: The shaped request to record, when it changes.
    request: Plain | None = None

    @property
    def is_changed(self) -> bool:
        """Tell whether anything will be done to the host."""
        return any(step not in WAITING for step in self.steps)
