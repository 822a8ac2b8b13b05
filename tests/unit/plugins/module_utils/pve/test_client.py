# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the client against a server that does what fakepve cannot: hang, break off, answer oddly."""

from __future__ import annotations

import socket
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import client as clients
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import session
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection
from ansible_collections.pvecri.runtime.tests.support.https_server import HOST, Answer, running_server


class Script:
    """Answer from a list, the last entry for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def __call__(self, _request):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts a server with these answers."""
    running = []

    def start(*answers):
        context = running_server(str(tmp_path / str(len(running))), Script(*answers))
        running.append(context)
        return context.__enter__()

    yield start
    for context in running:
        context.__exit__(None, None, None)


def no_sleep(connection):
    slept = []
    return PveClient(connection, sleep=slept.append), slept


@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
def test_request_goes_where_it_should(serve, method):
    server = serve(Answer(data={"answer": 42}))
    client = server.client()
    assert getattr(client, method)("/nodes/pve1/lxc", vmid=7, start=True, stop=False, gone=None) == {
        "answer": 42
    }
    (seen,) = server.seen
    assert (seen.method, seen.path) == (method.upper(), "/nodes/pve1/lxc")
    assert seen.form == {"vmid": "7", "start": "1", "stop": "0"}
    assert seen.headers["authorization"] == "PVEAPIToken=ops@pve!test=token-secret"
    assert client.requests == 1


def test_request_reuses_its_connection(serve):
    server = serve(Answer(data=1))
    client = server.client()
    for _unused in range(5):
        client.get("/version")
    client.close()
    assert server.connections == 1


def test_client_may_be_used_by_threads(serve):
    server = serve(Answer(data=1))
    client = server.client()
    threads = [threading.Thread(target=client.get, args=("/version",)) for _unused in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.requests == 8
    assert len(server.seen) == 8


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/nodes/pve1/lxc", "/nodes/pve1/lxc"),
        ("nodes/pve1/", "/nodes/pve1"),
        ("/nodes/a b/x?y#z", "/nodes/a%20b/x%3Fy%23z"),
        (("nodes", "pve1", "lxc", 100), "/nodes/pve1/lxc/100"),
        (("content", "local:backup/x.tar"), "/content/local:backup%2Fx.tar"),
        (("tasks", "UPID:pve1:0:0:0:vzstart:100:me@pve!t:"), "/tasks/UPID:pve1:0:0:0:vzstart:100:me@pve!t:"),
        (("100%",), "/100%25"),
    ],
)
def test_quote_path(path, expected):
    assert clients.quote_path(path) == expected


@pytest.mark.parametrize(
    "path", ["/nodes//lxc", "/nodes/../access", "/nodes/./x", "", ("nodes", ""), ("a", "..")]
)
def test_quote_path_refuses_parts_that_would_name_something_else(path):
    with pytest.raises(errors.InvalidSpec, match="empty or dotted"):
        clients.quote_path(path)


def test_quoted_path_arrives_as_it_was(serve):
    server = serve(Answer(data=1))
    server.client().get(("nodes", "n", "content", "local:backup/a b+c%41.tar"))
    assert server.seen[0].path == "/nodes/n/content/local:backup/a b+c%41.tar"


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            {"a": True, "b": False, "c": None, "d": 1, "e": 0.5, "f": "x"},
            {"a": "1", "b": "0", "d": "1", "e": "0.5", "f": "x"},
        ),
        ({"list": [1, True, "x"], "empty": []}, {"list": ["1", "1", "x"], "empty": []}),
    ],
)
def test_encode_params(params, expected):
    assert clients.encode_params(params) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(400, "Parameter verification failed.", errors={"memory": "small"}), errors.InvalidSpec),
        (Answer(401, "authentication failure"), errors.LoginFailed),
        (Answer(403, "Permission check failed (/, Sys.Audit)"), errors.MissingPrivilege),
        (Answer(500, "CT 100 already running"), errors.ApiError),
        (Answer(595, "No route to host"), errors.ApiError),
        (Answer(302, "Found", headers={"Location": "https://elsewhere.invalid/"}), errors.ApiError),
    ],
)
def test_refusal_is_sent_once_and_becomes_its_error(serve, answer, expected):
    server = serve(answer)
    client, slept = no_sleep(server.connection())
    with pytest.raises(expected):
        client.get("/nodes/pve1/lxc")
    assert len(server.seen) == 1
    assert slept == []


@pytest.mark.parametrize("body", [b"<html>It works!</html>", b'{"result": 1}', b"[]", b"\xff\xfe"])
def test_answer_of_something_else(serve, body):
    with pytest.raises(errors.ApiError, match="does not answer like a Proxmox VE API") as caught:
        serve(Answer(body=body)).client().get("/version")
    assert caught.value.status == 200


def test_reason_line_in_utf8_is_read(serve):
    reason = "Verzeichnis größer".encode().decode("latin-1")
    with pytest.raises(errors.ApiError) as caught:
        serve(Answer(500, reason, data=None)).client().get("/version")
    assert caught.value.reason == "Verzeichnis größer"


def test_get_survives_two_broken_connections(serve):
    server = serve(Answer(hang_up=True), Answer(hang_up=True), Answer(data="here"))
    client, slept = no_sleep(server.connection())
    assert client.get("/version") == "here"
    assert slept == [0.1, 0.5]
    assert client.requests == 3


def test_get_gives_up_after_three(serve):
    client, slept = no_sleep(serve(Answer(hang_up=True)).connection())
    with pytest.raises(errors.ApiError) as caught:
        client.get("/version")
    assert caught.value.status is None
    assert caught.value.is_unreachable
    assert not caught.value.maybe_done
    assert len(slept) == 2


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_write_whose_answer_is_lost_is_not_repeated(serve, method):
    server = serve(Answer(hang_up=True))
    client, slept = no_sleep(server.connection())
    with pytest.raises(errors.ApiError, match="whether it was carried out is unknown") as caught:
        getattr(client, method)("/nodes/pve1/lxc", vmid=1)
    assert caught.value.maybe_done
    assert (len(server.seen), slept) == (1, [])


def test_slow_answer_is_a_time_out_of_its_own(serve):
    server = serve(Answer(data=1, delay_s=30))
    client, slept = no_sleep(server.connection(api_timeout_s=0.2))
    with pytest.raises(errors.ApiTimeout, match=r"within 0\.2 s") as caught:
        client.get("/version")
    assert isinstance(caught.value, errors.CommandTimeout)
    assert caught.value.details()["error"] == "timeout"
    assert not caught.value.maybe_done
    assert slept == [], "a hanging node is not asked again"


def test_slow_answer_to_a_write_may_have_been_done(serve):
    client = serve(Answer(data=1, delay_s=30)).client(api_timeout_s=0.2)
    with pytest.raises(errors.ApiTimeout, match="unknown") as caught:
        client.post("/nodes/pve1/lxc")
    assert caught.value.maybe_done


def test_connection_that_is_not_taken_is_a_time_out_of_its_own(tmp_path):
    # A full backlog drops further connections, as a firewall does.
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _unused in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((HOST, port))
        client = PveClient(
            Connection(HOST, "a@pve", port=port, token_id="t", token_secret="s", connect_timeout_s=0.2)
        )
        with pytest.raises(errors.ApiTimeout, match=r"did not take the connection within 0\.2 s"):
            client.post("/x")
        for filler in fillers:
            filler.close()


def closed_port():
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        return unused.getsockname()[1]


def test_refused_connection_was_not_done():
    client, _unused = no_sleep(Connection(HOST, "a@pve", port=closed_port(), token_id="t", token_secret="s"))
    with pytest.raises(errors.ApiError, match=r"no connection to 127\.0\.0\.1") as caught:
        client.post("/x")
    assert not caught.value.maybe_done
    assert "refused" in caught.value.reason


def test_unknown_host_is_named():
    client, _unused = no_sleep(Connection("pve.invalid", "a@pve", token_id="t", token_secret="s"))
    with pytest.raises(errors.ApiError, match=r"pve\.invalid:8006"):
        client.get("/x")


def test_certificate_of_unknown_authority_is_refused_at_once(serve):
    server = serve(Answer(data=1))
    client, slept = no_sleep(server.connection(ca_path=None))
    with pytest.raises(errors.ApiError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        client.get("/version")
    assert "pve-root-ca.pem" in str(caught.value)
    assert server.seen == []
    assert slept == []


def test_certificate_is_not_checked_when_told_so(serve):
    assert serve(Answer(data=1)).client(ca_path=None, validate_certs=False).get("/version") == 1


def with_colons(fingerprint):
    upper = fingerprint.upper()
    return ":".join(upper[i : i + 2] for i in range(0, 64, 2))


@pytest.mark.parametrize("spelling", [str, str.upper, with_colons])
def test_pinned_certificate_is_accepted_without_authority(serve, spelling):
    server = serve(Answer(data=1))
    assert server.client(ca_path=None, fingerprint=spelling(server.fingerprint)).get("/version") == 1


@pytest.mark.parametrize("validate_certs", [True, False])
def test_other_certificate_than_the_pinned_one_gets_no_request(serve, validate_certs):
    server = serve(Answer(data=1))
    client = server.client(ca_path=None, fingerprint="ab" * 32, validate_certs=validate_certs)
    with pytest.raises(errors.ApiError, match="another certificate than the one pinned"):
        client.post("/access/ticket", password="s")
    assert server.seen == []


def test_pinned_certificate_must_fit_a_named_authority_too(serve):
    server, other = serve(Answer(data=1)), serve(Answer(data=1))
    client = server.client(ca_path=other.ca_path, fingerprint=server.fingerprint)
    with pytest.raises(errors.ApiError, match="CERTIFICATE_VERIFY_FAILED"):
        client.get("/version")
    assert server.client(fingerprint=server.fingerprint).get("/version") == 1


def test_missing_ca_file_is_named(serve):
    with pytest.raises(errors.ApiError, match=r"ca_path '/nope\.pem' cannot be read"):
        serve(Answer(data=1)).client(ca_path="/nope.pem").get("/version")


def test_plain_http_server_is_a_tls_failure():
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(1)

        def answer():
            peer, _unused = listener.accept()
            with peer:
                peer.recv(100)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        client, _unused = no_sleep(Connection(HOST, "a@pve", port=port, token_id="t", token_secret="s"))
        with pytest.raises(errors.ApiError, match="TLS with"):
            client.post("/version")
        thread.join()


def test_secret_that_the_server_repeats_is_hidden(serve):
    answer = Answer(400, "Bad", errors={"x": "token-secret is no good"}, message="token-secret")
    with pytest.raises(errors.InvalidSpec) as caught:
        serve(answer).client().get("/version")
    assert "token-secret" not in str(caught.value)
    assert "********" in str(caught.value)


def test_secrets_are_not_in_reprs():
    connection = Connection("h", "u@pam", password="hunter2", token_secret="hunter3", totp="GEZDGNBV")
    assert not any(secret in repr(connection) for secret in ("hunter", "GEZD"))


def test_client_without_libraries_names_the_package(monkeypatch):
    monkeypatch.setattr(session, "MISSING", ImportError("No module named 'proxmoxer'"))
    with pytest.raises(errors.MissingDependency, match="python3-proxmoxer"):
        PveClient(Connection("h", "a@pve", token_id="t", token_secret="s"))


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ({"password": "x"}, True),
        ({"token_id": "t", "token_secret": "s"}, False),
        ({"user": "me@pve", "password": "x"}, False),
    ],
)
def test_is_root(login, expected):
    assert PveClient(Connection(**{"host": "h", "user": "root@pam", **login})).is_root is expected


def test_answer_that_fills_the_memory_is_broken_off(serve, monkeypatch):
    monkeypatch.setattr(clients, "LARGEST_ANSWER_BYTES", 1024**2)
    server = serve(Answer(data="x" * 2 * 1024**2))
    with pytest.raises(errors.ApiError, match="more than 1 MiB"):
        server.client().get("/version")
    assert len(server.seen) == 1


def test_answer_that_stops_halfway_is_a_time_out_and_not_asked_for_again(serve):
    server = serve(Answer(body=b'{"data"', headers={"Content-Length": "100"}))
    client, slept = no_sleep(server.connection(api_timeout_s=0.2))
    with pytest.raises(errors.ApiTimeout, match="not answered"):
        client.get("/version")
    assert (len(server.seen), slept) == (1, [])


def test_lost_login_leaves_nothing_open(serve):
    server = serve(Answer(hang_up=True))
    client = server.client(token_id=None, token_secret=None, password="secret")
    with pytest.raises(errors.ApiError) as caught:
        client.post("/nodes/pve1/lxc")
    assert not caught.value.maybe_done
    assert [seen.path for seen in server.seen] == ["/access/ticket"]
