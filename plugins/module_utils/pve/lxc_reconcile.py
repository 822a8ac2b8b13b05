# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make one container what it is asked to be: read, plan, apply, and read again.

What the second reading still asks for is done next (an OCI image overrides what
a create request says, for instance); what was done and is asked for again was
not taken by the server, and is an error.  So every stage may be interrupted: the
next run reads what is there and plans from that.
"""

from __future__ import annotations

import dataclasses

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    Conflict,
    TaskFailed,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import guests, lxc_raw, tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc import Container
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_create import CLONE_NOTE
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_plan import (
    Actual,
    Plan,
    Step,
    Verb,
    plan,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_result import Result
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_session import (
    Found,
    Session,
    find,
    reading_of,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import LxcSpec, State

#: After these the config is not what it was when the plan was made.
_BARRIERS = frozenset({Verb.SHUTDOWN, Verb.UNPROTECT, Verb.MIGRATE, Verb.MOVE})

#: How often somebody else's interference is put up with.
_MOST_CONFLICTS = 5


def reconcile(
    session: Session, spec: LxcSpec, *, intent_tag: str | None = None, result: Result | None = None
) -> Result:
    """Make the container what ``spec`` asks for, or only say how in check mode.

    ``result`` is filled on the way, so that it tells what was done before an error.
    """
    return _Work(session, spec, intent_tag, result or Result(spec)).run()


class _Work:
    """The work on one container."""

    def __init__(self, session: Session, spec: LxcSpec, intent_tag: str | None, result: Result) -> None:
        self.session = session
        self.spec = spec
        self.intent_tag = intent_tag
        self.result = result
        self.executed: set[str] = set()
        self.done: set[Verb] = set()
        self.conflicts = 0
        #: The step under way; and what was not carried out when its answer was lost.
        self.current = Step(Verb.CREATE)
        self.begun_s = 0.0
        self.lost: set[str] = set()

    def run(self) -> Result:
        """Do it."""
        found = find(self.session, self.spec)
        if found is None:
            found = self._missing()
            if found is None:
                return self.result
            # The differences to nothing at all are already recorded.
            self._converge(found, self._plan(found))
            return self.result
        made = self._plan(found)
        self.result.differences = made.differences
        if self.session.check_mode:
            self.result.actual = found.actual
            self.result.actions = made.verbs() if made.differences else []
            return self.result
        self._converge(found, made)
        return self.result

    # ---- planning

    def _plan(self, found: Found) -> Plan:
        actual = found.actual
        spec = self.spec
        if actual.is_half_cloned and "description" not in spec.scalars:
            spec = dataclasses.replace(
                spec, scalars={**spec.scalars, "description": self._origin_notes(actual)}
            )
        if spec.env is not None and "env" not in actual.config and not self._sees_env(actual):
            spec = dataclasses.replace(spec, env=None)
        return plan(spec, actual, intent_tag=self.intent_tag, done=frozenset(self.done))

    def _sees_env(self, actual: Actual) -> bool:
        """Say whether the user would see variables; without VM.Config.Options they are hidden, not absent."""
        if self.session.client.is_root:
            return True
        from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_privileges  # noqa: PLC0415

        path = f"/vms/{actual.vmid}"
        if lxc_privileges.may(self.session.permissions(), path, "VM.Config.Options"):
            return True
        text = f"env of container {actual.vmid} was not compared: the user lacks VM.Config.Options on {path}"
        if text not in self.result.warnings:
            self.result.warnings.append(text)
        return False

    def _origin_notes(self, actual: Actual) -> str:
        """Return the notes of the container that this one was cloned from."""
        origin = str(actual.config.get("description")).removeprefix(CLONE_NOTE).strip()
        guest = self.session.view().guests.get(int(origin) if origin.isdecimal() else 0)
        if guest is None:
            return ""
        config = self.session.client.get((*guest.path, "config"))
        return str(config.get("description") or "").rstrip()

    def _missing(self) -> Found | None:
        made = plan(self.spec, None)
        self.result.differences = made.differences
        if not made:
            return None
        if self.session.check_mode:
            self.result.actions = made.verbs() + ([Verb.START.value] if self.spec.wants_running else [])
            return None
        # Images, templates and placement: a container that is as asked should not wait for them.
        from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_new  # noqa: PLC0415

        made_one = lxc_new.create(self.session, self.spec)
        self.result.placed = made_one.placed
        if made_one.is_new:
            self.result.actions.append(Verb.CREATE.value)
        self.executed.add(Verb.CREATE)
        container = made_one.container
        self.result.vmid = container.vmid
        return Found(container, container.read(reading_of(self.spec), pool=self.spec.pool or None))

    # ---- applying

    def _converge(self, found: Found, made: Plan) -> None:
        try:
            actual = self._carry_out(found, made)
        finally:
            self.result.warnings += found.container.warnings
        self.result.actual = None if self.spec.state is State.ABSENT else actual

    def _carry_out(self, found: Found, made: Plan) -> Actual:
        """Apply plan after plan until nothing is left to do; return what is there then."""
        container, actual = found.container, found.actual
        self.result.vmid = container.vmid
        while made:
            if actual.lock is not None:
                self._wait_unlocked(container)
                actual, made = self._again(container, actual)
                continue
            self._check_progress(made.steps[0], actual)
            self._check_allowed(made, actual)
            self.current = made.steps[0]
            try:
                if self._apply(container, made, actual):
                    break
            except (ApiError, TaskFailed) as exc:
                actual, made = self._after_failure(container, actual, exc)
            else:
                actual, made = self._again(container, actual)
        return actual

    def _wait_unlocked(self, container: Container) -> None:
        try:
            container.wait_unlocked(self.spec.conduct.lock_timeout_s)
        except ApiError as exc:
            if _is_final(exc):
                raise
            # It was locked in order to be removed or moved: reading anew tells.
            self.session.log(f"container {container.vmid} went away while it was locked: {exc.message}")

    def _again(self, container: Container, actual: Actual) -> tuple[Actual, Plan]:
        """Read and plan once more; the container may have been moved by somebody else."""
        pool = self.spec.pool or None if Verb.POOL in self.done else actual.pool
        try:
            fresh = container.read(reading_of(self.spec), pool=pool)
        except ApiError as exc:
            guest = self.session.view(afresh=True).guests.get(container.vmid)
            if guest is None and self.spec.state is State.ABSENT:
                return actual, Plan()
            if guest is None or guest.node == container.node:
                raise
            self.session.log(f"container {container.vmid} moved to {guest.node}: {exc.message}")
            container.node = guest.node
            fresh = container.read(reading_of(self.spec), pool=pool)
        return fresh, self._plan(Found(container, fresh))

    def _apply(self, container: Container, made: Plan, actual: Actual) -> bool:
        """Carry out the plan up to where it must be made anew; return whether the container is gone."""
        digest = actual.digest
        for step in made.steps:
            self.session.log(f"container {container.vmid}: {step.verb.value}")
            self.current, self.begun_s = step, self.session.clock()
            self._step(container, step, actual, digest)
            self.executed.add(_key(step))
            self.done.add(step.verb)
            if step.verb is not Verb.CONFIGURE or step.values["put"].keys() - {"tags"} or self.result.changed:
                self.result.actions.append(step.verb.value)
            if step.verb is Verb.DESTROY:
                return True
            if step.verb in _BARRIERS:
                return False
        return False

    def _step(self, container: Container, step: Step, actual: Actual, digest: str | None) -> None:
        values, conduct, creation = step.values, self.spec.conduct, self.spec.creation
        has_ha = actual.ha_managed
        match step.verb:
            case Verb.UNPROTECT:
                container.configure({"protection": 0}, digest=digest)
            case Verb.SHUTDOWN:
                container.shutdown(
                    timeout_s=conduct.shutdown_timeout_s, force=conduct.force, ha_managed=has_ha
                )
            case Verb.MIGRATE:
                container.migrate(
                    values["target"],
                    running=values["running"],
                    shutdown_timeout_s=conduct.shutdown_timeout_s,
                    bwlimit=creation.bwlimit,
                )
            case Verb.MOVE:
                container.move_volume(values["disk"], values["storage"], bwlimit=creation.bwlimit)
            case Verb.CONFIGURE:
                container.configure(values["put"], values["delete"], digest=digest)
            case Verb.RESIZE:
                container.resize(values["disk"], values["size_bytes"])
            case Verb.RAW:
                session = self.session
                lxc_raw.write(
                    container.vmid,
                    values["lines"],
                    config_dir=session.config_dir,
                    lock_dir=session.lock_dir,
                )
            case _:
                self._outward_step(container, step, actual)

    def _outward_step(self, container: Container, step: Step, actual: Actual) -> None:
        """Carry out a step that concerns power, pool, high availability or existence."""
        values, conduct = step.values, self.spec.conduct
        match step.verb:
            case Verb.POOL:
                if values["join"]:
                    container.join_pool(values["join"], moves=bool(values["leave"]))
                else:
                    container.leave_pool(values["leave"])
            case Verb.HA_ADD:
                container.ha_add(values["settings"])
            case Verb.HA_UPDATE:
                container.ha_update(values["settings"])
            case Verb.HA_REMOVE:
                container.ha_remove()
            case Verb.START:
                container.start(ha_managed=actual.ha_managed)
            case Verb.REBOOT:
                container.reboot(timeout_s=conduct.shutdown_timeout_s, ha_managed=actual.ha_managed)
            case Verb.TEMPLATE:
                container.to_template()
            case Verb.DESTROY:
                container.destroy(purge=conduct.purge, unreferenced_disks=conduct.destroy_unreferenced_disks)

    # ---- what goes wrong

    def _check_allowed(self, made: Plan, actual: Actual) -> None:
        """Refuse what cannot be carried out to its end before anything is touched."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_privileges  # noqa: PLC0415

        verbs = {step.verb: step for step in made.steps}
        if Verb.RAW in verbs:
            lxc_raw.check_possible(actual.vmid, actual.node, config_dir=self.session.config_dir)
        if Verb.DESTROY in verbs and actual.ha_managed and not self.spec.conduct.purge:
            raise WrongState(
                f"container {actual.vmid} is a resource of high availability, and 'purge' is false",
                hint="Set 'purge: true', or remove the resource first",
            )
        configure = verbs.get(Verb.CONFIGURE)
        root_keys = (
            lxc_privileges.root_only(
                configure.values["put"],
                configure.values["delete"],
                config=actual.config,
                unprivileged=actual.is_unprivileged,
            )
            if configure
            else []
        )
        needs = lxc_privileges.for_plan(made, actual)
        lxc_privileges.check(self.session.client, needs, root_keys, self.session.permissions)

    def _check_progress(self, step: Step, actual: Actual) -> None:
        """Raise when the server did not take what it was given."""
        if _key(step) not in self.executed:
            return
        if step.verb is Verb.START:
            raise WrongState(
                f"container {actual.vmid} was started on node '{actual.node}' and is {actual.status} again",
                hint="Its first process ended: look at its console and at the log of its start task",
            )
        raise WrongState(
            f"container {actual.vmid}: Proxmox VE accepted '{step.verb.value}' and did not carry it out: "
            f"{_shown(step)}",
            hint="Look at 'pct config' and at the node's log",
        )

    def _after_failure(
        self, container: Container, planned: Actual, exc: ApiError | TaskFailed
    ) -> tuple[Actual, Plan]:
        """Read and plan anew where the state explains the failure; else raise ``exc``.

        It is explained when the step is not needed any more, when there is a lock that
        was not there, when somebody else wrote the config or moved the container, and,
        once for each step, when the answer was lost.
        """
        maybe_done = isinstance(exc, ApiError) and exc.maybe_done
        if not maybe_done and _is_final(exc):
            raise exc
        self.conflicts += 1
        if self.conflicts > _MOST_CONFLICTS:
            raise Conflict(
                f"container {container.vmid} was interfered with {_MOST_CONFLICTS} times in a row: {exc}"
            ) from exc
        if maybe_done:
            self._join_tasks(container)
            planned = self._look_for_effect(container, planned)
        own_writes = {Verb.CONFIGURE, Verb.UNPROTECT, Verb.RESIZE, Verb.MOVE, Verb.RAW} & self.done
        fresh, made = self._again(container, planned)
        is_needed = _key(self.current) in {_key(step) for step in made.steps}
        rewritten = fresh.digest != planned.digest and not own_writes
        moved = fresh.node != planned.node and Verb.MIGRATE not in self.done
        is_news = maybe_done and _key(self.current) not in self.lost
        if is_needed and not (is_news or fresh.lock or rewritten or moved):
            raise exc
        if maybe_done and is_needed:
            self.lost.add(_key(self.current))
        elif maybe_done:
            self.result.actions.append(self.current.verb.value)
        self.executed.clear()
        return fresh, made

    def _look_for_effect(self, container: Container, planned: Actual) -> Actual:
        """Find out whether the step under way was carried out, where reading the container does not tell."""
        if self.current.verb is Verb.POOL:
            guest = self.session.view(afresh=True).guests.get(container.vmid)
            return dataclasses.replace(planned, pool=guest.pool if guest else planned.pool)
        if self.current.verb is Verb.REBOOT:
            status = container.status()
            # One second more, because it is counted in whole ones.
            longest_s = self.session.clock() - self.begun_s + 1
            if status.get("status") == "running" and float(status.get("uptime") or 0) <= longest_s:
                self.done.add(Verb.REBOOT)
        return planned

    def _join_tasks(self, container: Container) -> None:
        guest = Guest(vmid=container.vmid, node=container.node)
        for upid in guests.running_tasks(self.session.client, guest):
            try:
                tasks.wait_task(self.session.client, upid, container.task_timeout_s)
            except TaskFailed as exc:
                self.session.log(f"container {container.vmid}: {exc.message}")


def _is_final(exc: ApiError | TaskFailed) -> bool:
    """Say whether looking again cannot help: the node is not there, or the request was refused as such."""
    return isinstance(exc, ApiError) and (exc.is_unreachable or exc.status != 500)


def _key(step: Step) -> str:
    """Return what tells a step from others: the same twice means that the first had no effect."""
    return f"{step.verb.value} {_shown(step)}"


def _shown(step: Step) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(step.values.items()))
