# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what has to be done so that a container becomes what is asked for.  Pure.

`make_plan` compares the recorded request with the one of now and the container's
status with the state asked for.  It gives the steps in an order in which a crash
between any two of them leaves something that the next plan completes: the record
of a change is always written after the change.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import (
    Plain,
    Rule,
    compare,
    rule_of,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import (
    DEFAULTS,
    without_defaults,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.terms import (
    Actual,
    Desired,
    Effect,
    Plan,
    State,
    Status,
    Step,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound, WrongState

#: Keys that shape a container's network.
NETWORK_KEYS = frozenset({"network", "published_ports"})
_RECORD_KEYS = frozenset({"labels", "stop_signal", "stop_timeout", "health_check"})
_RESTART_KEYS = frozenset(
    {"log", "published_ports", "dns_servers", "dns_search", "dns_options", "etc_hosts", "restart_policy"}
)
_NO = DEFAULTS["restart_policy"]

#: Tells whether the runtime can change these limits under a running container.
CanUpdate = t.Callable[[Plain, Plain], bool]

#: Gives the text of the unit that a shaped request needs; None without a restart policy.
UnitFor = t.Callable[[Plain], "str | None"]


def make_plan(desired: Desired, actual: Actual, can_update: CanUpdate, unit_for: UnitFor) -> Plan:
    """Return the steps from ``actual`` to ``desired``.

    Raises NotFound when only a state is asked of a container that does not exist,
    InvalidSpec when options are given that need a source which is not given, and
    WrongState when ``recreate`` forbids what a change needs, or the bundle is
    broken and there is nothing to make it anew from.
    """
    tracker = DifferenceTracker()
    if desired.state is State.ABSENT:
        return _plan_absent(actual, tracker)
    if not actual.has_bundle and not desired.has_source:
        raise NotFound(
            f"there is no container '{desired.name}' to be {desired.state}",
            hint="Say what it is made from: image, rootfs or bundle",
        )
    effect, request = _compare(desired, actual, tracker, can_update)
    _check_allowed(desired, actual, effect, tracker)
    steps = _configure(actual, request, effect)
    if tracker.add("systemd_unit", actual.unit, unit := unit_for(request)):
        steps.append(Step.REMOVE_UNIT if unit is None else Step.WRITE_UNIT)
    steps += _live(desired, actual, effect, steps, tracker)
    is_recorded = any(step in steps for step in (Step.COMMIT, Step.RECORD))
    return Plan(tuple(steps), tracker, effect, request if is_recorded else None)


def _plan_absent(actual: Actual, tracker: DifferenceTracker) -> Plan:
    steps = _end_steps(actual)
    if actual.has_network:
        steps.append(Step.NETWORK_DOWN)
    if actual.unit is not None:
        steps.append(Step.REMOVE_UNIT)
    if actual.has_bundle or actual.has_files or steps:
        # Last: as long as it is there, the next run finds what is left of the rest.
        steps.append(Step.REMOVE)
    if steps:
        status = actual.status if actual.status is not Status.ABSENT else "left over"
        tracker.add("state", str(status), str(Status.ABSENT))
    return Plan(tuple(steps), tracker)


def _end_steps(actual: Actual) -> list[Step]:
    """Return the steps after which the runtime knows nothing of the container."""
    steps = []
    # A unit may be about to start it again at this very moment.
    has_restarts = actual.unit is not None and not actual.was_stopped
    if actual.status in {Status.RUNNING, Status.PAUSED} or has_restarts:
        steps.append(Step.STOP)
    if actual.has_runtime:
        steps.append(Step.DELETE)
    return steps


# ---- what the container is made of ------------------------------------------------------------------------


def _compare(
    desired: Desired, actual: Actual, tracker: DifferenceTracker, can_update: CanUpdate
) -> tuple[Effect, Plain]:
    wanted = desired.request or {}
    if not actual.has_bundle:
        compare({}, wanted, {}, tracker)
        return Effect.RECREATE, wanted
    if actual.broken is not None:
        tracker.add("bundle", actual.broken, "whole")
        return Effect.RECREATE, wanted
    if desired.request is None:
        return _unfinished(actual, actual.request, tracker, can_update), actual.request
    recorded = actual.request
    if not desired.has_source:
        recorded = {key: recorded.get(key, DEFAULTS.get(key)) for key in wanted}
    keys = compare(recorded, wanted, desired.rules, tracker)
    effect = max((_effect(key, recorded, wanted, can_update) for key in keys), default=Effect.NONE)
    merged = _merged(actual.request, wanted, keys, desired.rules)
    effect = max(effect, _unfinished(actual, merged, tracker, can_update))
    if desired.recreate == "always" and desired.has_source:
        tracker.add("recreate", None, True)
        effect = Effect.RECREATE
    return effect, wanted if effect is Effect.RECREATE else merged


def _unfinished(actual: Actual, request: Plain, tracker: DifferenceTracker, can_update: CanUpdate) -> Effect:
    """Return what finishing an update that was cut short needs."""
    if not actual.pending:
        return Effect.NONE
    tracker.add("update", "unfinished", "finished")
    limits = request.get("resources") or {}
    return Effect.LIVE if all(can_update(begun, limits) for begun in actual.pending) else Effect.RECREATE


def _effect(key: str, actual: Plain, desired: Plain, can_update: CanUpdate) -> Effect:
    # From no policy to one the container has to move into a unit; later its unit changes around it.
    if key in _RECORD_KEYS or (key == "restart_policy" and (actual.get(key) or _NO) != _NO):
        return Effect.RECORD
    if key == "resources":
        is_live = can_update(actual.get(key) or {}, desired.get(key) or {})
        return Effect.LIVE if is_live else Effect.RECREATE
    if key in _RESTART_KEYS:
        return Effect.RESTART
    if key == "network" and "bundle" not in desired and _keeps_namespace(actual, desired):
        # The path of the namespace stays, and with it config.json.
        return Effect.RESTART
    return Effect.RECREATE


def _keeps_namespace(actual: Plain, desired: Plain) -> bool:
    modes = (side.get("network", "none") for side in (actual, desired))
    return not any(mode == "host" or mode.startswith(("container:", "/")) for mode in modes)


def _merged(recorded: Plain, wanted: Plain, keys: t.Iterable[str], rules: t.Mapping[str, Rule]) -> Plain:
    """Return what the container will have been asked: the record with the differing keys replaced."""
    merged = dict(recorded)
    for key in keys:
        value = wanted.get(key)
        if rule_of(key, rules) is Rule.ALLOW_MORE_PRESENT and isinstance(value, dict):
            value = {**(recorded.get(key) or {}), **value}
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return without_defaults(merged)


def _check_allowed(desired: Desired, actual: Actual, effect: Effect, tracker: DifferenceTracker) -> None:
    if not actual.has_bundle or effect < Effect.RESTART:
        return
    keys = ", ".join(tracker.keys())
    if effect is Effect.RECREATE and not desired.has_source:
        if actual.broken is not None:
            raise WrongState(
                f"the bundle of container '{desired.name}' cannot be used: {actual.broken}",
                hint="Say what it is made from (image, rootfs or bundle) to have it made anew",
            )
        raise InvalidSpec(
            tracker.keys()[0],
            f"container '{desired.name}' has to be made anew for a change of {keys}",
            hint="Say what it is made from: image, rootfs or bundle",
        )
    is_disturbing = effect is Effect.RECREATE or actual.status.is_alive
    if desired.recreate == "never" and is_disturbing:
        done = "recreated" if effect is Effect.RECREATE else "restarted"
        raise WrongState(
            f"container '{desired.name}' would have to be {done} for a change of {keys}, "
            "and recreate=never forbids that",
            hint="Use recreate=auto, or ignore these keys by 'comparisons'",
        )


def _configure(actual: Actual, request: Plain, effect: Effect) -> list[Step]:
    """Return the steps that make the container what is asked for, not yet doing what is asked for."""
    changed = {key for key in (*request, *actual.request) if request.get(key) != actual.request.get(key)}
    down = [Step.NETWORK_DOWN] if actual.has_network and NETWORK_KEYS & changed else []
    steps: list[Step] = []
    if effect is Effect.RECREATE:
        # Built first: a request that cannot be fulfilled does not cost the old container.
        steps = [Step.STAGE, *_end_steps(actual), *down, Step.COMMIT]
    elif effect is Effect.RESTART:
        update = [Step.LIVE_UPDATE] if "resources" in changed else []
        steps = [*_end_steps(actual), *down, *update, Step.RECORD]
    elif effect is Effect.LIVE:
        steps = [Step.MARK, Step.LIVE_UPDATE, Step.RECORD]
    elif effect is Effect.RECORD:
        steps = [Step.RECORD]
    return steps


# ---- what the container does ------------------------------------------------------------------------------


def _live(
    desired: Desired, actual: Actual, effect: Effect, before: list[Step], tracker: DifferenceTracker
) -> list[Step]:
    """Return the steps to the state asked for that follow those ``before``."""
    is_ended = effect >= Effect.RESTART
    target = _target(desired, actual, effect)
    shown = actual.status if actual.has_bundle else Status.ABSENT
    steps: list[Step] = []
    if desired.state is State.RESTARTED:
        steps = [] if is_ended else _end_steps(actual)
        is_ended = True
        tracker.add("state", str(shown), "restarted")
    status = Status.STOPPED if is_ended else actual.status
    has_runtime = actual.has_runtime and not is_ended
    steps += _walk(status, target, has_runtime=has_runtime)
    if desired.state is State.STOPPED and actual.unit is not None and not (actual.was_stopped or steps):
        # It ended by itself, and systemd would start it again.
        steps.append(Step.STOP)
        tracker.add("state", "restarting", str(target))
    elif desired.state is not State.RESTARTED and (steps or not actual.has_bundle):
        tracker.add("state", str(shown), str(target))
    if desired.state is State.STOPPED and actual.has_network and Step.NETWORK_DOWN not in before:
        steps.append(Step.NETWORK_DOWN)
        tracker.add("network", "up", "down")
    is_undisturbed = actual.status is Status.RUNNING and target is Status.RUNNING and not steps
    if desired.signal is not None and is_undisturbed:
        steps.append(Step.SIGNAL)
        tracker.add("signal", None, desired.signal)
    if desired.is_attached and (steps or actual.status is Status.RUNNING):
        steps.append(Step.WAIT_EXIT)
    if desired.state is State.HEALTHY:
        steps.append(Step.WAIT_HEALTHY)
    return steps


def _target(desired: Desired, actual: Actual, effect: Effect) -> Status:
    """Return the status to reach; the one there is where the state asked for has nothing against it."""
    if desired.state is State.STOPPED:
        return Status.STOPPED
    if desired.state is State.PAUSED:
        return Status.PAUSED
    if desired.state is State.CREATED:
        never_ran = actual.status is Status.STOPPED and actual.exit_code is None and not actual.was_stopped
        return Status.CREATED if never_ran or effect >= Effect.RESTART else actual.status
    if desired.state is State.STARTED and effect < Effect.RECREATE and actual.status is Status.STOPPED:
        return Status.RUNNING if _starts_again(desired, actual) else Status.STOPPED
    return Status.RUNNING


def _starts_again(desired: Desired, actual: Actual) -> bool:
    if actual.was_stopped or actual.exit_code is None or desired.rerun == "always":
        return True
    return desired.rerun == "failed" and actual.exit_code != 0


def _walk(status: Status, target: Status, *, has_runtime: bool) -> list[Step]:
    """Return the steps from one status to another."""
    if status is target:
        return []
    if target is Status.STOPPED:
        return [Step.DELETE] if status is Status.CREATED else [Step.STOP]
    if status is Status.PAUSED:
        return [Step.RESUME]
    steps: list[Step] = []
    if status in {Status.STOPPED, Status.ABSENT}:
        if has_runtime:
            steps.append(Step.DELETE)
        steps.append(Step.CREATE)
    if target is Status.CREATED:
        return steps
    if status is not Status.RUNNING:
        steps.append(Step.START)
    if target is Status.PAUSED:
        steps.append(Step.PAUSE)
    return steps
