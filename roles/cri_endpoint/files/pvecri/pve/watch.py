# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notice what is done to containers in Proxmox VE behind the endpoint's back, and tell of it.

lxc-monitord tells at once when a container starts or ends; the rest is looked for now and then, as
long as there are containers at all.  What is found stands in the container's status, in the log, in its
verbose status and in a metric; a container that is gone has ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import select
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import monitord
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout, guest
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from pvecri.api import cri_pb2
from pvecri.containers.exits import Exits
from pvecri.pve import failures, findings, follow, identity
from pvecri.pve.findings import Act, Finding, Kind, Known, Sighting
from pvecri.pve.follow import Driver
from pvecri.pve.orphans import Orphans
from pvecri.pve.sightings import Sights
from pvecri.state.records import ContainerRecord, Phase
from pvecri.state.registry import Registry

if t.TYPE_CHECKING:
    from pvecri.pve.node import PveNode

_log = logging.getLogger(__name__)

#: How often they are looked for while none is known: a request whose answer was lost may have made one since.
_RARELY_S = 600.0

#: How long after a message of lxc-monitord the container is looked at: Proxmox VE shall have seen it, too.
_AFTER_S = 1.0

#: How long a container that was started after its end may take to end by itself.
_GRACE_S = 10.0


@dataclasses.dataclass(slots=True)
class _Told:
    """What was found of one container so far."""

    #: When each kind was found first.
    since: dict[Kind, float] = dataclasses.field(default_factory=dict)
    #: What was put right, which shall be read nonetheless.
    mended: dict[Kind, str] = dataclasses.field(default_factory=dict)
    is_explained: bool = False


class Watch:
    """One for the daemon; `look` may be called from any thread."""

    def __init__(
        self,
        registry: Registry,
        exits: Exits,
        node: PveNode,
        driver: Driver,
        *,
        interval_s: float,
    ) -> None:
        self._registry = registry
        self._exits = exits
        self._node = node
        self._driver = driver
        self._interval_s = interval_s
        self._sights = Sights(node)
        self._told: dict[str, _Told] = {}
        self._orphans = Orphans(registry, node, driver, self._sights)
        self._looking = threading.Lock()
        self._reports = monitord.Reports(node.lxc_path)
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._is_over = False
        #: When to look at the latest, whatever is known.
        self._look_by_s = time.monotonic() + _RARELY_S
        #: Names of problems with looking, which are told once.
        self._problem = ""
        #: How often each kind was found.
        self.counts: dict[str, int] = dict.fromkeys((kind.value for kind in findings.KINDS), 0)

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._run, name="pvecri-lxc", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; a look that is under way is not waited for."""
        self._is_over = True
        with contextlib.suppress(OSError):
            os.write(self._wake_w, b"\0")

    # ---- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_s = time.monotonic() + self._interval_s
        while not self._is_over:
            try:
                heard = self._listen(max(next_s - time.monotonic(), 0.0))
                if self._is_over:
                    return
                if heard:
                    next_s = min(next_s, time.monotonic() + _AFTER_S)
                elif time.monotonic() >= next_s:
                    next_s = time.monotonic() + self._interval_s
                    self._look_quietly()
            except Exception:  # what goes wrong with one look never ends the others
                _log.exception("containers of Proxmox VE cannot be watched")
                next_s = time.monotonic() + self._interval_s

    def _listen(self, timeout_s: float) -> bool:
        """Wait for lxc-monitord; say whether it told of a container of ours."""
        # Also while there is no container: the first one may be made in a moment.
        self._reports.connect()
        handle = self._reports.fileno()
        handles = [self._wake_r] if handle is None else [self._wake_r, handle]
        ready, _none, _neither = select.select(handles, [], [], timeout_s)
        if handle is None or handle not in ready:
            return False
        changed = {message.name for message in self._reports.read() if message.kind == monitord.STATE}
        ours = [record.name for record in self._records() if str(record.vmid) in changed]
        for name in ours:
            with contextlib.suppress(CoreError, OSError):
                self._exits.settle(name)
        return bool(ours)

    def _look_quietly(self) -> None:
        if not self._has_something() and time.monotonic() < self._look_by_s:
            return
        self._look_by_s = time.monotonic() + _RARELY_S
        try:
            self.look()
        except (CoreError, OSError) as exc:
            if str(exc) != self._problem:
                _log.warning("Proxmox VE does not tell of containers", extra={"error": str(exc)})
            self._problem = str(exc)
        else:
            if self._problem:
                _log.info("Proxmox VE tells of containers again")
            self._problem = ""

    # ---- looking ------------------------------------------------------------------------------------------

    def stage(self, name: str) -> Stage | None:
        """Return how far a container came; None: it is none of Proxmox VE's."""
        record = records.load(LxcLayout(self._driver.paths, name))
        return None if record is None else record.stage

    def look(self) -> None:
        """Look at everything once; raises when Proxmox VE does not answer."""
        with self._looking:
            files = self._orphans.files()
            known = {record.vmid: record for record in self._records()}
            with failures.named(self._node, "containers of Proxmox VE cannot be looked at"):
                view = self._sights.look(known.keys() | files)
            for vmid in known.keys() & view.sightings.keys():
                seen = view.sightings[vmid]
                self._one(known[vmid].name, functools.partial(self._judge, seen=seen))
            self._orphans.clear(view, files)
            self.counts[Kind.ORPHANED.value] = self._orphans.count
            self._told = {name: told for name, told in self._told.items() if self._driver.knows(name)}

    def _one(self, name: str, act: t.Callable[[str], None]) -> None:
        """Do something for one container; what goes wrong with it is no reason to leave the others."""
        try:
            act(name)
        except NotFound:
            # A client has removed it meanwhile.
            pass
        except (CoreError, OSError) as exc:
            _log.warning(
                "container of Proxmox VE not looked at", extra={"container": name, "error": str(exc)}
            )

    def _has_something(self) -> bool:
        return bool(records.names(self._driver.paths) or self._orphans.files())

    def _records(self) -> list[LxcRecord]:
        return records.everyone(self._driver.paths)

    def _known(self, name: str) -> Known | None:
        """Return what is known of a container; None while it is made or removed."""
        found = self._registry.container(name)
        record = records.load(LxcLayout(self._driver.paths, name))
        if record is None or found.phase is Phase.CREATING or self._registry.flags(name):
            return None
        state = self._driver.state(name)
        return Known(
            record=record,
            phase=found.phase,
            runs=state is not None and state.status is Status.RUNNING,
            hostname=self._hostname(found),
            include=guest(self._driver.paths, record.vmid).config,
        )

    def _hostname(self, found: ContainerRecord) -> str:
        with contextlib.suppress(NotFound, ValueError):
            pod = cri_pb2.PodSandboxConfig.FromString(self._registry.sandbox(found.sandbox_id).config)
            container = cri_pb2.ContainerConfig.FromString(found.config)
            return identity.hostname(pod.metadata.name, container.metadata.name)
        return ""

    def _judge(self, name: str, seen: Sighting | None) -> None:
        known = self._known(name)
        if known is None:
            return
        found = list(findings.judge(known, seen))
        told = self._told.setdefault(name, _Told())
        stopped = self._who_stopped(known, told)
        if stopped is not None:
            found.append(stopped)
        now = time.monotonic()
        for finding in found:
            if finding.kind not in told.since:
                self._count(known, finding)
        told.since = {finding.kind: told.since.get(finding.kind, now) for finding in found}
        self._write_down(known, told, found)
        for finding in found:
            if finding.act is not Act.TELL and self._is_due(told, finding, now):
                self._act(known, told, finding)

    def _is_due(self, told: _Told, finding: Finding, now: float) -> bool:
        """Say whether it is time to act: what was started after its end finds nobody, and ends by itself."""
        return finding.act is not Act.STOP or now - told.since[finding.kind] >= _GRACE_S

    def _count(self, known: Known, finding: Finding) -> None:
        self.counts[finding.kind.value] += 1
        _log.warning(
            "container changed in Proxmox VE",
            extra={
                "container": known.record.name,
                "vmid": known.record.vmid,
                "kind": finding.kind.value,
                "what": finding.message,
            },
        )

    def _who_stopped(self, known: Known, told: _Told) -> Finding | None:
        """Return whose task ended a container that the endpoint did not stop; asked once."""
        if told.is_explained or not follow.ended_untold(known):
            return None
        told.is_explained = True
        message = follow.who_stopped(self._node, known.record)
        return Finding(Kind.STOPPED, message) if message else None

    def _write_down(self, known: Known, told: _Told, found: list[Finding]) -> None:
        """Bring what was found into the container's status, unless something else is said there."""
        record = known.record
        current = {finding.kind: finding.message for finding in found}
        text = "; ".join({**told.mended, **current}.values())
        if Kind.STOPPED not in current and known.phase is Phase.EXITED and not text and told.is_explained:
            # Who stopped it was found before, and goes on to be true.
            return
        if text == record.problem:
            return
        was = record.problem
        self._driver.amend(record.name, problem=text)

        def decide(now: ContainerRecord) -> dict[str, t.Any] | None:
            return {"message": text} if now.message in {"", was} else None

        self._registry.change_container(record.name, decide)

    # ---- acting -------------------------------------------------------------------------------------------

    def _act(self, known: Known, told: _Told, finding: Finding) -> None:
        """Do what follows, when nobody else works on the container and it is still so."""
        name = known.record.name
        try:
            with self._registry.held(name, timeout_s=0.0):
                again = self._known(name)
                seen = self._sights.look({known.record.vmid}).sightings
                if again is None or known.record.vmid not in seen:
                    return
                sighting = seen[known.record.vmid]
                if finding not in findings.judge(again, sighting):
                    return
                follow.ACTS[finding.act](
                    follow.Case(self._node, self._driver, self._registry, again, sighting, finding)
                )
        except WrongState as exc:
            _log.debug("not now: %s", exc)
            return
        if finding.act in {Act.TAG, Act.INCLUDE}:
            told.mended[finding.kind] = f"{finding.message} and was put back"
