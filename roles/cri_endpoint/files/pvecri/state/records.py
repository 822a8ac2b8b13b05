# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe sandboxes and containers as plain data: what is known of each, whoever asks.

A record never changes; `Registry` replaces it by a changed copy.  What the client
asked for is kept as the bytes of its protobuf message, so that nothing that this
version does not know is lost on the way.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import typing as t

_ID = re.compile(r"[0-9a-f]{64}")

#: Key of ``extra`` under which a record keeps its phase while it is UNKNOWN for want of time.
PHASE_BEFORE: t.Final = "phase_before"

#: Key of ``extra`` under which a container's record says which checkpoint it was made of.
RESTORED: t.Final = "restored"

#: Reasons of ends, as clients know them from other runtimes.
COMPLETED: t.Final = "Completed"
ERROR: t.Final = "Error"
OOM_KILLED: t.Final = "OOMKilled"
#: An end that was made because nobody would have seen another.
MONITOR_LOST: t.Final = "MonitorLost"
#: Somebody removed it, or took it elsewhere, while it was ours to run.
CONTAINER_LOST: t.Final = "ContainerLost"
#: The process never ran.
START_ERROR: t.Final = "StartError"
#: Nobody saw the exit code.
UNKNOWN: t.Final = "Unknown"


def reason_of(code: int, *, oom_killed: bool = False) -> str:
    """Return the reason of an end whose exit code is known."""
    if code == 0:
        return COMPLETED
    return OOM_KILLED if oom_killed else ERROR


def is_id(value: object) -> bool:
    """Say whether a value is an id as this daemon gives to sandboxes and containers."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


class Phase(enum.StrEnum):
    """How far an object has come; what the CRI calls its state follows from it."""

    #: The record stands, the object is being made; one that stays so was cut short.
    CREATING = "creating"
    #: A sandbox with its network.
    READY = "ready"
    #: A sandbox without network and processes.
    STOPPED = "stopped"
    #: A container that was not started yet.
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    #: Recovery could not read it: kept, shown, and removed only when a client says so.
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRecord:
    """One pod."""

    id: str
    #: Metadata joined to one text that no other sandbox has: ``name_namespace_uid_attempt``.
    name: str
    #: The PodSandboxConfig as it came.
    config: bytes
    #: Runtime handler of the request; empty: none was named.
    handler: str = ""
    #: Nanoseconds of the epoch.
    created_at_ns: int
    phase: Phase = Phase.CREATING
    #: Path of the pod's pinned network namespace; empty: the host's.
    netns: str = ""
    #: Path of the pinned IPC, UTS and user namespaces; empty: the host's.
    ipcns: str = ""
    utsns: str = ""
    userns: str = ""
    #: Addresses in the network's order, the primary one first.
    ips: tuple[str, ...] = ()
    #: cgroup of the pod as crun is to be told: an absolute path, or a slice of systemd.
    cgroup_parent: str = ""
    #: Whether a pause container holds a PID namespace that the containers share.
    has_pause: bool = False
    #: Why it is STOPPED or UNKNOWN, for people.
    message: str = ""
    #: Further plain data of whoever made it.
    extra: dict[str, t.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """One container of a pod; its id names its bundle and its crun container."""

    id: str
    #: ``name_attempt_sandboxid``: unique as long as the container is not removed.
    name: str
    sandbox_id: str
    #: The ContainerConfig as it came.
    config: bytes
    #: Id of the image as images are listed, and the reference that status shows (repository@digest or id).
    image_id: str = ""
    image_ref: str = ""
    created_at_ns: int
    #: 0: not yet.
    started_at_ns: int = 0
    finished_at_ns: int = 0
    #: None: not ended, or nobody saw it.
    exit_code: int | None = None
    #: One word for machines (Completed, Error, OOMKilled, …) and a sentence for people.
    reason: str = ""
    message: str = ""
    phase: Phase = Phase.CREATING
    #: Absolute path; empty: no log.
    log_path: str = ""
    #: ``runtime``, ``rule``, ``reason`` and ``runtime_handler`` of the selection.
    selection: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    #: The signal that a stop sends, by name.
    stop_signal: str = "SIGTERM"
    #: LinuxContainerResources in force now, as an update left them.
    resources: bytes = b""
    #: The container's first user as it was resolved: uid, gid and supplementary groups.
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    #: Mounts of the config as they were made, as serialized Mount messages.
    mounts: tuple[bytes, ...] = ()
    extra: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    @property
    def awaits_restore(self) -> bool:
        """Whether its start is to restore it: until then it has no process, and crun knows nothing of it."""
        return self.phase is Phase.CREATED and RESTORED in self.extra
