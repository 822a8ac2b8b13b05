# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the logins: token, ticket, renewal, expiry, second factor.

fakepve asks for a second factor but never accepts one, so the server here is a
double that checks codes as Proxmox VE does: each is good once.
"""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import session, totp
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection, TicketLogin
from ansible_collections.pvecri.runtime.tests.support.https_server import Answer, running_server

SECRET = "GEZDGNBVGY3TQOJQ"
PASSWORD = "pass&word=ü"


class Accounts:
    """A server that issues tickets; tests look at and change its fields."""

    def __init__(self):
        self.tfa = False
        self.clock = Clock()
        self.used_codes = set()
        self.logins = []
        self.valid_tickets = set()
        self.odd_answer = None

    def __call__(self, request):
        if request.path == "/access/ticket":
            return self.ticket(request.form)
        ticket = request.headers.get("cookie", "").removeprefix("PVEAuthCookie=")
        if ticket not in self.valid_tickets:
            return Answer(401, "permission denied - invalid PVE ticket")
        if request.method != "GET" and request.headers.get("csrfpreventiontoken") != f"csrf of {ticket}":
            return Answer(401, "Permission denied - invalid csrf token")
        return Answer(data=ticket)

    def ticket(self, form):
        self.logins.append(form)
        if self.odd_answer:
            return self.odd_answer
        password = form["password"]
        if form.get("tfa-challenge") == "challenge":
            code = totp.parse_secret(SECRET).code_at(self.clock.now)
            if password != f"totp:{code}" or code in self.used_codes:
                return Answer(401, "authentication failure")
            self.used_codes.add(code)
        elif password not in {PASSWORD, *self.valid_tickets}:
            return Answer(401, "authentication failure")
        elif self.tfa and password not in self.valid_tickets:
            return Answer(data={"ticket": "challenge", "NeedTFA": 1, "username": form["username"]})
        ticket = f"ticket {len(self.logins)}"
        self.valid_tickets.add(ticket)
        return Answer(data={"ticket": ticket, "CSRFPreventionToken": f"csrf of {ticket}"})


class Clock:
    """One clock for everything, moved by sleeping."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def accounts():
    return Accounts()


@pytest.fixture
def connect(tmp_path, accounts):
    """Return a function that makes a client with these login fields, on the accounts' clock."""
    with running_server(str(tmp_path), accounts) as server:

        def make(**login):
            fields = {"token_id": None, "token_secret": None, "password": PASSWORD, **login}
            connection = server.connection(**fields)
            clock = accounts.clock
            ticket = TicketLogin(connection.checked(), clock=clock, wall_clock=clock, sleep=clock.sleep)
            return PveClient(connection, login=None if connection.token_id else ticket)

        yield make


def test_ticket_is_bought_once_and_sent_with_every_request(connect, accounts):
    client = connect()
    assert [client.get("/a"), client.post("/b"), client.delete("/c")] == ["ticket 1"] * 3
    assert len(accounts.logins) == 1
    assert client.requests == 4


def test_nothing_is_sent_before_the_first_request(connect, accounts):
    assert connect().requests == 0
    assert accounts.logins == []


def test_wrong_password_is_tried_once_and_named_by_user(connect, accounts):
    with pytest.raises(errors.LoginFailed, match=r"user 'ops@pve'.*password") as caught:
        connect(password="wrong&one").get("/a")
    assert len(accounts.logins) == 1
    assert "wrong&one" not in str(caught.value)
    assert caught.value.details()["error"] == "login_failed"


def test_expired_ticket_is_replaced_and_a_write_repeated(connect, accounts):
    client = connect()
    client.get("/a")
    accounts.valid_tickets.clear()
    assert client.post("/b") == "ticket 2"


def test_ticket_that_stays_refused_fails_after_one_repeat(connect, accounts):
    client = connect()
    client.get("/a")
    accounts.valid_tickets = set()
    accounts.ticket = lambda form: accounts.logins.append(form) or Answer(data={"ticket": "useless"})
    with pytest.raises(errors.LoginFailed):
        client.get("/b")
    assert len(accounts.logins) == 2


def test_ticket_is_renewed_with_itself_at_half_its_life(connect, accounts):
    client = connect()
    client.get("/a")
    accounts.clock.now += 3599
    client.get("/b")
    assert len(accounts.logins) == 1
    accounts.clock.now += 1
    assert client.get("/c") == "ticket 2"
    assert accounts.logins[1]["password"] == "ticket 1"


def test_renewal_falls_back_on_the_password(connect, accounts):
    client = connect()
    client.get("/a")
    accounts.clock.now += 9000
    accounts.valid_tickets.clear()
    assert client.get("/b") == "ticket 3"
    assert accounts.logins[2]["password"] == PASSWORD


def test_ticket_that_another_thread_replaced_is_not_replaced_again(connect):
    login = TicketLogin(Connection("h", "a@pve", password="x"))
    sent = []

    def send(form):
        sent.append(form)
        return {"ticket": f"t{len(sent)}"}

    login.fresh(send)
    stale = login.mark()
    assert login.renew(send, stale)
    assert login.renew(send, stale)
    assert (len(sent), login.auth.ticket) == (2, "t2")


def test_second_factor_from_the_secret(connect, accounts):
    accounts.tfa = True
    assert connect(totp=SECRET).get("/a") == "ticket 2"
    first, second = accounts.logins
    assert (first["password"], second["tfa-challenge"]) == (PASSWORD, "challenge")
    assert accounts.clock.slept == []


def test_second_factor_from_a_ready_code(connect, accounts):
    accounts.tfa = True
    code = totp.parse_secret(SECRET).code_at(accounts.clock.now)
    assert connect(totp=code).get("/a") == "ticket 2"


def test_second_factor_whose_code_is_used_up_waits_for_the_next(connect, accounts):
    accounts.tfa = True
    accounts.used_codes.add(totp.parse_secret(SECRET).code_at(accounts.clock.now))
    assert connect(totp=SECRET).get("/a") == "ticket 3"
    assert accounts.clock.slept == [pytest.approx(20.1)]


def test_second_factor_that_is_wrong_fails(connect, accounts):
    accounts.tfa = True
    with pytest.raises(errors.LoginFailed):
        connect(totp="AAAAAAAA").get("/a")


def test_second_factor_that_is_missing_says_so(connect, accounts):
    accounts.tfa = True
    with pytest.raises(errors.LoginFailed, match="api_totp"):
        connect().get("/a")


def test_ready_code_cannot_log_in_twice(connect, accounts):
    accounts.tfa = True
    client = connect(totp=totp.parse_secret(SECRET).code_at(accounts.clock.now))
    client.get("/a")
    accounts.valid_tickets.clear()
    with pytest.raises(errors.LoginFailed, match="used up"):
        client.get("/b")


@pytest.mark.parametrize("data", [{}, None, {"ticket": ""}, "odd", []])
def test_answer_without_ticket_is_a_failed_login(connect, accounts, data):
    accounts.odd_answer = Answer(data=data)
    with pytest.raises(errors.LoginFailed, match="gave no ticket"):
        connect().get("/a")


def test_cookies_of_the_server_do_not_displace_the_ticket(connect, accounts):
    original = accounts.ticket
    accounts.ticket = lambda form: Answer(
        data=original(form).data, headers={"Set-Cookie": "PVEAuthCookie=other; Path=/"}
    )
    client = connect()
    assert [client.get("/a"), client.get("/b")] == ["ticket 1"] * 2


def test_password_of_netrc_is_not_sent(connect, accounts, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password stolen\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    seen = []
    original = accounts.ticket
    accounts.ticket = lambda form: seen.append(form) or original(form)
    assert connect().get("/a") == "ticket 1"
    assert seen[0]["username"] == "ops@pve"


def test_refused_token_is_named_and_not_repeated(connect, accounts):
    client = connect(token_id="test", token_secret="nope", password=None)
    with pytest.raises(errors.LoginFailed, match="token 'ops@pve!test'"):
        client.get("/a")
    assert client.requests == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"host": ""}, "api_host"),
        ({"user": "root"}, "api_user"),
        ({"user": ""}, "api_user"),
        ({"password": None}, "api_password"),
        ({"token_id": "t"}, "api_token_secret"),
        ({"token_id": "x@pve!t", "token_secret": "s"}, "api_token_id"),
        ({"totp": "nonsense!"}, "api_totp"),
        ({"fingerprint": "AB:CD"}, "fingerprint"),
        ({"fingerprint": "zz" * 32}, "fingerprint"),
    ],
)
def test_checked_names_the_wrong_option(fields, field):
    with pytest.raises(errors.InvalidSpec) as caught:
        Connection(**{"host": "h", "user": "root@pam", "password": "x", **fields}).checked()
    assert caught.value.field == field


@pytest.mark.parametrize("user", ["", "me@pve"])
def test_checked_takes_the_user_from_a_whole_token_id(user):
    connection = Connection("h", user, token_id="me@pve!play", token_secret="s").checked()
    assert (connection.user, connection.token_id) == ("me@pve", "play")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("pve1", "https://pve1:8006/api2/json"), ("::1", "https://[::1]:8006/api2/json")],
)
def test_base_url(host, expected):
    assert Connection(host, "a@pve").base_url == expected


def test_secrets_are_those_that_are_set():
    assert Connection("h", "a@pve", password="p", totp="t").secrets == ("p", "t")


def test_token_login_needs_no_requests():
    login = session.TokenLogin(Connection("h", "a@pve", token_id="t", token_secret="s"))
    login.fresh(None)
    assert login.renew(None, login.mark()) is False
