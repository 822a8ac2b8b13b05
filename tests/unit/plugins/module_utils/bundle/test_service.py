# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the plan for a bundle by tables of state, bundle and request."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import Bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.desired import (
    Desired,
    bundle_hash,
    desired_bundle,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.service import State, plan_bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.diff import HIDDEN
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Mount,
    MountKind,
    Resources,
)

SPEC = ContainerSpec(name="web", env=(("A", "1"),), labels=(("x", "1"), ("y", "2")))
SOURCE = ImageSource(reference="quay.io/a/b:1")
IDENTITY = {"image": "1", "digest": "sha256:1"}
GONE = "secrets are gone, as after a reboot: /run/s"


def desired(spec=SPEC, identity=..., source=SOURCE, namespace=None) -> Desired:
    return desired_bundle(spec, source, IDENTITY if identity is ... else identity, namespace)


def bundle(*, mounted=True, problems=(), made=None, needs=True) -> Bundle:
    made = made or desired()
    record = BundleRecord(
        name="web",
        instance="i",
        created=0.0,
        spec_hash=made.spec_hash,
        request=made.request,
        source=made.source,
        identity=made.identity,
        layers=("/l",) if needs else (),
    )

    class Fixed(Bundle):
        is_mounted = mounted

    return Fixed(name="web", path="/b/web", record=record, problems=list(problems))


def steps(plan):
    return {
        key: value
        for key, value in (
            ("create", plan.create),
            ("remove", plan.remove),
            ("mount", plan.mount),
            ("restore", plan.restore),
        )
        if value not in (False, None) or (key == "mount" and value is False)
    }


@pytest.mark.parametrize(
    ("state", "actual", "wanted", "expected"),
    [
        (State.PRESENT, None, desired(), {"create": True}),
        (State.MOUNTED, None, desired(), {"create": True}),
        (State.UNMOUNTED, None, desired(), {"create": True, "mount": False}),
        (State.ABSENT, None, None, {}),
        (State.PRESENT, bundle(), desired(), {}),
        (State.PRESENT, bundle(mounted=False), desired(), {}),
        (State.PRESENT, bundle(mounted=False), None, {}),
        (State.MOUNTED, bundle(), desired(), {}),
        (State.MOUNTED, bundle(mounted=False), desired(), {"mount": True}),
        (State.MOUNTED, bundle(mounted=False), None, {"mount": True}),
        (State.UNMOUNTED, bundle(), None, {"mount": False}),
        (State.UNMOUNTED, bundle(mounted=False), None, {}),
        (State.UNMOUNTED, bundle(needs=False), None, {}),
        (State.ABSENT, bundle(), None, {"remove": True}),
        (State.ABSENT, bundle(problems=["x"]), None, {"remove": True}),
        (State.PRESENT, bundle(), desired(dataclasses.replace(SPEC, user="x")), {"create": True}),
        (
            State.UNMOUNTED,
            bundle(),
            desired(dataclasses.replace(SPEC, user="x")),
            {"create": True, "mount": False},
        ),
        (State.PRESENT, bundle(problems=["the layer /l is missing"]), desired(), {"create": True}),
        (State.PRESENT, bundle(problems=[GONE]), desired(), {"restore": True}),
        (State.PRESENT, bundle(problems=[GONE, "x"]), desired(), {"create": True}),
        (State.MOUNTED, bundle(problems=[GONE], mounted=False), desired(), {"restore": True, "mount": True}),
    ],
)
def test_plan(state, actual, wanted, expected):
    plan = plan_bundle(state, actual, wanted)
    assert steps(plan) == expected
    assert plan.changed is bool(expected)
    assert bool(plan.differences) is bool(expected), "what changes has a difference to show"


def test_plan_needs_to_know_what_it_is_made_from():
    with pytest.raises(InvalidSpec) as caught:
        plan_bundle(State.PRESENT, None, None)
    assert caught.value.field == "image"
    with pytest.raises(WrongState, match="made anew"):
        plan_bundle(State.MOUNTED, bundle(problems=[GONE]), None)


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ({"env": (("A", "2"),)}, {"env.A": "1"}, {"env.A": "2"}),
        ({"env": (("A", "1"), ("B", "2"))}, {}, {"env.B": "2"}),
        ({"labels": (("x", "1"),)}, {"labels.y": "2"}, {}),
        ({"labels": (("y", "2"), ("x", "1"))}, {}, {}),
        ({"resources": Resources(memory_bytes=5)}, {}, {"resources.memory_bytes": 5}),
        (
            {"mounts": (Mount(kind=MountKind.SECRET, destination="/s", content=b"x"),)},
            {},
            {"mounts./s": HIDDEN},
        ),
        (
            {"secret_env": frozenset({"A"})},
            {"env.A": "1"},
            {"secret_env.A": HIDDEN},
        ),
    ],
)
def test_plan_shows_the_difference(change, before, after):
    plan = plan_bundle(State.PRESENT, bundle(), desired(dataclasses.replace(SPEC, **change)))
    assert plan.differences.before() == before
    assert plan.differences.after() == after


def test_plan_shows_a_changed_secret_without_it():
    old = dataclasses.replace(SPEC, secret_env=frozenset({"A"}))
    new = dataclasses.replace(old, env=(("A", "2"),))
    plan = plan_bundle(State.PRESENT, bundle(made=desired(old)), desired(new))
    assert plan.create
    assert plan.differences.as_diff() == {
        "before": {"secret_env.A": HIDDEN},
        "after": {"secret_env.A": f"{HIDDEN} (changed)"},
    }


@pytest.mark.parametrize(
    ("identity", "changed"),
    [
        ({"image": "1", "digest": "sha256:other"}, False),
        ({"image": "2", "digest": "sha256:2"}, True),
        ({"layers": ["1"]}, True),
    ],
)
def test_plan_by_what_the_image_is(identity, changed):
    plan = plan_bundle(State.PRESENT, bundle(), desired(identity=identity))
    assert plan.create is changed
    assert ("image" in plan.differences) is changed


@pytest.mark.parametrize(
    ("source", "spec", "changed"),
    [
        (SOURCE, SPEC, False),
        (SOURCE, dataclasses.replace(SPEC, user="x"), True),
        (ImageSource(reference="quay.io/a/b:2"), SPEC, True),
        (ImageSource(reference="oci:/layout:x"), SPEC, True),
    ],
)
def test_plan_when_the_image_is_not_in_the_store(source, spec, changed):
    made = desired(source=source) if source.reference.startswith("oci") else desired()
    wanted = desired(spec=spec, identity=None, source=source)
    assert wanted.spec_hash is None
    plan = plan_bundle(State.PRESENT, bundle(made=made), wanted)
    assert plan.create is changed
    assert ("source" in plan.differences) is (changed and made.source != wanted.source)


def test_bundle_hash_counts_the_network_namespace():
    request = {"name": "a"}
    hashes = {bundle_hash(request, IDENTITY, space) for space in (None, "/run/netns/a", "/run/netns/b")}
    assert len(hashes) == 3
