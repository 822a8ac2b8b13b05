# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at requests before they become streams."""

from __future__ import annotations

import contextlib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvecri.streaming.admission import admitted
from pvecri.streaming.requests import Kind
from pvecri.streaming.upgrade_request import UpgradeError, UpgradeRequest

OWN = "http://127.0.0.1:12345"


def request(target: str = "/exec/abc", method: str = "GET", **headers: str) -> UpgradeRequest:
    transport: t.Any = None
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return UpgradeRequest(method, target, pairs, transport, b"")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("kind", list(Kind))
def test_admitted_reads_kind_and_token(kind, method):
    assert admitted(request(f"/{kind}/T_o-ken", method), OWN) == (kind, "T_o-ken")


def test_admitted_looks_at_no_query():
    assert admitted(request("/exec/abc?port=80&x=/y"), OWN) == (Kind.EXEC, "abc")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "",
        "*",
        "/exec",
        "/exec/",
        "/exec/a/b",
        "//exec/a",
        "/EXEC/a",
        "/logs/a",
        "/exec/../attach/a",
        "exec/a",
        "http://127.0.0.1/exec/a",
        "/exec/" + "a" * 101,
    ],
)
def test_admitted_knows_no_other_paths(target):
    with pytest.raises(UpgradeError) as caught:
        admitted(request(target), OWN)
    assert caught.value.status == 404


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "get", "PATCH"])
def test_admitted_refuses_other_methods(method):
    with pytest.raises(UpgradeError) as caught:
        admitted(request(method=method), OWN)
    assert (caught.value.status, list(caught.value.headers)) == (405, [(b"Allow", b"GET, POST")])


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "https://127.0.0.1:12345",
        "http://localhost:12345",
        "null",
        "",
        "http://[::1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:12345.evil.example",
    ],
)
def test_admitted_refuses_what_pages_of_other_sites_ask_for(origin):
    with pytest.raises(UpgradeError) as caught:
        admitted(request(Origin=origin), OWN)
    assert caught.value.status == 403


def test_admitted_takes_its_own_origin_and_what_a_proxy_let_through():
    assert admitted(request(Origin=OWN), OWN)
    assert admitted(request(Origin="https://dashboard.example", X_Forwarded_For="10.0.0.7"), OWN)


@given(st.text(max_size=40), st.text(max_size=40))
def test_admitted_takes_or_refuses_whatever_it_gets(target, origin):
    allowed = False
    with contextlib.suppress(UpgradeError):
        kind, token = admitted(request(target, Origin=origin), OWN)
        allowed = True
    assert not allowed or (target.startswith(f"/{kind}/{token}") and origin == OWN)
