# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which requests become streams, and how the others are refused."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    SPDY_FORWARD,
    SPDY_REMOTE,
    Client,
    run,
    serving,
    websocket_headers,
)
from pvecri.streaming.channel import Limits, StreamOptions
from pvecri.streaming.upgrade import upgrade_forward, upgrade_remote
from pvecri.streaming.upgrade_request import UpgradeRequest

V1, V5 = "channel.k8s.io", "v5.channel.k8s.io"
Headers = list[tuple[str, str]]

WEBSOCKET = websocket_headers("v4.channel.k8s.io")
SPDY_ONLY = SPDY_REMOTE[:2]


def changed(headers: Headers, name: str, *values: str) -> Headers:
    return [pair for pair in headers if pair[0] != name] + [(name, value) for value in values]


def ask(
    kind: str, headers: Headers, method: str = "GET", ports: tuple[int, ...] = (80,)
) -> tuple[int, dict[str, str], str]:
    """Return the answer's status, headers and text."""

    async def main() -> tuple[int, dict[str, str], str]:
        async def handle(request: UpgradeRequest) -> None:
            if kind == "remote":
                session = await upgrade_remote(
                    request, StreamOptions(stdout=True), Limits(creation_timeout_s=0.01)
                )
                await session.close(0)
            else:
                await (await upgrade_forward(request, ports, Limits())).close(0)

        async with serving(handle) as port:
            client = await Client.connect(port, headers, method=method)
            client.vanish()
            return client.answer

    return run(main())


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ([], 400, "ask for an upgrade to SPDY/3.1 or to websocket"),
        ([("Upgrade", "SPDY/3.1")], 400, "ask for an upgrade"),
        ([("Connection", "close"), ("Upgrade", "websocket")], 400, "ask for an upgrade"),
        ([("Connection", "Upgrade"), ("Upgrade", "h2c")], 400, "ask for an upgrade"),
        (SPDY_ONLY, 400, "X-Stream-Protocol-Version is missing or empty"),
        ([*SPDY_ONLY, ("X-Stream-Protocol-Version", " , ")], 400, "missing or empty"),
        (
            [*SPDY_ONLY, ("X-Stream-Protocol-Version", "v9.channel.k8s.io")],
            403,
            "the client has 'v9.channel.k8s.io', here v4",
        ),
        (changed(WEBSOCKET, "Sec-WebSocket-Version"), 426, "version 13"),
        (changed(WEBSOCKET, "Sec-WebSocket-Version", "8"), 426, "version 13"),
        (changed(WEBSOCKET, "Sec-WebSocket-Key"), 400, "Sec-WebSocket-Key must have 16 bytes"),
        (changed(WEBSOCKET, "Sec-WebSocket-Key", "QUJD"), 400, "must have 16 bytes"),
        (changed(WEBSOCKET, "Sec-WebSocket-Key", "\xff"), 400, "must have 16 bytes"),
        (changed(WEBSOCKET, "Sec-WebSocket-Protocol", "chat"), 403, "the client has 'chat', here v5"),
    ],
)
def test_requests_that_cannot_become_streams(headers: Headers, status: int, words: str) -> None:
    got, fields, text = ask("remote", headers)
    assert got == status
    assert words in text
    if status == 426:
        assert fields["sec-websocket-version"] == "13"
    if "h2c" in str(headers):
        assert fields["upgrade"] == "SPDY/3.1, websocket"


def test_spdy_refusal_names_what_is_accepted() -> None:
    headers = [*SPDY_ONLY, ("X-Stream-Protocol-Version", "v4.channel.k8s.io")]
    status, fields, _text = ask("forward", headers)
    assert (status, fields["x-accepted-stream-protocol-versions"]) == (403, "portforward.k8s.io")


def test_websocket_needs_get() -> None:
    status, fields, _text = ask("remote", WEBSOCKET, method="POST")
    assert (status, fields["allow"]) == (405, "GET")


def test_forward_over_channels_needs_a_port_in_the_request() -> None:
    assert ask("forward", WEBSOCKET, ports=())[0] == 400
    assert ask("forward", websocket_headers("SPDY/3.1+portforward.k8s.io"), ports=())[0] == 101


@pytest.mark.parametrize(
    ("kind", "headers", "name", "agreed"),
    [
        ("forward", SPDY_FORWARD, "x-stream-protocol-version", "portforward.k8s.io"),
        (
            "forward",
            websocket_headers("x", "v4.channel.k8s.io"),
            "sec-websocket-protocol",
            "v4.channel.k8s.io",
        ),
        ("remote", websocket_headers(V1, V5), "sec-websocket-protocol", V1),
        ("remote", changed(WEBSOCKET, "Sec-WebSocket-Protocol", "chat", V5), "sec-websocket-protocol", V5),
    ],
)
def test_protocol_is_the_clients_first_that_is_known(
    kind: str, headers: Headers, name: str, agreed: str
) -> None:
    status, fields, _text = ask(kind, headers)
    assert (status, fields[name]) == (101, agreed)


def test_spdy_clients_name_their_protocols_in_several_headers() -> None:
    """As client-go does, whose first is a version that only WebSocket has."""

    async def main() -> None:
        async def handle(request: UpgradeRequest) -> None:
            with pytest.raises(ConnectionError):
                await upgrade_remote(request, StreamOptions(stdout=True), Limits())

        names = [f"{version}.channel.k8s.io" for version in ("v5", "v4", "v3", "v2")] + ["channel.k8s.io"]
        headers = [*SPDY_ONLY, *(("X-Stream-Protocol-Version", name) for name in names)]
        async with serving(handle) as port:
            client = await Client.connect(port, headers, method="POST")
            assert client.answer.headers["x-stream-protocol-version"] == "v4.channel.k8s.io"
            client.vanish()

    run(main())
