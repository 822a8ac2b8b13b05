# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make many containers what they are asked to be, some at a time.

A container's config costs a request of its own; the list of a node's containers
costs one for all of them, and it shows tags.  So what was last asked for is
remembered as a tag, and a container whose tag, state and place are as asked is
left alone: intent is compared with intent, in one request for the cluster and
one for each node.  What somebody changed by hand in the meantime shows only as
far as that list goes; ``Verify.FULL`` reads every config instead.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import parallel
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import ClusterView, Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_reconcile import reconcile
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_result import Result
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_session import Session
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import (
    TAG,
    TAG_CRI,
    LxcSpec,
    State,
)

_MIB = 1024**2


class Verify(enum.StrEnum):
    """How an existing container is compared."""

    #: Config with options: finds whatever differs.
    FULL = "full"
    #: The remembered intent with this one, and what lists show.
    INTENT = "intent"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What became of one container of many: a result, settled, or an error and what was done before it."""

    spec: LxcSpec
    result: Result | None = None
    error: CoreError | None = None
    #: Left alone: as the cluster lists it, or None for one that is absent as asked.
    settled: Guest | None = None

    @property
    def changed(self) -> bool:
        """Say whether anything was, or would be, changed."""
        if self.result is None:
            return False
        # What differs was only planned; of one that failed, what was carried out counts.
        return bool(self.result.actions) if self.error is not None else self.result.changed


class SomeFailed(CoreError):
    """Report that not all containers of a task are what they were asked to be."""

    code = "some_failed"

    def __init__(self, answers: t.Sequence[Answer], values: t.Mapping[str, t.Any]) -> None:
        failed = [answer for answer in answers if answer.error is not None]
        first = "; ".join(f"{a.spec.label}: {a.error}" for a in failed[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        super().__init__(f"{len(failed)} of {len(answers)} containers failed: {first}{more}")
        self.changed = any(answer.changed for answer in answers)
        self.values = dict(values)

    def details(self) -> dict[str, t.Any]:
        """Return plain data for ``fail_json``: every container with what became of it, diff and warnings."""
        return {"error": self.code, "changed": self.changed, **self.values}


class Interrupted(CoreError):
    """Report why the work on one container failed, together with what was done before."""

    def __init__(self, error: CoreError, values: t.Mapping[str, t.Any]) -> None:
        super().__init__(error.message, hint=error.hint)
        self.error = error
        self.values = dict(values)

    def details(self) -> dict[str, t.Any]:
        """Return plain data for ``fail_json``: of the error, and what became of the container."""
        return {**self.error.details(), **self.values}


def reconcile_one(session: Session, spec: LxcSpec) -> Answer:
    """Return what became of one container that is compared by its configuration."""
    result = Result(spec)
    try:
        reconcile(session, spec, result=result)
    except CoreError as exc:
        return Answer(spec, result=result, error=exc)
    return Answer(spec, result=result)


def check_distinct(specs: t.Sequence[LxcSpec]) -> None:
    """Raise InvalidSpec when two entries are about one container."""
    for name in ("vmid", "hostname"):
        counts = collections.Counter(getattr(spec, name) for spec in specs)
        for value, count in counts.items():
            if value is not None and count > 1:
                raise InvalidSpec("containers", f"{name} {value} stands in {count} entries")


def reconcile_many(
    session: Session, specs: t.Sequence[LxcSpec], *, verify: Verify, concurrency: int
) -> list[Answer]:
    """Return what became of each, in order; a failure stops no other."""
    check_distinct(specs)
    view = session.view(current=True)
    index = _Index(view)
    answers: dict[int, Answer] = {}
    todo: list[int] = []
    for number, spec in enumerate(specs):
        guest = index.find(spec)
        if is_absent_as_asked(spec, guest) or (
            verify is Verify.INTENT and guest is not None and is_settled(spec, guest)
        ):
            answers[number] = Answer(spec, settled=guest)
        else:
            todo.append(number)

    results = {number: Result(specs[number]) for number in todo}

    def one(number: int) -> Result:
        spec = specs[number]
        tag = spec.intent_tag() if verify is Verify.INTENT else None
        return reconcile(session, spec, intent_tag=tag, result=results[number])

    done = parallel.each(todo, one, limit=concurrency)
    for number, outcome in zip(todo, done, strict=True):
        error = outcome if isinstance(outcome, CoreError) else None
        answers[number] = Answer(specs[number], result=results[number], error=error)
    return [answers[number] for number in range(len(specs))]


class _Index:
    """Find guests by id or name without going through all of them each time."""

    def __init__(self, view: ClusterView) -> None:
        self.by_id = view.guests
        self.by_name: dict[str, list[Guest]] = collections.defaultdict(list)
        for guest in view.containers():
            self.by_name[guest.name].append(guest)

    def find(self, spec: LxcSpec) -> Guest | None:
        """Return the guest that the spec names, if there is no doubt about it."""
        if spec.vmid is not None:
            return self.by_id.get(spec.vmid)
        named = self.by_name.get(spec.hostname or "", [])
        ours = [guest for guest in named if TAG in guest.tags]
        return (ours or named)[0] if len(ours or named) == 1 else None


def is_absent_as_asked(spec: LxcSpec, guest: Guest | None) -> bool:
    """Say whether nothing is to be done because the container is asked to be absent, and is."""
    # By name a missing entry may be an ambiguous one: only an id is certain.
    return spec.state is State.ABSENT and guest is None and spec.vmid is not None


def is_settled(spec: LxcSpec, guest: Guest) -> bool:
    """Say whether the container is as asked, as far as its node's list shows.  Pure."""
    tags = set(guest.tags)
    if guest.type != "lxc" or guest.lock or TAG not in tags or TAG_CRI in tags:
        return False
    if spec.intent_tag() not in tags or spec.state in (State.ABSENT, State.RESTARTED):
        return False
    status = {State.STARTED: "running", State.STOPPED: "stopped", State.TEMPLATE: "stopped"}.get(spec.state)
    memory, cores = spec.scalars.get("memory"), spec.scalars.get("cores")
    return (
        status in (None, guest.status)
        and guest.status in ("running", "stopped")
        and guest.is_template == (spec.state is State.TEMPLATE)
        and spec.hostname in (None, guest.name)
        and (spec.node in (None, guest.node) or not spec.conduct.migrate)
        and (spec.pool is None or spec.pool == (guest.pool or ""))
        and (spec.ha is None or spec.ha.managed == (guest.ha_state is not None))
        and memory in (None, guest.memory_bytes // _MIB)
        and cores in (None, guest.cpus)
    )
