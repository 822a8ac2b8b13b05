# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.container import plan as plans
from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import Rule
from ansible_collections.pvecri.runtime.plugins.module_utils.container.terms import (
    WAITING,
    Actual,
    Desired,
    Effect,
    State,
    Status,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound, WrongState

REQUEST = {"source": "sha256:1", "env": {"A": "1"}, "resources": {"memory": 64}, "labels": {"l": "1"}}

RUNNING = Actual(status=Status.RUNNING, has_bundle=True, has_runtime=True, request=REQUEST)
CREATED = Actual(status=Status.CREATED, has_bundle=True, has_runtime=True, request=REQUEST)
PAUSED = Actual(status=Status.PAUSED, has_bundle=True, has_runtime=True, request=REQUEST)
FRESH = Actual(status=Status.STOPPED, has_bundle=True, request=REQUEST)
ENDED = Actual(status=Status.STOPPED, has_bundle=True, has_runtime=True, request=REQUEST, exit_code=0)
FAILED = Actual(status=Status.STOPPED, has_bundle=True, has_runtime=True, request=REQUEST, exit_code=3)
STOPPED = Actual(
    status=Status.STOPPED,
    has_bundle=True,
    has_runtime=True,
    request=REQUEST,
    exit_code=143,
    was_stopped=True,
)
ABSENT = Actual()
ORPHAN = Actual(status=Status.RUNNING, has_runtime=True)


def can_update(actual, desired):
    """Memory can be changed live, nothing else."""
    keys = {key for key in (*actual, *desired) if actual.get(key) != desired.get(key)}
    return keys <= {"memory"}


def unit_for(request):
    policy = request.get("restart_policy")
    return f"unit {policy['name']} {request.get('stop_timeout')}" if policy else None


def make(desired, actual):
    return plans.make_plan(desired, actual, can_update, unit_for)


def changed(actual, **fields):
    import dataclasses

    return dataclasses.replace(actual, **fields)


def steps_of(plan):
    return [step.name for step in plan.steps]


def desire(state, **fields):
    return Desired(name="c", state=State(state), **{"request": REQUEST, **fields})


@pytest.mark.parametrize(
    ("state", "actual", "steps"),
    [
        ("created", ABSENT, "STAGE COMMIT CREATE"),
        ("created", FRESH, "CREATE"),
        ("created", CREATED, ""),
        ("created", RUNNING, ""),
        ("created", PAUSED, ""),
        ("created", ENDED, ""),
        ("created", STOPPED, ""),
        ("created", ORPHAN, "STAGE STOP DELETE COMMIT CREATE"),
        ("started", ABSENT, "STAGE COMMIT CREATE START"),
        ("started", FRESH, "CREATE START"),
        ("started", CREATED, "START"),
        ("started", RUNNING, ""),
        ("started", PAUSED, "RESUME"),
        ("started", ENDED, "DELETE CREATE START"),
        ("started", STOPPED, "DELETE CREATE START"),
        ("started", ORPHAN, "STAGE STOP DELETE COMMIT CREATE START"),
        ("stopped", ABSENT, "STAGE COMMIT"),
        ("stopped", FRESH, ""),
        ("stopped", CREATED, "DELETE"),
        ("stopped", RUNNING, "STOP"),
        ("stopped", PAUSED, "STOP"),
        ("stopped", ENDED, ""),
        ("stopped", STOPPED, ""),
        ("paused", ABSENT, "STAGE COMMIT CREATE START PAUSE"),
        ("paused", FRESH, "CREATE START PAUSE"),
        ("paused", CREATED, "START PAUSE"),
        ("paused", RUNNING, "PAUSE"),
        ("paused", PAUSED, ""),
        ("paused", ENDED, "DELETE CREATE START PAUSE"),
        ("restarted", ABSENT, "STAGE COMMIT CREATE START"),
        ("restarted", FRESH, "CREATE START"),
        ("restarted", CREATED, "DELETE CREATE START"),
        ("restarted", RUNNING, "STOP DELETE CREATE START"),
        ("restarted", PAUSED, "STOP DELETE CREATE START"),
        ("restarted", ENDED, "DELETE CREATE START"),
        ("healthy", ABSENT, "STAGE COMMIT CREATE START WAIT_HEALTHY"),
        ("healthy", RUNNING, "WAIT_HEALTHY"),
        ("healthy", ENDED, "DELETE CREATE START WAIT_HEALTHY"),
        ("absent", ABSENT, ""),
        ("absent", FRESH, "REMOVE"),
        ("absent", CREATED, "DELETE REMOVE"),
        ("absent", RUNNING, "STOP DELETE REMOVE"),
        ("absent", PAUSED, "STOP DELETE REMOVE"),
        ("absent", ENDED, "DELETE REMOVE"),
        ("absent", ORPHAN, "STOP DELETE REMOVE"),
        ("absent", Actual(has_files=True), "REMOVE"),
        ("absent", Actual(has_network=True), "NETWORK_DOWN REMOVE"),
        ("absent", Actual(unit="u"), "STOP REMOVE_UNIT REMOVE"),
        (
            "absent",
            changed(RUNNING, has_network=True, unit="u"),
            "STOP DELETE NETWORK_DOWN REMOVE_UNIT REMOVE",
        ),
    ],
)
def test_plan_state(state, actual, steps):
    plan = make(desire(state), actual)
    assert steps_of(plan) == steps.split()
    assert plan.is_changed is any(step not in WAITING for step in plan.steps)
    # What changes something shows it, and what shows something changes it.
    assert bool(plan.differences) is plan.is_changed


@pytest.mark.parametrize("actual", [FRESH, CREATED, RUNNING, PAUSED, ENDED, FAILED, STOPPED])
@pytest.mark.parametrize("state", list(State))
def test_plan_state_alone_never_recreates(state, actual):
    for request in (None, REQUEST):
        plan = make(desire(state, request=request, has_source=request is not None), actual)
        assert not {"STAGE", "COMMIT"} & set(steps_of(plan))
        assert plan.effect is Effect.NONE


@pytest.mark.parametrize(
    ("state", "after"),
    [
        ("created", "created"),
        ("started", "running"),
        ("stopped", "stopped"),
        ("paused", "paused"),
        ("healthy", "running"),
        ("restarted", "restarted"),
    ],
)
def test_plan_shows_the_way_from_absent(state, after):
    differences = make(desire(state), ABSENT).differences.as_diff()
    assert differences["before"] == {"state": "absent"}
    assert differences["after"] == {
        "source": "sha256:1",
        "env.A": "1",
        "resources.memory": 64,
        "labels.l": "1",
        "state": after,
    }


@pytest.mark.parametrize(
    ("change", "effect", "steps"),
    [
        ({"env": {"A": "2"}}, Effect.RECREATE, "STAGE STOP DELETE COMMIT CREATE START"),
        ({"source": "sha256:2"}, Effect.RECREATE, "STAGE STOP DELETE COMMIT CREATE START"),
        ({"network": "host"}, Effect.RECREATE, "STAGE STOP DELETE COMMIT CREATE START"),
        ({"network": "container:o"}, Effect.RECREATE, "STAGE STOP DELETE COMMIT CREATE START"),
        ({"network": "/run/netns/x"}, Effect.RECREATE, "STAGE STOP DELETE COMMIT CREATE START"),
        ({"resources": {"cpuset": "0"}}, Effect.RECREATE, "STAGE STOP DELETE COMMIT CREATE START"),
        ({"network": "podman"}, Effect.RESTART, "STOP DELETE RECORD CREATE START"),
        ({"log": {"path": "/l"}}, Effect.RESTART, "STOP DELETE RECORD CREATE START"),
        (
            {"log": {"path": "/l"}, "resources": {"memory": 1}},
            Effect.RESTART,
            "STOP DELETE LIVE_UPDATE RECORD CREATE START",
        ),
        (
            {"restart_policy": {"name": "always"}},
            Effect.RESTART,
            "STOP DELETE RECORD WRITE_UNIT CREATE START",
        ),
        ({"resources": {"memory": 128}}, Effect.LIVE, "MARK LIVE_UPDATE RECORD"),
        ({"labels": {"l": "2"}}, Effect.RECORD, "RECORD"),
        ({"stop_timeout": 3}, Effect.RECORD, "RECORD"),
        ({"health_check": {"retries": 1}}, Effect.RECORD, "RECORD"),
        ({}, Effect.NONE, ""),
    ],
)
def test_plan_change_of_a_running_container(change, effect, steps):
    request = {**REQUEST, **change}
    plan = make(desire("started", request=request), RUNNING)
    assert plan.effect is effect
    assert steps_of(plan) == steps.split()
    assert plan.request == (request if change else None)
    assert bool(plan.differences) is bool(change)


@pytest.mark.parametrize(
    ("state", "actual", "change", "steps"),
    [
        ("stopped", RUNNING, {"env": {}}, "STAGE STOP DELETE COMMIT"),
        ("stopped", STOPPED, {"env": {}}, "STAGE DELETE COMMIT"),
        ("created", RUNNING, {"env": {}}, "STAGE STOP DELETE COMMIT CREATE"),
        ("created", RUNNING, {"log": {"path": "/l"}}, "STOP DELETE RECORD CREATE"),
        ("created", PAUSED, {"log": {"path": "/l"}}, "STOP DELETE RECORD CREATE"),
        ("created", CREATED, {"log": {"path": "/l"}}, "DELETE RECORD CREATE"),
        ("paused", RUNNING, {"env": {}}, "STAGE STOP DELETE COMMIT CREATE START PAUSE"),
        ("restarted", RUNNING, {"env": {}}, "STAGE STOP DELETE COMMIT CREATE START"),
        ("restarted", RUNNING, {"log": {"path": "/l"}}, "STOP DELETE RECORD CREATE START"),
        ("restarted", RUNNING, {"labels": {}}, "RECORD STOP DELETE CREATE START"),
        ("started", STOPPED, {"log": {"path": "/l"}}, "DELETE RECORD CREATE START"),
        ("stopped", STOPPED, {"log": {"path": "/l"}}, "DELETE RECORD"),
        (
            "started",
            STOPPED,
            {"resources": {"memory": 1}},
            "MARK LIVE_UPDATE RECORD DELETE CREATE START",
        ),
        ("stopped", changed(RUNNING, has_network=True), {}, "STOP NETWORK_DOWN"),
        ("stopped", changed(STOPPED, has_network=True), {}, "NETWORK_DOWN"),
        ("started", changed(RUNNING, has_network=True), {"env": {}}, "STAGE STOP DELETE COMMIT CREATE START"),
        (
            "started",
            changed(RUNNING, has_network=True),
            {"env": {}, "network": "podman"},
            "STAGE STOP DELETE NETWORK_DOWN COMMIT CREATE START",
        ),
        (
            "started",
            changed(RUNNING, has_network=True),
            {"network": "podman"},
            "STOP DELETE NETWORK_DOWN RECORD CREATE START",
        ),
    ],
)
def test_plan_change_and_state(state, actual, change, steps):
    plan = make(desire(state, request={**REQUEST, **change}), actual)
    assert steps_of(plan) == steps.split()


@pytest.mark.parametrize(
    ("rerun", "actual", "is_started"),
    [
        ("always", ENDED, True),
        ("always", FAILED, True),
        ("failed", ENDED, False),
        ("failed", FAILED, True),
        ("never", ENDED, False),
        ("never", FAILED, False),
        # Nobody knows how it ended, or it never ran.
        ("failed", changed(ENDED, exit_code=None), True),
        ("never", FRESH, True),
        # It did not end by itself.
        ("failed", changed(ENDED, was_stopped=True), True),
        ("never", STOPPED, True),
    ],
)
def test_plan_rerun(rerun, actual, is_started):
    plan = make(desire("started", rerun=rerun), actual)
    assert ("START" in steps_of(plan)) is is_started
    assert plan.is_changed is is_started


def test_plan_rerun_is_for_started_alone():
    assert "START" in steps_of(make(desire("healthy", rerun="never"), ENDED))
    assert "START" in steps_of(make(desire("paused", rerun="never"), ENDED))


@pytest.mark.parametrize(
    ("actual", "rerun", "steps"),
    [
        (ABSENT, "failed", "STAGE COMMIT CREATE START WAIT_EXIT"),
        (RUNNING, "failed", "WAIT_EXIT"),
        (PAUSED, "failed", "RESUME WAIT_EXIT"),
        (FAILED, "failed", "DELETE CREATE START WAIT_EXIT"),
        (ENDED, "failed", ""),
        (ENDED, "always", "DELETE CREATE START WAIT_EXIT"),
    ],
)
def test_plan_attached(actual, rerun, steps):
    plan = make(desire("started", is_attached=True, rerun=rerun), actual)
    assert steps_of(plan) == steps.split()
    assert plan.is_changed is (steps not in {"", "WAIT_EXIT"})


@pytest.mark.parametrize(
    ("state", "actual", "change", "is_sent"),
    [
        ("started", RUNNING, {}, True),
        ("healthy", RUNNING, {}, True),
        ("started", RUNNING, {"labels": {}}, True),
        ("started", RUNNING, {"env": {}}, False),
        ("started", ENDED, {}, False),
        ("started", PAUSED, {}, False),
        ("restarted", RUNNING, {}, False),
        ("stopped", RUNNING, {}, False),
        ("created", RUNNING, {}, True),
    ],
)
def test_plan_signal_goes_to_a_container_that_ran_before(state, actual, change, is_sent):
    plan = make(desire(state, signal="HUP", request={**REQUEST, **change}), actual)
    assert ("SIGNAL" in steps_of(plan)) is is_sent
    assert plan.differences.after().get("signal") == ("HUP" if is_sent else None)


def test_plan_unfinished_update_is_done_again():
    plan = make(desire("started"), changed(RUNNING, pending=[{"memory": 2}]))
    assert steps_of(plan) == ["MARK", "LIVE_UPDATE", "RECORD"]
    assert plan.request == REQUEST
    alone = make(desire("started", request=None, has_source=False), changed(RUNNING, pending=[{"memory": 2}]))
    assert steps_of(alone) == ["MARK", "LIVE_UPDATE", "RECORD"]


def test_plan_unfinished_update_yields_to_a_recreation():
    plan = make(desire("started", request={**REQUEST, "env": {}}), changed(RUNNING, pending=[{"memory": 2}]))
    assert "MARK" not in steps_of(plan)
    assert "COMMIT" in steps_of(plan)


@pytest.mark.parametrize(
    ("rules", "change", "differing"),
    [
        ({"env": Rule.IGNORE}, {"env": {"A": "2"}}, []),
        ({"*": Rule.IGNORE}, {"env": {"A": "2"}, "source": "x"}, []),
        ({"*": Rule.IGNORE, "labels": Rule.STRICT}, {"env": {"A": "2"}, "labels": {}}, ["labels.l"]),
        ({"env": Rule.ALLOW_MORE_PRESENT}, {"env": {}}, []),
        ({"env": Rule.ALLOW_MORE_PRESENT}, {"env": {"B": "2"}}, ["env.B"]),
    ],
)
def test_plan_comparisons(rules, change, differing):
    plan = make(desire("started", rules=rules, request={**REQUEST, **change}), RUNNING)
    assert plan.differences.keys() == differing


def test_plan_records_what_is_kept_by_comparisons():
    rules = {"env": Rule.IGNORE, "labels": Rule.ALLOW_MORE_PRESENT}
    request = {**REQUEST, "env": {"A": "2"}, "labels": {"m": "2"}, "stop_timeout": 3}
    plan = make(desire("started", rules=rules, request=request), RUNNING)
    assert plan.request == {**REQUEST, "labels": {"l": "1", "m": "2"}, "stop_timeout": 3}


def test_plan_records_that_a_key_is_gone():
    request = {key: value for key, value in REQUEST.items() if key != "labels"}
    plan = make(desire("started", request=request), RUNNING)
    assert plan.request == request


def test_plan_recreate_always():
    plan = make(desire("started", recreate="always"), RUNNING)
    assert steps_of(plan) == ["STAGE", "STOP", "DELETE", "COMMIT", "CREATE", "START"]
    assert plan.differences.after()["recreate"] is True
    assert steps_of(make(desire("started", recreate="always"), ABSENT)) == [
        "STAGE",
        "COMMIT",
        "CREATE",
        "START",
    ]


@pytest.mark.parametrize(
    ("actual", "change", "message"),
    [
        (RUNNING, {"env": {"A": "2"}}, r"recreated for a change of env\.A, and recreate=never"),
        (STOPPED, {"env": {"A": "2"}}, r"recreated for a change of env\.A"),
        (RUNNING, {"log": {"path": "/l"}}, r"restarted for a change of log\.path"),
        (changed(RUNNING, broken="no config.json"), {}, r"recreated for a change of bundle"),
    ],
)
def test_plan_recreate_never_names_the_keys(actual, change, message):
    with pytest.raises(WrongState, match=message):
        make(desire("started", recreate="never", request={**REQUEST, **change}), actual)


@pytest.mark.parametrize(
    ("actual", "change"),
    [
        (ABSENT, {}),
        (RUNNING, {}),
        (RUNNING, {"resources": {"memory": 1}}),
        (STOPPED, {"log": {"path": "/l"}}),
    ],
)
def test_plan_recreate_never_allows_what_disturbs_nothing(actual, change):
    assert make(desire("started", recreate="never", request={**REQUEST, **change}), actual)


def test_plan_broken_bundle_is_made_anew():
    plan = make(desire("started"), changed(STOPPED, broken="config.json is missing", has_runtime=False))
    assert steps_of(plan) == ["STAGE", "COMMIT", "CREATE", "START"]
    assert plan.differences.before()["bundle"] == "config.json is missing"


def test_plan_broken_bundle_without_a_source():
    with pytest.raises(WrongState, match=r"cannot be used: config\.json is missing"):
        make(
            desire("started", request=None, has_source=False),
            changed(STOPPED, broken="config.json is missing"),
        )


def test_plan_broken_bundle_can_be_removed():
    plan = make(desire("absent", request=None, has_source=False), changed(STOPPED, broken="x"))
    assert steps_of(plan) == ["DELETE", "REMOVE"]


@pytest.mark.parametrize("state", ["created", "started", "stopped", "paused", "restarted", "healthy"])
def test_plan_state_alone_of_nothing(state):
    with pytest.raises(NotFound, match=f"no container 'c' to be {state}"):
        make(desire(state, request=None, has_source=False), ABSENT)


@pytest.mark.parametrize(
    ("request_", "steps"),
    [
        ({"resources": {"memory": 128}}, ["MARK", "LIVE_UPDATE", "RECORD"]),
        ({"labels": {"l": "2"}}, ["RECORD"]),
        ({"stop_timeout": 1}, ["RECORD"]),
        ({"labels": {"l": "1"}}, []),
        (
            {"restart_policy": {"name": "always"}},
            ["STOP", "DELETE", "RECORD", "WRITE_UNIT", "CREATE", "START"],
        ),
    ],
)
def test_plan_without_a_source_compares_what_is_given(request_, steps):
    plan = make(desire("started", request=request_, has_source=False), RUNNING)
    assert steps_of(plan) == steps
    assert plan.request == ({**REQUEST, **request_} if steps else None)


def test_plan_without_a_source_cannot_recreate():
    with pytest.raises(InvalidSpec, match=r"env\.A: .*made anew for a change of env\.A") as caught:
        make(desire("started", request={"env": {"A": "2"}}, has_source=False), RUNNING)
    assert "image" in str(caught.value)
    assert caught.value.field == "env.A"


ALWAYS = {**REQUEST, "restart_policy": {"name": "always"}}
UNIT = changed(RUNNING, request=ALWAYS, unit="unit always None")


@pytest.mark.parametrize(
    ("state", "request_", "actual", "steps"),
    [
        ("started", ALWAYS, UNIT, ""),
        ("started", ALWAYS, changed(UNIT, unit="old text"), "WRITE_UNIT"),
        ("started", ALWAYS, changed(UNIT, unit=None), "WRITE_UNIT"),
        ("started", REQUEST, UNIT, "RECORD REMOVE_UNIT"),
        ("started", {**ALWAYS, "stop_timeout": 5}, UNIT, "RECORD WRITE_UNIT"),
        ("started", {**REQUEST, "restart_policy": {"name": "no"}}, UNIT, "RECORD REMOVE_UNIT"),
        ("started", ALWAYS, ABSENT, "STAGE COMMIT WRITE_UNIT CREATE START"),
        ("stopped", ALWAYS, UNIT, "STOP"),
        # It ended by itself, and systemd may start it at any moment.
        ("stopped", ALWAYS, changed(UNIT, status=Status.STOPPED, exit_code=1), "STOP"),
        ("stopped", ALWAYS, changed(UNIT, status=Status.STOPPED, was_stopped=True), ""),
        (
            "absent",
            ALWAYS,
            changed(UNIT, status=Status.STOPPED, exit_code=1),
            "STOP DELETE REMOVE_UNIT REMOVE",
        ),
        (
            "absent",
            ALWAYS,
            changed(UNIT, status=Status.STOPPED, was_stopped=True),
            "DELETE REMOVE_UNIT REMOVE",
        ),
    ],
)
def test_plan_unit(state, request_, actual, steps):
    plan = make(desire(state, request=request_), actual)
    assert steps_of(plan) == steps.split()
    assert bool(plan.differences) is plan.is_changed


@pytest.mark.parametrize("state", [s for s in State if s is not State.RESTARTED])
@pytest.mark.parametrize(
    "change", [{}, {"env": {"A": "2"}}, {"log": {"path": "/l"}}, {"resources": {"memory": 1}}]
)
@pytest.mark.parametrize(
    "actual", [ABSENT, FRESH, CREATED, RUNNING, PAUSED, ENDED, STOPPED, ORPHAN, changed(RUNNING, broken="b")]
)
def test_plan_cut_short_anywhere_is_completed(state, change, actual):
    """Whatever the step after which a run is killed, the next one gets to the same end."""
    desired = desire(state, request={**REQUEST, **change})
    whole = simulate(actual, make(desired, actual), desired)
    for length in range(len(make(desired, actual).steps)):
        between = simulate(actual, make(desired, actual), desired, length)
        end = simulate(between, make(desired, between), desired)
        assert (end.status, end.request, end.has_bundle) == (whole.status, whole.request, whole.has_bundle)
        assert not make(desired, end).is_changed


def simulate(actual, plan, desired, length=None):
    """Return what there is after the first ``length`` steps."""
    for step in plan.steps[:length]:
        actual = changed(actual, **after(step, actual, plan, desired))
    return actual


def after(step, actual, plan, desired):
    stopped = {"status": Status.STOPPED, "exit_code": 143}
    return {
        "STOP": {**stopped, "was_stopped": desired.state is State.STOPPED},
        "DELETE": {
            "status": Status.STOPPED if actual.has_bundle else Status.ABSENT,
            "has_runtime": False,
            "exit_code": None,
        },
        "COMMIT": {
            "has_bundle": True,
            "request": plan.request,
            "broken": None,
            "status": Status.STOPPED,
            "pending": [],
            "was_stopped": desired.state is State.STOPPED,
        },
        "MARK": {"pending": [{"memory": 2}]},
        "RECORD": {
            "request": plan.request,
            "pending": [],
            "was_stopped": actual.was_stopped
            if plan.effect < Effect.RESTART
            else desired.state is State.STOPPED,
        },
        "CREATE": {"status": Status.CREATED, "has_runtime": True, "exit_code": None},
        "START": {"status": Status.RUNNING, "was_stopped": False},
        "RESUME": {"status": Status.RUNNING},
        "PAUSE": {"status": Status.PAUSED},
        "REMOVE": {"has_bundle": False, "status": Status.ABSENT},
    }.get(step.name, {})
