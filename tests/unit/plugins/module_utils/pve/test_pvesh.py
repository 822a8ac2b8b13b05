# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the pvesh client to its arguments and to what it makes of pvesh's output."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.pvesh import PveshClient, request_argv

JSON = ["--output-format", "json"]
SECRET = "5f1c9e0e-0000-4000-8000-1f2e3d4c5b6a"


class Recorder:
    """Stand in for the command runner."""

    def __init__(self, rc=0, stdout="", stderr="", error=None):
        self.done = (rc, stdout, stderr)
        self.error = error
        self.calls = []

    def run(self, argv, *, timeout_s, check):
        assert check is False
        self.calls.append((list(argv), timeout_s))
        if self.error:
            raise self.error
        return Completed(list(argv), *self.done)


@pytest.mark.parametrize(
    ("verb", "path", "params", "argv"),
    [
        ("get", "/access/users", {"full": True}, ["get", "/access/users", *JSON, "--full=1"]),
        ("post", ("access", "roles"), {"roleid": "A"}, ["create", "/access/roles", *JSON, "--roleid=A"]),
        ("put", "access/acl/", {"delete": False, "x": None}, ["set", "/access/acl", *JSON, "--delete=0"]),
        ("delete", ("nodes", "n", "lxc", 100), {}, ["delete", "/nodes/n/lxc/100", *JSON]),
        ("get", "/a", {"list": ["--x", "y"]}, ["get", "/a", *JSON, "--list=--x", "--list=y"]),
    ],
)
def test_request_arguments(verb, path, params, argv):
    runner = Recorder()
    assert getattr(PveshClient(runner, timeout_s=7), verb)(path, **params) is None
    assert runner.calls == [(["pvesh", *argv], 7)]


@pytest.mark.parametrize("path", ["/a//b", "/a/../b", ("a", "b/c"), ("a", "")])
def test_request_refuses_a_path_that_means_another(path):
    with pytest.raises(errors.Unsupported):
        request_argv("pvesh", "GET", path, {})


@pytest.mark.parametrize("name", ["password", "confirmation-password", "otp", "value", "ssh-private", "keys"])
def test_request_keeps_secrets_out_of_arguments(name):
    with pytest.raises(errors.Unsupported, match=r"visible in the arguments.*HTTPS"):
        request_argv("pvesh", "POST", "/access/users", {name: SECRET})


def test_request_returns_data():
    assert PveshClient(Recorder(stdout='{\n "a" : 1\n}\n')).get("/version") == {"a": 1}
    assert PveshClient(Recorder(stdout="null\n")).get("/version") is None


@pytest.mark.parametrize(
    "runner",
    [
        Recorder(stdout=f"value {SECRET}"),
        Recorder(rc=2, stdout=SECRET, stderr="nothing"),
        Recorder(error=errors.CommandTimeout("late", argv=["pvesh"], stdout=SECRET)),
    ],
    ids=["no json", "failed", "late"],
)
def test_errors_never_repeat_what_was_printed(runner):
    with pytest.raises(errors.ApiError) as caught:
        PveshClient(runner).post("/access/users/a@pve/token/b")
    assert SECRET not in f"{caught.value} {caught.value.details()} {vars(caught.value)}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("stderr", "kind", "text"),
    [
        ("create role failed: role 'A' already exists\n", errors.ApiError, "role 'A' already exists"),
        ("\n", errors.ApiError, "exit code 2"),
        ("403 Permission check failed (/vms, VM.Audit)\n", errors.MissingPrivilege, "VM.Audit on /vms"),
        ("501 Method not implemented\n", errors.ApiError, "status 501"),
        (
            "400 Parameter verification failed.\nroleid: no such thing\npvesh create /access [OPTIONS]\n",
            errors.InvalidSpec,
            "roleid: no such thing",
        ),
    ],
)
def test_errors_are_told_apart_by_status(stderr, kind, text):
    with pytest.raises(kind, match=text.replace("(", r"\(")):
        PveshClient(Recorder(rc=2, stderr=stderr)).put("/access/acl")


@pytest.mark.parametrize(("verb", "maybe_done"), [("get", False), ("post", True)])
def test_errors_say_whether_it_may_have_been_done(verb, maybe_done):
    with pytest.raises(errors.ApiTimeout, match="not answered by pvesh within 30 s") as caught:
        getattr(PveshClient(Recorder(error=errors.CommandTimeout("late", argv=["pvesh"]))), verb)("/x")
    assert caught.value.maybe_done is maybe_done


def test_errors_without_the_program_say_where_to_run():
    with pytest.raises(errors.MissingDependency, match="Run the task on a node"):
        PveshClient(Recorder(error=errors.MissingDependency("gone"))).get("/version")


def test_it_is_root_itself():
    assert PveshClient(Recorder()).is_root
