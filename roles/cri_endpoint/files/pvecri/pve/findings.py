# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what somebody did to a container in Proxmox VE, and what follows from it; pure.

Only what is proven to be this endpoint's is ever changed: a mark that was taken away is put back as long
as the rest of the marks still proves whose the container is.  Without any tag it is given up: it goes
on as long as its program does, and neither its disk nor its configuration is touched any more.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_raw
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import split_tags
from pvecri.pve import identity
from pvecri.state.records import Phase


class Kind(enum.StrEnum):
    """What was done; labels of a metric."""

    DESTROYED = "destroyed"
    MIGRATED = "migrated"
    #: Its notes say that it is somebody else's, or nobody's.
    FOREIGN = "foreign"
    UNTAGGED = "untagged"
    EXCLUDED = "include_removed"
    LOCKED = "locked"
    RENAMED = "renamed"
    SNAPSHOTTED = "snapshotted"
    STARTED = "started"
    STOPPED = "stopped"
    ORPHANED = "orphaned"


#: All kinds, for the metric.
KINDS: t.Final = tuple(Kind)


class Act(enum.StrEnum):
    """What follows."""

    #: It is told, no more.
    TELL = "tell"
    #: The container has ended, whatever else is known of it.
    LOSE = "lose"
    #: Put the tag back that is missing.
    TAG = "tag"
    #: Put the line back that takes in our file.
    INCLUDE = "include"
    #: Stop what runs although the container has ended, unless it does so by itself.
    STOP = "stop"
    #: Note that the container runs.
    RUNS = "runs"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was done behind the endpoint's back."""

    kind: Kind
    #: A sentence's worth, for the container's status and the log.
    message: str
    act: Act = Act.TELL


@dataclasses.dataclass(frozen=True, slots=True)
class Sighting:
    """A container as Proxmox VE has it at one moment."""

    node: str
    #: ``running`` or ``stopped``.
    status: str
    #: Lock that is on it; empty: none.
    lock: str
    #: As the API has it, with its pending changes left out.
    config: t.Mapping[str, t.Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A container as the endpoint knows it at the same moment, from files alone."""

    record: LxcRecord
    phase: Phase
    #: Its program runs.
    runs: bool
    #: Its name in Proxmox VE; empty: unknown.
    hostname: str
    #: The file that its configuration must take in.
    include: str


def judge(known: Known, seen: Sighting | None) -> tuple[Finding, ...]:
    """Return what was done to a container since it was made; None: Proxmox VE has none of its number.

    Nothing is said of one that is being made or removed: who does that knows.
    """
    record = known.record
    if not record.is_whole:
        return ()
    if seen is None:
        return (Finding(Kind.DESTROYED, "it was destroyed in Proxmox VE", _lost(known)),)
    if seen.node != record.node:
        message = f"it was migrated to node {seen.node} of Proxmox VE, where its pod is not"
        return (Finding(Kind.MIGRATED, message, _lost(known)),)
    whose = identity.identity_in(str(seen.config.get("description") or ""))
    if whose is None or not whose.is_of(record):
        message = f"the notes of {record.vmid} in Proxmox VE do not say any more that it is this container"
        return (Finding(Kind.FOREIGN, message, _lost(known)),)
    tag = _untagged(known, seen)
    if tag is not None and tag.act is Act.TELL:
        return (tag,)
    found = [tag, *_changes(known, seen), _power(known, seen)]
    return tuple(finding for finding in found if finding is not None)


def _lost(known: Known) -> Act:
    """A container that is gone has ended, unless its program is seen to run."""
    return Act.LOSE if known.phase in {Phase.CREATED, Phase.RUNNING} and not known.runs else Act.TELL


def _untagged(known: Known, seen: Sighting) -> Finding | None:
    missing = [tag for tag in identity.TAGS if tag not in split_tags(seen.config.get("tags"))]
    if not missing:
        return None
    if len(missing) < len(identity.TAGS):
        return Finding(Kind.UNTAGGED, f"its tag {missing[0]} was taken away in Proxmox VE", Act.TAG)
    return Finding(
        Kind.UNTAGGED,
        f"its tags were taken away in Proxmox VE: {known.record.vmid} and its disk are given up, and stay",
    )


def _changes(known: Known, seen: Sighting) -> t.Iterator[Finding]:
    if seen.lock:
        yield Finding(Kind.LOCKED, f"it is locked in Proxmox VE ({seen.lock})")
    if known.include not in lxc_raw.included(seen.config):
        act = Act.TELL if seen.lock else Act.INCLUDE
        yield Finding(Kind.EXCLUDED, f"its line {lxc_raw.INCLUDE} was taken away in Proxmox VE", act)
    name = str(seen.config.get("hostname") or "")
    if name != known.hostname and known.hostname:
        yield Finding(Kind.RENAMED, f"it was renamed in Proxmox VE to {name or 'nothing'}")
    parent = str(seen.config.get("parent") or "")
    if parent:
        yield Finding(Kind.SNAPSHOTTED, f"it has the snapshot {parent} in Proxmox VE, which goes with it")


def _power(known: Known, seen: Sighting) -> Finding | None:
    if known.phase is Phase.CREATED and known.runs and known.record.stage is not Stage.STARTING:
        return Finding(Kind.STARTED, "it was started in Proxmox VE", Act.RUNS)
    if known.phase is Phase.EXITED and not known.runs and seen.status == "running":
        return Finding(Kind.STARTED, "it was started in Proxmox VE after its end", Act.STOP)
    return None
