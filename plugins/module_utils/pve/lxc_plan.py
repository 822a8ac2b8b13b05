# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan the way from what a container is to what it is asked to be.  Pure.

    plan(spec, actual) → steps in the order in which they must happen, and the
                         differences, from which «changed» and the diff both come

A plan is for one reading of the state.  The reconciler reads again after it has
applied one and plans anew: what is then left was not taken by the server.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import ownership, props
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_compare import Comparer, Delta
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_create import CLONE_NOTE
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import (
    TAG,
    Ha,
    LxcSpec,
    RawLines,
    State,
)


class Verb(enum.StrEnum):
    """What one step does."""

    CREATE = "create"
    UNPROTECT = "unprotect"
    SHUTDOWN = "shutdown"
    MIGRATE = "migrate"
    MOVE = "move_volume"
    CONFIGURE = "configure"
    RESIZE = "resize"
    RAW = "raw_lines"
    POOL = "pool"
    HA_ADD = "ha_add"
    HA_UPDATE = "ha_update"
    HA_REMOVE = "ha_remove"
    START = "start"
    REBOOT = "reboot"
    TEMPLATE = "to_template"
    DESTROY = "destroy"


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, with what it needs to know."""

    verb: Verb
    values: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """What one container is at one moment."""

    vmid: int
    node: str
    #: ``running`` or ``stopped``.
    status: str
    #: The config with pending changes merged in, without digest and lock.
    config: t.Mapping[str, t.Any]
    digest: str | None = None
    lock: str | None = None
    #: Pool, or None; only read when the spec names one.
    pool: str | None = None
    ha_managed: bool = False
    #: Settings in high availability; only read when the spec names some.
    ha: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    #: Keys whose change waits for the next start; only read when it matters.
    pending: tuple[str, ...] = ()

    @property
    def is_running(self) -> bool:
        """Say whether it runs."""
        return self.status == "running"

    @property
    def is_template(self) -> bool:
        """Say whether it is a template."""
        return str(self.config.get("template") or "0") == "1"

    @property
    def is_protected(self) -> bool:
        """Say whether its protection flag is set."""
        return str(self.config.get("protection") or "0") == "1"

    @property
    def is_unprivileged(self) -> bool:
        """Say whether it runs in a user namespace."""
        return str(self.config.get("unprivileged") or "0") == "1"

    @property
    def hostname(self) -> str:
        """Return its host name."""
        return str(self.config.get("hostname") or f"CT{self.vmid}")

    @property
    def tags(self) -> frozenset[str]:
        """Return its tags."""
        return frozenset(tag.lower() for tag in props.words(self.config.get("tags", "")))

    @property
    def is_half_cloned(self) -> bool:
        """Say whether it is a clone of ours that did not get its tags yet."""
        return str(self.config.get("description") or "").startswith(CLONE_NOTE)

    @property
    def is_ours(self) -> bool:
        """Say whether this collection made it."""
        return TAG in self.tags or self.is_half_cloned


@dataclasses.dataclass(slots=True)
class Plan:
    """Steps in order, and what differs; both empty when nothing is to be done."""

    steps: list[Step] = dataclasses.field(default_factory=list)
    differences: DifferenceTracker = dataclasses.field(default_factory=DifferenceTracker)

    def __bool__(self) -> bool:
        return bool(self.steps)

    def add(self, verb: Verb, **values: t.Any) -> None:
        """Append a step."""
        self.steps.append(Step(verb, values))

    def verbs(self) -> list[str]:
        """Return the names of the steps."""
        return [step.verb.value for step in self.steps]


def plan(
    spec: LxcSpec,
    actual: Actual | None,
    *,
    intent_tag: str | None = None,
    done: frozenset[Verb] = frozenset(),
) -> Plan:
    """Return how to get from ``actual`` (None: it does not exist) to ``spec``.

    ``done`` names verbs that were already carried out in this run and must not
    happen again (a restart).  Raises NotFound, WrongState and InvalidSpec when
    there is no way.
    """
    if actual is None:
        return _plan_new(spec)
    if spec.state is State.ABSENT:
        made = _plan_absent(spec, actual)
    else:
        made = _plan_existing(spec, actual, intent_tag, done)
    if made:
        check_ownership(spec, actual)
    return made


def check_ownership(spec: LxcSpec, actual: Actual) -> None:
    """Raise WrongState when the container may not be touched by this spec."""
    # A clone gets its tags only after it was made.
    tags = {*actual.tags, TAG} if actual.is_half_cloned else actual.tags
    guest = Guest(vmid=actual.vmid, node=actual.node, name=actual.hostname, tags=tuple(tags))
    ownership.check(guest, adopt=spec.conduct.adopt, by_id=spec.vmid is not None)


def _plan_new(spec: LxcSpec) -> Plan:
    made = Plan()
    if spec.state is State.ABSENT:
        return made
    if spec.creation.source is None:
        raise NotFound(
            f"{spec.label} does not exist",
            hint="Name an 'ostemplate', an 'image' or a 'clone' to create it from",
        )
    made.add(Verb.CREATE)
    tracker = made.differences
    ends_as = "template" if spec.state is State.TEMPLATE else "running" if spec.wants_running else "stopped"
    tracker.add("status", None, ends_as)
    source = spec.creation.source
    tracker.add(source.kind.value, None, source.name)
    for key, value in (("vmid", spec.vmid), ("node", spec.node), ("pool", spec.pool or None)):
        if value is not None:
            tracker.add(key, None, value)
    _describe(spec, tracker)
    if spec.ha is not None and spec.ha.managed:
        tracker.add("ha", None, spec.ha.settings() or True)
    return made


def _describe(spec: LxcSpec, tracker: DifferenceTracker) -> None:
    """Record what a new container will have, without needing to know its storages."""
    for key, value in spec.scalars.items():
        tracker.add(key, None, value)
    for key in ("startup", "features"):
        tracker.add(key, None, getattr(spec, key) or None)
    if spec.rootfs is not None:
        tracker.add("rootfs", None, _described_disk(spec.rootfs))
    for entry, disk in spec.mounts.items():
        tracker.add(f"mounts.{entry}", None, _described_disk(disk) if disk else None)
    for name, entries in (("networks", spec.networks), ("devices", spec.devices)):
        for entry, value in entries.items():
            tracker.add(f"{name}.{entry}", None, value)
    for variable, content in (spec.env or {}).items():
        tracker.add(f"env.{variable}", None, content)
    for key, lines in spec.lxc.items():
        tracker.add(key, None, list(lines) if lines else None)
    tracker.add("tags", None, sorted({TAG, *(spec.tags or ())}))


def _described_disk(disk: t.Any) -> dict[str, t.Any]:
    size = props.format_size(disk.size_bytes) if disk.size_bytes else None
    values = {"storage": disk.storage, "volume": disk.volume, "size": size, **disk.props}
    return {key: value for key, value in values.items() if value is not None}


def _plan_absent(spec: LxcSpec, actual: Actual) -> Plan:
    made = Plan()
    if actual.is_protected:
        if spec.scalars.get("protection") is not False:
            raise WrongState(
                f"container {actual.vmid} is protected against removal",
                hint="Set 'protection: false' in the same task to remove it all the same",
            )
        made.add(Verb.UNPROTECT)
    if actual.is_running:
        made.add(Verb.SHUTDOWN)
    made.add(Verb.DESTROY)
    tracker = made.differences
    tracker.add("vmid", actual.vmid, None)
    tracker.add("node", actual.node, None)
    tracker.add("hostname", actual.hostname, None)
    tracker.add("status", actual.status, None)
    return made


def _plan_existing(spec: LxcSpec, actual: Actual, intent_tag: str | None, done: frozenset[Verb]) -> Plan:
    made = Plan()
    _check_fixed(spec, actual)
    stops = spec.state in (State.STOPPED, State.TEMPLATE) and actual.is_running
    if stops:
        made.differences.add("status", actual.status, "stopped")
        made.add(Verb.SHUTDOWN)
    if spec.node and spec.node != actual.node and spec.conduct.migrate:
        made.differences.add("node", actual.node, spec.node)
        made.add(Verb.MIGRATE, target=spec.node, running=actual.is_running and not stops)
    adopt = actual.is_ours or spec.conduct.adopt
    comparer = Comparer(spec, actual.config, made.differences)
    delta = comparer.compare(adopt=adopt, intent_tag=intent_tag)
    _plan_config(made, spec, actual, delta, is_running=actual.is_running and not stops)
    _plan_pool(made, spec, actual)
    _plan_ha(made, spec, actual)
    _plan_power(made, spec, actual, delta.raw, done)
    return made


def _check_fixed(spec: LxcSpec, actual: Actual) -> None:
    wanted = spec.creation.unprivileged
    if wanted is not None and wanted != actual.is_unprivileged:
        now = "unprivileged" if actual.is_unprivileged else "privileged"
        raise InvalidSpec(
            "unprivileged",
            f"container {actual.vmid} is {now}, and Proxmox VE cannot change that",
            hint="Back it up and restore it the other way, or leave the option out",
        )
    if actual.is_template and spec.wants_running:
        raise WrongState(
            f"container {actual.vmid} is a template and cannot run", hint="Clone it, and start the clone"
        )


def _plan_config(made: Plan, spec: LxcSpec, actual: Actual, delta: Delta, *, is_running: bool) -> None:
    touches_disks = [
        k for k in (*delta.put, *delta.delete) if k == "rootfs" or k.startswith(("mp", "unused"))
    ]
    if actual.is_protected and (touches_disks or delta.move):
        if spec.scalars.get("protection") is not False:
            disks = ", ".join(sorted({*touches_disks, *delta.move}))
            raise WrongState(
                f"container {actual.vmid} is protected, so {disks} cannot be changed or removed",
                hint="Set 'protection: false' in the same task",
            )
        # The server looks at the flag that was there before the request.
        made.add(Verb.UNPROTECT)
        delta.delete = [key for key in delta.delete if key != "protection"]
        delta.put.pop("protection", None)
    if delta.move and is_running:
        raise WrongState(
            f"container {actual.vmid} runs, so {', '.join(sorted(delta.move))} cannot change its storage",
            hint="Stop it first (state=stopped), or name the storage that it is on",
        )
    for disk, storage in delta.move.items():
        made.add(Verb.MOVE, disk=disk, storage=storage)
    if delta.put or delta.delete:
        made.add(Verb.CONFIGURE, put=dict(delta.put), delete=list(delta.delete))
    for disk, size_bytes in delta.resize.items():
        made.add(Verb.RESIZE, disk=disk, size_bytes=size_bytes)
    if delta.raw:
        made.add(Verb.RAW, lines=dict(delta.raw))


def _plan_pool(made: Plan, spec: LxcSpec, actual: Actual) -> None:
    if spec.pool is not None and made.differences.add("pool", actual.pool, spec.pool or None):
        made.add(Verb.POOL, leave=actual.pool, join=spec.pool or None)


def _plan_ha(made: Plan, spec: LxcSpec, actual: Actual) -> None:
    ha, tracker = spec.ha, made.differences
    if ha is None:
        return
    if not ha.managed:
        if actual.ha_managed:
            tracker.add("ha", True, None)
            made.add(Verb.HA_REMOVE)
        return
    settings = ha.settings()
    if not actual.ha_managed:
        tracker.add("ha", None, settings or True)
        made.add(Verb.HA_ADD, settings={"state": _ha_state(ha, spec, actual), **settings})
        return
    changed = {}
    for name, value in settings.items():
        if tracker.add(f"ha.{name}", _ha_value(actual.ha.get(name), value), value):
            changed[name] = value
    if changed:
        made.add(Verb.HA_UPDATE, settings=changed)


def _ha_state(ha: Ha, spec: LxcSpec, actual: Actual) -> str:
    """Return the state to enter HA with: one that does not start or stop the container by surprise."""
    if ha.state:
        return ha.state
    runs = {State.PRESENT: actual.is_running, State.STARTED: True, State.RESTARTED: True}.get(
        spec.state, False
    )
    return "started" if runs else "stopped"


def _ha_value(present: t.Any, wanted: t.Any) -> t.Any:
    """Return the server's value in the type of ours, so that 1 equals True and '2' equals 2."""
    if present is None:
        return None
    if isinstance(wanted, bool):
        return str(present) == "1"
    return int(present) if isinstance(wanted, int) else str(present)


def _plan_power(made: Plan, spec: LxcSpec, actual: Actual, raw: RawLines, done: frozenset[Verb]) -> None:
    tracker = made.differences
    if spec.wants_running and not actual.is_running:
        tracker.add("status", actual.status, "running")
        made.add(Verb.START)
    elif spec.state is State.RESTARTED and actual.is_running:
        if not {Verb.REBOOT, Verb.START} & done:
            tracker.add("restarted", False, True)
            made.add(Verb.REBOOT)
    elif spec.state is State.TEMPLATE and not actual.is_template:
        tracker.add("template", False, True)
        made.add(Verb.TEMPLATE)
    if (
        spec.conduct.apply_pending
        and actual.is_running
        and spec.state in (State.PRESENT, State.STARTED)
        and (actual.pending or raw)
        and Verb.MIGRATE not in {step.verb for step in made.steps}
    ):
        tracker.add("restarted", False, True)
        made.add(Verb.REBOOT)
