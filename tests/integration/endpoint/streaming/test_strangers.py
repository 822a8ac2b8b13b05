# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let nobody in but those who were given a URL, once."""

from __future__ import annotations

import concurrent.futures
import re
import socket
import urllib.parse

import pytest

from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.streaming.tokens import MAX_OUTSTANDING

pytestmark = pytest.mark.host

SPDY = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
WEBSOCKET = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
)


def status(answer: bytes) -> int:
    """Return the status of an answer."""
    return int(answer.split(b" ", 2)[1])


def open_head(streams, url: str, head: str, method: str = "GET") -> bytes:
    """Return the first bytes of an answer, and hang up."""
    parts = urllib.parse.urlsplit(url)
    with streams.connect(parts.port or 80) as connection:
        lines = f"{method} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{head}\r\n"
        connection.sendall(lines.encode())
        return connection.recv(65536)


def test_a_url_has_a_loopback_address_and_a_long_token(streams, container):
    url = streams.exec_url(container, "true")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/exec/[A-Za-z0-9_-]{43}", url)
    assert "/attach/" in streams.attach_url(container)


@pytest.mark.parametrize("head", [SPDY, WEBSOCKET])
def test_a_url_is_used_up_by_its_first_client(streams, container, head):
    url = streams.exec_url(container, "true")
    assert status(open_head(streams, url, head)) == 101
    answer = streams.ask(url, head)
    assert status(answer) == 404
    assert b"a URL is for one connection" in answer


def test_a_url_is_used_up_by_whoever_asks_for_no_upgrade(streams, container):
    url = streams.exec_url(container, "true")
    assert status(streams.ask(url)) == 400
    assert status(streams.ask(url, SPDY)) == 404


def test_a_url_is_for_its_kind_of_streams(streams, container):
    url = streams.exec_url(container, "true")
    assert status(streams.ask(url.replace("/exec/", "/attach/"), SPDY)) == 404
    assert status(streams.ask(url.replace("/exec/", "/portforward/"), SPDY)) == 404
    assert status(open_head(streams, url, SPDY)) == 101


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "../../etc/passwd", "%2e%2e", "A" * 5000])
def test_guesses_are_not_found(streams, container, token):
    base = streams.exec_url(container, "true").rpartition("/")[0]
    assert status(streams.ask(f"{base}/{token}", SPDY)) == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"])
def test_other_methods_are_not_allowed(streams, container, method):
    answer = streams.ask(streams.exec_url(container, "true"), SPDY, method=method)
    assert status(answer) == 405
    assert b"\r\nAllow: GET, POST\r\n" in answer


def test_pages_of_other_sites_are_refused_and_do_not_use_the_url_up(streams, container):
    url = streams.exec_url(container, "true")
    own = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url))
    for origin in ("https://evil.example", "null", own + "1"):
        assert status(streams.ask(url, f"{WEBSOCKET}Origin: {origin}\r\n")) == 403
    assert status(open_head(streams, url, f"{WEBSOCKET}Origin: {own}\r\n")) == 101
    url = streams.exec_url(container, "true")
    proxied = "Origin: https://dashboard.example\r\nX-Forwarded-For: 10.1.2.3\r\n"
    assert status(open_head(streams, url, WEBSOCKET + proxied)) == 101


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("Connection: Upgrade\r\nUpgrade: h2c\r\n", 400),
        ("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n", 400),
        (SPDY.replace("v4.channel", "v9.channel"), 403),
        (WEBSOCKET.replace("v5.channel", "v9.channel"), 403),
        (WEBSOCKET.replace("Version: 13", "Version: 8"), 426),
        (WEBSOCKET.replace("AAAAAAAAAAAAAAAAAAAAAA==", "short"), 400),
        (f"{SPDY}Content-Length: 10\r\n", 413),
    ],
)
def test_bad_upgrades_are_told(streams, container, head, code):
    body = b"0123456789" if "Content-Length" in head else b""
    assert status(streams.ask(streams.exec_url(container, "true"), head, body)) == code


def test_garbage_after_an_upgrade_ends_the_connection_alone(streams, container):
    for head in (SPDY, WEBSOCKET):
        parts = urllib.parse.urlsplit(streams.exec_url(container, "cat", stdin=True))
        with streams.connect(parts.port) as connection:
            lines = f"GET {parts.path} HTTP/1.1\r\nHost: x\r\n{head}\r\n"
            # In one piece with the head, as a pipelined request would be.
            connection.sendall(lines.encode() + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
            assert connection.recv(12) == b"HTTP/1.1 101"
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass
    assert streams.crictl("exec", container, "echo", "fine").out == b"fine\n"


def test_huge_heads_are_refused(streams, container):
    url = streams.exec_url(container, "true")
    assert status(streams.ask(url, "X-Large: " + "a" * 2_000_000 + "\r\n")) == 431
    assert status(streams.ask(url, "X-Many: a\r\n" * 100_000)) == 431
    assert status(open_head(streams, url, SPDY)) == 101


def test_the_silent_keep_nobody_out(streams, container):
    port = urllib.parse.urlsplit(streams.exec_url(container, "true")).port
    silent: list[socket.socket] = []
    try:
        for number in range(300):
            silent.append(streams.connect(port))
            silent[-1].sendall(b"GET /exec/x HTTP/1.1\r\n" if number % 2 else b"")
        assert streams.crictl("exec", container, "echo", "fine").out == b"fine\n"
    finally:
        for connection in silent:
            connection.close()


def test_what_a_token_is_never_stands_in_the_log(streams, container):
    tokens = [streams.exec_url(container, "true").rpartition("/")[2] for _unused in range(3)]
    for token in tokens:
        open_head(streams, streams.exec_url(container, "true").rpartition("/")[0] + "/" + token, SPDY)
        streams.ask(streams.exec_url(container, "true").rpartition("/")[0] + "/" + token, SPDY)
    assert not [token for token in tokens if token in streams.endpoint.log_text()]


def test_a_container_that_ended_meanwhile_is_told(streams):
    pod_id, container_id = streams.endpoint.run_container()
    urls = [streams.exec_url(container_id, "true"), streams.attach_url(container_id)]
    streams.cri.stop(container_id)
    for url in urls:
        answer = streams.ask(url, SPDY)
        assert status(answer) == 409
        assert b"is exited, not running" in answer
    with refused("FAILED_PRECONDITION", "is exited, not running"):
        streams.exec_url(container_id, "true")
    streams.cri.stop_pod(pod_id)


def test_too_many_urls_are_refused_until_some_are_used(streams, container):
    def ask(_number: int) -> str:
        return str(streams.exec_url(container, "true"))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        urls = []
        with refused("RESOURCE_EXHAUSTED", f"{MAX_OUTSTANDING} requests for streams wait"):
            for url in pool.map(ask, range(MAX_OUTSTANDING + 1)):
                urls.append(url)
    assert len(urls) <= MAX_OUTSTANDING
    for url in urls:
        streams.ask(url)
    eventually(lambda: streams.exec_url(container, "true"))
