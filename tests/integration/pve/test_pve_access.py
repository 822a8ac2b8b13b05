# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drive the module pve_access against a fake cluster, over HTTPS and through a double of pvesh.

fakepve keeps nothing below /access; tests/support/pve_access.py does, after
pve-access-control, and its token logins are fakepve's own.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.pve import token_file
from ansible_collections.pvecri.runtime.tests.support import examples, fakepve, pve_access

HOST = os.uname().nodename
USER = "pvecri@pve"
TOKEN = f"{USER}!node1"
ROLES = {"CtOps": ["VM.Audit", "VM.PowerMgmt"], "CtStore": ["Datastore.Audit"]}
ACL = [{"path": "/vms", "role": "CtOps"}, {"path": "/storage/local", "role": "CtStore", "propagate": False}]
ENTRIES = {("/vms", "CtOps", True), ("/storage/local", "CtStore", False)}


BOTH = pytest.mark.parametrize("how", ["https", "pvesh"], indirect=True)


@pytest.fixture
def cluster(tmp_path):
    made = fakepve.FakeCluster(str(tmp_path / "pki"))
    made.access = pve_access.install(made.pve)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def access(cluster):
    return cluster.access


@pytest.fixture
def pvesh(cluster, tmp_path):
    return pve_access.make_pvesh(cluster, tmp_path, fakepve.TOKEN_SECRET)


@pytest.fixture
def how(request, cluster, pvesh):
    """Return the options of one way to reach the cluster, HTTPS unless a test asks for both."""
    if getattr(request, "param", "https") == "https":
        return cluster.options()
    return {
        "transport": "pvesh",
        "pvesh_command": pvesh.path,
        "server": {"host": "127.0.0.1", "port": cluster.port, "ca_path": cluster.ca_path},
    }


@pytest.fixture
def task(how, tmp_path, run_module):
    """Return a function that runs the module, and repeats a change to see that nothing is left to do."""

    def run(check=False, diff=True, again=True, **changes):
        options = {
            **how,
            "user": USER,
            "token_id": "node1",
            "roles": ROLES,
            "acl": ACL,
            "secret_file": str(tmp_path / "pve.json"),
            **changes,
        }
        result = run_module("pve_access", options, check=check, diff=diff)
        if again and not check and not result["failed"]:
            assert not run_module("pve_access", options, diff=diff)["changed"]
        return result

    run.file = tmp_path / "pve.json"
    return run


def kept(task):
    return json.loads(task.file.read_text())


@BOTH
def test_present_makes_all_of_it(task, access, cluster):
    result = task()
    assert result["changed"], result
    assert {name: sorted(privs) for name, privs in access.roles.items()} == ROLES
    assert access.users[USER]["comment"] == "Managed by Ansible (pvecri.runtime)"
    assert access.tokens[TOKEN]["comment"] == f"Managed by Ansible (pvecri.runtime on {HOST})"
    assert access.tokens[TOKEN]["privsep"] == 1
    assert access.entries(USER) == access.entries(TOKEN) == ENTRIES
    assert kept(task) == {
        "host": "127.0.0.1",
        "port": cluster.port,
        "user": USER,
        "token_id": "node1",
        "secret": access.secret(TOKEN),
        "ca_path": cluster.ca_path,
        "fingerprint": None,
    }
    info = task.file.stat()
    assert stat.S_IMODE(info.st_mode) == 0o600
    assert info.st_uid == os.geteuid()
    assert result["access"]["token_id"] == TOKEN
    assert result["access"]["renewed"] is None


@BOTH
def test_present_the_secret_is_nowhere_but_in_the_file(task, access, pvesh):
    shown = json.dumps(task()) + json.dumps(task(diff=True))
    assert access.secret(TOKEN) not in shown
    assert access.secret(TOKEN) not in json.dumps(pvesh.calls())


@BOTH
def test_present_in_check_mode_changes_nothing(task, access, cluster):
    cluster.forget_requests()
    result = task(check=True)
    assert result["changed"]
    assert result["diff"]["after"][f"acl.{TOKEN}./vms.CtOps"] == "with all below"
    assert result["diff"]["after"][f"tokens.{TOKEN}.secret"] == "made"
    assert {method for method, _path in cluster.requests_seen()} == {"GET"}
    assert not task.file.exists()
    assert access.roles == {}


@BOTH
def test_present_costs_four_requests_when_there_is_nothing_to_do(task, cluster):
    task()
    cluster.forget_requests()
    assert not task(again=False)["changed"]
    paths = [path for _method, path in cluster.requests_seen()]
    assert paths == ["/access/roles", "/access/users", "/access/acl", "/version"]


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda file, access: file.unlink(), "the file is missing"),
        (lambda file, access: file.write_text("{}"), "the file is not readable as credentials"),
        (
            lambda file, access: file.write_text(file.read_text().replace('"node1"', '"node2"')),
            "the file is of another token",
        ),
        (lambda file, access: access.pve.apitokens.update({TOKEN: "other"}), "the API refuses it"),
        (lambda file, access: access.tokens[TOKEN].update(expire=1), "the token has expired"),
    ],
    ids=["missing", "damaged", "other", "refused", "expired"],
)
def test_present_makes_a_token_anew_whose_secret_is_of_no_use(task, access, break_it, reason):
    task()
    old = access.secret(TOKEN)
    break_it(task.file, access)
    foreseen = task(check=True)
    assert foreseen["access"]["renewed"] == reason
    result = task()
    assert result["access"]["renewed"] == reason
    assert result["diff"]["before"][f"tokens.{TOKEN}.secret"] == f"not usable here: {reason}"
    assert result["diff"]["after"][f"tokens.{TOKEN}.secret"] == "made anew"
    assert kept(task)["secret"] == access.secret(TOKEN) != old
    assert access.entries(TOKEN) == ENTRIES


def test_present_a_token_that_vanished_is_made_again(task, access):
    task()
    del access.tokens[TOKEN], access.pve.apitokens[TOKEN]
    result = task()
    assert result["access"]["renewed"] is None
    assert kept(task)["secret"] == access.secret(TOKEN)
    assert access.entries(TOKEN) == ENTRIES


@BOTH
def test_present_mends_what_differs_and_keeps_the_secret(task, access):
    task()
    secret = access.secret(TOKEN)
    later = int(time.time()) + 86400
    access.roles["CtOps"].add("VM.Allocate")
    access.give("token", TOKEN, "/", "CtOps")
    access.give("user", USER, "/nodes", "CtStore")
    access.acl["/vms", "token", TOKEN, "CtOps"] = False
    access.tokens[TOKEN]["privsep"] = 0
    result = task(expire=later, comment="For the node")
    assert result["diff"]["before"]["roles.CtOps"] == ["VM.Allocate", "VM.Audit", "VM.PowerMgmt"]
    assert result["diff"]["before"][f"acl.{TOKEN}./vms.CtOps"] == "this path only"
    assert access.entries(USER) == access.entries(TOKEN) == ENTRIES
    assert access.tokens[TOKEN] == {
        "privsep": 1,
        "expire": later,
        "comment": f"For the node (pvecri.runtime on {HOST})",
    }
    assert access.secret(TOKEN) == secret == kept(task)["secret"]


def test_present_mends_mode_and_address_of_the_file(task, access, cluster):
    task()
    secret = access.secret(TOKEN)
    task.file.chmod(0o644)
    assert task(check=True)["diff"]["before"]["secret_file.private"] is False
    assert task()["changed"]
    assert stat.S_IMODE(task.file.stat().st_mode) == 0o600
    pinned = ":".join(cluster.fingerprint[i : i + 2].upper() for i in range(0, 64, 2))
    server = {"host": "127.0.0.1", "port": cluster.port, "fingerprint": pinned}
    assert task(server=server)["changed"]
    assert kept(task)["fingerprint"] == cluster.fingerprint
    assert kept(task)["ca_path"] is None
    assert kept(task)["secret"] == secret


def test_present_without_separation_gives_permissions_to_the_user_alone(task, access):
    task()
    task(privilege_separation=False)
    assert access.tokens[TOKEN]["privsep"] == 0
    assert access.entries(TOKEN) == set()
    assert access.entries(USER) == ENTRIES


def test_present_hosts_share_user_and_roles(task, access, tmp_path):
    task()
    other = {"token_id": "node2", "secret_file": str(tmp_path / "other.json")}
    more = [*ACL, {"path": "/nodes/pve2", "role": "CtStore"}]
    task(**other, acl=more)
    assert access.entries(USER) == {*ENTRIES, ("/nodes/pve2", "CtStore", True)}
    assert access.entries(TOKEN) == ENTRIES
    assert not task()["changed"]
    result = task(state="absent")
    assert result["access"]["kept"] == [
        "user 'pvecri@pve': it has other tokens (node2)",
        "role 'CtOps': pvecri@pve, pvecri@pve!node2 has it",
        "role 'CtStore': pvecri@pve, pvecri@pve!node2 has it",
    ]
    assert TOKEN not in access.tokens
    assert not task.file.exists()
    assert access.entries(USER) == {*ENTRIES, ("/nodes/pve2", "CtStore", True)}
    task(**other, acl=more, state="absent")
    assert (access.tokens, access.roles, access.acl) == ({}, {}, {})
    assert list(access.users) == ["root@pam"]


@pytest.mark.parametrize(
    ("users", "tokens", "text"),
    [
        ({USER: {"enable": 1, "comment": "mine"}}, {}, "was not made by this collection"),
        ({USER: {"enable": 0, "comment": "x (pvecri.runtime)"}}, {}, "is disabled or has an end"),
        (
            {USER: {"enable": 1, "comment": "x (pvecri.runtime)"}},
            {TOKEN: {"privsep": 1, "comment": "of a backup job"}},
            "was not made by this collection",
        ),
        (
            {USER: {"enable": 1, "comment": "x (pvecri.runtime)"}},
            {TOKEN: {"privsep": 1, "comment": "x (pvecri.runtime on elsewhere)"}},
            "belongs to host 'elsewhere'",
        ),
    ],
    ids=["user", "disabled", "token", "other host"],
)
def test_present_refuses_what_is_somebody_elses(task, access, cluster, users, tokens, text):
    access.users.update(users)
    access.tokens.update(tokens)
    cluster.forget_requests()
    result = task()
    assert result["failed"]
    assert text in result["msg"]
    assert result["error"] == "wrong_state"
    assert {method for method, _path in cluster.requests_seen()} == {"GET"}
    assert not task.file.exists()


def test_adopt_takes_a_token_over_and_leaves_the_user_its_owner(task, access):
    access.users[USER] = {"enable": 1, "comment": "mine"}
    access.tokens[TOKEN] = {"privsep": 0, "comment": "old"}
    access.pve.apitokens[TOKEN] = "known to somebody"
    access.give("user", USER, "/nodes", "CtOps")
    access.roles["CtOps"] = set(ROLES["CtOps"])
    assert task(adopt=True)["access"]["renewed"] == "the file is missing"
    assert access.tokens[TOKEN]["comment"] == f"old (pvecri.runtime on {HOST})"
    assert access.users[USER]["comment"] == "mine"
    assert access.entries(USER) == {*ENTRIES, ("/nodes", "CtOps", True)}
    result = task(adopt=True, state="absent")
    assert result["access"]["kept"][0] == "user 'pvecri@pve': its comment lacks '(pvecri.runtime)'"
    assert access.entries(USER) == {("/nodes", "CtOps", True)}
    assert set(access.roles) == {"CtOps"}


def test_adopt_changes_a_role_that_others_have(task, access):
    access.users["other@pve"] = {"enable": 1}
    access.roles["CtStore"] = {"VM.Audit"}
    access.give("user", "other@pve", "/", "CtStore")
    assert "role 'CtStore' has other privileges, and other@pve has it too" in task()["msg"]
    assert task(adopt=True)["changed"]
    assert access.roles["CtStore"] == {"Datastore.Audit"}
    assert task(state="absent")["access"]["kept"] == ["role 'CtStore': other@pve has it"]


@BOTH
def test_absent_removes_what_is_ours_and_says_what_stays(task, access):
    task()
    access.roles["CtStore"].add("Datastore.Allocate")
    foreseen = task(check=True, state="absent")
    assert foreseen["changed"]
    assert TOKEN in access.tokens
    assert task.file.exists()
    result = task(state="absent")
    assert result["access"]["kept"] == ["role 'CtStore': its privileges are not the ones that are named"]
    assert (access.tokens, list(access.users), list(access.roles)) == ({}, ["root@pam"], ["CtStore"])
    assert not task.file.exists()


def test_absent_leaves_a_file_of_another_token(task, access):
    task()
    text = task.file.read_text().replace('"node1"', '"node7"')
    task.file.write_text(text)
    result = task(state="absent")
    assert result["access"]["kept"] == [f"file '{task.file}': it is not of token '{TOKEN}'"]
    assert task.file.read_text() == text


def test_absent_refuses_a_token_of_somebody_else(task, access):
    access.users[USER] = {"enable": 1, "comment": "x (pvecri.runtime)"}
    access.tokens[TOKEN] = {"privsep": 1, "comment": "of a backup job"}
    assert task(state="absent")["error"] == "wrong_state"
    assert TOKEN in access.tokens


def test_absent_of_nothing_changes_nothing(task):
    assert not task(state="absent", secret_file=None)["changed"]


@BOTH
@pytest.mark.parametrize("missing", ["POST /access/users", "POST /access/roles"])
def test_present_joins_another_host_that_makes_the_same_thing(task, access, missing):
    def another_was_quicker(method, path):
        if f"{method} {path}" == missing:
            access.before = lambda _method, _path: None
            access.roles.update({name: set(privs) for name, privs in ROLES.items()})
            access.users[USER] = {"enable": 1, "comment": "x (pvecri.runtime)"}

    access.before = another_was_quicker
    result = task()
    assert result["changed"], result
    assert access.entries(USER) == access.entries(TOKEN) == ENTRIES
    assert kept(task)["secret"] == access.secret(TOKEN)


@BOTH
def test_present_tells_what_the_api_refuses(task, access):
    result = task(acl=[{"path": "/vms", "role": "Nobody"}])
    assert result["failed"]
    assert "role 'Nobody' does not exist" in result["msg"]
    # What was made until then is completed by the next run.
    assert task()["changed"]


@pytest.mark.parametrize(
    ("options", "field", "text"),
    [
        ({"user": "nobody"}, "user", "has no realm"),
        ({"token_id": "1x"}, "token_id", "is no name for a token"),
        ({"roles": {"PvecriX": []}}, "roles.PvecriX", "another beginning than PVE"),
        ({"roles": {"X": "VM.Audit"}}, "roles.X", "is no list"),
        ({"acl": [{"path": "vms", "role": "X"}]}, "acl[0].path", "is no path"),
        ({"expire": 1}, "expire", "is in the past"),
        ({"comment": "two\nlines"}, "comment", "more than one line"),
        ({"server": {"fingerprint": "12"}}, "server.fingerprint", "64 hexadecimal digits"),
        ({"server": {"port": 0}}, "server.port", "is no port"),
        ({"secret_file": "/nonexistent/x/pve.json"}, "secret_file", "directory"),
        ({"secret_file": "/dev/null"}, "secret_file", "no regular file"),
    ],
)
def test_present_refuses_bad_input_before_anything_is_made(task, access, options, field, text):
    result = task(**options)
    assert result["failed"]
    assert result.get("field") == field
    assert text in result["msg"]
    assert (access.roles, access.tokens) == ({}, {})


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_present_does_not_send_a_secret_to_a_stranger(cluster, task):
    result = task(ca_path=None, validate_certs=False)
    assert "is not sent to a server that nobody knows" in result["msg"]
    server = {"fingerprint": cluster.fingerprint}
    assert task(ca_path=None, validate_certs=False, server=server)["changed"]


@pytest.mark.parametrize(
    ("server", "text"),
    [
        ({"fingerprint": "0" * 64}, "shows another certificate"),
        ({"ca_path": "/nonexistent.pem"}, "cannot be read"),
        ({"port": 1}, "could not be tried"),
    ],
)
def test_present_fails_when_nobody_can_tell_whether_the_token_works(task, access, cluster, server, text):
    task()
    secret = access.secret(TOKEN)
    known = {"host": "127.0.0.1", "port": cluster.port, "ca_path": cluster.ca_path}
    result = task(server={**known, **server})
    assert result["failed"]
    assert text in result["msg"]
    assert access.secret(TOKEN) == secret


def test_present_keeps_a_new_token_that_could_not_be_tried(task, access, cluster):
    cluster.pve.fail("GET", "/version", 500, "out of order", times=1)
    result = task()
    assert "answers the trial of the token with status 500" in result["msg"]
    assert kept(task)["secret"] == access.secret(TOKEN)
    assert task()["access"]["renewed"] is None
    assert access.entries(TOKEN) == ENTRIES


def test_present_says_when_a_new_token_is_refused(task, access, cluster, monkeypatch):
    monkeypatch.setattr(token_file, "is_accepted", lambda *_args, **_more: False)
    assert "refuses the new token" in task()["msg"]


def test_pvesh_missing_says_where_to_run(run_module, tmp_path):
    options = {"transport": "pvesh", "pvesh_command": "/nonexistent/pvesh", "user": USER, "token_id": "node1"}
    result = run_module("pve_access", {**options, "secret_file": str(tmp_path / "f"), "state": "absent"})
    assert "Run the task on a node" in result["msg"]


def test_examples_run(cluster, access, pvesh, tmp_path):
    where = f"127.0.0.1:{cluster.port}"
    more = {
        "transport: pvesh\n": f"transport: pvesh\n    pvesh_command: {pvesh.path}\n    server:\n"
        f"      host: 127.0.0.1\n      port: {cluster.port}\n      ca_path: {cluster.ca_path}\n",
        "api_host: pve1.example.org\n": f"api_host: {where}\n    ca_path: {cluster.ca_path}\n",
        "/etc/operator/": f"{tmp_path}/",
    }
    text = examples.examples_of("pve_access")
    for old, new in more.items():
        assert old in text
        text = text.replace(old, new)
    printed = examples.run_play(
        examples.play_of(text, {"vault_pve_password": fakepve.PASSWORD}), tmp_path, {}
    )
    assert list(access.tokens) == ["operator@pve!monitoring"]
    assert json.loads((tmp_path / "monitoring.json").read_text())["secret"] not in printed
    assert not (tmp_path / "pve.json").exists()


KILLED = """
import os, sys
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import access, access_apply, pvesh
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import token_file
program, path, port, ca, limit = sys.argv[1:]
class Client(pvesh.PveshClient):
    left = int(limit)
    def request(self, *args):
        answer = super().request(*args)
        if args[0] != "GET":
            Client.left -= 1
            if Client.left == 0:
                os.kill(os.getpid(), 9)
        return answer
request = access.Request(user="pvecri@pve", token="node1", host=os.uname().nodename,
    roles={"CtOps": frozenset({"VM.Audit", "VM.PowerMgmt"}), "CtStore": frozenset({"Datastore.Audit"})},
    grants=(access.Grant("/vms", "CtOps"), access.Grant("/storage/local", "CtStore", False)))
file = access_apply.SecretFile(path, token_file.Server("127.0.0.1", int(port), ca))
access_apply.make_present(Client(SubprocessRunner(), program=program), request, file, check_mode=False)
"""


@pytest.mark.parametrize("requests", range(1, 9))
def test_present_killed_after_any_request_is_completed_by_the_next_run(
    cluster, access, pvesh, run_module, tmp_path, requests
):
    file = tmp_path / "pve.json"
    argv = [pvesh.path, str(file), str(cluster.port), cluster.ca_path, str(requests)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *argv], check=False)
    assert ended.returncode == -9
    options = {**cluster.options(), "user": USER, "token_id": "node1", "roles": ROLES, "acl": ACL}
    options["secret_file"] = str(file)
    result = run_module("pve_access", options)
    assert not result["failed"], result
    # The token is the fourth request: killed before its secret was written, it is made anew.
    assert result["access"]["renewed"] == ("the file is missing" if requests == 4 else None)
    assert json.loads(file.read_text())["secret"] == access.secret(TOKEN)
    assert access.entries(USER) == access.entries(TOKEN) == ENTRIES
    assert not run_module("pve_access", options)["changed"]
