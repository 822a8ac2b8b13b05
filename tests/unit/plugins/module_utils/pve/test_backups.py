# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the planning of backups and restores, and the choice of where to do them."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import backups, restores
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.backups import Backup, BackupRequest, Place
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import ClusterView, Guest, Storage
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.restores import RestoreRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection

NOW = 10_000
OLD = Backup("b:backup/vzdump-lxc-101-1.tar", 101, 1_000, 5)
NEW = Backup("b:backup/vzdump-lxc-101-2.tar", 101, 9_000, 5, notes="hand-made", protected=True)
EMPTY = Backup("b:backup/vzdump-lxc-101-3.tar", 101, 9_900, 0)
OTHER = Backup("b:backup/vzdump-lxc-102-1.tar", 102, 9_950, 5)


@pytest.mark.parametrize(
    ("wanted", "actual", "create", "changes"),
    [
        (BackupRequest(101), [OLD, NEW], True, {}),
        (BackupRequest(101, max_age_s=1_000), [OLD, NEW], False, {}),
        (BackupRequest(101, max_age_s=999), [OLD, NEW], True, {}),
        (BackupRequest(101, max_age_s=1_000), [], True, {}),
        (BackupRequest(101, max_age_s=1_000), [OLD, EMPTY, OTHER], True, {}),
        (BackupRequest(101, max_age_s=1_000, notes="hand-made\n", protected=True), [NEW], False, {}),
        (
            BackupRequest(101, max_age_s=1_000, notes="", protected=False),
            [NEW],
            False,
            {"notes": "", "protected": False},
        ),
    ],
)
def test_plan_present(wanted, actual, create, changes):
    plan = backups.plan_present(wanted, actual, NOW)
    assert (plan.create, plan.changes) == (create, changes)
    assert plan.existing == (None if create else NEW)
    assert bool(plan.differences) is plan.has_steps is (create or bool(changes))


@pytest.mark.parametrize("fields", [{"max_age_s": -1}, {"bandwidth_kib_s": -1}])
def test_backup_request_refuses_negative_numbers(fields):
    with pytest.raises(errors.InvalidSpec, match="must not be negative"):
        BackupRequest(101, **fields)


def test_plan_removal_takes_what_is_there():
    plan = backups.plan_removal([OLD.volid, "b:backup/gone"], [OLD, OTHER])
    assert plan.remove == (OLD,)
    assert plan.differences.before() == {f"backups.{OLD.volid}": OLD.as_dict()}
    assert not backups.plan_removal(["b:backup/gone"], [OLD]).has_steps


def test_plan_removal_refuses_a_protected_one():
    with pytest.raises(errors.WrongState, match="protected"):
        backups.plan_removal([NEW.volid], [NEW])


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ({"last": 3}, "keep-last=3"),
        ({"daily": 7, "last": 0, "yearly": None, "weekly": 4}, "keep-last=0,keep-daily=7,keep-weekly=4"),
    ],
)
def test_prune_rules(keep, expected):
    assert backups._prune_params(101, keep) == {"vmid": 101, "type": "lxc", "prune-backups": expected}


@pytest.mark.parametrize(
    ("keep", "field"),
    [({}, "keep"), ({"last": 0}, "keep"), ({"last": None}, "keep"), ({"daily": -1}, "keep.daily")],
)
def test_prune_rules_that_keep_nothing_are_refused(keep, field):
    with pytest.raises(errors.InvalidSpec) as caught:
        backups._prune_params(101, keep)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("notes", "expected"),
    [(None, None), ("", None), ("a\nb\n", "a\\nb"), ("c:\\x", "c:\\\\x"), ("{{guestname}}", None)],
)
def test_notes_template_yields_the_notes_themselves(notes, expected):
    assert backups._notes_template(notes) == expected


@pytest.mark.parametrize(
    ("volid", "expected"),
    [
        ("local:backup/vzdump-lxc-1-2026.tar.zst", True),
        ("local:backup/vzdump-openvz-1-2013.tgz", True),
        ("pbs:backup/ct/100/2026-01-31T02:00:00Z", True),
        ("local:backup/vzdump-qemu-1-2026.vma", False),
        ("pbs:backup/vm/100/2026-01-31T02:00:00Z", False),
    ],
)
def test_is_of_container(volid, expected):
    assert backups.is_of_container(volid) is expected


def test_choose():
    listed = [OLD, NEW, EMPTY, OTHER]
    assert backups.choose(listed, "latest", 101) == NEW
    assert backups.choose(listed, OTHER.volid, 101) == OTHER
    with pytest.raises(errors.NotFound, match="no backup of container 103"):
        backups.choose(listed, "latest", 103)
    with pytest.raises(errors.NotFound, match="'b:x'"):
        backups.choose(listed, "b:x", 101)


def storage(node, *, name="b", available=True, shared=False, content=("backup",)):
    return Storage(name, node, available, shared, content)


@pytest.mark.parametrize(
    ("storages", "node", "expected"),
    [
        ([storage("n1")], None, "n1"),
        ([storage("n1"), storage("n2")], "n2", "n2"),
        ([storage("n2", shared=True), storage("n1", shared=True)], None, "n1"),
        ([storage("n1", available=False), storage("n2")], None, "n2"),
        ([], "n1", "n1"),
    ],
)
def test_find_place(storages, node, expected):
    assert backups.find_place(ClusterView({}, {}, tuple(storages)), "b", node=node) == Place(expected, "b")


@pytest.mark.parametrize(
    ("storages", "node", "field", "text"),
    [
        ([], None, "storage", "not visible"),
        ([storage("n1", name="other")], "n1", "storage", "other"),
        ([storage("n1", content=("rootdir",))], None, "storage", "does not hold backups"),
        ([storage("n1"), storage("n2")], None, "node", "n1, n2"),
        ([storage("n1", available=False)], None, "node", "not available on any node"),
        ([storage("n1")], "n2", "storage", "not available on node 'n2'"),
    ],
)
def test_find_place_refuses(storages, node, field, text):
    with pytest.raises(errors.InvalidSpec, match=text) as caught:
        backups.find_place(ClusterView({}, {}, tuple(storages)), "b", node=node)
    assert caught.value.field == field


CT = Guest(101, "n1", tags=("pvecri",))


@pytest.mark.parametrize(
    ("wanted", "existing", "running", "restore", "start"),
    [
        (RestoreRequest(101), None, False, True, False),
        (RestoreRequest(101, start=True), None, False, True, True),
        (RestoreRequest(101), CT, False, False, False),
        (RestoreRequest(101, start=True), CT, False, False, True),
        (RestoreRequest(101, start=True), CT, True, False, False),
        (RestoreRequest(101, force=True), CT, False, True, False),
        (RestoreRequest(101, force=True, start=True), CT, False, True, True),
    ],
)
def test_plan_restore(wanted, existing, running, restore, start):
    plan = restores.plan(wanted, existing, running, OLD)
    assert (plan.restore, plan.start) == (restore, start)
    assert bool(plan.differences) is plan.has_steps is (restore or start)


@pytest.mark.parametrize(
    ("existing", "running", "error"),
    [
        (Guest(101, "n1", type="qemu"), False, errors.Conflict),
        (CT, True, errors.WrongState),
        (Guest(101, "n1"), False, errors.WrongState),
        (Guest(101, "n1", tags=("pvecri", "pvecri-cri")), False, errors.WrongState),
    ],
)
def test_plan_restore_does_not_overwrite_what_it_must_not(existing, running, error):
    with pytest.raises(error):
        restores.plan(RestoreRequest(101, force=True), existing, running, OLD)


class Lying:
    """A server whose tasks all end well and change nothing."""

    connection = Connection("h", "a@pve", task_timeout_s=5)
    upid = "UPID:n1:0:0:0:vzrestore:101:a@pve:"

    def get(self, path, **_params):
        if path[-1] == "status":
            return {"status": "stopped", "exitstatus": "OK"}
        if path[-1] == "log":
            raise errors.MissingPrivilege("no")
        return {"status": "stopped"} if path[-1] == "current" else []

    def post(self, _path, **_params):
        return self.upid

    def delete(self, _path, **_params):
        return self.upid


def test_restore_that_leaves_no_container_is_a_failure():
    steps = restores.Plan(restore=True)
    with pytest.raises(errors.WrongState, match="lists no container 101"):
        restores.apply(Lying(), "n1", RestoreRequest(101), steps, OLD)


def test_start_that_does_not_last_is_a_failure():
    with pytest.raises(errors.WrongState, match="stopped again"):
        restores.apply(Lying(), "n1", RestoreRequest(101, start=True), restores.Plan(start=True), OLD)


def test_removal_that_did_not_happen_is_a_failure_without_a_log(monkeypatch):
    monkeypatch.setattr(backups, "read", lambda *_args, **_kwargs: [OLD])
    with pytest.raises(errors.TaskFailed, match="still lists") as caught:
        backups.remove(Lying(), Place("n1", "b"), backups.plan_removal([OLD.volid], [OLD]))
    assert caught.value.log_tail == []
