# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the plan for access to the API against what there is: which requests, in which order."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import access, access_apply, token_file
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.access import (
    Entry,
    Grant,
    Role,
    State,
    Token,
    User,
)

PRIVS = frozenset({"VM.Audit"})
REQUEST = access.Request("a@pve", "tk", "node1", {"R": PRIVS}, (Grant("/vms", "R"),))
OURS = Token("Managed by Ansible (pvecri.runtime on node1)")
OF_USER = Entry("user", "a@pve", "/vms", "R")
OF_TOKEN = Entry("token", "a@pve!tk", "/vms", "R")
DONE = State(
    {"R": Role(PRIVS)}, {"a@pve": User("x (pvecri.runtime)", tokens={"tk": OURS})}, (OF_USER, OF_TOKEN)
)
EMPTY = State({}, {}, ())


def sent(plan):
    """Return the requests in short."""
    return [f"{s.method} {'/'.join(s.path[1:])} {dict(s.values).get('path', '')}".strip() for s in plan.steps]


def with_user(**changes):
    user = dataclasses.replace(DONE.users["a@pve"], **changes)
    return dataclasses.replace(DONE, users={"a@pve": user})


TOKEN_PATH = "users/a@pve/token/tk"


@pytest.mark.parametrize(
    ("state", "renewal", "requests"),
    [
        (DONE, None, []),
        (EMPTY, None, ["POST roles", "POST users", f"POST {TOKEN_PATH}", "PUT acl /vms", "PUT acl /vms"]),
        # With the old token its permissions go; those of the user stay.
        (DONE, "lost", [f"DELETE {TOKEN_PATH}", f"POST {TOKEN_PATH}", "PUT acl /vms"]),
        (dataclasses.replace(DONE, roles={"R": Role(frozenset())}), None, ["PUT roles/R"]),
        (dataclasses.replace(DONE, entries=(OF_USER,)), None, ["PUT acl /vms"]),
        (
            dataclasses.replace(DONE, entries=(*DONE.entries, Entry("user", "a@pve", "/", "R"))),
            None,
            ["PUT acl /"],
        ),
        # A group's permissions, and another user's, are nobody's business here.
        (
            dataclasses.replace(DONE, entries=(*DONE.entries, Entry("group", "a@pve", "/", "R"))),
            None,
            [],
        ),
        # Beside a token that has all of its user's permissions nobody knows which are needed.
        (
            dataclasses.replace(
                with_user(tokens={"tk": OURS, "u": Token(has_privsep=False)}),
                entries=(*DONE.entries, Entry("user", "a@pve", "/", "R")),
            ),
            None,
            [],
        ),
        (with_user(tokens={"tk": dataclasses.replace(OURS, expire=7)}), None, [f"PUT {TOKEN_PATH}"]),
    ],
)
def test_plan_present(state, renewal, requests):
    plan = access.plan_present(REQUEST, state, renewal=renewal)
    assert sent(plan) == requests
    assert bool(plan.differences) == bool(requests)


def test_plan_present_gives_the_token_its_permissions_before_the_user():
    plan = access.plan_present(REQUEST, EMPTY, renewal=None)
    assert [set(dict(step.values)) & {"users", "tokens"} for step in plan.steps[-2:]] == [
        {"tokens"},
        {"users"},
    ]


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        ("", "Managed by Ansible"),
        ("mine", "mine"),
        ("mine (pvecri.runtime on node9)", "mine"),
        ("(pvecri.runtime)", "Managed by Ansible"),
    ],
)
def test_plan_present_keeps_the_text_of_a_comment(comment, text):
    request = dataclasses.replace(REQUEST, adopt=True)
    plan = access.plan_present(request, with_user(tokens={"tk": Token(comment)}), renewal=None)
    assert dict(plan.steps[0].values) == {"comment": f"{text} (pvecri.runtime on node1)"}


@pytest.mark.parametrize("name", ["PVEx", "Pvecri", "pvecri", "a b", ""])
def test_names_that_proxmox_refuses_are_refused_first(name):
    with pytest.raises(errors.InvalidSpec, match="another beginning than PVE"):
        dataclasses.replace(REQUEST, roles={name: PRIVS}).checked(now_s=0)


@pytest.mark.parametrize("path", ["", "vms", "/vms/", "//", "/a b", "/vms\n"])
def test_paths_that_proxmox_refuses_are_refused_first(path):
    with pytest.raises(errors.InvalidSpec, match="is no path"):
        dataclasses.replace(REQUEST, grants=(Grant(path, "R"),)).checked(now_s=0)
    assert dataclasses.replace(REQUEST, grants=(Grant("/", "R"),)).checked(now_s=0)


class Mute:
    """Answer as a cluster without anything, and tell no secret."""

    def __init__(self, error=None):
        self.error = error
        self.sent = []

    def request(self, method, path, params=None):
        self.sent.append(f"{method} {path[-1]}")
        if method == "POST" and self.error:
            raise self.error
        return [] if method == "GET" else {}


def test_apply_without_a_secret_in_the_answer_says_so(tmp_path):
    file = access_apply.SecretFile(str(tmp_path / "f"), token_file.Server())
    with pytest.raises(errors.ApiError, match="did not tell its secret"):
        access_apply.make_present(Mute(), REQUEST, file, check_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_apply_tries_a_failed_request_once(tmp_path):
    client = Mute(errors.ApiError("no quorum", status=500))
    file = access_apply.SecretFile(str(tmp_path / "f"), token_file.Server())
    with pytest.raises(errors.ApiError, match="no quorum"):
        access_apply.make_present(client, REQUEST, file, check_mode=False)
    assert [line for line in client.sent if line.startswith("POST")] == ["POST roles"]


class Slow(Mute):
    """Make a token, and lose the answer with its secret."""

    def request(self, method, path, params=None):
        super().request(method, path)
        if path[-2] == "token":
            self.has_token = True
            raise errors.ApiTimeout("no answer in time", maybe_done=True)
        if path[-1] != "users" or not hasattr(self, "has_token"):
            return []
        tokens = [{"tokenid": "tk", "comment": OURS.comment, "privsep": 1}]
        return [{"userid": "a@pve", "comment": "x (pvecri.runtime)", "tokens": tokens}]


def test_apply_does_not_go_on_without_the_secret_of_a_token_that_was_made_late(tmp_path):
    client, file = Slow(), access_apply.SecretFile(str(tmp_path / "f"), token_file.Server())
    with pytest.raises(errors.ApiTimeout):
        access_apply.make_present(client, REQUEST, file, check_mode=False)
    assert client.sent[-1] == "GET acl"


def test_read_state_refuses_what_is_no_answer():
    class Strange:
        def request(self, method, path, params=None):
            return [{"roleid": "R"}, 7]

    with pytest.raises(errors.ApiError, match="not like one of Proxmox VE"):
        access_apply.read_state(Strange())
