# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the planning of snapshots, as tables of wanted, actual and steps."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import snapshots
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.snapshots import Request, Snapshot

OLD = Snapshot("nightly-1", "first", 100)
MID = Snapshot("nightly-2", "", 200, parent="nightly-1")
KEPT = Snapshot("before-upgrade", "", 150)
BROKEN = Snapshot("nightly-3", "", 300, unfinished="prepare")
ALL = [OLD, KEPT, MID]


def steps_of(plan):
    return {
        "first": plan.remove_first,
        "create": plan.create,
        "describe": plan.describe,
        "roll_back": plan.roll_back,
        "after": plan.remove_after,
    }


def steps(**given):
    return {"first": (), "create": False, "describe": False, "roll_back": False, "after": (), **given}


@pytest.mark.parametrize(
    ("wanted", "actual", "expected", "differences"),
    [
        (Request("new", "present"), ALL, steps(create=True), ["snapshots.new"]),
        (Request("nightly-1", "present"), ALL, steps(), []),
        (Request("nightly-1", "present", description="first\n"), ALL, steps(), []),
        (
            Request("nightly-1", "present", description="other"),
            ALL,
            steps(describe=True),
            ["snapshots.nightly-1.description"],
        ),
        (
            Request("nightly-3", "present"),
            [*ALL, BROKEN],
            steps(first=("nightly-3",), create=True),
            ["snapshots.nightly-3"],
        ),
        (Request("nightly-1", "absent"), ALL, steps(after=("nightly-1",)), ["snapshots.nightly-1"]),
        (Request("nightly-3", "absent"), [BROKEN], steps(after=("nightly-3",)), ["snapshots.nightly-3"]),
        (Request("gone", "absent"), ALL, steps(), []),
        (Request("nightly-1", "rolledback"), ALL, steps(roll_back=True), ["rolledback_to"]),
        (
            Request("nightly-3", "present", retention=2, retention_pattern="nightly-*"),
            ALL,
            steps(create=True, after=("nightly-1",)),
            ["snapshots.nightly-3", "snapshots.nightly-1"],
        ),
        (
            Request("nightly-1", "present", retention=1),
            ALL,
            steps(after=("before-upgrade", "nightly-2")),
            ["snapshots.before-upgrade", "snapshots.nightly-2"],
        ),
        (Request("nightly-1", "present", retention=3), ALL, steps(), []),
        (
            # The snapshot itself is not of the counted kind: as many of those as asked for stay.
            Request("before-upgrade", "present", retention=1, retention_pattern="nightly-*"),
            ALL,
            steps(after=("nightly-1",)),
            ["snapshots.nightly-1"],
        ),
        (
            # An unfinished one is neither counted nor removed.
            Request("nightly-2", "present", retention=2, retention_pattern="nightly-*"),
            [OLD, MID, BROKEN],
            steps(),
            [],
        ),
    ],
)
def test_plan(wanted, actual, expected, differences):
    plan = snapshots.plan(wanted, actual)
    assert steps_of(plan) == expected
    assert plan.differences.keys() == differences
    assert plan.has_steps is bool(differences), "changed and diff must agree"


@pytest.mark.parametrize("name", ["gone", "nightly-3"])
def test_plan_rollback_needs_a_whole_snapshot(name):
    with pytest.raises(errors.NotFound, match="there are: nightly-1, before-upgrade, nightly-2"):
        snapshots.plan(Request(name, "rolledback"), [*ALL, BROKEN])


@pytest.mark.parametrize(
    "name", ["", "x", "1st", "a b", "a" * 41, "current", "Current", "vzdump", "ä1", "a.b"]
)
def test_request_refuses_names_that_proxmox_refuses(name):
    with pytest.raises(errors.InvalidSpec) as caught:
        Request(name, "present")
    assert caught.value.field == "snapname"


@pytest.mark.parametrize("name", ["ab", "A_1-x", "a" * 40])
def test_request_takes_names_that_proxmox_takes(name):
    assert Request(name, "present").name == name


def test_request_refuses_negative_retention():
    with pytest.raises(errors.InvalidSpec, match="retention"):
        Request("ab", "present", retention=-1)


def test_failure_keeps_its_own_words_when_the_feature_cannot_be_asked_for():
    class Refusing:
        def get(self, *_args, **_params):
            raise errors.MissingPrivilege("no")

    failure = errors.CommandError("it broke")
    assert snapshots._explained(Refusing(), Guest(101, "pve1"), failure) is failure
