# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a release to a host that lacks it, and pack nothing for one that has it."""

from __future__ import annotations

import types

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.pvecri.runtime.plugins.action import cri_release

NAME = "0.1.0-000000000000"


class Shell:
    """Stand for a host's shell."""

    tmpdir = None

    def join_path(self, *parts):
        return "/".join(parts)


@pytest.fixture
def action(monkeypatch):
    """Return an action whose host is a list of answers; what it does is noted."""
    made = cri_release.ActionModule.__new__(cri_release.ActionModule)
    made._task = types.SimpleNamespace(args={}, async_val=0)
    made._connection = types.SimpleNamespace(_shell=Shell())
    made.answers, made.called, made.sent, made.removed = [], [], [], []

    def execute(*, module_name, module_args, task_vars):
        made.called.append(dict(module_args))
        return {**made.answers.pop(0), "invocation": {}}

    def transfer(local, remote):
        with open(local, "rb") as stream:
            made.sent.append((stream.read(), remote))

    def make_tmp_path():
        made._connection._shell.tmpdir = "/remote"

    monkeypatch.setattr(cri_release.ActionBase, "run", lambda *_args: {})
    monkeypatch.setattr(made, "_execute_module", execute)
    monkeypatch.setattr(made, "_transfer_file", transfer)
    monkeypatch.setattr(made, "_make_tmp_path", make_tmp_path)
    monkeypatch.setattr(made, "_fixup_perms2", lambda _paths: None)
    monkeypatch.setattr(made, "_remove_tmp_path", made.removed.append)
    packed = types.SimpleNamespace(release=NAME)
    made.archived = []

    def archive(what):
        made.archived.append(what)
        return b"tar"

    packer = types.SimpleNamespace(collect=lambda: packed, archive=archive)
    monkeypatch.setattr(cri_release, "packer", lambda: packer)
    return made


def test_host_that_has_it_gets_nothing(action):
    action.answers = [{"changed": False, "wanted": False}]
    assert action.run() == {"changed": False, "wanted": False}
    assert action.called == [{"release": NAME}]
    assert (action.sent, action.archived) == ([], [])


def test_host_that_lacks_it_gets_it(action):
    action.answers = [{"changed": True, "wanted": True}, {"changed": True, "wanted": False}]
    assert action.run()["wanted"] is False
    assert action.sent == [(b"tar", "/remote/release.tar.gz")]
    assert action.called[1] == {"release": NAME, "src": "/remote/release.tar.gz"}
    assert action.removed == ["/remote"]


def test_failure_is_passed_on(action):
    action.answers = [{"failed": True, "msg": "no"}]
    assert action.run()["msg"] == "no"


def test_removal_packs_nothing(action):
    action._task.args = {"state": "absent"}
    action.answers = [{"changed": True, "wanted": False}]
    action.run()
    assert action.called == [{"state": "absent"}]


def test_release_that_nobody_has_is_told(action):
    action._task.args = {"release": "0.1.0-999999999999"}
    action.answers = [{"changed": True, "wanted": True}]
    with pytest.raises(AnsibleActionFail, match="neither this host nor this collection"):
        action.run()
    assert action.sent == []


def test_packer_is_that_of_the_role():
    assert cri_release.packer().collect().release.startswith("0.1.0-")


def test_packer_that_is_missing_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(cri_release, "PACKER", tmp_path / "none.py")
    with pytest.raises(AnsibleActionFail, match="install the collection"):
        cri_release.packer()
