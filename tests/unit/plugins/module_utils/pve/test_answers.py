# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the reading of the API's refusals: each status, its class and what it names."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers


def error(status, reason="", body=None, method="PUT", path="/nodes/pve1/lxc/100/config"):
    return answers.error_of_answer(status, reason, body or {}, method=method, path=path, host="h:8006")


def test_bad_request_names_its_one_field():
    found = error(
        400, body={"errors": {"memory": "too small\n"}, "message": "Parameter verification failed.\n"}
    )
    assert isinstance(found, errors.InvalidSpec)
    assert found.field == "memory"
    assert str(found) == "memory: too small (PUT /nodes/pve1/lxc/100/config)"


def test_bad_request_names_all_its_fields():
    found = error(400, body={"errors": {"swap": "b", "cores": "a"}})
    assert found.field == "cores, swap"
    assert "cores: a; swap: b" in found.problem


@pytest.mark.parametrize("body", [{}, {"errors": None}, {"errors": {}}, {"errors": ["x"]}])
def test_bad_request_without_fields(body):
    found = error(400, "Bad thing", body)
    assert isinstance(found, errors.InvalidSpec)
    assert str(found) == "PUT /nodes/pve1/lxc/100/config was refused: Bad thing"


def test_unauthorized_says_what_to_check():
    found = error(401, "authentication failure")
    assert isinstance(found, errors.LoginFailed)
    assert found.status == 401
    assert "realm" in str(found)
    assert "clocks" in str(found)


@pytest.mark.parametrize(
    ("said", "path", "privilege"),
    [
        ("Permission check failed (/vms/100, VM.Config.CPU)", "/vms/100", "VM.Config.CPU"),
        ("Permission check failed (/, Sys.Modify)\n", "/", "Sys.Modify"),
        (
            "Permission check failed (/storage/a-b, Datastore.AllocateSpace|Datastore.Audit)",
            "/storage/a-b",
            "Datastore.AllocateSpace|Datastore.Audit",
        ),
    ],
)
def test_forbidden_names_privilege_and_path(said, path, privilege):
    found = error(403, "", {"message": said})
    assert isinstance(found, errors.MissingPrivilege)
    assert isinstance(found, errors.MissingDependency)
    assert found.details() == {"error": "missing_privilege", "privilege": privilege, "path": path}
    assert privilege in str(found)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Permission check failed (user != root@pam)", "no API token"),
        ("Permission check failed (mount point type bind is only allowed for root@pam)", "no API token"),
    ],
)
def test_forbidden_for_all_but_root(said, advice):
    found = error(403, said)
    assert found.privilege is None
    assert advice in str(found)


@pytest.mark.parametrize(
    ("method", "path", "where"),
    [
        ("POST", "/nodes/pve1/lxc", "/vms/{vmid}"),
        ("POST", "/nodes/pve1/lxc/100/clone", "/vms/{newid}"),
    ],
)
def test_forbidden_without_a_reason_names_the_likely_privilege(method, path, where):
    found = error(403, "Permission check failed", method=method, path=path)
    assert found.privilege == "VM.Allocate"
    assert found.path.startswith(where)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nodes/pve1/lxc"),
        ("POST", "/nodes/pve1/lxc/100/snapshot"),
        ("POST", "/nodes/pve1/scan/nfs"),
    ],
)
def test_forbidden_without_a_reason_and_unknown(method, path):
    found = error(403, "Permission check failed", method=method, path=path)
    assert found.privilege is None
    assert "is not allowed: Permission check failed" in str(found)


@pytest.mark.parametrize("status", [595, 596, 597, 598, 599])
def test_proxy_problem_names_the_node(status):
    found = error(status, "No route to host")
    assert isinstance(found, errors.ApiError)
    assert found.status == status
    assert found.is_unreachable
    assert "node 'pve1'" in str(found)
    assert "h:8006" in str(found)


def test_proxy_problem_of_no_node():
    assert "the node that should answer" in str(error(595, "x", path="/cluster/resources"))


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("cluster not ready - no quorum?", "read-only"),
        ("CT is locked (backup)", "holds the lock"),
        ("can't lock file '/run/lock/lxc/pve-config-1.lock' - got timeout", "Another task"),
        ("can't remove CT 101 - protection mode enabled", "'protection'"),
        ("hostname lookup 'nope' failed", "no node of that name"),
        ("unable to write: No space left on device", "Free space"),
        ("something else", None),
    ],
)
def test_server_error_keeps_the_text_and_advises(said, advice):
    found = error(500, said)
    assert found.__class__ is errors.ApiError
    assert not found.is_unreachable
    assert found.reason == said
    assert found.details()["status"] == 500
    assert (found.hint is None) if advice is None else (advice in found.hint)


def test_unknown_request():
    assert "GET /version" in str(error(501, "Method not implemented"))


def test_redirect():
    assert "sends elsewhere" in str(error(302, "Found"))


def test_message_wins_over_reason_and_reason_over_nothing():
    assert error(500, "reason", {"message": "text\n"}).reason == "text"
    assert error(500, "").reason == "no reason given"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("plain", "plain"),
        ("größer".encode().decode("latin-1"), "größer"),
        (None, ""),
        ("snow\u2603 ", "snow\u2603"),
    ],
)
def test_decode_reason(raw, expected):
    assert answers.decode_reason(raw) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [('{"data": 1}', {"data": 1}), ("[1]", {}), ("<html>", {}), ("", {})]
)
def test_parse_body(text, expected):
    assert answers.parse_body(text) == expected


@pytest.mark.parametrize(
    ("path", "node"), [("/nodes/pve1", "pve1"), ("/nodes/a/lxc", "a"), ("/nodes", None), ("/cluster/x", None)]
)
def test_node_of(path, node):
    assert answers.node_of(path) == node


@pytest.mark.parametrize(
    ("status", "method", "is_unknown"),
    [
        (595, "POST", False),
        (596, "POST", True),
        (597, "PUT", True),
        (598, "DELETE", True),
        (599, "POST", False),
        (502, "POST", True),
        (504, "POST", True),
        (500, "POST", False),
        (596, "GET", False),
    ],
)
def test_answers_that_leave_open_whether_a_write_was_done(status, method, is_unknown):
    found = error(status, "too slow", method=method)
    assert found.maybe_done is is_unknown
    assert ("carried out is unknown" in str(found)) is is_unknown


@pytest.mark.parametrize("status", [400, 401, 403, 500, 596])
def test_long_texts_of_a_server_are_cut(status):
    long = "x" * 100_000
    assert len(str(error(status, long, {"message": long, "errors": {"a": long, "b": "y"}}))) < 10_000


@pytest.mark.parametrize("text", ["[" * 200_000, '{"data": ' + "9" * 10_000 + "}", "", "null", "<html>"])
def test_texts_that_are_no_answer(text):
    assert answers.parse_body(text) == {}


def test_answer_that_cannot_be_taken_apart():
    with (
        pytest.raises(errors.ApiError, match=r"the list of x: .*KeyError: 'vmid'") as caught,
        answers.understood("the list of x"),
    ):
        {}["vmid"]
    # It did answer: nobody needs to wait for it.
    assert not caught.value.is_unreachable
